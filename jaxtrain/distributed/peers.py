"""Connections between the processes of a run: if one ends or fails, the others end with a message that names it.

A collective may wait forever for a dead process. jax's own service detects one only after its heartbeat timeout, and
then aborts. So every process keeps a connection to process 0. If a process ends, the kernel closes its connections, and
the other side notices at once. If a machine no longer answers, its processes count as dead after `SILENCE` seconds.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from jaxtrain.errors import PeerDied

SILENCE = 60
"""Seconds after which a machine that does not answer the kernel's probes counts as dead."""
_CONNECT = 60.0
"""Seconds within which all processes must connect to process 0."""
_HELLO = 5.0
"""Seconds within which a new connection must send its token and index."""
_SETTLE = 1.0
"""Seconds within which all processes learn of the end of a process."""
_POLL = 0.05
_MAX_LINE = 1 << 16
Message = dict[str, str]


class Connection:
    """A connection that transmits messages as lines of JSON; any thread may send."""

    def __init__(self, connection: socket.socket):
        _keep_alive(connection)
        self._socket = connection
        self._reader = connection.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, **message: str) -> None:
        """Send a message; drop it if the connection is closed, since `receive` reports that."""
        with contextlib.suppress(OSError), self._lock:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None if the connection is closed, times out or transmits something else."""
        try:
            self._socket.settimeout(timeout)
            text = self._reader.readline(_MAX_LINE)
            message = json.loads(text) if text.endswith("\n") else None
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._reader.close()
            self._socket.close()


class Peers:
    """This process and its connection to the other processes of the run.

    Args:
      index: the index of this process.
      count: the number of processes.
      end: the function that ends this process with a message if another has ended or failed.
    """

    def __init__(self, index: int, count: int, end: Callable[[str], None]):
        self._name, self._count, self._end = f"process {index} of {count}", count, end
        self._ignored: set[str] = set()

    def fail(self, text: str) -> None:
        """Tell the others that this process failed, and why, unless another process ended before.

        If another process died, collectives and checkpoints fail here too. The news of it arrives within `_SETTLE`
        seconds and ends this process before it reports a failure of its own. If all processes fail, each shows its
        error.
        """
        self._ignored = {"failed"}
        time.sleep(_SETTLE)
        self._ignored = {"failed", "ended"}
        self._send(failed=f"{self._name} has failed: {text}")

    def leave(self) -> None:
        """Ignore from now on that other processes end."""
        self._ignored = {"failed", "ended"}

    def _send(self, **message: str) -> None:
        raise NotImplementedError

    def _handle(self, message: Message) -> None:
        for kind, text in message.items():
            if kind not in self._ignored:
                self._end(text)


class Hub(Peers):
    """Process 0, which sends each message from one process to all others."""

    def __init__(self, count: int, end: Callable[[str], None]):
        super().__init__(0, count, end)
        self.token = secrets.token_hex(16)  # identifies the processes of this run
        self._connections: dict[int, Connection] = {}
        dualstack = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dualstack else socket.AF_INET
        self._server = socket.create_server(("", 0), family=family, backlog=count + 100, dualstack_ipv6=dualstack)

    @property
    def port(self) -> int:
        """The port to which the other processes connect."""
        return int(self._server.getsockname()[1])

    def accept_all(self) -> None:
        """Wait until all other processes are connected; raise `PeerDied` if one does not connect in time."""
        deadline = time.monotonic() + _CONNECT
        with self._server:
            self._server.settimeout(_POLL)
            while missing := sorted(set(range(1, self._count)) - set(self._connections)):
                with contextlib.suppress(TimeoutError):
                    connection, _ = self._server.accept()
                    # one thread each, so that a foreign connection that sends nothing blocks no other
                    _start(self._serve, Connection(connection))
                if time.monotonic() > deadline:
                    raise PeerDied(
                        f"process {missing[0]} of {self._count} has not connected within {_CONNECT:.0f} s; check that "
                        "it runs and reaches process 0"
                    )

    def _serve(self, connection: Connection) -> None:
        hello = connection.receive(_HELLO)
        if hello is None or hello.get("token") != self.token:
            connection.close()
            return
        index = int(hello["index"])
        self._connections[index] = connection
        message = connection.receive() or {
            "ended": f"process {index} of {self._count} has ended before the end of the run"
        }
        if "bye" not in message:
            self._send(**message)
            self._handle(message)

    def _send(self, **message: str) -> None:
        for connection in list(self._connections.values()):
            connection.send(**message)


class Spoke(Peers):
    """A process other than process 0, connected to process 0.

    Args:
      address: the host and the port of process 0.
      token: the token of the hub.
      index: the index of this process.
      count: the number of processes.
      end: the function that ends this process with a message if another has ended or failed.

    Raises:
      PeerDied: process 0 cannot be reached.
    """

    def __init__(self, address: tuple[str, int], token: str, index: int, count: int, end: Callable[[str], None]):
        super().__init__(index, count, end)
        try:
            connection = socket.create_connection(address, timeout=_HELLO)
        except OSError as error:
            raise PeerDied(
                f"process 0 cannot be reached on port {address[1]} of {address[0]} ({error}); check for a firewall"
            ) from None
        self._connection = Connection(connection)
        self._send(index=str(index), token=token)
        _start(self._listen)

    def leave(self) -> None:
        """Ignore from now on that other processes end, and tell process 0 that this one ends as planned."""
        super().leave()
        self._send(bye="")

    def _listen(self) -> None:
        # only one message is read, since process 0 ends after it as well
        message = self._connection.receive()
        self._handle(message or {"ended": f"process 0 of {self._count} has ended before the end of the run"})

    def _send(self, **message: str) -> None:
        self._connection.send(**message)


def end_process(message: str) -> NoReturn:
    """End this process at once, because of another process that `message` names."""
    exit_now(
        PeerDied.exit_code,
        f"{message}. This process ends too; run the same command again to continue from the last checkpoint",
    )


def exit_now(exit_code: int, error: str = "") -> NoReturn:
    """Exit with an error message from any thread; the main thread may be blocked inside jax by a dead process."""
    sys.stdout.flush()
    if error:
        sys.stderr.write(f"jaxtrain: error: {error}\n")  # in one call
    sys.stderr.flush()
    os._exit(exit_code)


def _keep_alive(connection: socket.socket) -> None:
    """Configure the kernel to close the connection if the other machine is silent for `SILENCE` seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = {"TCP_KEEPIDLE": SILENCE // 2, "TCP_KEEPINTVL": SILENCE // 12, "TCP_KEEPCNT": 6}
    # TCP_USER_TIMEOUT, in milliseconds, is for data that was sent but not acknowledged
    for name, value in {**probes, "TCP_USER_TIMEOUT": 1000 * SILENCE}.items():
        if hasattr(socket, name):  # some systems lack some of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _start(target: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=target, args=args, name="peers", daemon=True).start()

"""Connections between the processes of a run: a process that ends, however it ends, is named and ends the others.

A collective may wait for ever for a dead process, and jax's own service needs its heartbeat timeout to notice one and
then aborts. So every process keeps a connection to process 0. The kernel closes the connections of a process that ends,
which the other side notices at once; a machine that vanishes is given `SILENCE` seconds.
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
"""Seconds after which a machine that answers no probe of the kernel is taken for dead."""
_CONNECT = 60.0
"""Seconds in which all processes connect to process 0."""
_HELLO = 5.0
"""Seconds in which whoever has connected says who it is."""
_SETTLE = 1.0
"""Seconds in which the end of a process is heard of everywhere."""
_POLL = 0.05
_LONGEST = 1 << 16
Message = dict[str, str]


class Connection:
    """A connection on which messages are lines of JSON; any thread may send."""

    def __init__(self, connection: socket.socket):
        _keep_alive(connection)
        self._socket = connection
        self._reader = connection.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, **message: str) -> None:
        """Send a message; drop one that can no longer be delivered, since the reader will see the end."""
        with contextlib.suppress(OSError), self._lock:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None when the other side is gone, or sends something else."""
        try:
            self._socket.settimeout(timeout)
            text = self._reader.readline(_LONGEST)
            message = json.loads(text) if text.endswith("\n") else None
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._reader.close()
            self._socket.close()


class Peers:
    """This process among the others of its run.

    Args:
      index: the index of this process.
      count: the number of processes.
      end: the function that ends this process with a message, when another has ended or failed.
    """

    def __init__(self, index: int, count: int, end: Callable[[str], None]):
        self._me, self._count, self._end = f"process {index} of {count}", count, end
        self._ignored: set[str] = set()

    def fail(self, text: str) -> None:
        """Tell the others that this process ends, and why, unless another has ended before.

        With a dead process, collectives and checkpoints fail here too: it is heard of within `_SETTLE` seconds, and
        ends this process meanwhile. What fails in all processes is shown by each.
        """
        self._ignored = {"failed"}
        time.sleep(_SETTLE)
        self._ignored = {"failed", "ended"}
        self._tell(failed=f"{self._me} has failed: {text}")

    def leave(self) -> None:
        """Let the others end from here on."""
        self._ignored = {"failed", "ended"}

    def _tell(self, **message: str) -> None:
        raise NotImplementedError

    def _hear(self, message: Message) -> None:
        for kind, text in message.items():
            if kind not in self._ignored:
                self._end(text)


class Hub(Peers):
    """Process 0, which tells all of what it hears from one."""

    def __init__(self, count: int, end: Callable[[str], None]):
        super().__init__(0, count, end)
        self.token = secrets.token_hex(16)  # by which the processes of a run know each other
        self._connections: dict[int, Connection] = {}
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self._server = socket.create_server(("", 0), family=family, backlog=count + 100, dualstack_ipv6=both)

    @property
    def port(self) -> int:
        """The port on which the others connect."""
        return int(self._server.getsockname()[1])

    def accept_all(self) -> None:
        """Wait until all others are connected; raise `PeerDied` for one that does not come."""
        deadline = time.monotonic() + _CONNECT
        with self._server:
            self._server.settimeout(_POLL)
            while missing := sorted(set(range(1, self._count)) - set(self._connections)):
                with contextlib.suppress(TimeoutError):
                    connection, _ = self._server.accept()
                    # a thread each, so that a stranger who says nothing holds nobody up
                    _start(self._serve, Connection(connection))
                if time.monotonic() > deadline:
                    raise PeerDied(f"process {missing[0]} of {self._count} has not connected within {_CONNECT:.0f} s")

    def _serve(self, connection: Connection) -> None:
        hello = connection.receive(_HELLO)
        if hello is None or hello.get("token") != self.token:
            connection.close()
            return
        index = int(hello["index"])
        self._connections[index] = connection
        message = connection.receive() or {"ended": f"process {index} of {self._count} has ended before the run has"}
        if "bye" not in message:
            self._tell(**message)
            self._hear(message)

    def _tell(self, **message: str) -> None:
        for connection in list(self._connections.values()):
            connection.send(**message)


class Spoke(Peers):
    """Every other process, connected to process 0.

    Args:
      address: the host and the port of process 0.
      token: the hub's.

    Raises:
      PeerDied: process 0 cannot be reached.
    """

    def __init__(self, address: tuple[str, int], token: str, index: int, count: int, end: Callable[[str], None]):
        super().__init__(index, count, end)
        try:
            connection = socket.create_connection(address, timeout=_HELLO)
        except OSError as error:
            raise PeerDied(
                f"process 0 is not reached on port {address[1]} of {address[0]} ({error}); is a firewall in between?"
            ) from None
        self._connection = Connection(connection)
        self._tell(index=str(index), token=token)
        _start(self._listen)

    def leave(self) -> None:
        """Let the others end from here on, and tell process 0 that this one may."""
        super().leave()
        self._tell(bye="")

    def _listen(self) -> None:
        # the first word is the last: process 0 ends after it, too
        message = self._connection.receive()
        self._hear(message or {"ended": f"process 0 of {self._count} has ended before the run has"})

    def _tell(self, **message: str) -> None:
        self._connection.send(**message)


def end_process(message: str) -> NoReturn:
    """End this process at once, since another one is dead: `message` names it."""
    exit_now(
        PeerDied.exit_code,
        f"{message}. This one ends too; run the same command again to continue from the last checkpoint",
    )


def exit_now(exit_code: int, error: str = "") -> NoReturn:
    """Exit with a sentence, from any thread: the main one may be waiting, inside jax, for a process that is dead."""
    sys.stdout.flush()
    if error:
        sys.stderr.write(f"jaxtrain: error: {error}\n")  # in one piece
    sys.stderr.flush()
    os._exit(exit_code)


def _keep_alive(connection: socket.socket) -> None:
    """Have the kernel end the connection when the other machine is silent for `SILENCE` seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = {"TCP_KEEPIDLE": SILENCE // 2, "TCP_KEEPINTVL": SILENCE // 12, "TCP_KEEPCNT": 6}
    # the last, in milliseconds, is for what has been sent and is not acknowledged
    for name, value in {**probes, "TCP_USER_TIMEOUT": 1000 * SILENCE}.items():
        if hasattr(socket, name):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _start(target: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=target, args=args, name="peers", daemon=True).start()

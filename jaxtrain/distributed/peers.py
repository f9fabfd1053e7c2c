"""The processes of a run watch each other: one that dies ends the others, and a signal to one stops all at one step.

Every process keeps a connection to process 0 beside those of jax, whose collectives may wait for a dead process for
ever. The kernel closes the connections of a process that ends, however it ends, and that is noticed at once; a machine
that vanishes is given `SILENCE` seconds.
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

SILENCE = 60.0
"""Seconds without a word after which a process is taken for dead; one whose connection is closed is so at once."""
_PING = 5.0
_HELLO = 60.0
_GREETING = 5.0
"""Seconds in which one that has called says who it is."""
Message = dict[str, Any]


class Line:
    """A connection on which messages are lines of JSON; any thread may send."""

    def __init__(self, connection: socket.socket):
        self._socket = connection
        self._reader = connection.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()
        self.heard = time.monotonic()

    def send(self, **message: Any) -> None:
        """Sends a message; one that can no longer be delivered is dropped, since the reader will see the end."""
        try:
            with self._lock:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return

    def receive(self) -> Message | None:
        """The next message; None when the other side is gone."""
        try:
            text = self._reader.readline()
            self.heard = time.monotonic()
            message: Message | None = json.loads(text) if text.endswith("\n") else None
        except (OSError, ValueError):
            return None
        return message

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._reader.close()
            self._socket.close()


class Peers:
    """This process among the others of its run.

    Stopping: a process that gets a signal tells process 0, which asks all how far they are. Whoever is asked begins no
    further step; the answer is the furthest step any has begun, and all stop after it. Nothing waits for a device
    meanwhile, so that steps which need every process can end.

    Args:
      index: of this process.
      die: what is called with a message when another process is dead; ends this one.
    """

    def __init__(self, index: int, die: Callable[[str], None]):
        self.index = index
        self._die = die
        self._changed = threading.Condition()
        self._begun = 0
        self._asked = self._closed = False
        self._stop: tuple[int, int] | None = None
        self._tell: Callable[[Message], None] = lambda message: None

    def connect(self, tell: Callable[[Message], None]) -> None:
        """Says how process 0 is told something."""
        self._tell = tell

    def begin(self, step: int, signum: int | None) -> int | None:
        """Called before the dispatch that ends with `step`, with a signal that has arrived here.

        Returns the signal by which all stop before that step, or None to go on.
        """
        with self._changed:
            if signum is not None and not self._asked:
                self._tell({"stop": signum})
                self._changed.wait_for(lambda: self._asked)
            if self._asked:
                self._changed.wait_for(lambda: self._stop is not None)
                assert self._stop is not None
                last, by = self._stop
                if step > last:
                    return by
            self._begun = step
        return None

    def receive(self, message: Message) -> None:
        """What process 0 says."""
        if "dead" in message and not self._closed:
            self._die(message["dead"])
        with self._changed:
            if "ask" in message and not self._asked:
                self._asked = True
                self._tell({"begun": self._begun})
            elif "stop" in message:
                self._stop = tuple(message["stop"])
            self._changed.notify_all()

    def fail(self, text: str) -> None:
        """Says that this process ends, and why."""
        self._closed = True
        self._tell({"failed": text})

    def verdict(self, seconds: float, text: str) -> PeerDied:
        """What to say of a step that failed with `text`, unless the watch ends this process first, which knows more."""
        time.sleep(seconds)
        return PeerDied(f"a step failed in process {self.index}, and no process is known to be dead: {text}")

    def close(self) -> None:
        """From here on others may end."""
        self._closed = True
        self._tell({"bye": True})


class Hub:
    """Process 0's side: knows who is alive, and settles where to stop."""

    def __init__(self, count: int, own: Peers, token: str):
        self._count, self._own, self._token = count, own, token
        self._lines: dict[int, Line] = {}
        self._gone: set[int] = set()
        self._begun: dict[int, int] = {}
        self._signum: int | None = None
        self._lock = threading.RLock()
        self._server = socket.create_server(("", 0), backlog=count)
        own.connect(lambda message: self._handle(0, message))

    @property
    def port(self) -> int:
        """Where the others connect."""
        return int(self._server.getsockname()[1])

    def accept_all(self) -> None:
        """Waits for all others; raises `PeerDied` for one that does not come."""
        with self._server:
            self._accept_until(time.monotonic() + _HELLO)
        for index, line in self._lines.items():
            _start(lambda index=index, line=line: self._listen(index, line), "listen")  # type: ignore[misc]
        _start(self._watch)

    def _accept_until(self, deadline: float) -> None:
        while len(self._lines) < self._count - 1:
            self._server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                missing = sorted(set(range(1, self._count)) - set(self._lines))
                raise PeerDied(f"process {missing[0]} of {self._count} has not called within {_HELLO:.0f} s") from None
            # whoever else may call, and say nothing
            connection.settimeout(min(_GREETING, max(deadline - time.monotonic(), 0.01)))
            line = Line(connection)
            hello = line.receive()
            if isinstance(hello, dict) and hello.get("token") == self._token:
                connection.settimeout(None)
                self._lines[int(hello["index"])] = line
            else:
                line.close()

    def _listen(self, index: int, line: Line) -> None:
        while (message := line.receive()) is not None:
            self._handle(index, message)
        if index not in self._gone:
            self._dead(index, f"process {index} of {self._count} has ended before the run has")

    def _watch(self) -> None:
        while True:
            time.sleep(_PING)
            for index, line in self._lines.items():
                line.send(ping=True)
                if index not in self._gone and time.monotonic() - line.heard > SILENCE:
                    self._dead(index, f"process {index} of {self._count} has not been heard of for {SILENCE:.0f} s")

    def _handle(self, index: int, message: Message) -> None:
        with self._lock:
            if "bye" in message:
                self._gone.add(index)
            elif "failed" in message:
                self._dead(index, f"process {index} of {self._count} has failed: {message['failed']}")
            elif "stop" in message and self._signum is None:
                self._signum = int(message["stop"])
                self._broadcast({"ask": True})
            elif "begun" in message:
                self._begun[index] = int(message["begun"])
                if len(self._begun) == self._count:
                    self._broadcast({"stop": [max(self._begun.values()), self._signum]})

    def _dead(self, index: int, text: str) -> None:
        self._gone.add(index)
        self._broadcast({"dead": text})

    def _broadcast(self, message: Message) -> None:
        for index, line in self._lines.items():
            if index not in self._gone:
                line.send(**message)
        # its own last: where a process is dead, this ends it; in a thread, since it may be the one that waits
        _start(lambda: self._own.receive(message))


def call(addresses: list[str], port: int, token: str, own: Peers, count: int) -> None:
    """Connects `own` to process 0, which listens on `port` at one of `addresses`; raises `PeerDied`."""
    line = Line(_reached(addresses, port))
    line.send(index=own.index, token=token)
    own.connect(lambda message: line.send(**message))

    def listen() -> None:
        while (message := line.receive()) is not None:
            own.receive(message)
        own.receive({"dead": f"process 0 of {count} has ended before the run has"})

    def watch() -> None:
        while True:
            time.sleep(_PING)
            line.send(ping=True)
            if time.monotonic() - line.heard > SILENCE:
                own.receive({"dead": f"process 0 of {count} has not been heard of for {SILENCE:.0f} s"})

    _start(listen, "listen")
    _start(watch)


def _reached(addresses: list[str], port: int) -> socket.socket:
    for address in addresses:
        try:
            connection = socket.create_connection((address, port), timeout=5)
        except OSError:
            continue
        connection.settimeout(None)
        return connection
    raise PeerDied(f"process 0 is not reached on port {port} of {' or '.join(addresses)}; is a firewall in between?")


def new_token() -> str:
    """By which the processes of a run know each other."""
    return secrets.token_hex(16)


def end_process(message: str) -> NoReturn:
    """Ends this process at once: its main thread may be waiting, inside jax, for a process that will never answer."""
    text = f"{message}. This one ends too; run the same command again to continue from the last checkpoint"
    print(f"jaxtrain: error: {text}", file=sys.stderr, flush=True)
    os._exit(PeerDied.exit_code)


def _start(target: Callable[[], None], name: str = "peers") -> None:
    threading.Thread(target=target, name=name, daemon=True).start()

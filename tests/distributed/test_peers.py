"""Processes that watch each other, as threads with sockets on this machine."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jaxtrain.distributed import peers
from jaxtrain.distributed.peers import Connection, Hub, Peers, Spoke
from jaxtrain.errors import PeerDied


class Run:
    """Processes 0 to `count - 1`, and the message that ended each of them."""

    def __init__(self, count: int):
        self.ended: dict[int, str] = {}
        self.hub = Hub(count, self.end(0))
        self.spokes = [self.connect(i, count) for i in range(1, count)]
        self.hub.accept_all()
        self.peers: list[Peers] = [self.hub, *self.spokes]

    def connect(self, index: int, count: int) -> Spoke:
        return Spoke(("127.0.0.1", self.hub.port), self.hub.token, index, count, self.end(index))

    def end(self, index: int) -> Callable[[str], None]:
        return lambda message: self.ended.setdefault(index, message) and None  # type: ignore[func-returns-value]

    def kill(self, index: int) -> None:
        """Close the connection of a process, as the kernel does when it ends."""
        with contextlib.suppress(OSError):  # the other side may have closed it
            self.spokes[index - 1]._connection._socket.shutdown(socket.SHUT_RDWR)

    def wait_for(self, *indices: int) -> None:
        deadline = time.monotonic() + 10
        while not set(indices) <= set(self.ended):
            assert time.monotonic() < deadline, f"only {sorted(self.ended)} were told"
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def close_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorten the waits, and close all connections and threads after the test."""
    opened: list[Connection] = []

    class TrackedConnection(Connection):
        def __init__(self, connection: socket.socket):
            super().__init__(connection)
            opened.append(self)

    monkeypatch.setattr(peers, "Connection", TrackedConnection)
    monkeypatch.setattr(peers, "_SETTLE", 0.3)
    yield
    for connection in opened:
        with contextlib.suppress(OSError):
            connection._socket.shutdown(socket.SHUT_RDWR)  # wakes the listening thread
    for thread in threading.enumerate():
        if thread.name == "peers":
            thread.join(5)
    for connection in opened:
        connection.close()


def test_the_end_of_a_process_ends_the_others_with_its_name() -> None:
    run = Run(3)
    run.kill(2)
    run.wait_for(0, 1)
    assert run.ended[0] == run.ended[1] == "process 2 of 3 has ended before the end of the run"


def test_the_end_of_process_0_ends_all_processes() -> None:
    run = Run(3)
    connections = list(run.hub._connections.values())
    run.hub._connections.clear()  # process 0 sends nothing more
    for connection in connections:
        connection._socket.shutdown(socket.SHUT_RDWR)
    run.wait_for(1, 2)
    assert run.ended[1] == run.ended[2] == "process 0 of 3 has ended before the end of the run"


@pytest.mark.parametrize("who", [0, 1])
def test_a_failure_is_sent_to_all_processes_with_its_message(who: int) -> None:
    run = Run(3)
    run.peers[who].fail("a picture is damaged")
    run.wait_for(*{0, 1, 2} - {who})
    time.sleep(0.1)
    assert run.ended == {i: f"process {who} of 3 has failed: a picture is damaged" for i in range(3) if i != who}


def test_a_failed_collective_with_a_dead_process_is_reported_as_its_end() -> None:
    run = Run(3)
    run.kill(2)
    run.peers[1].fail("a collective")
    run.wait_for(0, 1)
    assert run.ended[0] == run.ended[1] == "process 2 of 3 has ended before the end of the run"


def test_a_failure_of_all_processes_is_not_attributed_to_one() -> None:
    run = Run(3)

    def fail(index: int) -> None:
        run.peers[index].fail("no such file")
        for i in {1, 2} if index == 0 else {index}:
            run.kill(i)

    failing = [threading.Thread(target=fail, args=(i,)) for i in range(3)]
    for thread in failing:
        thread.start()
        time.sleep(0.05)
    for thread in failing:
        thread.join()
    time.sleep(0.1)
    assert not run.ended


def test_tcp_keepalive_closes_the_connection_to_a_silent_machine() -> None:
    run = Run(2)
    for connection in (run.spokes[0]._connection._socket, run.hub._connections[1]._socket):
        tcp = {x: connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, x)) for x in dir(socket) if "TCP_KEEP" in x}
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert tcp["TCP_KEEPIDLE"] + tcp["TCP_KEEPINTVL"] * tcp["TCP_KEEPCNT"] == peers.SILENCE


def test_processes_may_end_after_they_have_left() -> None:
    run = Run(3)
    for peer in run.peers:
        peer.leave()
    time.sleep(0.1)
    run.kill(1)
    run.kill(2)
    time.sleep(0.2)
    assert not run.ended


def test_the_hub_rejects_a_process_of_another_run() -> None:
    hub = Hub(2, lambda message: None)
    other = Spoke(("127.0.0.1", hub.port), "another token", 1, 2, lambda message: None)
    own = Spoke(("127.0.0.1", hub.port), hub.token, 1, 2, lambda message: None)
    hub.accept_all()
    (accepted,) = hub._connections.values()
    assert accepted._socket.getpeername()[1] == own._connection._socket.getsockname()[1]
    assert accepted._socket.getpeername()[1] != other._connection._socket.getsockname()[1]


@pytest.mark.parametrize("said", [None, b"", b"5\n", b"[]\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_the_hub_is_not_delayed_by_foreign_connections(said: bytes | None) -> None:
    hub = Hub(2, lambda message: None)
    with contextlib.ExitStack() as strangers:
        for _ in range(20):
            stranger = strangers.enter_context(socket.create_connection(("127.0.0.1", hub.port)))
            if said:
                stranger.sendall(said)
            if said == b"":
                stranger.shutdown(socket.SHUT_WR)
        Spoke(("127.0.0.1", hub.port), hub.token, 1, 2, lambda message: None)
        began = time.monotonic()
        hub.accept_all()
        assert time.monotonic() - began < 3
    assert list(hub._connections) == [1]


def test_a_connection_stops_reading_an_endless_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stranger = socket.create_connection(server.getsockname())
        connection = peers.Connection(server.accept()[0])
    with stranger:
        threading.Thread(target=stranger.sendall, args=(b"x" * (1 << 17),), daemon=True).start()
        began = time.monotonic()
        assert connection.receive(20) is None
        assert time.monotonic() - began < 10


def test_the_hub_names_a_process_that_does_not_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_CONNECT", 0.3)
    hub = Hub(3, lambda message: None)
    Spoke(("127.0.0.1", hub.port), hub.token, 2, 3, lambda message: None)
    with pytest.raises(PeerDied, match="process 1 of 3 has not connected"):
        hub.accept_all()


def test_a_spoke_reports_that_process_0_cannot_be_reached() -> None:
    with pytest.raises(PeerDied, match=r"cannot be reached on port 1 of 127\.0\.0\.1 .*; check for a firewall"):
        Spoke(("127.0.0.1", 1), "token", 1, 2, lambda message: None)

"""Processes that watch each other, as threads on sockets of this machine."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jaxtrain.distributed import peers as module
from jaxtrain.distributed.peers import Hub, Peers, call
from jaxtrain.errors import PeerDied


class Run:
    """Processes 0 to `count - 1`, and the message by which each was ended."""

    def __init__(self, count: int):
        self.ended: dict[int, str] = {}
        self.told = threading.Event()
        self.peers = [Peers(i, self._ended(i)) for i in range(count)]
        self.hub = Hub(count, self.peers[0], "token")
        self.lines: list[Any] = []
        callers = [threading.Thread(target=self._call, args=(i,)) for i in range(1, count)]
        for caller in callers:
            caller.start()
        self.hub.accept_all()
        for caller in callers:
            caller.join()

    def _call(self, index: int) -> None:
        call(["127.0.0.1"], self.hub.port, "token", self.peers[index], len(self.peers))

    def _ended(self, index: int) -> Any:
        def end(message: str) -> None:
            self.ended.setdefault(index, message)
            self.told.set()

        return end

    def wait_for(self, *indices: int) -> None:
        deadline = time.monotonic() + 10
        while not set(indices) <= set(self.ended):
            assert time.monotonic() < deadline, f"only {sorted(self.ended)} were told"
            time.sleep(0.01)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The connections of those that call, to be cut."""
    found: list[Any] = []
    lines: list[module.Line] = []
    reached, begin = module._reached, module.Line.__init__

    def noted(self: module.Line, connection: Any) -> None:
        begin(self, connection)
        lines.append(self)

    monkeypatch.setattr(module.Line, "__init__", noted)

    def watched(addresses: list[str], port: int) -> Any:
        found.append(reached(addresses, port))
        return found[-1]

    monkeypatch.setattr(module, "_reached", watched)
    yield found
    for line in lines:
        with contextlib.suppress(OSError):
            line._socket.shutdown(2)  # which wakes the thread that listens
    for thread in threading.enumerate():
        if thread.name == "listen":
            thread.join(5)
    for line in lines:
        line.close()


def cut(connection: Any) -> None:
    connection.shutdown(2)


def test_one_that_ends_ends_the_others_by_name(opened: list[Any]) -> None:
    run = Run(3)
    victim = next(i for i, line in run.hub._lines.items() if line._socket.getpeername() == opened[0].getsockname())
    cut(opened[0])
    run.wait_for(0, 3 - victim)
    assert run.ended[0] == run.ended[3 - victim] == f"process {victim} of 3 has ended before the run has"


def test_the_end_of_process_0_is_seen_by_all(opened: list[Any]) -> None:
    run = Run(3)
    run.hub._gone.update((1, 2))  # it says no more
    for line in run.hub._lines.values():
        cut(line._socket)
    run.wait_for(1, 2)
    assert run.ended[1] == run.ended[2] == "process 0 of 3 has ended before the run has"


def test_a_failure_is_told_with_its_message(opened: list[Any]) -> None:
    run = Run(2)
    run.peers[1].fail("a picture is damaged")
    run.wait_for(0)
    assert run.ended == {0: "process 1 of 2 has failed: a picture is damaged"}


def test_silence_is_death(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PING", 0.05)
    monkeypatch.setattr(module, "SILENCE", 0.4)
    run = Run(2)
    time.sleep(0.6)
    assert not run.ended  # pings are words
    monkeypatch.setattr(module.Line, "send", lambda self, **message: None)
    run.wait_for(0, 1)
    assert "has not been heard of" in run.ended[0]


def test_those_that_have_said_goodbye_may_go(opened: list[Any]) -> None:
    run = Run(3)
    for peer in run.peers:
        peer.close()
    time.sleep(0.1)
    for connection in opened:
        cut(connection)
    time.sleep(0.2)
    assert not run.ended


def test_a_stranger_is_not_let_in(opened: list[Any]) -> None:
    hub = Hub(2, Peers(0, lambda message: None), "token")
    refused: list[str] = []
    call(["127.0.0.1"], hub.port, "another", Peers(1, refused.append), 2)
    call(["127.0.0.1"], hub.port, "token", Peers(1, lambda message: None), 2)
    hub.accept_all()
    assert list(hub._lines) == [1]
    assert hub._lines[1]._socket.getpeername() == opened[1].getsockname()


@pytest.mark.parametrize("said", [None, b"", b"5\n", b"[]\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_one_that_calls_and_says_nothing_of_use_holds_nobody_up(
    opened: list[Any], monkeypatch: pytest.MonkeyPatch, said: bytes | None
) -> None:
    monkeypatch.setattr(module, "_GREETING", 0.2)
    hub = Hub(2, Peers(0, lambda message: None), "token")
    with socket.create_connection(("127.0.0.1", hub.port)) as other:
        if said:
            other.sendall(said)
        if said == b"":
            other.shutdown(socket.SHUT_WR)
        call(["127.0.0.1"], hub.port, "token", Peers(1, lambda message: None), 2)
        began = time.monotonic()
        hub.accept_all()
    assert time.monotonic() - began < 3
    assert list(hub._lines) == [1]


def test_one_that_does_not_come_is_named(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HELLO", 0.1)
    hub = Hub(3, Peers(0, lambda message: None), "token")
    call(["127.0.0.1"], hub.port, "token", Peers(2, lambda message: None), 3)
    with pytest.raises(PeerDied, match="process 1 of 3 has not called"):
        hub.accept_all()


def test_process_0_out_of_reach_is_said() -> None:
    with pytest.raises(PeerDied, match=r"not reached on port 1 of 127\.0\.0\.1; is a firewall"):
        call(["127.0.0.1"], 1, "token", Peers(1, lambda message: None), 2)


@pytest.mark.parametrize("who", [0, 1, 2])
def test_all_stop_after_the_furthest_step_that_any_has_begun(opened: list[Any], who: int) -> None:
    run, ahead = Run(3), 4
    stopped: dict[int, int] = {}
    done = [0, 0, 0]

    def train(index: int) -> None:
        # like devices that need every process for a step: the host of one is `ahead` of the slowest at most
        for step in range(1, 10_000):
            signum = 15 if index == who and step > 30 else None
            if run.peers[index].begin(step, signum) is not None:
                stopped[index] = step - 1
                return
            while step - min(done) > ahead:
                time.sleep(0.0005)
            done[index] = step
            time.sleep(0.0005 * index)

    threads = [threading.Thread(target=train, args=(i,), daemon=True) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(stopped) == 3, "some were left waiting"
    assert len(set(stopped.values())) == 1
    assert 30 <= stopped[0] < 30 + 3 * ahead

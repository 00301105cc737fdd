"""The keeper gives each order to one child: whatever a zygote has or has not said when it ends."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_runtime import keeper as keeping
from ropewalk_runtime.frames import MAX_SAID, receive_packet, send_packet
from ropewalk_runtime.keeper import Keeper, Zygote


class Played(Keeper):
    """A keeper whose zygotes are played: sockets at whose other ends a test sits."""

    def __init__(self, host: socket.socket) -> None:
        super().__init__(host, 60.0, "")
        self.played: list[socket.socket] = []
        self.zygotes: list[Zygote] = []

    def _spawn(self, key: tuple[str, str], wanted: frozenset[str], environment: dict[str, str]) -> Zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        zygote = Zygote(key, wanted, 0, ours, len(self.played) + 1)
        self._zygotes.append(zygote)
        self._watch(ours.fileno(), lambda: self._from_zygote(zygote))
        self.played.append(theirs)
        self.zygotes.append(zygote)
        return zygote

    def say(self, number: int, **message: Any) -> None:
        """Have a zygote say something, without anybody listening yet."""
        send_packet(self.played[number], message)

    def ready(self, number: int) -> None:
        self.say(number, op="ready", loaded=[], threads=1, isolated=True, why="")
        self._from_zygote(self.zygotes[number])

    def order(self, number: int) -> dict[str, Any] | None:
        """Return what a zygote was ordered last, None if nothing."""
        self.played[number].setblocking(False)
        try:
            found = receive_packet(self.played[number])
        except BlockingIOError:
            return None
        assert found is not None
        for one in found[1]:
            os.close(one)
        return found[0]


@pytest.fixture
def scene() -> Iterator[tuple[Played, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    keeper = Played(ours)
    yield keeper, theirs
    for sock in (ours, theirs, *keeper.played, *(one.control for one in keeper.zygotes)):
        sock.close()


def start(keeper: Keeper, identifier: str, *preload: str, **more: Any) -> None:
    order = {"op": "start", "id": identifier, "kind": "worker", "python": "python", "preload": list(preload)}
    order |= {"environment": {}, **more}
    keeper._start(order, [os.open(os.devnull, os.O_RDONLY)])


def told(host: socket.socket) -> list[tuple[str, str]]:
    """Return what the host was told of orders."""
    found = []
    while True:
        try:
            received = receive_packet(host)
        except BlockingIOError:
            return found
        assert received is not None
        if "id" in received[0]:
            found.append((received[0]["op"], received[0]["id"]))


def test_what_a_zygote_said_before_it_ended_is_heard(scene: tuple[Played, socket.socket]) -> None:
    keeper, host = scene
    start(keeper, "one")
    keeper.ready(0)
    assert (keeper.order(0) or {})["id"] == "one"
    keeper.say(0, op="started", id="one", pid=2**22 + 1)
    keeper.played[0].close()
    keeper._retire(keeper.zygotes[0])
    assert told(host) == [("started", "one")] and len(keeper.zygotes) == 1


def test_what_a_zygote_did_not_say_is_ordered_of_the_next_and_can_be_said_no_more(
    scene: tuple[Played, socket.socket],
) -> None:
    keeper, host = scene
    start(keeper, "one")
    keeper.ready(0)
    keeper.order(0)
    keeper._retire(keeper.zygotes[0])
    with pytest.raises(OSError):  # so its child never begins
        keeper.say(0, op="started", id="one", pid=2**22 + 1)
    keeper.ready(1)
    assert (keeper.order(1) or {})["id"] == "one" and told(host) == []


def test_who_gives_up_waiting_for_a_stuck_zygote_frees_others_of_it(
    scene: tuple[Played, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it imports does not end, and further functions would wait in the same line."""
    keeper, host = scene
    start(keeper, "one", "stuck")
    start(keeper, "two")  # a zygote that imports more would do, if it did
    start(keeper, "three", "stuck")
    assert len(keeper.zygotes) == 1
    keeper._end("three", "ended")
    assert told(host) == [("failed", "three")] and len(keeper.zygotes) == 1  # it may just be slow
    monkeypatch.setattr(keeping, "SLOWEST_START", -1.0)
    keeper._end("one", "ended")
    assert told(host) == [("failed", "one")] and len(keeper.zygotes) == 2
    keeper.ready(1)
    assert (keeper.order(1) or {})["id"] == "two"
    start(keeper, "four", "stuck")
    assert len(keeper.zygotes) == 2  # nothing is imported for it any more
    assert time.monotonic() > keeper.zygotes[1].born


def test_a_log_that_nobody_reads_holds_up_nobody(scene: tuple[Played, socket.socket], tmp_path: Path) -> None:
    keeper, host = scene
    os.mkfifo(tmp_path / "log")
    start(keeper, "one", log=str(tmp_path / "log"), log_limit=1000)
    assert told(host) == [("failed", "one")]


def running(keeper: Played, identifier: str, **more: Any) -> int:
    """Have a step run, and return what its own end of the pipe is on which it says its outcome."""
    start(keeper, identifier, kind="python", **more)
    keeper.ready(len(keeper.zygotes) - 1)
    found = receive_packet(keeper.played[-1])
    assert found is not None
    _, pipe, *rest = found[1]
    for one in [found[1][0], *rest]:
        os.close(one)
    keeper.say(len(keeper.zygotes) - 1, op="started", id=identifier, pid=2**22 + 1)
    keeper._from_zygote(keeper.zygotes[-1])
    return pipe


def test_what_a_step_says_is_passed_on_before_it_has_ended_with_its_log(
    scene: tuple[Played, socket.socket], tmp_path: Path
) -> None:
    keeper, host = scene
    pipe = running(keeper, "one", log=str(tmp_path / "log"), log_limit=1000)
    child = keeper._children["one"]
    write = os.open(f"/proc/self/fd/{child.pipe}", os.O_WRONLY)  # as the step has it
    os.write(write, b"its last word")
    os.write(pipe, b'{"ok": true}')
    keeper._hear(child)
    assert (tmp_path / "log").read_bytes() == b"its last word"
    assert told(host) == [("started", "one"), ("said", "one")]
    os.write(write, b" and one more")
    os.close(write)
    child.exit = (0, 0)
    keeper._finish(child)
    assert told(host) == [("exit", "one")] and child.said == -1
    os.close(pipe)


@pytest.mark.parametrize("junk", [b"", b"\x00" * 9, '{"é": 1}'.encode(), b"{}\n", b" " * (MAX_SAID + 1)])
def test_what_could_not_be_passed_on_whole_is_not(scene: tuple[Played, socket.socket], junk: bytes) -> None:
    keeper, host = scene
    pipe = running(keeper, "one")
    os.write(pipe, junk)
    os.close(pipe)
    child = keeper._children["one"]
    child.exit = (0, 0)
    keeper._finish(child)
    assert told(host) == [("started", "one"), ("exit", "one")]


def test_the_longest_outcome_fits_into_a_packet(scene: tuple[Played, socket.socket]) -> None:
    keeper, host = scene
    pipe = running(keeper, "one")
    os.write(pipe, b'"' * MAX_SAID)
    keeper._hear(keeper._children["one"])
    assert told(host) == [("started", "one"), ("said", "one")]
    os.close(pipe)


def test_who_says_an_outcome_and_does_not_end_is_ended(
    scene: tuple[Played, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, _ = scene
    ended: list[int] = []
    monkeypatch.setattr(keeping, "_kill", ended.append)
    pipe = running(keeper, "one")
    os.write(pipe, b"{}")
    keeper._hear(keeper._children["one"])
    monkeypatch.setattr(keeping.time, "monotonic", lambda now=time.monotonic: now() + 10)
    keeper._keep_time()
    assert ended == [2**22 + 1]
    os.close(pipe)

"""A worker by itself: what is yielded is sent as it comes, and a caller that leaves ends its call where it stands."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ropewalk_runtime import serving
from ropewalk_runtime.frames import pack
from ropewalk_runtime.handler import CALL_TYPE
from ropewalk_runtime.parts import EVENTS, PARTS_TYPE
from ropewalk_runtime.streams import WINDOW
from tests.worker_rig import Work, working

SYNC = """
import time
def handler(count: int = 3, pause: float = 0.0, kind: str = "", text: bool = False):
    try:
        for number in range(count):
            if kind == "bad" and number == 2:
                raise ValueError("no third")
            yield f"{number} " if text else {"n": number}
            time.sleep(pause)
        if kind == "big":
            yield "x" * 1_000_000
    finally:
        print("closed")
"""
ASYNC = SYNC.replace("def handler", "async def handler").replace("time.sleep", "await asyncio.sleep")
ASYNC = ASYNC.replace("import time", "import asyncio")
KINDS = [(SYNC, 1), (SYNC, 4), (ASYNC, 1), (ASYNC, 4)]
MODES = pytest.mark.parametrize(("source", "concurrency"), KINDS, ids=["alone", "threads", "async", "async 4"])


@MODES
def test_what_is_yielded_comes_as_lines_and_ends_with_the_log(source: str, concurrency: int, tmp_path: Path) -> None:
    with working(tmp_path, source, concurrency=concurrency) as work:
        assert work.hello["op"] == "ready"
        work.send(1, {"count": 2})
        head, _ = work.take()
        assert head == {"op": "head", "id": 1, "status": 200, "type": "application/x-ndjson", "values": True}
        found, last = work.rest()
        assert found == b'{"n":0}\n{"n":1}\n' and (last["id"], last["logs"]) == (1, "closed\n")
        work.send(2, {"count": 2, "text": True})
        assert work.take()[0]["type"] == "text/plain; charset=utf-8"
        assert work.rest()[0] == b"0 1 "
        work.send(3, {"count": 1, "text": True}, accept=EVENTS)
        assert work.take()[0]["type"] == EVENTS
        assert work.rest()[0] == b"data: 0 \n\n"
        work.send(4, {"args": [1], "kwargs": {}}, type=CALL_TYPE)
        assert work.take()[0]["type"] == PARTS_TYPE
        assert work.rest()[0] == b'{"value":{"n":0}}\n'
        work.send(5, {"count": 0})
        assert work.take()[0]["op"] == "head"
        assert work.rest()[0] == b""


@MODES
def test_parts_come_at_once(source: str, concurrency: int, tmp_path: Path) -> None:
    with working(tmp_path, source, concurrency=concurrency) as work:
        work.send(1, {"count": 2, "pause": 0.5})
        begun = time.monotonic()
        assert work.take()[0]["op"] == "head" and work.take()[1] == b'{"n":0}\n'
        assert time.monotonic() - begun < 0.4


@MODES
def test_a_failure_before_the_first_value_is_a_plain_one_and_later_ends_the_parts(
    source: str, concurrency: int, tmp_path: Path
) -> None:
    with working(tmp_path, source, concurrency=concurrency) as work:
        work.send(1, {"count": "x"})
        assert work.take()[0]["error"]["code"] == "RW-BAD-INPUT"
        work.send(2, {"kind": "bad"})
        assert work.take()[0]["op"] == "head"
        found, last = work.rest()
        assert found == b'{"n":0}\n{"n":1}\n' and "closed" in last["logs"]
        assert last["error"]["code"] == "RW-USER-CODE" and "no third" in last["error"]["details"]["traceback"]


@MODES
def test_no_more_is_sent_ahead_than_the_window(source: str, concurrency: int, tmp_path: Path) -> None:
    with working(tmp_path, source, concurrency=concurrency) as work:
        work.send(1, {"count": 0, "kind": "big"})
        assert work.take()[0]["op"] == "head"
        sent = 0
        while not work.quiet(0.5):
            sent += len(work.take()[1])
        assert 0 < sent <= WINDOW
        work.tell("more", 1, bytes=WINDOW)
        found, _ = work.rest()
        assert sent + len(found) == 1_000_000


@MODES
@pytest.mark.parametrize("pause", [0.0, 30.0], ids=["between values", "in its own wait"])
def test_a_caller_that_leaves_ends_the_generator(source: str, concurrency: int, pause: float, tmp_path: Path) -> None:
    if pause and source is SYNC and concurrency > 1:
        pytest.skip("nothing ends a thread that waits")
    with working(tmp_path, source, concurrency=concurrency) as work:
        work.send(1, {"count": 1_000_000, "pause": pause})
        assert work.take()[0]["op"] == "head"
        if not pause:
            while not work.quiet(0.3):
                work.take()
        begun = time.monotonic()
        work.tell("cancel", 1)
        _, last = work.rest()
        assert last["id"] == 1 and "closed" in last["logs"] and time.monotonic() - begun < 5
        work.tell("cancel", 1)  # too late, and so without effect
        work.tell("more", 1, bytes=10)
        work.send(2, {"count": 1})
        assert work.take()[0]["op"] == "head"
        assert work.rest()[0] == b'{"n":0}\n'


PLAIN = """
import time, asyncio
{a}def handler(seconds: float):
    try:
        {w}(seconds)
        return "slept"
    finally:
        print("closed")
"""


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
def test_a_caller_that_leaves_ends_a_function_that_runs_alone(is_async: bool, tmp_path: Path) -> None:
    wait = "await asyncio.sleep" if is_async else "time.sleep"
    source = PLAIN.replace("{a}", "async " if is_async else "").replace("{w}", wait)
    with working(tmp_path, source) as work:
        for number in (1, 3, 5):
            work.send(number, 30)
            time.sleep(0.2)
            work.tell("cancel", number)
            header, _ = work.take()
            assert (header["id"], header["logs"]) == (number, "closed\n")
            assert header["error"]["message"] == "The caller left before the answer."
            work.send(number + 1, 0)
            assert work.take()[1] == b'"slept"'


def test_bytes_and_what_cannot_follow_them(tmp_path: Path) -> None:
    source = "def handler(kind: str):\n    yield b'ab'\n    yield 'c' if kind == 'text' else {}\n"
    with working(tmp_path, source) as work:
        work.send(1, "text")
        assert work.take()[0]["type"] == "application/octet-stream"
        assert work.rest()[0] == b"abc"
        work.send(2, "object")
        assert work.take()[0]["op"] == "head"
        found, last = work.rest()
        assert found == b"ab" and "dict cannot follow" in last["error"]["message"]


CLASS = """
class Model:
    def start(self):
        self.loaded = getattr(type(self), "times", 0) + 1
        type(self).times = self.loaded
        if FAIL: raise OSError("no weights")
    def call(self, x: int) -> list:
        return [self.loaded, x]
"""


def test_a_class_is_made_and_started_once(tmp_path: Path) -> None:
    with working(tmp_path, CLASS.replace("FAIL", "False"), entry="Model") as work:
        assert [one["name"] for one in work.hello["parameters"]] == ["x"]
        for number in (1, 2):
            work.send(number, number)
            assert json.loads(work.take()[1]) == [1, number]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (CLASS.replace("FAIL", "True"), "The function does not start (cell line 6): OSError: no weights"),
        ("class Model:\n    pass\n", "has no method call or __call__"),
        ("class Model:\n    def __init__(self, path): ...\n    def call(self): ...\n", "missing 1 required positional"),
        ("class Model:\n    async def start(self):\n        1 / 0\n    def call(self): ...\n", "ZeroDivisionError"),
    ],
    ids=["start", "no method", "arguments", "async start"],
)
def test_a_class_that_does_not_start_says_why(source: str, said: str, tmp_path: Path) -> None:
    with working(tmp_path, source, entry="Model") as work:
        assert work.hello["op"] == "failed" and said in work.hello["error"]["message"], work.hello


def test_what_a_class_starts_in_a_loop_lives_with_its_calls(tmp_path: Path) -> None:
    source = """
import asyncio
class Model:
    async def start(self):
        self.loop, self.ticks = asyncio.get_running_loop(), 0
        self.task = asyncio.create_task(self.tick())
    async def tick(self):
        while True:
            self.ticks += 1
            await asyncio.sleep(0.01)
    async def __call__(self):
        await asyncio.sleep(0.1)
        return [self.loop is asyncio.get_running_loop(), self.ticks > 2, self.task.done()]
"""
    with working(tmp_path, source, entry="Model", concurrency=4) as work:
        work.send(1)
        assert json.loads(work.take()[1]) == [True, True, False]


def test_a_caller_that_leaves_at_once_ends_a_function_that_runs_alone(tmp_path: Path) -> None:
    with working(tmp_path, PLAIN.replace("{a}", "").replace("{w}", "time.sleep")) as work:
        call = pack({"id": 1, "type": "application/json"}, b"30")
        work.sock.sendall(call + pack({"op": "cancel", "id": 1}))
        assert work.take()[0]["error"]["message"] == "The caller left before the answer."
        work.send(2, 0)
        assert work.take()[1] == b'"slept"'


def test_a_caller_that_leaves_before_its_call_began_is_told_its_end(tmp_path: Path) -> None:
    source = "import time\nasync def handler(x):\n    time.sleep(0.3)\n    return x\n"
    with working(tmp_path, source, concurrency=4) as work:
        work.send(1, 1)
        time.sleep(0.1)  # its loop is busy: what comes now is read at once
        call = pack({"id": 2, "type": "application/json"}, b"2")
        work.sock.sendall(call + pack({"op": "cancel", "id": 2}))
        ended = {header["id"]: header for header, _ in (work.take(), work.take())}
        assert ended[2]["error"]["message"] == "The caller left before the answer." and "error" not in ended[1]


def test_what_is_granted_while_a_part_is_counted_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    call = serving.Call({"id": 1})

    def other_thread(piece: bytes) -> int:
        call.heed({"op": "more", "id": 1, "bytes": 1000})
        return len(piece)

    monkeypatch.setattr(serving, "cost", other_thread)
    call.part(b"x" * 100)
    assert call.credit == WINDOW + 1000 - 100


def test_async_handlers_run_side_by_side(tmp_path: Path) -> None:
    source = "import asyncio\nasync def handler(x):\n    await asyncio.sleep(0.3)\n    return x\n"
    with working(tmp_path, source, concurrency=8) as work:
        begun = time.monotonic()
        for number in range(8):
            work.send(number, number)
        answers: set[Any] = {json.loads(work.take()[1]) for _ in range(8)}
        assert answers == set(range(8)) and time.monotonic() - begun < 1.5


def test_a_frame_that_comes_in_pieces_while_it_waits_is_no_failure(tmp_path: Path) -> None:
    source = "def handler():\n    while True:\n        yield 'x' * 30_000\n"
    with working(tmp_path, source) as work:
        work.send(1, {})
        while not work.quiet(0.3):
            work.take()
        for _ in range(200):
            for one in pack({"op": "more", "id": 2, "bytes": 0}):
                work.sock.sendall(bytes([one]))
        assert work.quiet(0.2)
        work.tell("cancel", 1)
        header = work.take()[0]
        assert "FrameError" not in str(header["error"]) and header["id"] == 1


CONTEXT = """
from ropewalk_runtime.context import current_call
LOADING = current_call()
def handler():
    call = current_call()
    return [LOADING, call.id, call.caller, call.carrier()]
"""


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_handler_knows_its_call_and_what_it_cost(kind: str, concurrency: int, tmp_path: Path) -> None:
    with working(tmp_path, CONTEXT.replace("def handler", f"{kind} handler"), concurrency=concurrency) as work:
        for number, trace in enumerate(({"traceparent": "00-a", "tracestate": "b=1"}, {})):
            work.send(number, {}, call=f"call-{number}", caller="ada", **trace)
            head, body = work.take()
            assert json.loads(body) == [None, f"call-{number}", "ada", trace]
            assert ("cpu" in head) == (kind == "def" or concurrency == 1)
            assert 0 <= head.get("cpu", 0.0) < 10 and head["took"] >= 0


TALKING = """
import ctypes, os, time
def handler(seconds: float = 0.0, count: int = 1):
    for number in range(count):
        print("printed", number)
        os.write(1, b"written %d\\n" % number)
        time.sleep(seconds)
    return count
"""
TALKING_ASYNC = TALKING.replace("def handler", "async def handler").replace("time.sleep", "await asyncio.sleep")
TALKING_ASYNC = TALKING_ASYNC.replace("import ctypes", "import asyncio, ctypes")


def told(work: Work, number: int, words: str) -> str:
    """Ask what a call printed until these words have come, and return all of it."""
    found = ""
    while words not in found:
        work.tell("log", number)
        head, body = work.take()
        assert (head["op"], head["id"], body) == ("log", number, b""), head
        found += head["text"]
    return found


@pytest.mark.parametrize("source", [TALKING, TALKING_ASYNC], ids=["plain", "async"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_a_call_prints_is_told_while_it_goes_on(source: str, concurrency: int, tmp_path: Path) -> None:
    with working(tmp_path, source, concurrency=concurrency) as work:
        work.send(1, {"seconds": 0.7, "count": 3})
        first = told(work, 1, "printed 0\n")
        then = told(work, 1, "printed 1\n")
        assert "printed 0" not in then
        assert source is TALKING_ASYNC or concurrency > 1 or "written 0\n" in first + then
        head, body = work.take()
        assert (head["id"], body) == (1, b"3")
        assert [line for line in head["logs"].splitlines() if line.startswith("printed")] == [
            "printed 0",
            "printed 1",
            "printed 2",
        ]
        every = [f"{word} {number}" for number in range(3) for word in ("printed", "written")]
        assert sorted(head["logs"].splitlines()) == sorted(every)
        work.tell("log", 1)  # it is over
        work.send(2, {})
        head, _ = work.take()
        assert (head["id"], head["logs"]) == (2, "printed 0\nwritten 0\n")


def test_many_questions_hold_up_neither_the_call_nor_its_end(tmp_path: Path) -> None:
    source = "import time\ndef handler():\n    try:\n        time.sleep(60)\n    finally:\n        print('closed')\n"
    with working(tmp_path, source) as work:
        work.send(1, {})
        for _ in range(100):
            work.tell("log", 1)
        for _ in range(100):
            head, _ = work.take()
            assert head["op"] == "log"
            if work.quiet(0.2):  # several questions may share an answer
                break
        work.tell("cancel", 1)
        head, _ = work.take()
        while head.get("op") == "log":
            head, _ = work.take()
        assert head["error"]["code"] == "RW-USER-CODE" and head["logs"] == "closed\n"
        work.send(2, {"bad": 1})
        assert work.take()[0]["id"] == 2


@MODES
def test_questions_between_parts_spoil_none(source: str, concurrency: int, tmp_path: Path) -> None:
    with working(tmp_path, source, concurrency=concurrency) as work:
        work.send(1, {"count": 200, "pause": 0.002, "kind": "big"})
        found, logs = b"", 0
        for number in range(100_000):
            head, body = work.take()
            if head.get("op") == "log":
                logs += 1
            elif head.get("op") == "part":
                found += body
                work.tell("more", 1, bytes=len(body) + 64)
                if number % 3 == 0:
                    work.tell("log", 1)
            elif head.get("op") != "head":
                break
        lines = found.splitlines()
        assert [json.loads(one)["n"] for one in lines[:200]] == list(range(200))
        assert len(json.loads(lines[200])) == 1_000_000 and head["logs"] == "closed\n" and logs > 0


def test_a_program_is_told_of_while_it_goes_on(tmp_path: Path) -> None:
    source = "#!/bin/sh\necho begun >&2\nsleep 1\necho more >&2\necho 1\n"
    with working(tmp_path, source, form="program") as work:
        work.send(1)
        assert told(work, 1, "begun") == "begun\n"
        head, body = work.take()
        while head.get("op") == "log":
            head, body = work.take()
        assert (head["logs"], body) == ("begun\nmore\n", b"1\n")

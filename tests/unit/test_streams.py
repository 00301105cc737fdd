"""Answers in parts, on the side that asked: whatever a worker sends, nothing is lost, doubled or held without bound."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_hub.gateway.headers import from_function, value_of
from ropewalk_hub.gateway.link import Gone, Link, text_of, worker_error
from ropewalk_runtime import parts
from ropewalk_runtime.frames import FrameError, pack
from ropewalk_runtime.handler import BadAnswer, TooLong
from ropewalk_runtime.streams import LONGEST_PRINTED, PIECE, WINDOW, Exchange, cost, pieces

_ops = st.sampled_from(["head", "part", "more", "cancel", "end", None])


@given(st.lists(st.tuples(_ops, st.binary(max_size=50)), max_size=30))
def test_any_frames_are_taken_in_order_or_refused(frames: list[tuple[str | None, bytes]]) -> None:
    async def run() -> None:
        told: list[dict[str, Any]] = []
        exchange = Exchange(1, told.append)
        expected, began, over = b"", False, False
        for op, body in frames:
            try:
                exchange.take({"op": op} if op else {}, body)
            except FrameError:
                assert op == "part" and not began
                return
            if over:
                continue
            if op == "part":
                expected += body
            elif op == "head" and not began:
                began = True
            else:
                over = True
        if not over:
            exchange.fail(ConnectionError())
        found = b""
        try:
            while (data := await exchange.next()) is not None:
                found += data
        except ConnectionError:
            assert not over
        assert found == expected
        if exchange.first.done():
            exchange.first.exception()
        else:
            exchange.first.cancel()

    asyncio.run(run())


async def test_a_worker_that_runs_ahead_is_stopped_and_one_that_waits_goes_on() -> None:
    told: list[dict[str, Any]] = []
    exchange = Exchange(7, told.append)
    exchange.take({"op": "head"}, b"")
    part = b"x" * PIECE
    fits = WINDOW // cost(part)
    for _ in range(fits):
        exchange.take({"op": "part"}, part)
    assert await exchange.next() == part * fits and not told
    waiting = asyncio.create_task(exchange.next())
    await asyncio.sleep(0)
    assert told == [{"op": "more", "id": 7, "bytes": fits * cost(part)}]
    exchange.take({"op": "part"}, b"y")
    assert await waiting == b"y"
    with pytest.raises(FrameError):
        for _ in range(fits + 1):
            exchange.take({"op": "part"}, part)


async def test_a_million_tiny_parts_are_no_small_amount() -> None:
    exchange = Exchange(1, lambda _: None)
    exchange.take({"op": "head"}, b"")
    with pytest.raises(FrameError):
        for _ in range(WINDOW // 64):
            exchange.take({"op": "part"}, b"z")


@given(st.binary(max_size=200_000))
def test_pieces_are_the_whole(data: bytes) -> None:
    found = list(pieces(data))
    assert b"".join(found) == data and all(0 < len(one) <= PIECE for one in found)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats(), st.lists, max_leaves=5))
def test_a_value_between_python_and_python_comes_back(value: Any) -> None:
    line = parts.encode(parts.PARTS_TYPE, value, 10**6)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    what, found = parts.read(line)
    assert what == "value" and json.dumps(found) == json.dumps(value)


@given(st.binary(max_size=100))
def test_bytes_come_back_and_no_line_breaks_the_reader(data: bytes) -> None:
    assert parts.read(parts.encode(parts.PARTS_TYPE, data, 10**6)) == ("value", data)
    try:
        assert parts.read(data)[0] in ("value", "error", "end")
    except ValueError:
        pass


@given(st.text(max_size=50))
def test_an_event_holds_its_text_and_nothing_else(text: str) -> None:
    data = parts.encode(parts.EVENTS, text, 10**6).decode(errors="replace")
    lines = data.removesuffix("\n\n").split("\n")
    assert all(one.startswith("data: ") for one in lines)
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode(errors="replace").decode()
    assert "\n".join(one.removeprefix("data: ") for one in lines) == plain


def test_the_end_says_whether_the_answer_is_whole() -> None:
    error = {"code": "RW-USER-CODE", "message": "no"}
    assert parts.tail(parts.NDJSON, None) == (b"", True)
    assert parts.tail(parts.NDJSON, error) == (b'{"error":{"code":"RW-USER-CODE","message":"no"}}\n', False)
    assert parts.tail(parts.TEXT, error) == (b"", False)
    assert parts.read(parts.tail(parts.PARTS_TYPE, None)[0]) == ("end", True)
    assert parts.read(parts.tail(parts.PARTS_TYPE, error)[0]) == ("error", error)
    assert parts.tail(parts.EVENTS, error)[0].startswith(b"event: error\ndata: {")


def test_values_that_cannot_follow_are_refused() -> None:
    for kind, value in ((parts.TEXT, b"x"), (parts.NDJSON, b"x"), (parts.BYTES, 1), (parts.NDJSON, float("nan"))):
        with pytest.raises(BadAnswer):
            parts.encode(kind, value, 100)
    with pytest.raises(TooLong):
        parts.encode(parts.TEXT, "x" * 101, 100)


_header = st.dictionaries(
    st.sampled_from(["op", "id", "status", "type", "error", "logs", "bytes"]),
    st.none() | st.integers(-3, 5) | st.sampled_from(["head", "part", "end", "cancel", "x"]) | st.lists(st.integers()),
    max_size=4,
)


ODD = [
    b'{"id":1,"status":%s}' % (b"9" * 4000),
    b'{"id":1,"status":200,"type":%s}' % (b"9" * 4000),
    b'{"id":%s}' % (b"9" * 4000),
    b'{"id":1,"status":NaN,"took":-Infinity,"logs":1e999}',
    b'{"id":[1],"op":"end"}',
    b'{"id":{"a":1}}',
    b'{"id":true,"op":{"a":1}}',
    b'{"id":1.0,"op":"head"}',
    b'{"id":1,"op":["head"],"logs":{"a":[1]},"type":["text/html"]}',
    b'{"id":1,"error":{"code":[1],"message":{"a":1},"details":{"traceback":[[[]]],"error":7},"hint":[],"field":{}}}',
    b'{"id":1,"error":{"code":"RW-USER-CODE","message":"\\ud800","details":{"traceback":"\\udfff"}}}',
    b'{"id":1,"error":[1,2],"headers":{"a":"b"}}',
    b'{"id":1,"status":200,"type":"text/html\\r\\nX-Evil: 1","headers":[["a\\r\\nb","c"],[1,2],"x",[["a"],["b"]]]}',
    b'{"id":1,"logs":%s}' % (b"[" * 900 + b"]" * 900),
    b'{"id":1,"logs":%s}' % (b"[" * 50 + b"]" * 50),
    b"[" * 100_000,
    b'{"id":1,"a":' + b"9" * 5000 + b"}",
    b"null",
    b"\xff\xfe",
]
"""Headers of frames that a worker may write, whose code is a person's."""


@pytest.mark.parametrize("header", ODD, ids=lambda header: header[:40].decode(errors="replace"))
async def test_an_odd_header_is_an_answer_or_the_end_of_its_worker(header: bytes) -> None:
    ours, theirs = socket.socketpair()
    link = await Link.open(ours, 1000)
    with theirs:
        theirs.sendall(pack({"op": "ready"}))
        await link.hello
        exchange = link.send({}, b"")
        theirs.sendall(struct.pack("!II", len(header), 0) + header)
        try:
            async with asyncio.timeout(0.2):
                said, _ = await exchange.first
        except Gone:
            assert link.closed.is_set() and link.nonsense
        except TimeoutError:
            assert not link.closed.is_set()  # it answered another call, or none
        else:
            error = worker_error(said, 2**30, 2**34)
            shown = json.dumps(error.problem(origin="http://here")) if error else text_of(said.get("logs", ""), 1000)
            assert shown.encode() is not None  # whatever it is, it can be sent on
            assert set(from_function(said.get("headers"))) <= {"1"}
            assert "\n" not in value_of(text_of(said.get("type"), 1000))
        link.close()


async def test_a_worker_that_answers_nothing_that_was_asked_is_ended() -> None:
    """Every frame costs the event loop that all share a moment."""
    ours, theirs = socket.socketpair()
    link = await Link.open(ours, 1000)
    with theirs:
        theirs.sendall(pack({"op": "ready"}))
        await link.hello
        exchange = link.send({}, b"")
        theirs.sendall(pack({"id": 1, "op": "head"}) + pack({"id": 1, "op": "end"}))
        await exchange.first
        after = pack({"id": 1, "op": "part"}, b"x") * 100  # more parts after the end
        loop = asyncio.get_running_loop()
        theirs.setblocking(False)
        async with asyncio.timeout(20):
            while not link.closed.is_set():
                try:
                    await loop.sock_sendall(theirs, after)
                except OSError:
                    await link.closed.wait()
        assert "answer nothing" in link.nonsense and await exchange.next() is None


@given(st.lists(st.tuples(_header, st.binary(max_size=40)), max_size=20), st.binary(max_size=30), st.integers(1, 40))
def test_whatever_a_worker_writes_its_link_answers_or_closes(
    frames: list[tuple[dict[str, Any], bytes]], noise: bytes, size: int
) -> None:
    """The worker is user code: no frame of it may raise in the gateway, or leave a caller waiting for ever."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        link = await Link.open(ours, 1000)
        with theirs:
            theirs.sendall(pack({"op": "ready"}))
            await link.hello
            exchanges = [link.send({}, b"") for _ in range(3)]
            data = b"".join(pack(*one) for one in frames) + noise
            for start in range(0, len(data), size):
                try:
                    theirs.sendall(data[start : start + size])
                except OSError:
                    break
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            for one in exchanges:
                try:
                    await one.first
                    while await one.next() is not None:
                        pass
                except Gone:
                    assert link.closed.is_set()
            await link.closed.wait()

    asyncio.run(run())


async def test_a_log_is_told_when_asked_and_bounded() -> None:
    said: list[dict[str, Any]] = []
    one = Exchange(7, said.append)
    one.look()
    one.look()  # it was not answered yet
    assert said == [{"op": "log", "id": 7}]
    one.take({"op": "log", "id": 7, "text": "a" * 60_000}, b"")
    one.look()
    one.take({"op": "log", "id": 7, "text": "b" * 60_000}, b"")
    assert len(said) == 2 and len(one.printed) == LONGEST_PRINTED and not one.first.done()
    one.take({"id": 7, "status": 200}, b"1")
    assert (await one.first)[1] == b"1"
    one.look()
    one.take({"op": "log", "id": 7, "text": "late"}, b"")
    assert len(said) == 2 and "late" not in one.printed


@pytest.mark.parametrize("text", [None, 1, ["x"], {}])
async def test_a_log_that_is_none_or_that_nobody_asked_for_breaks_the_protocol(text: object) -> None:
    one = Exchange(7, lambda _: None)
    with pytest.raises(FrameError):
        one.take({"op": "log", "id": 7, "text": "x"}, b"")
    one.look()
    with pytest.raises(FrameError):
        one.take({"op": "log", "id": 7, "text": text}, b"")

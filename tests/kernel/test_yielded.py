"""What a generator yields, in a notebook: values as they come, failures where they happen, the end with who leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ropewalk_core import sync
from ropewalk_core.errors import BadInput, Unavailable, UserCodeFailed
from ropewalk_kernel.posts import Broken, Stream
from ropewalk_kernel.yielded import AsyncParts, Parts, whole

ERROR = {"code": "RW-USER-CODE", "message": "The function raised ValueError.", "details": {"traceback": "line 1"}}


class Source:
    """A stream that says what a test wants, in the portal's loop."""

    def __init__(self, *pieces: bytes, end: bool = True) -> None:
        self.over, self.held = 0, 0
        self.stream = sync.wait(self._made())
        for one in pieces:
            sync.portal().tell(lambda one=one: self.stream.feed(one))  # type: ignore[misc]
        if end:
            sync.portal().tell(self.stream.end)

    async def _made(self) -> Stream:
        return Stream(self._count, lambda held: None)

    def _count(self) -> None:
        self.over += 1


def line(**said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"


def test_values_come_back_as_they_were_however_they_were_cut() -> None:
    data = line(value=1) + line(value="two") + line(bytes="AAE=") + line(value={"n": [None]}) + line(end=True)
    for size in (1, 5, 1000):
        source = Source(*(data[start : start + size] for start in range(0, len(data), size)))
        assert list(Parts(source.stream)) == [1, "two", b"\x00\x01", {"n": [None]}]


def test_a_failure_is_raised_after_what_came_before() -> None:
    parts = Parts(Source(line(value=1), line(error=ERROR)).stream)
    assert next(parts) == 1
    with pytest.raises(UserCodeFailed) as caught:
        next(parts)
    assert caught.value.details["traceback"] == "line 1"
    with pytest.raises(StopIteration):
        next(parts)


@pytest.mark.parametrize("pieces", [(line(value=1),), (line(value=1), b'{"value"')], ids=["no end", "half a line"])
def test_an_answer_that_is_not_whole_is_not_taken_for_it(pieces: tuple[bytes, ...]) -> None:
    parts = Parts(Source(*pieces).stream)
    assert next(parts) == 1
    with pytest.raises(Unavailable, match="broke off"):
        next(parts)
    source = Source(line(value=1), end=False)
    sync.portal().tell(lambda: source.stream.end(Broken("ConnectionResetError")))
    parts = Parts(source.stream)
    assert next(parts) == 1
    with pytest.raises(Unavailable):
        next(parts)


@contextmanager
def left(source: Source) -> Iterator[Parts]:
    yield Parts(source.stream)
    sync.wait(asyncio.sleep(0))
    assert source.over == 1


def test_to_leave_the_loop_ends_the_generator() -> None:
    with left(Source(line(value=1), line(value=2), end=False)) as parts:
        for one in parts:
            assert one == 1
            break
        del one, parts
    with left(Source(line(value=1), end=False)) as parts:
        assert next(parts) == 1
        parts.close()
        assert list(parts) == []


async def test_the_same_in_any_loop() -> None:
    source = await asyncio.to_thread(Source, line(value=1), line(value=2), line(end=True))
    assert [one async for one in AsyncParts(source.stream)] == [1, 2]


def test_all_of_it_as_one_answer() -> None:
    assert sync.wait(whole(Source(line(value=1), line(value="a"), line(end=True)).stream)).body == b'[1, "a"]'
    assert sync.wait(whole(Source(line(bytes="AAE="), line(bytes="AAE="), line(end=True)).stream)).body == b"\0\1\0\1"
    with pytest.raises(BadInput):
        sync.wait(whole(Source(line(bytes="AAE="), line(value=1), line(end=True)).stream))

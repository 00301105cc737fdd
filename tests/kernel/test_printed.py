"""What a call prints under the cell that waits for it: nothing for a quick one, lines as they come for a long one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from ropewalk_core.errors import NotFound, UserCodeFailed
from ropewalk_core.model import Call, LogLine, Page, State
from ropewalk_kernel import printed
from ropewalk_kernel.printed import AGENT, Follower, follower
from tests.kernel.conftest import Notebook
from tests.kernel.fake import FakePlatform


def call(number: int, agent: str = AGENT, ended: float | None = None) -> Call:
    facts = {"state": State.RUNNING if ended is None else State.DONE, "agent": agent, "ended": ended}
    return Call(id=f"c{number}", function="f", owner="ada", revision="r", started=1.0, **facts)


class Platform:
    """Has records of calls, and their logs."""

    def __init__(self, *calls: Call, error: Exception | None = None) -> None:
        self.functions, self.items, self.error = self, calls, error
        self.asked: list[str] = []
        self.more = asyncio.Event()

    async def calls(self, name: str, *, limit: int) -> Page[Call]:
        self.asked.append(f"calls of {name}")
        if self.error is not None:
            raise self.error
        return Page(items=self.items)

    async def logs(self, name: str, *, call: str, follow: bool) -> AsyncIterator[LogLine]:
        self.asked.append(f"logs of {call}")
        yield LogLine(offset=1, text="first")
        await self.more.wait()
        yield LogLine(offset=2, text="last")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printed, "LONG", 0.05)
    monkeypatch.setattr(printed, "_AGAIN", 0.01)


async def following(platform: Platform, seconds: float, failure: Exception | None = None) -> tuple[Any, list[str]]:
    lines: list[str] = []

    async def asking() -> str:
        await asyncio.sleep(seconds)
        platform.more.set()
        if failure is not None:
            raise failure
        return "answer"

    return await Follower("f", lines.append).beside(cast(Any, platform), asking()), lines


async def test_a_quick_call_is_not_looked_for() -> None:
    platform = Platform(call(1))
    assert await following(platform, 0.0) == ("answer", []) and platform.asked == []


async def test_a_long_one_shows_its_lines_and_those_after_its_answer() -> None:
    platform = Platform(call(3, ended=2.0), call(2, agent="curl/8"), call(1))
    assert await following(platform, 0.3) == ("answer", ["first\n", "last\n"])
    assert platform.asked == ["calls of f", "logs of c1"]


async def test_one_without_a_record_is_answered_at_once() -> None:
    platform = Platform(call(2, agent="curl/8"))
    async with asyncio.timeout(1.5):
        assert await following(platform, 0.2) == ("answer", [])


async def test_what_is_wrong_with_following_is_not_what_is_wrong_with_the_call() -> None:
    platform = Platform(error=NotFound("no"))
    assert await following(platform, 0.2) == ("answer", [])
    with pytest.raises(UserCodeFailed):
        await following(Platform(call(1)), 0.2, UserCodeFailed("it raised"))


async def test_to_stop_waiting_ends_the_call() -> None:
    ended = asyncio.Event()

    async def asking() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    waiting = asyncio.create_task(Follower("f", lambda _: None).beside(cast(Any, Platform(call(1))), asking()))
    await asyncio.sleep(0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(1):
        await ended.wait()


def test_only_a_notebook_looks(platform: FakePlatform, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert follower("f") is not None
    monkeypatch.setattr(printed.live, "cell", lambda: None)
    assert follower("f") is None

"""Triggers on this machine, with a real sandbox, gateway, journal and folder: each occasion gives one result."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.storage import LocalStorage
from ropewalk_core.model import CallReport, DurableCall, State, TriggerSpec
from ropewalk_core.testing import ADA
from ropewalk_core.triggers import watching
from ropewalk_core.triggers.desk import TriggerDesk
from ropewalk_core.triggers.house import TriggerHouse
from ropewalk_hub import triggers as between
from ropewalk_hub.platform import SystemClock
from tests.function_rig import Rig, running

HELLO = "def handler(event):\n    return {'kind': event['kind'], 'told': event}\n"
DOUBLE = "def double(value):\n    return 2 * value\n"


class Stage:
    """A rig whose durable calls are followed by triggers, and the next triggers after a restart."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._running: asyncio.Task[None] | None = None
        self.begin()

    def begin(self) -> None:
        rig = self.rig
        target = between.functions(lambda owner, name: rig.functions.route(owner, name), lambda: rig.desk, rig.journal)
        look = LocalStorage(rig.settings, key=b"k").look
        self.house = TriggerHouse(
            rig.settings, rig.journal, SystemClock(), [target], active=lambda owner: True, look=look
        )
        self.triggers = TriggerDesk(self.house, "function")
        rig.desk._followers = self.house
        self._running = asyncio.create_task(self.house.run())

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def restart(self) -> None:
        await self.end()
        await self.rig.restart_platform()
        self.begin()

    async def add(self, function: str = "hello", **spec: Any) -> str:
        return (await self.triggers.add(ADA, "ada", function, TriggerSpec.model_validate(spec))).id

    async def results(self, count: int, function: str = "hello") -> list[dict[str, Any]]:
        """Return what so many durable calls of a function gave, once they have ended, and no more came meanwhile."""

        async def ended() -> bool:
            return len([one for one in await self.calls(function) if one.status.state.terminal]) >= count

        await until(ended)
        found = []
        for one in await self.calls(function):
            assert one.status.state is State.DONE, one.problem
            body = (await self.rig.desk.result(ADA, "ada", one.id)).body
            assert body is not None
            found.append(json.loads(body))
        assert len(found) == count
        return found

    async def calls(self, function: str) -> list[DurableCall]:
        return list((await self.rig.desk.list(ADA, "ada", function, limit=200)).items)[::-1]


async def until(ready: Callable[[], Awaitable[bool]], seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not await ready():  # noqa: ASYNC110 - a call wakes nobody here
            await asyncio.sleep(0.05)


@asynccontextmanager
async def furnished() -> AsyncIterator[Stage]:
    async with running() as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(HELLO, "hello"))
        await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE, "double", "double"))
        stage = Stage(rig)
        try:
            yield stage
        finally:
            await stage.end()


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(watching, "INTERVAL", 0.3)
    async with furnished() as one:
        yield one


async def test_by_hand_the_function_is_told_what_a_schedule_tells(stage: Stage) -> None:
    one = await stage.add(every="@hourly", zone="Europe/Athens")
    call = await stage.triggers.fire(ADA, "ada", "hello", one)
    [given] = await stage.results(1)
    assert given["told"]["trigger"] == one and given["kind"] == "every" and given["told"]["by_hand"] is True
    [shown] = (await stage.triggers.list(ADA, "ada", "hello")).items
    assert (shown.call, shown.outcome) == (call.id, State.DONE)


async def test_a_schedule_that_came_due_fires_once_over_restarts(stage: Stage) -> None:
    at = time.gmtime(time.time() - 120)
    one = await stage.add(every=f"{at.tm_min} {at.tm_hour} * * *")
    await stage.end()
    key = ("ada", f"function/hello/{one}")  # as if it had been there since yesterday
    await stage.triggers._book.change(key, lambda each: each.model_copy(update={"settled": each.created - 80_000}))
    stage.begin()
    [given] = await stage.results(1)
    assert given["told"]["at"].startswith(time.strftime("%Y-%m-%dT%H:%M:00", at))
    for _ in range(2):
        await stage.restart()
        await asyncio.sleep(0.3)
    await stage.results(1)
    [shown] = (await stage.triggers.list(ADA, "ada", "hello")).items
    assert shown.fires == 1 and shown.next is not None


async def test_the_end_of_a_durable_call_hands_its_result_on(stage: Stage) -> None:
    await stage.add(after="double")
    call = await stage.rig.desk.spawn(ADA, "ada", "double", b"21")
    [given] = await stage.results(1)
    assert given["told"]["ended"] == {
        "kind": "function",
        "name": "double",
        "id": call.id,
        "state": "done",
        "result": 42,
    }
    failed = await stage.rig.desk.spawn(ADA, "ada", "double", b"{}")
    await until(lambda: _ended(stage, failed.id))
    await stage.results(1)


async def _ended(stage: Stage, call: str) -> bool:
    return (await stage.rig.desk.get(ADA, "ada", call)).status.state.terminal


async def test_the_end_of_a_call_over_http_fires_and_its_durable_twin_does_not_fire_twice(stage: Stage) -> None:
    await stage.add(after="double")
    seen = stage.rig.functions.record_calls

    def record(report: CallReport) -> None:
        seen(report)
        asyncio.get_running_loop().create_task(stage.house.calls(report.calls))

    stage.rig.functions.record_calls = record  # type: ignore[method-assign]
    assert (await stage.rig.call(b"21")).json() == 42
    [given] = await stage.results(1)
    assert given["told"]["ended"]["id"].startswith("call-")
    await stage.rig.desk.spawn(ADA, "ada", "double", b"21")
    assert len(await stage.results(2)) == 2
    await asyncio.sleep(0.5)
    await stage.results(2)


async def test_a_file_that_comes_is_told_with_its_path(stage: Stage) -> None:
    inbox = AccountPaths(stage.rig.settings.home, "ada").files / "inbox"
    inbox.mkdir()
    (inbox / "old.csv").write_text("1")
    await stage.add(on_file="inbox/*.csv")
    (inbox / "new.csv").write_text("12")
    (inbox / "new.txt").write_text("12")
    [given] = await stage.results(1)
    assert given["told"]["file"] == {"path": "inbox/new.csv", "size": 2}
    await stage.restart()
    (inbox / "next.csv").write_text("123")
    assert [one["told"]["file"]["path"] for one in await stage.results(2)] == ["inbox/new.csv", "inbox/next.csv"]


async def test_what_goes_with_its_function(stage: Stage) -> None:
    await stage.add(every="@hourly")
    await stage.rig.functions.remove(ADA, "ada", "hello")
    await stage.rig.functions.deploy(ADA, "ada", stage.rig.spec(HELLO, "hello"))
    assert (await stage.triggers.list(ADA, "ada", "hello")).items == ()


async def test_a_deploy_leaves_triggers_as_they_are(stage: Stage) -> None:
    one = await stage.add(every="@hourly")
    await stage.rig.functions.deploy(ADA, "ada", stage.rig.spec(HELLO + "# again\n", "hello"))
    assert [each.id for each in (await stage.triggers.list(ADA, "ada", "hello")).items] == [one]

"""What the platform said long ago reaches the engine late: nothing that is over begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ropewalk_core.model import State
from ropewalk_workflows.engine.wire import WantedPage
from tests.crash_rig import EngineProcess, World
from tests.unit.test_crash_points import TWO


class Late:
    """Keeps back the page that the platform makes next of runs, until it is let through."""

    def __init__(self) -> None:
        self.wanted, self.made, self.free = False, asyncio.Event(), asyncio.Event()

    async def keep(self, page: WantedPage) -> None:
        if self.wanted and page.runs:
            self.wanted = False
            self.made.set()
            await self.free.wait()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Late:
    found, real = Late(), EngineProcess.runs

    async def runs(process: EngineProcess, after: str) -> WantedPage:
        page = await real(process, after)
        await found.keep(page)
        return page

    monkeypatch.setattr(EngineProcess, "runs", runs)
    return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path / "home") as found:
        yield found


async def told_late(world: World, late: Late) -> str:
    """Carry out a run that fails, and return it with a page on its way that tells of it as it was before its end."""
    world.host.gates = {"first": asyncio.Event()}
    run = await world.submit(TWO)
    await world.until_step(run, "first", State.RUNNING)
    await world.person("suspend", run)
    await world.until_held(run)
    late.wanted = True
    await world.person("resume", run)
    await late.made.wait()
    world.host.ended[f"{run}.first.1"].set()  # it is killed, and leaves no outputs that would tell
    assert (await world.wait(run)).status.state is State.FAILED
    world.host.gates.clear()
    return run


async def heard(world: World, late: Late) -> None:
    """Let the page through, and wait until the engine has taken in whatever came with it or after it."""
    late.free.set()
    await world.wait(await world.submit(TWO))
    await world.settled()


def begun(world: World, run: str) -> set[str]:
    return {one for one in world.host.begun if one.startswith(f"{run}.")}


async def test_a_run_that_ended_meanwhile_is_not_begun_anew(world: World, late: Late) -> None:
    run = await told_late(world, late)
    before = await world.person("get", run)
    await heard(world, late)
    assert begun(world, run) == {f"{run}.first.1"}
    assert await world.person("get", run) == before
    assert run not in world.process.engine._runs


async def test_a_run_that_was_removed_meanwhile_is_not_begun_anew(world: World, late: Late) -> None:
    run = await told_late(world, late)
    await world.person("remove", run)
    await heard(world, late)
    assert begun(world, run) == {f"{run}.first.1"}


async def test_a_run_that_is_tried_again_is_begun_as_it_is_now(world: World, late: Late) -> None:
    run = await told_late(world, late)
    await world.person("retry", run)
    await heard(world, late)
    assert (await world.wait(run)).status.state is State.DONE
    assert not world.host.faults
    assert begun(world, run) == {f"{run}.first.1", f"{run}.first.2", f"{run}.second.1"}
    assert not world.process.engine._places["alice"].active

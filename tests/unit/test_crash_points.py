"""Engine and desk killed at every point, each time it is reached: the same end as without, and nothing twice."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadInput
from ropewalk_core.flows import RunSpec
from ropewalk_core.model import State
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.engine import points, shell
from tests.crash_rig import Kill, World

PROGRAM = {"image": "alpine", "command": ["say"], "args": ["{{inputs.parameters.of}}"]}


def program(name: str, **more: Any) -> dict[str, Any]:
    """Return a template that says something of its input, as the parameter ``v``."""
    given = {"parameters": [{"name": "of", "value": "nothing"}]}
    gives = {"parameters": [{"name": "v", "valueFrom": {"path": "/tmp/v"}}]}  # in no real place
    return {"name": name, "inputs": given, "outputs": gives, "container": PROGRAM, **more}


def task(name: str, template: str = "say", of: str = "", **more: Any) -> dict[str, Any]:
    given = {"arguments": {"parameters": [{"name": "of", "value": of}]}} if of else {}
    return {"name": name, "template": template, **given, **more}


def manifest(tasks: list[dict[str, Any]], *templates: dict[str, Any], **more: Any) -> RunSpec:
    last = {"name": "v", "valueFrom": {"parameter": f"{{{{tasks.{tasks[0]['name']}.outputs.parameters.v}}}}"}}
    main = {"name": "main", "dag": {"tasks": tasks}, "outputs": {"parameters": [last]}}
    spec = {"entrypoint": "main", "templates": [main, program("say"), *templates], **more}
    return RunSpec(name="x", manifest={"kind": "Workflow", "spec": spec}, source="argo")


EVERYTHING = manifest(
    [
        task("list"),
        task("fan", of="{{item}}", withParam="{{tasks.list.outputs.parameters.v}}", depends="list"),
        task("flaky", "again"),
        task("pause", "pause"),
        task("join", of="{{tasks.fan.outputs.parameters.v}}", depends="fan && flaky && pause"),
        task("never", of="x", depends="list", when="{{tasks.list.outputs.parameters.v}} == no"),
        task("else", depends="flaky.Failed"),
    ],
    program("again", retryStrategy={"limit": "2", "backoff": {"duration": "0.05"}}),
    {"name": "pause", "suspend": {"duration": "0.01"}},
    program("bye"),
    onExit="bye",
    activeDeadlineSeconds=60,
)
ALONE = manifest(
    [
        task("alone", "alone"),
        task("list"),
        task("alone-fan", "alone", of="{{item}}", withParam="{{tasks.list.outputs.parameters.v}}", depends="list"),
        task("flaky", "alone"),
    ],
    program("alone", synchronization={"mutexes": [{"name": "x"}]}, retryStrategy={"limit": "2"}),
    parallelism=2,
)
TWO = manifest([task("first"), task("second", of="{{tasks.first.outputs.parameters.v}}", depends="first")])


@step
def number(text: str) -> str:
    return text


@workflow
def few() -> object:
    return number("a")


@workflow
def more() -> object:
    return number(number("a"))


Scenario = Callable[[World], Awaitable[list[dict[str, Any]]]]


async def everything(world: World) -> list[dict[str, Any]]:
    """Fan-out, conditions, another attempt, a pause, an exit handler."""
    return [world.seen(await world.wait(await world.submit(EVERYTHING)), "run")]


async def stopped(world: World) -> list[dict[str, Any]]:
    """A person stops a run whose step would not end."""
    world.host.gates = {"second": asyncio.Event()}
    run = await world.submit(TWO)
    await world.until_step(run, "second", State.RUNNING)
    await world.person("cancel", run)
    return [world.seen(await world.wait(run), "run")]


async def held(world: World) -> list[dict[str, Any]]:
    """A person suspends a run while a step runs, and resumes it after that step's end."""
    world.host.gates = {"first": (gate := asyncio.Event())}
    run = await world.submit(TWO)
    await world.until_step(run, "first", State.RUNNING)
    await world.person("suspend", run)
    await world.until_held(run)
    gate.set()
    if not world.fuse.blown:  # else it may be what has to begin again after the run is resumed
        await world.until_step(run, "first", State.DONE)
    await world.person("resume", run)
    return [world.seen(await world.wait(run), "run")]


async def alone(world: World) -> list[dict[str, Any]]:
    """Steps of two runs want the same mutex, one of them at two attempts."""
    names = [await world.submit(ALONE) for _ in range(2)]
    runs = [await world.wait(one) for one in names]
    return [world.seen(one, f"run-{place}") for place, one in enumerate(runs)]


async def kept(world: World) -> list[dict[str, Any]]:
    """A run takes the result of an earlier one."""
    runs = [await world.wait(await world.submit(one)) for one in (few.spec(), more.spec())]
    assert [one.status.note for one in runs[1].steps].count("kept") == 1
    return [world.seen(one, f"run-{place}") for place, one in enumerate(runs)]


async def after_a_kill(world: World) -> list[dict[str, Any]]:
    """One kill has been already."""
    return await everything(world)


SCENARIOS: dict[str, tuple[Scenario, tuple[Kill, ...]]] = {
    "everything": (everything, ()),
    "stopped": (stopped, ()),
    "held": (held, ()),
    "alone": (alone, ()),
    "kept": (kept, ()),
    "after a kill with a step under way": (after_a_kill, (("order-taken", 2),)),
    "after a kill with outputs unread": (after_a_kill, (("after-run", 3),)),
}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is away for long."""
    monkeypatch.setattr(shell, "_HOST_AWAY", 0.001)
    monkeypatch.setattr(shell, "_AGAIN", 0.005)
    monkeypatch.setattr(shell, "until_durable", functools.partial(shell.until_durable, patience=0.002))


async def lived(home: Path, scenario: str, *kills: Kill) -> tuple[list[dict[str, Any]], World]:
    act, before = SCENARIOS[scenario]
    async with World(home, *before, *kills) as world:
        seen = await act(world)
        await world.settled()
    return seen, world


async def killed_at_each(home: Path, scenario: str, numbers: Callable[[int], Iterable[int]]) -> None:
    """Kill at each point, the so manieth times that it is reached, and compare what is left with a calm life."""
    before = len(SCENARIOS[scenario][1])
    expected, calm = await lived(home / "calm", scenario)
    assert not calm.host.faults and len(calm.fuse.blown) == before
    for point, count in sorted(calm.fuse.reached.items()):
        for number in numbers(count):
            seen, world = await lived(home / f"{point}-{number}", scenario, kill := (point, number))
            blown = len(world.fuse.blown) > before
            assert blown or number > 1, f"{point} was not reached again"
            assert not world.host.faults, (kill, world.host.faults)
            assert seen == expected, kill
            assert world.refused or not blown or point in points.DESK, f"no engine came after {kill}"


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_kill_at_any_point_changes_nothing_but_time(tmp_path: Path, scenario: str) -> None:
    await killed_at_each(tmp_path, scenario, lambda count: {1, count})


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_nor_does_one_at_any_other_time_that_it_is_reached(tmp_path: Path, scenario: str) -> None:
    await killed_at_each(tmp_path, scenario, lambda count: range(2, count))


async def test_each_point_is_reached_and_no_other(tmp_path: Path) -> None:
    reached: set[str] = set()
    for place, scenario in enumerate(SCENARIOS):
        reached |= set((await lived(tmp_path / str(place), scenario))[1].fuse.reached)
    assert reached == {*points.ENGINE, *points.DESK}


@pytest.mark.parametrize("wanted", ["nowhere", "before-run:x", ":2", "before-run:-1", "before-run,x"])
def test_a_process_does_not_start_with_a_point_that_is_none(wanted: str) -> None:
    with pytest.raises(BadInput) as error:
        points.killer(wanted)
    assert error.value.field == "ROPEWALK_CRASH_AT"


def test_nothing_dies_unless_it_is_asked_to() -> None:
    assert points.killer("") is points.nowhere
    crash = points.killer("before-run:2")
    for point in (*points.ENGINE, *points.DESK):
        crash(point)  # the second time would end this process

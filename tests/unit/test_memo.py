"""Results of earlier runs: what makes a step take one, what makes it run, and what it says about that."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import Run, RunSpec
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import State
from ropewalk_workflows.dag import Step, step, workflow
from ropewalk_workflows.engine.core import step as take
from ropewalk_workflows.engine.state import Begin, Event, Exited, Grant, Launch, Node, Outcome, Ready, RunState
from ropewalk_workflows.local import LocalWorkflows
from ropewalk_workflows.manifest import read
from tests.workflow_rig import ALICE, MACHINE, Rig, folders, step_named


@step
def load(size: int) -> list[int]:
    return list(range(size))


def once(rows: list[int], rate: float) -> float:
    return sum(rows) * rate


def corrected(rows: list[int], rate: float) -> float:
    return sum(rows) * rate + 1


@step
def report(score: float) -> str:
    return f"scored {score}"


@step
def tell(score: float) -> None:
    print(score)  # noqa: T201


def training(train: Step, size: int = 4, rate: float = 0.5) -> RunSpec:
    @workflow
    def study() -> object:
        score = train(load(size), rate)
        tell(score)
        return report(score)

    return study.spec()


def named(function: Callable[..., Any], **options: Any) -> Step:
    return step(name="train", **options)(function)


async def done(rig: Rig, spec: RunSpec) -> Run:
    run = await rig.wait((await rig.submit(spec)).id)
    assert run.status.state == State.DONE
    return run


def ran(rig: Rig, run: Run) -> list[str]:
    """Return the steps of a run that were carried out."""
    return sorted(one.split(".")[1] for one in rig.host.ran if one.startswith(run.id))


def why(run: Run, name: str) -> str:
    found = step_named(run, name).status.why
    assert found is not None
    return found.cause


async def test_only_what_changed_runs_again(rig: Rig) -> None:
    first = await done(rig, training(named(once)))
    assert ran(rig, first) == ["load", "report", "tell", "train"]
    assert why(first, "load") == "It ran: there is no earlier result of it."
    second = await done(rig, training(named(corrected)))
    assert ran(rig, second) == ["report", "tell", "train"]
    assert (rig.result(first), rig.result(second)) == ("scored 3.0", "scored 4.0")
    kept = step_named(second, "load")
    assert (kept.status.note, kept.attempt) == ("kept", 0)
    assert kept.artifacts == step_named(first, "load").artifacts
    assert why(second, "load") == f"Its result is that of {first.id}: same code, inputs and packages."
    assert why(second, "train") == "It ran: its code has changed."
    assert why(second, "report") == "It ran: what goes in has changed: score."
    assert why(second, "tell").startswith("It ran: it returns nothing")


async def test_a_result_is_that_of_the_run_that_made_it_however_often_it_was_taken(rig: Rig) -> None:
    first = await done(rig, training(named(once)))
    await done(rig, training(named(once), rate=0.25))
    third = await done(rig, training(named(corrected), rate=0.25))
    assert why(third, "load").startswith(f"Its result is that of {first.id}:")


async def test_a_step_that_failed_runs_again_and_what_is_before_it_does_not(rig: Rig) -> None:
    def wrong(rows: list[int], rate: float) -> float:
        return sum(rows) / 0

    first = await rig.wait((await rig.submit(training(named(wrong)))).id)
    assert first.status.state == State.FAILED
    second = await done(rig, training(named(once)))
    assert "load" not in ran(rig, second) and rig.result(second) == "scored 3.0"


async def test_fresh_runs_everything_and_its_results_are_taken_later(rig: Rig) -> None:
    await done(rig, training(named(once)))
    second = await done(rig, training(named(once)).model_copy(update={"fresh": True}))
    assert ran(rig, second) == ["load", "report", "tell", "train"]
    assert why(second, "load") == "It ran: everything was to run again."
    third = await done(rig, training(named(corrected)))
    assert why(third, "load").startswith(f"Its result is that of {second.id}:")


async def test_a_step_may_say_that_it_always_runs_or_how_long_its_result_is_good(tmp_path: Path) -> None:
    now = [1_000_000.0]
    rig = Rig(tmp_path / "home")
    rig.start(wall=lambda: now[0])
    try:
        never, hour = named(once, cache=False), step(cache=3600)(load.function)

        def spec(rate: float) -> RunSpec:
            @workflow
            def study() -> object:
                return never(hour(3), rate)

            return study.spec()

        await done(rig, spec(1.0))
        second = await done(rig, spec(1.0).model_copy(update={"arguments": {}, "name": "again"}))
        assert ran(rig, second) == ["train"] and why(second, "train") == "It ran: cache=False says that it always does."
        now[0] += 3599
        assert ran(rig, await done(rig, spec(2.0))) == ["train"]
        now[0] += 2  # the age is that of the first: what was taken does not become younger
        last = await done(rig, spec(3.0))
        assert ran(rig, last) == ["load", "train"] and "too old" in why(last, "load")
    finally:
        await rig.close()


async def test_a_run_with_a_step_that_always_runs_is_never_there_already(rig: Rig) -> None:
    never = step(name="throw", cache=False)(throw.function)

    @workflow
    def dice() -> object:
        return listed([never()], 1)

    first = await done(rig, dice.spec())
    second = await done(rig, dice.spec())
    assert not second.unchanged and rig.result(first) != rig.result(second)


async def test_a_step_that_returns_nothing_is_taken_only_where_it_says_so(rig: Rig) -> None:
    quiet = step(name="quiet", cache=True)(tell.function)

    def spec(last: int) -> RunSpec:
        @workflow
        def study() -> object:
            quiet(1.0)
            return load(last)

        return study.spec()

    await done(rig, spec(1))
    assert ran(rig, await done(rig, spec(2))) == ["load"]


@step
def throw() -> float:
    import random

    return random.SystemRandom().random()


@step
def listed(values: list[float], mark: int) -> list[float]:
    return values


async def test_equal_calls_stay_several(rig: Rig) -> None:
    def spec(mark: int) -> RunSpec:
        @workflow
        def dice() -> object:
            return listed([throw() for _ in range(5)], mark)

        return dice.spec()

    first, second = await done(rig, spec(1)), await done(rig, spec(2))
    assert ran(rig, second) == ["listed"]
    assert sorted(rig.result(second)) == sorted(rig.result(first)) and len(set(rig.result(first))) == 5


async def test_one_more_item_at_the_front_of_a_fan_out_runs_alone(rig: Rig) -> None:
    def spec(sizes: list[int]) -> RunSpec:
        @workflow
        def fan() -> object:
            return listed(load.map(sizes), len(sizes))

        return fan.spec()

    await done(rig, spec([1, 2, 3]))
    second = await done(rig, spec([7, 1, 2, 3]))
    assert len(ran(rig, second)) == 2
    assert rig.result(second) == [list(range(size)) for size in (7, 1, 2, 3)]


async def test_other_packages_or_a_result_that_is_gone_make_a_step_run(tmp_path: Path) -> None:
    packages = ["one"]
    rig = Rig(tmp_path / "home")
    rig.workflows = LocalWorkflows(
        rig.settings, rig.journal, MACHINE, prepare=folders, fingerprint=lambda paths: packages[0]
    )
    rig.feed.workflows = rig.workflows
    rig.start()
    try:
        await done(rig, training(named(once), size=40_000))
        packages[0] = "two"
        second = await done(rig, training(named(corrected), size=40_000))
        assert why(second, "load") == "It ran: the packages have changed."
        digest = step_named(second, "load").artifacts[0].digest
        (AccountPaths(rig.settings.home, "alice").artifacts / digest[:2] / digest).unlink()
        third = await done(rig, training(named(once), size=40_000))
        assert "not there any more" in why(third, "load")
    finally:
        await rig.close()


async def test_a_run_that_is_removed_takes_its_results_with_it(rig: Rig) -> None:
    first = await done(rig, training(named(once)))
    await rig.workflows.remove(ALICE, "alice", first.id)
    second = await done(rig, training(named(once)))
    assert ran(rig, second) == ["load", "report", "tell", "train"]
    third = await done(rig, training(named(corrected)))
    await rig.workflows.remove(ALICE, "alice", second.id)  # the third gave the same since
    fourth = await done(rig, training(named(once), rate=2.0))
    assert "load" not in ran(rig, fourth) and third.id != second.id


async def test_nobody_takes_results_of_another_account(rig: Rig) -> None:
    await done(rig, training(named(once)))
    bob = ALICE.model_copy(update={"account": "bob"})
    run = await rig.workflows.submit(bob, "bob", training(named(once)))
    while not (found := await rig.workflows.get(bob, "bob", run.id)).status.state.terminal:
        await rig.journal.wait(rig.journal.cursor, timeout=0.2)
    assert ran(rig, found) == ["load", "report", "tell", "train"]


async def test_an_engine_that_was_killed_goes_on_with_what_it_took(rig: Rig) -> None:
    await done(rig, training(named(once)))
    await rig.stop()
    run = await rig.submit(training(named(corrected)))

    def crash(point: str) -> None:
        if point == "before-run":
            assert rig.running is not None
            rig.running.cancel()
            raise asyncio.CancelledError

    rig.start(crash)
    assert rig.running is not None
    await asyncio.wait([rig.running], timeout=15)
    await rig.stop()
    rig.start()
    found = await rig.wait(run.id)
    assert found.status.state == State.DONE and "load" not in ran(rig, found)
    assert step_named(found, "load").status.note == "kept"


@given(st.one_of(st.text(max_size=5), st.floats(max_value=0), st.just(float("nan")), st.just(400 * 86400), st.just([])))
def test_what_is_no_way_to_cache_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(BadWorkflow) as error:
        step(cache=wrong)
    assert error.value.field == "cache"


@workflow
def fan(rates: list[float]) -> object:
    return listed([first(load(2), rate) for rate in rates], 0)


first = named(once)


def computed(node: Node) -> dict[str, dict[str, Any]]:
    """Return a result that follows from a step's code and inputs alone."""
    files = {name: one.get("digest") for name, one in node.files.items() if not name.startswith("ropewalk-")}
    text = json.dumps([node.template.name if node.template else "", node.inputs, files], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"result": {"digest": digest, "size": 1, "media_type": "text/plain", "type": "str"}}


def carried_out(spec: RunSpec, kept: dict[str, dict[str, Any]]) -> tuple[RunState, list[str]]:
    """Run a workflow without a process, and return it with the steps that ran."""
    manifest = read(spec.manifest, {})
    state = RunState(run="run-1", owner="alice", spec=spec, manifest=manifest, kept=kept)
    events: list[Event] = [Begin(1.0)]
    ran: list[str] = []
    while events:
        for action in take(state, events.pop())[1]:
            if isinstance(action, Ready):
                events.append(Grant(1.0, action.id))
            elif isinstance(action, Launch):
                ran.append(action.id)
                outcome = Outcome(True, artifacts=computed(state.nodes[action.id]))
                events.append(Exited(1.0, action.id, action.attempt, outcome))
    assert state.finished and state.phase == "Succeeded"
    return state, ran


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_step_runs_when_its_call_is_new_and_what_it_takes_is_what_it_would_have_given(
    runs: list[list[float]],
) -> None:
    kept: dict[str, dict[str, Any]] = {}
    seen: Counter[Any] = Counter()
    for rates in runs:
        state, ran = carried_out(fan.spec(rates), kept)
        now = Counter([("load",)] * len(rates) + [("train", rate) for rate in rates] + [("listed", *rates)])
        assert len(ran) == sum((now - seen).values())
        seen |= now
        for node in state.nodes.values():
            if node.kind == "pod":
                assert node.out_files == computed(node)
                known = {"parameters": {}, "artifacts": node.out_files, "from": "run-0/x", "at": 0.0}
                kept[node.fact.memo["key"]] = known


@step
def measure(name: str) -> int:
    with open(name) as file:
        return len(file.read())


async def test_a_step_that_reads_a_file_runs_each_time_unless_it_says_otherwise(rig: Rig) -> None:
    file = AccountPaths(rig.settings.home, "alice").files / "data.csv"

    def spec(one: Step, mark: int) -> RunSpec:
        @workflow
        def study() -> object:
            return listed([one("data.csv")], mark)

        return study.spec()

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("a,b")
    assert rig.result(await done(rig, spec(measure, 1))) == [3]
    file.write_text("a,b,c")
    second = await done(rig, spec(measure, 1))  # the very same run is not there already either
    assert rig.result(second) == [5]
    assert why(second, "measure").startswith("It ran: it uses data.csv, which is not compared; cache=True takes")
    sure = step(name="measure", cache=True)(measure.function)
    await done(rig, spec(sure, 3))
    assert ran(rig, await done(rig, spec(sure, 4))) == ["listed"]

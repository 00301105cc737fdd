"""Runs on this machine, end to end with a plain host: results, failures, retries, cancel, crashes, equal runs."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadWorkflow, Conflict, NotFound, TooLarge, Unsatisfiable
from ropewalk_core.flows import ON_EXIT, RunSpec
from ropewalk_core.journal import Append
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Event, State
from ropewalk_core.placement import Placement
from ropewalk_runtime import step as runtime
from ropewalk_runtime import values
from ropewalk_workflows import accepted, desk
from ropewalk_workflows.compile import from_object
from ropewalk_workflows.dag import step, workflow
from tests.workflow_rig import ALICE, Rig, step_named


class Opaque:
    """Something that is not JSON."""

    def __init__(self, value: int) -> None:
        self.value = value


@step
def make(n: int) -> Opaque:
    print("making", n)  # noqa: T201
    return Opaque(n)


@step
def double(thing: Opaque, table: Any = None) -> int:
    return 2 * thing.value + (len(table) if table is not None else 0)


@step
def add(values: list[int]) -> int:
    return sum(values)


@step
def fail(value: int) -> int:
    local = value
    return local // 0


@step
def wait(path: str) -> str:
    import os
    import time

    with open(path, "a") as file:
        file.write(f"{os.environ['ROPEWALK_STEP']}\n")
    while not os.path.exists(path + ".go"):
        time.sleep(0.02)
    return "went"


@step
def mark(path: str, name: str, needs: Any = None) -> str:
    with open(path, "a") as file:
        file.write(name + "\n")
    return name


@workflow
def sums(n: int = 3) -> object:
    return add([double(make(one)) for one in range(n)])


@workflow
def with_data(data: Any) -> object:
    return {"two": double(make(1), data), "four": double(make(2))}


@workflow
def breaks(n: int = 1) -> object:
    first = make(n)
    return add([fail(7), double(first)])


@workflow
def chain(path: str, length: int = 4) -> object:
    last = None
    for index in range(length):
        last = mark(path, str(index), last)
    return last


async def test_objects_travel_between_steps_and_results_come_back(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(sums.spec(n=3))).id)
    assert run.status.state == State.DONE
    assert rig.result(run) == 6
    assert step_named(run, "make(1)").artifacts[0].media_type == "application/x-python-pickle"
    assert step_named(run, "add").needs == ("double-0", "double-1", "double-2")


@step
def scores(count: int) -> list[dict[str, int]]:
    return [{"depth": one, "score": one * one} for one in range(count)]


@workflow
def scored() -> object:
    return scores(30)


async def test_a_step_shows_what_it_returned(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(scored.spec())).id)
    seen = run.steps[0].artifacts[0].preview
    assert seen is not None and seen.facts == {"rows": "30", "columns": "2"}
    assert seen.columns == ("depth", "score") and seen.rows[3] == ("3", "9") and len(seen.rows) == 20
    assert run.steps[0].artifacts[0].type == "list"
    assert "look" not in run.outputs["result"] and "look" not in run.steps[0].outputs["result"]


@step
def shuffled(seed: int) -> Any:
    import random

    return random.Random(seed)


@workflow
def picky(allowed: bool) -> object:
    return (step(pickle=True)(shuffled) if allowed else shuffled)(1)


async def test_a_step_pickles_objects_of_libraries_only_if_it_says_so(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(picky.spec(allowed=False))).id)
    assert run.status.state == State.FAILED
    assert "result is of the type random.Random" in run.steps[0].error and "@step(pickle=True)" in run.steps[0].error
    run = await rig.wait((await rig.submit(picky.spec(allowed=True))).id)
    assert rig.result(run).random() == random.Random(1).random()


async def test_an_argument_that_is_not_json_travels_as_a_file(rig: Rig) -> None:
    spec = with_data.spec(data={1: "not", 2: "json"})
    assert len(spec.values) == 1
    run = await rig.wait((await rig.submit(spec)).id)
    assert rig.result(run) == {"two": 4, "four": 4}
    kept = rig.journal.get("run-spec", "alice", run.id)
    assert kept is not None
    assert kept.body["values"] == {}, "values are files, not records"
    asked = await rig.workflows.spec(ALICE, "alice", run.id)
    assert asked.manifest == spec.manifest and set(asked.bundles) == set(spec.bundles) and not asked.values
    with pytest.raises(NotFound):
        await rig.workflows.spec(ALICE, "alice", "run-other")


async def test_values_never_become_source_or_tags(rig: Rig) -> None:
    hostile = "'); import os # {{workflow.name}} {{item}} {{=1+1}} \" \n $(id) `id`"
    echo = step(lambda_free_echo)

    @workflow
    def hostile_flow(text: str) -> object:
        return echo(text)

    run = await rig.wait((await rig.submit(hostile_flow.spec(text=hostile))).id)
    assert rig.result(run) == hostile
    given = await rig.workflows.inputs(ALICE, "alice", run.id, run.steps[0].id)
    assert json.loads(given.arguments["text"]["json"]) == hostile


async def test_a_value_that_came_along_is_read_back_and_checked(rig: Rig) -> None:
    @step
    def count(text: object) -> int:
        return 5

    @workflow
    def flow(value: object) -> object:
        return count(value)

    run = await rig.wait((await rig.submit(flow.spec(value=(1, 2)))).id)
    given = await rig.workflows.inputs(ALICE, "alice", run.id, run.steps[0].id)
    digest = given.arguments["text"]["digest"]
    content = await rig.workflows.artifact(ALICE, "alice", run.id, digest)
    assert values.decode(b"".join([one async for one in content])) == (1, 2)
    with pytest.raises(NotFound):
        await rig.workflows.inputs(ALICE, "alice", run.id, "other")
    (AccountPaths(rig.settings.home, "alice").root / "runs" / run.id / "values" / digest).write_bytes(b"changed")
    with pytest.raises(Conflict):
        await rig.workflows.artifact(ALICE, "alice", run.id, digest)


def lambda_free_echo(text: str) -> str:
    return text


async def test_a_failure_names_the_step_and_leaves_out_what_follows(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(breaks.spec())).id)
    assert run.status.state == State.FAILED
    assert run.status.why is not None
    assert run.status.why.cause.startswith("The step fail failed: ZeroDivisionError")
    failed = step_named(run, "fail")
    assert "return local // 0" in failed.traceback
    assert "ropewalk_runtime" not in failed.traceback
    assert step_named(run, "add").status.note == "omitted"
    folder = AccountPaths(rig.settings.home, "alice").attempt(run.id, failed.id, 1)
    attempt = runtime.load_attempt(folder)
    assert attempt.arguments == {"value": 7}
    given = await rig.workflows.inputs(ALICE, "alice", run.id, failed.id)
    assert given.arguments == {"value": {"json": "7"}}
    assert given.bundle.entry.endswith(":fail")
    with pytest.raises(ZeroDivisionError):
        attempt()


CODES = """
kind: Workflow
metadata: {generateName: codes-}
spec:
  entrypoint: main
  templates:
    - name: main
      steps:
        - - name: three
            template: run
            arguments: {parameters: [{name: what, value: exit 3}]}
            continueOn: {failed: true}
          - name: killed
            template: run
            arguments: {parameters: [{name: what, value: kill -9 $$}]}
            continueOn: {failed: true}
          - name: well
            template: run
            arguments: {parameters: [{name: what, value: exit 0}]}
        - - name: told
            template: say
            arguments:
              parameters:
                - {name: what, value: "{{steps.three.exitCode}} {{steps.killed.exitCode}} {{steps.well.exitCode}}"}
    - name: run
      inputs: {parameters: [{name: what}]}
      script: {image: alpine, command: [sh], source: "{{inputs.parameters.what}}"}
    - name: say
      inputs: {parameters: [{name: what}]}
      script: {image: alpine, command: [sh], source: "echo {{inputs.parameters.what}}"}
"""


async def test_a_manifest_is_told_with_which_code_a_program_ended(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(from_object(CODES))).id)
    assert run.status.state == State.DONE, run.status
    assert step_named(run, "told").outputs["result"] == "3 137 0"


async def test_retry_from_failure_keeps_what_is_done(rig: Rig, tmp_path: Path) -> None:
    switch = tmp_path / "switch"

    @step
    def picky(path: str, needs: Any) -> str:
        return open(path).read()

    @workflow
    def flow(log: str, path: str) -> object:
        return picky(path, mark(log, "once"))

    run = await rig.submit(flow.spec(log=str(tmp_path / "log"), path=str(switch)))
    run = await rig.wait(run.id)
    assert run.status.state == State.FAILED
    switch.write_text("good")
    assert (await rig.workflows.retry(ALICE, "alice", run.id)).status.state == State.ASKED
    run = await rig.wait(run.id)
    assert rig.result(run) == "good"
    assert (tmp_path / "log").read_text() == "once\n"
    assert step_named(run, "picky").attempt == 2
    with pytest.raises(Conflict, match="nothing to try again"):
        await rig.workflows.retry(ALICE, "alice", run.id)


async def test_cancel_ends_what_runs_and_starts_nothing(rig: Rig, tmp_path: Path) -> None:
    @workflow
    def flow(path: str) -> object:
        return mark(path, "never", wait(path))

    path = tmp_path / "log"
    run = await rig.submit(flow.spec(path=str(path)))
    await rig.until(run.id, lambda one: path.exists())
    assert (await rig.workflows.cancel(ALICE, "alice", run.id)).status.state == State.STOPPING
    run = await rig.wait(run.id)
    assert run.status.state == State.STOPPED
    assert {one.status.state for one in run.steps} == {State.STOPPED}
    assert "never" not in path.read_text()
    assert (await rig.workflows.cancel(ALICE, "alice", run.id)).status.state == State.STOPPED


async def test_a_run_is_stopped_with_its_last_step_also_when_it_is_suspended(rig: Rig, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    last = str(tmp_path / "last")

    @step
    def told(how: str) -> str:
        with open(last, "w") as file:
            file.write(how)
        return how

    @workflow(on_exit=told)
    def flow(path: str) -> object:
        return mark(path, "never", wait(path))

    run = await rig.submit(flow.spec(path=path))
    await rig.until(run.id, lambda one: Path(path).exists())
    await rig.workflows.suspend(ALICE, "alice", run.id)
    stopping = await rig.workflows.cancel(ALICE, "alice", run.id, on_exit=True)
    assert (stopping.status.state, stopping.status.note, stopping.suspended) == (State.STOPPING, ON_EXIT, False)
    run = await rig.wait(run.id)
    assert (run.status.state, run.status.note) == (State.STOPPED, ON_EXIT)
    assert step_named(run, "onExit").status.state is State.DONE
    assert "never" not in Path(path).read_text() and Path(last).read_text() == "Failed"


@step
def score(value: float) -> float:
    return value


@step
def grade(name: str, value: Any) -> str:
    return f"{name}:{value}"


@step
def told(good: Any, bad: Any, all_of_them: Any) -> list[Any]:
    return [good, bad, all_of_them]


@workflow
def judged(value: float, always: bool = False) -> object:
    found = score(value)
    good = grade.when(found > 0.5)("good", found)
    bad = grade.when(found <= 0.5)("bad", found)
    more = grade.when(always)("more", 1)
    return told(good, bad, [bad, good, grade("x", more), good])


@pytest.mark.parametrize("value", [0.9, 0.1, True])
async def test_a_step_runs_where_its_condition_holds_and_else_is_none(rig: Rig, value: float) -> None:
    run = await rig.wait((await rig.submit(judged.spec(value=value))).id)
    assert rig.result(run) == judged(value=value)
    states = {one.name: one.status.note for one in run.steps if one.name.startswith("grade")}
    assert sorted(states.values()) == ["", "", "skipped"] or sorted(states.values()) == ["", "skipped"]
    joined = next(one for one in run.steps if one.name == "told")
    inputs = await rig.workflows.inputs(ALICE, "alice", run.id, joined.id)
    nothing = "bad" if value > 0.5 else "good"
    assert inputs.arguments[nothing] == {"json": "null"} and len(inputs.arguments["all_of_them"]["list"]) == 4


async def test_a_condition_that_cannot_be_decided_fails_the_step_that_gave_the_result(rig: Rig) -> None:
    @workflow
    def flow() -> object:
        return told(None, None, grade.when(grade("a", 1) > 3)("b", 2))

    run = await rig.wait((await rig.submit(flow.spec())).id)
    [failed] = [one for one in run.steps if one.status.state is State.FAILED]
    assert "A condition asks whether the result is > 3, and it is a str" in failed.error


async def test_a_suspended_run_starts_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    @workflow
    def flow(path: str) -> object:
        return mark(path, "after", wait(path))

    rig = Rig(tmp_path / "home")
    rig.start()
    try:
        path = tmp_path / "log"
        run = await rig.submit(flow.spec(path=str(path)))
        await rig.until(run.id, lambda one: path.exists())
        assert (await rig.workflows.suspend(ALICE, "alice", run.id)).suspended
        Path(f"{path}.go").touch()
        await rig.until(run.id, lambda one: any(each.status.state == State.DONE for each in one.steps))
        await rig.stop()  # it stays suspended, whoever is killed
        rig.start()
        await asyncio.sleep(0.5)
        assert "after" not in path.read_text() and (await rig.get(run.id)).status.state == State.RUNNING
        assert not (await rig.workflows.resume(ALICE, "alice", run.id)).suspended
        assert rig.result(await rig.wait(run.id)) == "after"
        for act in (rig.workflows.suspend, rig.workflows.resume):
            with pytest.raises(Conflict):
                await act(ALICE, "alice", run.id)
    finally:
        await rig.close()


async def test_a_pause_without_a_duration_ends_when_the_run_is_resumed(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    rig.start()
    try:
        tasks = [{"name": "approve", "template": "pause"}, {"name": "then", "template": "go", "depends": "approve"}]
        go = {"name": "go", "container": {"image": "alpine", "command": ["true"]}}
        spec = {"entrypoint": "main", "templates": [{"name": "main", "dag": {"tasks": tasks}}, go]}
        spec["templates"].append({"name": "pause", "suspend": {}})  # type: ignore[attr-defined]
        run = await rig.submit(RunSpec(name="x", manifest={"kind": "Workflow", "spec": spec}, source="argo"))
        found = await rig.until(run.id, lambda one: any(each.status.why for each in one.steps))
        [paused] = [one for one in found.steps if one.name == "approve"]
        assert paused.status.why is not None and "Resume the run" in paused.status.why.next
        await rig.stop()
        await rig.workflows.resume(ALICE, "alice", run.id)  # while no engine runs
        rig.start()
        assert (await rig.wait(run.id)).status.state == State.DONE
    finally:
        await rig.close()


async def test_all_runs_of_an_account_are_stopped(rig: Rig, tmp_path: Path) -> None:
    @workflow
    def waits(path: str) -> object:
        return mark(path + ".after", "after", wait(path))

    runs = [await rig.submit(waits.spec(path=str(tmp_path / one))) for one in ("a", "b")]
    for run in runs:
        await rig.until(run.id, lambda found: any(one.status.state == State.RUNNING for one in found.steps))
    await rig.workflows.cancel_all("bob", "Another one.")
    await rig.workflows.cancel_all("alice", "The account was deactivated.")
    for run in runs:
        assert (await rig.wait(run.id)).status.state == State.STOPPED
    assert not list(tmp_path.glob("*.after"))


async def test_time_is_up(rig: Rig, tmp_path: Path) -> None:
    slow = step(timeout=1)(wait.function)

    @workflow
    def flow(path: str) -> object:
        return slow(path)

    run = await rig.wait((await rig.submit(flow.spec(path=str(tmp_path / "log")))).id)
    assert run.status.state == State.FAILED
    assert run.status.why is not None
    assert run.status.why.code == "RW-TIMED-OUT"
    assert "1 seconds" in run.status.why.cause


async def test_an_equal_run_is_unchanged_unless_fresh(rig: Rig) -> None:
    first = await rig.wait((await rig.submit(sums.spec(n=2))).id)
    again = await rig.submit(sums.spec(n=2))
    assert again.unchanged
    assert again.id == first.id
    assert again.outputs == first.outputs
    assert not (await rig.submit(sums.spec(n=1))).unchanged
    fresh = await rig.submit(sums.spec(n=2, fresh=True))
    assert fresh.id != first.id
    keyed = await rig.submit(sums.spec(n=2, fresh=True), key="k1")
    assert (await rig.submit(sums.spec(n=2, fresh=True), key="k1")).id == keyed.id
    with pytest.raises(Conflict):
        await rig.submit(sums.spec(n=3), key="k1")


async def test_two_submits_at_once_make_one_run(rig: Rig) -> None:
    runs = await asyncio.gather(*(rig.submit(sums.spec(n=2)) for _ in range(4)))
    assert len({one.id for one in runs}) == 1
    assert sum(one.unchanged for one in runs) == 3


async def test_what_cannot_run_is_refused_and_leaves_nothing(rig: Rig) -> None:
    greedy = step(placement=Placement(arch="arm64"))(make.function)

    @workflow
    def flow() -> object:
        return greedy(1)

    with pytest.raises(Unsatisfiable, match="arm64"):
        await rig.submit(flow.spec())
    with pytest.raises(BadWorkflow, match="image"):
        await rig.submit(from_object(_manifest({"image": "nvidia/cuda:12", "command": ["x"]})))
    spec = sums.spec(n=1)
    digest, bundle = next(iter(spec.bundles.items()))
    huge = bundle.model_copy(update={"files": {**bundle.files, "x.py": "#" * (9 * 2**20)}})
    with pytest.raises(TooLarge):
        await rig.submit(spec.model_copy(update={"bundles": {digest: huge}}))
    with pytest.raises(BadWorkflow, match="digest"):
        await rig.submit(spec.model_copy(update={"values": {"0" * 64: "AAAA"}}))
    with pytest.raises(NotFound):
        await rig.get("run-nothing")
    assert (await rig.workflows.list(ALICE, "alice")).items == ()


async def test_lists_are_newest_first_and_paged(rig: Rig) -> None:
    names = [(await rig.submit(sums.spec(n=n))).id for n in (1, 2, 3)]
    page = await rig.workflows.list(ALICE, "alice", limit=2)
    assert [one.id for one in page.items] == names[:0:-1]
    rest = await rig.workflows.list(ALICE, "alice", after=page.next)
    assert [one.id for one in rest.items] == names[:1]
    assert rest.next == ""


async def test_logs_follow_to_the_end(rig: Rig, tmp_path: Path) -> None:
    @step
    def talk(path: str) -> None:
        import os
        import time

        print("first", flush=True)  # noqa: T201
        while not os.path.exists(path):
            time.sleep(0.02)
        print("last", end="")  # noqa: T201

    @workflow
    def flow(path: str) -> object:
        return talk(path)

    go = tmp_path / "go"
    run = await rig.submit(flow.spec(path=str(go)))
    await rig.until(run.id, lambda one: any(step.attempt for step in one.steps))
    lines = []
    async with asyncio.timeout(20):
        async for line in rig.workflows.logs(ALICE, "alice", run.id, "talk", follow=True):
            lines.append(line)
            go.touch()
    assert [one.text for one in lines] == ["first", "last"]
    size = lines[-1].offset
    for back, wanted in ((size - 1, lines[1:]), (size, lines), (10 * size, lines)):
        near = [one async for one in rig.workflows.logs(ALICE, "alice", run.id, "talk", after=-back)]
        assert [one.text for one in near] == [one.text for one in wanted]
    rest = [one async for one in rig.workflows.logs(ALICE, "alice", run.id, "talk", after=lines[0].offset)]
    assert [one.text for one in rest] == ["last"]


async def test_watch_resumes_after_its_cursor(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(sums.spec(n=1))).id)
    seen = []
    async with asyncio.timeout(10):
        async for found, cursor in rig.workflows.watch(ALICE, "alice", run=run.id):
            seen.append((found, cursor))
            break
    assert seen[0][0].status.state == State.DONE
    events = rig.journal.events(kind="run", name=run.id)
    assert events[0].type == "asked"
    assert events[-1].type == "done"


@pytest.mark.parametrize("who", ["engine", "watcher"])
async def test_what_is_asked_during_a_look_is_not_waited_for(
    tmp_path: Path, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_POLL", 600.0)
    monkeypatch.setattr(accepted, "_POLL", 600.0)
    rig = Rig(tmp_path / "home")
    run = await rig.submit(sums.spec(n=1))
    after = (await rig.workflows.internal_runs("one")).cursor
    real, looked = rig.journal.events, list[int]()

    def events(**wish: Any) -> list[Event]:
        found = real(**wish)
        if not looked and not found:
            looked.append(rig.journal.submit([Append("run", "alice", run.id, "asked", {})]).result())
        return found

    monkeypatch.setattr(rig.journal, "events", events)
    async with asyncio.timeout(20):
        if who == "engine":
            assert [one.run for one in (await rig.workflows.internal_runs(after)).runs] == [run.id]
        else:
            watch = rig.workflows.watch(ALICE, "alice", after=rig.journal.cursor)
            assert (await anext(watch))[1] == looked[0]
    await rig.close()


async def test_an_accounts_steps_share_its_places(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home", steps=2)
    rig.start()
    try:

        @workflow
        def flow(path: str) -> object:
            return [wait(path) for _ in range(4)]

        path = tmp_path / "log"
        run = await rig.submit(flow.spec(path=str(path)))
        await rig.until(run.id, lambda one: path.exists() and len(path.read_text().split()) == 2)
        await asyncio.sleep(0.2)
        found = await rig.get(run.id)
        assert sorted(one.status.state for one in found.steps) == sorted([State.RUNNING] * 2 + [State.WAITING] * 2)
        waits = next(one for one in found.steps if one.status.state == State.WAITING)
        assert waits.status.why is not None
        assert "places" in waits.status.why.cause
        Path(f"{path}.go").touch()
        assert rig.result(await rig.wait(run.id)) == ["went"] * 4
    finally:
        await rig.close()


@pytest.mark.parametrize("point", ["before-report", "after-report", "before-launch", "before-run", "after-run"])
async def test_a_killed_engine_goes_on_without_running_done_steps_again(tmp_path: Path, point: str) -> None:
    rig = Rig(tmp_path / "home")
    log = tmp_path / "log"
    try:
        run = await rig.submit(chain.spec(path=str(log), length=4))
        for number in (2, 3, 5, 1000):
            left = [number]

            def crash(name: str, left: list[int] = left) -> None:
                left[0] -= name == point
                if name == point and left[0] <= 0:
                    assert rig.running is not None
                    rig.running.cancel()
                    raise asyncio.CancelledError

            rig.start(crash)
            assert rig.running is not None
            until = time.monotonic() + 15
            while not rig.running.done() and time.monotonic() < until:
                if (await rig.get(run.id)).status.state.terminal:
                    break
                await asyncio.sleep(0.02)
            await rig.stop()
        found = await rig.wait(run.id, seconds=5)
        assert found.status.state == State.DONE
        order = log.read_text().split()
        assert sorted(set(order)) == ["0", "1", "2", "3"]
        assert order == sorted(order), "never back to a step that was done"
    finally:
        await rig.close()


async def test_a_lost_attempt_is_made_again_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk_workflows.engine.shell._HOST_AWAY", 0.01)
    rig = Rig(tmp_path / "home")
    rig.host.lose = lambda order: order.endswith(".1") or "double" in order
    rig.start()
    try:
        run = await rig.wait((await rig.submit(sums.spec(n=1))).id)
        assert step_named(run, "make").status.state == State.DONE
        assert step_named(run, "make").attempt == 2
        assert step_named(run, "double").attempt == 4
        assert run.status.why is not None
        assert "lost this step" in run.status.why.cause
    finally:
        await rig.close()


async def test_a_second_engine_takes_over_and_the_first_one_ends(rig: Rig) -> None:
    first = rig.running
    rig.start()
    assert first is not None
    run = await rig.wait((await rig.submit(sums.spec(n=2))).id)
    assert run.status.state == State.DONE
    await asyncio.wait_for(first, 10)


async def test_a_platform_that_is_away_stops_nothing_for_good(rig: Rig) -> None:
    run = await rig.submit(sums.spec(n=2))
    await rig.until(run.id, lambda one: bool(one.steps))
    rig.feed.away = True
    await asyncio.sleep(0.5)
    rig.feed.away = False
    assert (await rig.wait(run.id)).status.state == State.DONE


def _manifest(container: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "x-"},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "container": container}]},
    }


def test_a_spec_of_a_plain_manifest_keeps_its_source() -> None:
    spec = from_object(_manifest({"image": "busybox", "command": ["true"]}))
    assert isinstance(spec, RunSpec)
    assert (spec.name, spec.source) == ("x", "argo")


async def test_a_manifest_without_its_code_is_refused_before_anything_is_kept(rig: Rig) -> None:
    spec = with_data.spec(data={1: "not", 2: "json"})
    digest = next(iter(spec.bundles))
    for change, what in (({"bundles": {}}, "code"), ({"values": {}}, "value")):
        with pytest.raises(BadWorkflow, match=f"without the {what}") as caught:
            await rig.submit(spec.model_copy(update=change))
        assert (
            caught.value.field
            and caught.value.field.startswith("spec.templates[")
            and caught.value.field.endswith(".s3.key")
        )
        assert "from your notebook" in caught.value.hint
    assert digest in json.dumps(spec.manifest)
    assert not rig.journal.page("run", "alice")


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"lists": 3}',
        '{"maybe": "x"}',
        '{"tests": [3]}',
        '{"tests": [{"operator": ">"}]}',
        '{"lists": ["{{workflow.name}}"]}',
        "[" * 100_000,
    ],
)
async def test_a_call_that_we_did_not_write_is_refused(rig: Rig, text: str) -> None:
    """The engine reads it for everybody, so nothing else may come that far."""
    spec = sums.spec(n=1)
    manifest = json.loads(json.dumps(spec.manifest))
    for template in manifest["spec"]["templates"]:
        for artifact in template.get("inputs", {}).get("artifacts", []):
            if artifact["name"] == "ropewalk-call":
                artifact["raw"]["data"] = text
    with pytest.raises(BadWorkflow, match="not what Ropewalk writes"):
        await rig.submit(spec.model_copy(update={"manifest": manifest}))


async def test_the_code_of_a_step_cannot_be_left_out_or_replaced(rig: Rig) -> None:
    spec = sums.spec(n=1)
    bare = json.loads(json.dumps(spec.manifest))
    stolen = json.loads(json.dumps(spec.manifest))
    plain = json.loads(json.dumps(spec.manifest))
    for template in bare["spec"]["templates"]:
        template.get("inputs", {}).pop("artifacts", None)
    main = next(one for one in stolen["spec"]["templates"] if one["name"] == "main")
    replaced = {"name": "ropewalk-bundle", "raw": {"data": "{}"}}
    main["dag"]["tasks"][0].setdefault("arguments", {})["artifacts"] = [replaced]
    for template in plain["spec"]["templates"]:
        if "container" in template:
            template["container"] |= {"image": "alpine", "command": ["true"]}
            template["inputs"]["artifacts"] = [{"name": "ropewalk-call", "path": "/tmp/call", "raw": {"data": "x"}}]
            template.get("outputs", {}).pop("artifacts", None)
    plain["spec"]["templates"] = [one for one in plain["spec"]["templates"] if "container" in one][:1]
    plain["spec"]["entrypoint"] = plain["spec"]["templates"][0]["name"]
    plain["spec"]["templates"][0]["inputs"].pop("parameters", None)
    for manifest, sentence in ((stolen, "cannot replace"), (plain, "belong to steps"), (bare, "'")):
        with pytest.raises(BadWorkflow, match=sentence):
            await rig.submit(spec.model_copy(update={"manifest": manifest}))

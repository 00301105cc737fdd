"""The last step of a workflow: it runs however the others ended, and is told how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import State
from ropewalk_workflows.dag import Workflow, step, workflow
from tests.workflow_rig import ALICE, Rig, step_named


@step
def divide(number: int, by: int) -> float:
    return number / by


@step
def tell(status: str) -> str:
    with Path("diary.txt").open("a") as diary:
        diary.write(f"{status}\n")
    return status


@step
def tidy() -> None:
    Path("diary.txt").write_text("tidied")


@step
def breaks(status: str, also: str = "x") -> None:
    raise OSError(f"no mail goes out: {status} {also}")


@step
def sleep() -> None:
    import time

    time.sleep(60)


def study(last: Any) -> Workflow:
    @workflow(on_exit=last)
    def found(by: int) -> object:
        return divide(42, by)

    assert isinstance(found, Workflow)
    return found


def diary(rig: Rig) -> str:
    return (AccountPaths(rig.settings.home, "alice").files / "diary.txt").read_text()


@pytest.mark.parametrize(("by", "state", "told"), [(2, State.DONE, "Succeeded"), (0, State.FAILED, "Failed")])
async def test_it_runs_however_the_run_ended(rig: Rig, by: int, state: State, told: str) -> None:
    run = await rig.wait((await rig.submit(study(tell).spec(by))).id)
    assert run.status.state == state and diary(rig) == f"{told}\n"
    assert step_named(run, "onExit.tell").status.state == State.DONE
    assert by == 0 or rig.result(run) == 21.0


async def test_it_may_take_no_argument(rig: Rig) -> None:
    await rig.wait((await rig.submit(study(tidy).spec(2))).id)
    assert diary(rig) == "tidied"


async def test_if_it_fails_so_does_the_run(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(study(breaks).spec(2))).id)
    assert run.status.state == State.FAILED and run.status.why is not None
    assert "no mail goes out: Succeeded x" in run.status.why.cause


async def test_it_runs_again_where_nothing_else_does(rig: Rig) -> None:
    def spec(name: str) -> RunSpec:
        return study(tell).spec(2).model_copy(update={"name": name})

    await rig.wait((await rig.submit(spec("one"))).id)
    second = await rig.wait((await rig.submit(spec("two"))).id)
    assert step_named(second, "divide").status.note == "kept"
    assert diary(rig) == "Succeeded\nSucceeded\n"


async def test_a_cancelled_run_has_no_last_step(rig: Rig) -> None:
    @workflow(on_exit=tidy)
    def long() -> None:
        sleep()

    run = await rig.submit(long.spec())
    await rig.until(run.id, lambda one: any(each.status.state is State.RUNNING for each in one.steps))
    await rig.workflows.cancel(ALICE, "alice", run.id)
    assert (await rig.wait(run.id)).status.state == State.STOPPED
    assert not (AccountPaths(rig.settings.home, "alice").files / "diary.txt").exists()


def test_the_plain_call_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert study(tell)(2) == 21.0
    with pytest.raises(ZeroDivisionError):
        study(tell)(0)
    assert Path("diary.txt").read_text() == "Succeeded\nFailed\n"
    with pytest.raises(OSError, match="no mail"):
        study(breaks)(2)


def test_what_cannot_be_one_is_refused() -> None:
    for wrong, said in ((tell.function, "is a step"), (divide, "takes 2 arguments"), (study(tell), "is a step")):
        with pytest.raises(BadWorkflow, match=said) as error:
            study(wrong)
        assert error.value.field == "on_exit"
    inner = study(tell)

    @workflow
    def outer() -> object:
        return inner(2)

    with pytest.raises(BadWorkflow, match="inside of another workflow"):
        outer.spec()

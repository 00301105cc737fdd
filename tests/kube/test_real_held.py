"""Runs on real Argo that are suspended and resumed, pauses that wait for a person, and what others do there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Conflict
from ropewalk_core.flows import ON_EXIT, PAUSE, Run, RunSpec
from ropewalk_core.kube.kinds import WORKFLOW
from ropewalk_core.model import State
from ropewalk_core.testing.people import ADA
from ropewalk_workflows.argo.observer import _LOOK
from tests.cluster.scene import BUSYBOX
from tests.kube.argo_stage import ArgoRig, argo
from tests.kube.stage import ADMINISTRATOR, Stage, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(400)]


@pytest.fixture
async def rig(stage: Stage, tmp_path: Path) -> AsyncIterator[ArgoRig]:
    stage.needs("argo")
    async with argo(stage, tmp_path, "held") as one:
        yield one


def chain(**scripts: str) -> RunSpec:
    """Return a workflow whose steps follow one another; one without a script is a pause."""
    templates: list[dict[str, Any]] = [
        {"name": name, "container": {"image": BUSYBOX, "command": ["sh", "-c"], "args": [script]}}
        if script
        else {"name": name, "suspend": {}}
        for name, script in scripts.items()
    ]
    groups = [[{"name": name, "template": name}] for name in scripts]
    spec = {"entrypoint": "main", "templates": [{"name": "main", "steps": groups}, *templates]}
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {}, "spec": spec}
    return RunSpec(name="held", manifest=body, source="argo")


async def seen(rig: ArgoRig, run: str, what: str, holds: Callable[[Run], bool]) -> Run:
    async def does() -> Run | None:
        found = await rig.workflows.get(ADA, "ada", run)
        return found if holds(found) else None

    await until(what, does, 120)
    return await rig.workflows.get(ADA, "ada", run)


def stands(found: Run) -> dict[str, State]:
    return {one.name: one.status.state for one in found.steps}


async def test_a_run_is_stopped_with_its_exit_handler(rig: ArgoRig) -> None:
    spec = chain(first="sleep 300", second="echo never")
    spec.manifest["spec"]["templates"].append(
        {"name": "last", "container": {"image": BUSYBOX, "command": ["sh", "-c"], "args": ["echo {{workflow.status}}"]}}
    )
    spec.manifest["spec"]["onExit"] = "last"
    run = await rig.submit(spec)
    await seen(rig, run.id, "its first step runs", lambda one: stands(one).get("first") is State.RUNNING)
    stopping = await rig.workflows.cancel(ADA, "ada", run.id, on_exit=True)
    assert (stopping.status.state, stopping.status.note) == (State.STOPPING, ON_EXIT)
    ended = await seen(rig, run.id, "it has ended", lambda one: one.status.state.terminal)
    assert (ended.status.state, ended.status.note) == (State.STOPPED, ON_EXIT)
    assert stands(ended)["onExit"] is State.DONE and stands(ended)["second"] is not State.DONE


async def test_a_suspended_run_starts_nothing_until_it_is_resumed(rig: ArgoRig) -> None:
    mark = "/home/work/go-on"
    run = await rig.submit(chain(first=f"until test -e {mark}; do sleep 0.2; done", second="echo after"))
    await seen(rig, run.id, "the first step runs", lambda one: stands(one).get("first") is State.RUNNING)
    assert (await rig.workflows.suspend(ADA, "ada", run.id)).suspended
    freed = await rig.wait((await rig.submit(chain(touch=f"touch {mark}"))).id)
    assert freed.status.state is State.DONE
    await seen(rig, run.id, "the first step is done", lambda one: stands(one).get("first") is State.DONE)
    await rig.stop()  # it stays suspended, whoever is killed
    rig.start()
    with pytest.raises(TimeoutError):
        await rig.wait(run.id, seconds=5)
    found = await rig.workflows.get(ADA, "ada", run.id)
    assert found.suspended and stands(found) == {"first": State.DONE, "second": State.WAITING}
    assert not (await rig.workflows.resume(ADA, "ada", run.id)).suspended
    assert (await rig.wait(run.id)).status.state is State.DONE
    assert await rig.log(run.id, "second") == ["after"]
    with pytest.raises(Conflict):
        await rig.workflows.suspend(ADA, "ada", run.id)


async def test_a_pause_waits_until_the_run_is_resumed(rig: ArgoRig) -> None:
    run = await rig.submit(chain(first="echo one", approve="", second="echo two"))
    found = await seen(rig, run.id, "it stands at its pause", lambda one: _paused(one) == ["approve"])
    assert stands(found) == {"first": State.DONE, "approve": State.WAITING}
    await rig.stop()
    await rig.workflows.resume(ADA, "ada", run.id)  # while nobody carries it out
    rig.start()
    done = await rig.wait(run.id)
    assert done.status.state is State.DONE and set(stands(done).values()) == {State.DONE}


async def test_a_run_that_is_suspended_before_it_began_begins_when_it_is_resumed(rig: ArgoRig) -> None:
    await rig.stop()
    run = await rig.submit(chain(first="echo one"))
    await rig.workflows.suspend(ADA, "ada", run.id)
    rig.start()
    await seen(rig, run.id, "Argo has it", lambda one: one.status.state is State.RUNNING)
    with pytest.raises(TimeoutError):
        await rig.wait(run.id, seconds=5)
    found = await rig.workflows.get(ADA, "ada", run.id)
    assert found.suspended and not found.steps[0].attempt
    await rig.workflows.resume(ADA, "ada", run.id)
    assert (await rig.wait(run.id)).status.state is State.DONE


async def test_a_run_whose_last_step_ends_while_it_is_suspended_ends_and_one_that_waits_can_be_stopped(
    rig: ArgoRig,
) -> None:
    run = await rig.submit(chain(only="sleep 5"))
    await seen(rig, run.id, "its step runs", lambda one: stands(one).get("only") is State.RUNNING)
    await rig.workflows.suspend(ADA, "ada", run.id)
    assert (await rig.wait(run.id, seconds=120 + _LOOK)).status.state is State.DONE
    other = await rig.submit(chain(approve="", second="echo two"))
    await seen(rig, other.id, "it stands at its pause", lambda one: _paused(one) == ["approve"])
    await rig.workflows.suspend(ADA, "ada", other.id)
    await rig.workflows.cancel(ADA, "ada", other.id)
    assert (await rig.wait(other.id)).status.state is State.STOPPED
    await rig.workflows.retry(ADA, "ada", other.id)
    await seen(rig, other.id, "it stands at its pause again", lambda one: _paused(one) == ["approve"])
    await rig.workflows.resume(ADA, "ada", other.id)
    assert (await rig.wait(other.id)).status.state is State.DONE


async def test_what_somebody_suspends_with_argo_is_seen_and_resumed_here(rig: ArgoRig) -> None:
    run = await rig.submit(chain(first="sleep 8", second="echo two"))
    await seen(rig, run.id, "the first step runs", lambda one: stands(one).get("first") is State.RUNNING)
    space, admin = await rig.space()("ada"), rig.stage.api(ADMINISTRATOR)
    await admin.patch(WORKFLOW, run.id, {"spec": {"suspend": True}}, namespace=space)
    await seen(rig, run.id, "it is suspended", lambda one: one.suspended)
    await rig.workflows.resume(ADA, "ada", run.id)
    assert (await rig.wait(run.id)).status.state is State.DONE


def _paused(found: Run) -> list[str]:
    return [one.name for one in found.steps if one.status.why is not None and one.status.why.cause == PAUSE]

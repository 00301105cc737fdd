"""Runs on a cluster that are suspended and resumed: what Argo is told, when, and what others do there."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadInput, Conflict
from ropewalk_core.flows import PAUSE, Run, RunSpec
from ropewalk_core.kube.kinds import Kind, Object
from ropewalk_core.kube.view import Happened
from ropewalk_core.model import State
from ropewalk_core.settings import Settings
from ropewalk_workflows.argo.holding import held, resumed
from ropewalk_workflows.argo.nodes import hydrated, known
from ropewalk_workflows.argo.retrying import retried
from ropewalk_workflows.argo.seen import Asked
from ropewalk_workflows.argo.seen import seen as seen_of
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.images import AnyImage
from tests.unit.test_argo_backend import ADA, Platform
from tests.unit.test_argo_seen import recorded

NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    one = Platform(tmp_path)
    one.start()
    yield one
    await one.kill()
    one.journal.close()


def pausing() -> RunSpec:
    tasks = [{"name": "approve", "template": "pause"}, {"name": "then", "template": "go", "depends": "approve"}]
    go = {"name": "go", "container": {"image": "alpine", "command": ["true"]}}
    templates = [{"name": "main", "dag": {"tasks": tasks}}, go, {"name": "pause", "suspend": {}}]
    return RunSpec(
        name="x", manifest={"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates}}, source="argo"
    )


def at_its_pause(run: str) -> Object:
    """Return what Argo has of a workflow that stands at its pause."""
    pause = {"id": "p", "name": f"{run}.approve", "displayName": "approve", "type": "Suspend", "phase": "Running"}
    pause |= {"boundaryID": run, "templateName": "pause", "startedAt": NOW}
    root = {"id": run, "name": run, "displayName": run, "type": "DAG", "phase": "Running", "children": ["p"]}
    return {"phase": "Running", "startedAt": NOW, "nodes": {run: root, "p": pause}}


async def until(platform: Platform, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def carried(platform: Platform, run: str) -> Object:
    await until(platform, lambda: not platform.intents.open("run-held", "ada", run))
    return platform.cluster.workflows[run]


async def seen(platform: Platform, run: str, holds: Callable[[Run], bool]) -> Run:
    async with asyncio.timeout(20):
        while not holds(found := await platform.runs.get(ADA, "ada", run)):
            await platform.journal.wait(platform.journal.cursor, timeout=0.1)
    return found


async def running(platform: Platform, run: str, **status: Any) -> None:
    """Let Argo begin a workflow."""
    await platform.made(run)
    begun = {"phase": "Running", "startedAt": NOW, "nodes": {}, **status}
    platform.cluster.set(run, {**platform.cluster.workflows[run], "status": begun})
    await seen(platform, run, lambda one: one.status.state is State.RUNNING)


async def test_a_run_is_suspended_and_resumed(platform: Platform) -> None:
    run = await platform.submit()
    await running(platform, run.id)
    assert (await platform.runs.suspend(ADA, "ada", run.id)).suspended
    there = await carried(platform, run.id)
    assert there["spec"]["suspend"] is True and held(there) == 1
    assert (await platform.runs.get(ADA, "ada", run.id)).suspended
    assert not (await platform.runs.resume(ADA, "ada", run.id)).suspended
    there = await carried(platform, run.id)
    assert "suspend" not in there["spec"] and held(there) == 2
    platform.cluster.end(run.id, "fan_out")
    assert (await platform.ended(run.id)).status.state is State.DONE
    for act in (platform.runs.suspend, platform.runs.resume):
        with pytest.raises(Conflict):
            await act(ADA, "ada", run.id)


async def test_a_run_stays_suspended_whoever_is_killed_and_is_made_so(platform: Platform) -> None:
    await platform.kill()
    run = await platform.submit()
    await platform.runs.suspend(ADA, "ada", run.id)
    platform.start()
    await platform.made(run.id)
    there = await carried(platform, run.id)
    assert there["spec"]["suspend"] is True and held(there) == 1
    await running(platform, run.id)
    await platform.kill()
    platform.start()
    assert (await platform.runs.get(ADA, "ada", run.id)).suspended
    await platform.runs.resume(ADA, "ada", run.id)
    assert "suspend" not in (await carried(platform, run.id))["spec"]


async def test_a_pause_waits_for_a_person_and_ends_once(platform: Platform) -> None:
    run = await platform.runs.submit(ADA, "ada", pausing())
    await running(platform, run.id, **at_its_pause(run.id))
    found = await seen(platform, run.id, lambda one: bool(one.steps and one.steps[0].started))
    [paused, then] = found.steps
    assert (paused.name, paused.status.state, paused.started) == ("approve", State.WAITING, 1767225600.0)
    assert paused.status.why is not None and paused.status.why.cause == PAUSE
    assert then.status.why is not None and then.status.why.cause == "Waits for approve."
    await platform.runs.resume(ADA, "ada", run.id)
    there = await carried(platform, run.id)
    pause = there["status"]["nodes"]["p"]
    assert pause["phase"] == "Succeeded" and pause["finishedAt"] and pause["type"] == "Suspend"
    again = {**at_its_pause(run.id), "nodes": {**at_its_pause(run.id)["nodes"], "p": pause}}
    again["nodes"]["q"] = {**at_its_pause(run.id)["nodes"]["p"], "id": "q", "name": f"{run.id}.later"}
    platform.cluster.set(run.id, {**there, "status": again})
    await platform.kill()  # an order that is carried out again ends no pause that came after it
    await platform.journal.write(platform.intents.asked("run-held", "ada", run.id, {}))
    platform.start()
    assert (await carried(platform, run.id))["status"]["nodes"]["q"]["phase"] == "Running"


async def test_what_others_suspend_and_resume_in_the_cluster_is_seen(platform: Platform) -> None:
    run = await platform.submit()
    await running(platform, run.id)
    there = platform.cluster.workflows[run.id]
    platform.cluster.set(run.id, {**there, "spec": {**there["spec"], "suspend": True}})
    await seen(platform, run.id, lambda one: one.suspended)
    platform.cluster.set(run.id, there)
    assert (await seen(platform, run.id, lambda one: not one.suspended)).status.state is State.RUNNING


async def test_an_older_look_does_not_take_back_an_order(platform: Platform) -> None:
    run = await platform.runs.submit(ADA, "ada", pausing())
    await running(platform, run.id)
    before = platform.cluster.workflows[run.id]
    await platform.runs.suspend(ADA, "ada", run.id)
    await carried(platform, run.id)
    older = {**before, "status": at_its_pause(run.id)}  # which shows that it was looked at
    platform.cluster.tell(Happened.CHANGED, older)
    found = await seen(platform, run.id, lambda one: bool(one.steps and one.steps[0].started))
    assert found.suspended


async def test_argo_may_write_meanwhile(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await platform.submit()
    await running(platform, run.id)
    patch, tries = platform.cluster.patch, []

    async def busy(kind: Kind, name: str, body: Object, *, namespace: str = "") -> Object:
        tries.append(body)
        if len(tries) == 1:
            raise Conflict("changed meanwhile")
        return await patch(kind, name, body, namespace=namespace)

    monkeypatch.setattr(platform.cluster, "patch", busy)
    await platform.runs.suspend(ADA, "ada", run.id)
    assert (await carried(platform, run.id))["spec"]["suspend"] is True and len(tries) == 2


async def test_a_run_of_which_nothing_is_left_ends_though_it_is_suspended(platform: Platform) -> None:
    run = await platform.submit()
    await running(platform, run.id)
    await platform.runs.suspend(ADA, "ada", run.id)
    there = await carried(platform, run.id)
    done = json.loads(json.dumps(recorded("fan_out")).replace("run-0", run.id))["status"]
    platform.cluster.set(run.id, {**there, "status": {**done, "phase": "Running", "finishedAt": None}})
    await until(platform, lambda: "suspend" not in platform.cluster.workflows[run.id]["spec"])
    platform.cluster.end(run.id, "fan_out")
    assert (await platform.ended(run.id)).status.state is State.DONE


async def test_a_suspended_run_is_stopped_and_tried_again(platform: Platform) -> None:
    run = await platform.submit("dynamic")
    await running(platform, run.id)
    await platform.runs.suspend(ADA, "ada", run.id)
    await carried(platform, run.id)
    assert not (await platform.runs.cancel(ADA, "ada", run.id)).suspended
    with pytest.raises(Conflict):
        await platform.runs.resume(ADA, "ada", run.id)
    await platform.made(run.id)
    assert "suspend" not in platform.cluster.workflows[run.id]["spec"]  # else Argo would not see it through
    platform.cluster.end(run.id, "dynamic_failed")
    assert (await platform.ended(run.id)).status.state is State.STOPPED
    await platform.kill()
    await platform.runs.retry(ADA, "ada", run.id)
    await platform.runs.suspend(ADA, "ada", run.id)  # before anybody carried out the retry
    platform.start()
    await platform.made(run.id)
    there = await carried(platform, run.id)
    assert there["spec"]["suspend"] is True and held(there) == 2
    assert there["status"]["phase"] == "Running" and "shutdown" not in there["spec"]


async def test_what_the_cluster_refuses_is_said_and_ends_nothing(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await platform.submit()
    await running(platform, run.id)

    async def refuses(kind: Kind, name: str, body: Object, *, namespace: str = "") -> Object:
        raise BadInput("The cluster does not take it.")

    monkeypatch.setattr(platform.cluster, "patch", refuses)
    await platform.runs.suspend(ADA, "ada", run.id)
    await carried(platform, run.id)
    found = await platform.runs.get(ADA, "ada", run.id)
    assert found.status.state is State.RUNNING and not found.suspended
    assert found.status.why is not None and found.status.why.cause == "The cluster does not take it."


def test_pauses_among_many_nodes_are_ended_in_their_packed_form() -> None:
    nodes = {**at_its_pause("run-0")["nodes"], "pod": {"id": "pod", "type": "Pod", "phase": "Running"}}
    packed = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    there = {"metadata": {"resourceVersion": "7"}, "spec": {}, "status": {"compressedNodes": packed}}
    patch = resumed(there, 3, NOW)
    assert patch["metadata"] == {"resourceVersion": "7", "annotations": {"ropewalk.dev/held": "3"}}
    assert set(patch["status"]) == {"compressedNodes"}
    again = hydrated({"status": patch["status"]})
    assert again == {**nodes, "p": {**nodes["p"], "phase": "Succeeded", "finishedAt": NOW}}


def test_a_retry_comes_back_to_a_pause_at_which_the_run_was_stopped() -> None:
    status = at_its_pause("run-0")
    for one in status["nodes"].values():
        one["phase"] = "Failed"
    there = {"metadata": {"name": "run-0", "resourceVersion": "7"}, "spec": {}, "status": {**status, "phase": "Failed"}}
    patch, pods = retried(there, 2, NOW)
    changed = patch["status"]["nodes"]
    assert changed["p"] is None and changed["run-0"]["phase"] == "Running" and pods == []


def test_a_pause_with_a_duration_runs_and_one_that_argo_has_not_begun_waits() -> None:
    spec = pausing()
    timed = json.loads(json.dumps(spec.manifest).replace('"suspend": {}', '"suspend": {"duration": "1h"}'))
    for manifest, state in ((timed, State.RUNNING), (spec.manifest, State.WAITING)):
        asked = Asked("ada", "run-0", spec.model_copy(update={"manifest": manifest}), read(manifest, AnyImage()))
        for status, expected in ((at_its_pause("run-0"), state), ({"phase": "Running", "nodes": {}}, State.WAITING)):
            there = {"metadata": {"name": "run-0"}, "spec": {}, "status": status}
            looks = [
                seen_of(asked, there, known(there, asked.manifest, "run-0"), {}, Settings(), now) for now in (1e9, 2e9)
            ]
            [paused, _] = [step for step, _ in looks[0].steps]
            assert paused.status.state is expected and not looks[0].finished
            assert (paused.started is None) is (not status["nodes"])
            assert [step.started for step, _ in looks[0].steps] == [step.started for step, _ in looks[1].steps]

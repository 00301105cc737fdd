"""Workflows on a real cluster with Argo: the contract, and what only a cluster can show."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Conflict, Denied, NotFound
from ropewalk_core.flows import RunSpec
from ropewalk_core.journal import Put
from ropewalk_core.kube.kinds import POD, WORKFLOW
from ropewalk_core.model import State
from ropewalk_core.testing import WorkflowsContract
from ropewalk_core.testing.people import ADA
from ropewalk_workflows.argo import ArgoWorkflows
from ropewalk_workflows.argo.observer import REMOVED
from ropewalk_workflows.argo.seen import ELSEWHERE
from tests.cluster.scene import BUSYBOX
from tests.kube.argo_stage import ArgoRig, argo
from tests.kube.stage import ADMINISTRATOR, Stage, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(400)]


def manifest(script: str) -> dict[str, Any]:
    say = {"name": "say", "container": {"image": BUSYBOX, "command": ["sh", "-c"], "args": [script]}}
    tasks = [{"name": "first", "template": "say"}, {"name": "second", "template": "say", "depends": "first"}]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "hello-"},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "dag": {"tasks": tasks}}, say]},
    }


@pytest.fixture
async def rig(stage: Stage, tmp_path: Path) -> AsyncIterator[ArgoRig]:
    stage.needs("argo")
    async with argo(stage, tmp_path, "workflows") as one:
        yield one


class TestKubeWorkflows(WorkflowsContract):
    seconds = 120.0

    @pytest.fixture
    def port(self, rig: ArgoRig) -> ArgoWorkflows:  # type: ignore[override]
        return rig.workflows

    @pytest.fixture
    def quick(self) -> RunSpec:
        return RunSpec(name="hello", manifest=manifest("echo one; echo two"), source="argo")

    @pytest.fixture
    def slow(self) -> RunSpec:
        return RunSpec(name="slow", manifest=manifest("sleep 60"), source="argo")


async def running(rig: ArgoRig, run: str) -> None:
    async def runs() -> bool:
        found = await rig.workflows.get(ADA, "ada", run)
        return any(one.status.state is State.RUNNING for one in found.steps)

    await until("a step of the run runs", runs, 120)


def one_step(script: str, **more: Any) -> RunSpec:
    main = {"name": "main", "container": {"image": BUSYBOX, "command": ["sh", "-c"], "args": [script]}, **more}
    spec = {"entrypoint": "main", "templates": [main]}
    manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {}, "spec": spec}
    return RunSpec(name="one", manifest=manifest, source="argo")


async def test_what_somebody_removes_is_seen_and_not_made_again(rig: ArgoRig) -> None:
    run = await rig.submit(one_step("echo begun; sleep 300"))
    await running(rig, run.id)
    space = await rig.space()("ada")
    await rig.stage.api(ADMINISTRATOR).delete(WORKFLOW, run.id, space)
    found = await rig.wait(run.id)
    assert (found.status.state, found.status.why) == (State.STOPPED, REMOVED)
    assert all(one.status.state.terminal for one in found.steps)
    await rig.stop()
    rig.start()
    await rig.workflows.cancel(ADA, "ada", run.id)
    with pytest.raises(NotFound):
        await rig.stage.api(ADMINISTRATOR).get(WORKFLOW, run.id, space)
    with pytest.raises(Conflict):
        await rig.workflows.retry(ADA, "ada", run.id)


async def test_what_somebody_stops_with_argo_is_stopped(rig: ArgoRig) -> None:
    run = await rig.submit(one_step("sleep 300"))
    await running(rig, run.id)
    space = await rig.space()("ada")
    await rig.stage.api(ADMINISTRATOR).patch(WORKFLOW, run.id, {"spec": {"shutdown": "Stop"}}, namespace=space)
    found = await rig.wait(run.id)
    assert found.status.state is State.STOPPED
    assert found.status.why is not None and found.status.why.cause == ELSEWHERE


async def test_what_was_accepted_before_a_kill_is_carried_out_once(rig: ArgoRig) -> None:
    await rig.stop()  # nobody carries out, nobody watches: a platform that is killed right after it said yes
    run = await rig.submit(one_step("echo once"))
    space, admin = await rig.space()("ada"), rig.stage.api(ADMINISTRATOR)
    with pytest.raises(NotFound):
        await admin.get(WORKFLOW, run.id, space)
    rig.start()
    assert (await rig.wait(run.id)).status.state is State.DONE
    made = (await admin.get(WORKFLOW, run.id, space))["metadata"]["uid"]
    await rig.stop()  # and one that is killed between the API server's yes and the journal
    body = rig.journal.get("run", "ada", run.id).body  # type: ignore[union-attr]
    undone = {**body, "run": {**body["run"], "status": {"state": "asked", "since": 0.0}}, "made": False}
    await rig.journal.write(
        Put("run", "ada", run.id, undone),
        Put("run-open", "ada", run.id, {}),
        Put("intent", "ada", f"run/{run.id}", {"do": "create"}),
    )
    rig.start()
    assert (await rig.wait(run.id)).status.state is State.DONE
    assert (await admin.get(WORKFLOW, run.id, space))["metadata"]["uid"] == made


async def test_a_retry_runs_what_failed_and_nothing_else(rig: ArgoRig) -> None:
    mark = f"/home/work/ready-{secrets.token_hex(4)}"
    scripts = {"first": "echo kept", "second": f"echo tried; test -e {mark}", "third": "echo after"}
    templates: list[dict[str, Any]] = [
        {"name": name, "container": {"image": BUSYBOX, "command": ["sh", "-c"], "args": [script]}}
        for name, script in scripts.items()
    ]
    tasks = [
        {"name": "first", "template": "first"},
        {"name": "second", "template": "second", "depends": "first"},
        {"name": "third", "template": "third", "depends": "second"},
    ]
    spec = {"entrypoint": "main", "templates": [{"name": "main", "dag": {"tasks": tasks}}, *templates]}
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {}, "spec": spec}
    run = await rig.submit(RunSpec(name="again", manifest=body, source="argo"))
    failed = await rig.wait(run.id)
    named = {one.name: one for one in failed.steps}
    assert failed.status.state is State.FAILED
    assert named["second"].error == "The program 'sh' ended with exit code 1."
    assert named["third"].status.note == "omitted"
    assert (await rig.wait((await rig.submit(one_step(f"touch {mark}"))).id)).status.state is State.DONE
    await rig.workflows.retry(ADA, "ada", run.id)
    done = await rig.wait(run.id)
    again = {one.name: one for one in done.steps}
    assert done.status.state is State.DONE, done.status
    assert again["first"].ended == named["first"].ended
    assert {name: one.attempt for name, one in again.items()} == {"first": 1, "second": 2, "third": 1}
    assert await rig.log(run.id, "second") == ["tried"]


async def test_a_step_sees_no_token_and_its_log_outlives_its_pod(rig: ArgoRig) -> None:
    look = "id -u; ls /var/run/secrets/kubernetes.io 2>&1 | wc -l; env | grep -ci token; grep -c /secret /proc/mounts"
    run = await rig.wait((await rig.submit(one_step(f"{look}; pwd"))).id)
    [step] = run.steps
    assert run.status.state is State.DONE, step.error
    said = await rig.log(run.id, step.id)
    assert said == ["1000", "1", "0", "0", "/home/work"]  # one line: there is no such folder
    space, admin = await rig.space()("ada"), rig.stage.api(ADMINISTRATOR)
    [pod] = (await admin.list(POD, space, labels={"workflows.argoproj.io/workflow": run.id})).items
    assert pod["spec"]["automountServiceAccountToken"] is False and pod["spec"]["serviceAccountName"] == "work"
    mounts = {one["name"]: [two["name"] for two in one["volumeMounts"]] for one in pod["spec"]["containers"]}
    assert "exec-sa-token" in mounts["wait"] and "exec-sa-token" not in mounts["main"]
    await admin.delete(POD, pod["metadata"]["name"], space)
    assert await rig.log(run.id, step.id) == said
    reader = rig.workflows.logs(ADA, "ada", run.id, step.id, after=5)
    assert [one.text async for one in reader] == said[1:]
    last = rig.workflows.logs(ADA, "ada", run.id, step.id, after=-6)
    assert [one.text async for one in last] == []


async def test_a_tenants_keys_open_its_own_bucket_only(rig: ArgoRig) -> None:
    spaces = [await rig.space()(name) for name in ("ada", "bob")]
    ada, bob = [await rig.buckets.ensure(one) for one in spaces]
    objects = rig.buckets.objects
    await objects.put(ada.keys, ada.name, "values/one", b"mine")
    assert await objects.read(ada.keys, ada.name, "values/one", most=10) == b"mine"
    for act in (
        objects.read(bob.keys, ada.name, "values/one", most=10),
        objects.put(bob.keys, ada.name, "values/one", b"yours"),
        objects.make_bucket(bob.keys, "other", bob.keys.access),
        objects.make_user(bob.keys, ada.keys),
    ):
        with pytest.raises(Denied):
            await act

"""Workflows by Argo against a small API server in memory: what is sent, what survives a kill, what others do there."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadInput, Conflict, NameTaken, NotFound, RopewalkError, Unavailable
from ropewalk_core.flows import Run, RunSpec
from ropewalk_core.journal import Append, Journal, Operation
from ropewalk_core.kube.buckets import Bucket, Buckets
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.kinds import CLAIM, POD, Kind, Object
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.view import Change, Happened
from ropewalk_core.model import Actor, State
from ropewalk_core.objects import Keys
from ropewalk_core.placement import Inventory, Node
from ropewalk_core.settings import Settings
from ropewalk_hub.platform import SystemClock
from ropewalk_workflows.argo import ArgoWorkflows
from ropewalk_workflows.argo.observer import REMOVED
from ropewalk_workflows.argo.render import Where, workflow
from ropewalk_workflows.argo.seen import ELSEWHERE
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.images import AnyImage
from tests.unit.test_argo_seen import recorded, spec_of

ADA = Actor(account="ada")
SITE = Site(inventory=Inventory(nodes=(Node(name="one", arch="amd64", cpu=4, memory=2**34),)))


class Cluster:
    """Workflows by name, and everybody who watches them."""

    def __init__(self) -> None:
        self.workflows: dict[str, Object] = {}
        self.created: list[str] = []
        self.fails: list[RopewalkError] = []
        self.version = 0
        self.watchers: list[asyncio.Queue[Change]] = []

    async def create(self, kind: Kind, body: Object) -> Object:
        if self.fails:
            raise self.fails.pop(0)
        name = body["metadata"]["name"]
        if name in self.workflows:
            raise NameTaken("there")
        self.created.append(name)
        self.set(name, body)
        return body

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        if kind is CLAIM:
            return {"metadata": {}}
        if name not in self.workflows:
            raise NotFound("not there")
        return copy.deepcopy(self.workflows[name])

    async def patch(self, kind: Kind, name: str, body: Object, *, namespace: str = "") -> Object:
        if name not in self.workflows:
            raise NotFound("not there")
        known = self.workflows[name]
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version not in (None, known["metadata"]["resourceVersion"]):
            raise Conflict("changed meanwhile")
        self.set(name, _merged(known, body))
        return known

    async def list(self, kind: Kind, namespace: str = "", *, labels: dict[str, str] | None = None) -> Any:
        assert kind is POD
        return type("Listing", (), {"items": ()})

    async def watch(self, kind: Kind, namespace: str, *, labels: dict[str, str]) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self.watchers.append(queue)
        for one in self.workflows.values():
            yield Change(Happened.ADDED, copy.deepcopy(one))
        yield Change(Happened.SYNCED)
        while True:
            yield await queue.get()

    async def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        self.remove(name)
        return True

    def set(self, name: str, body: Object) -> None:
        """Create or change a workflow."""
        self.version += 1
        self.workflows[name] = body = copy.deepcopy(body)
        body["metadata"] |= {"resourceVersion": str(self.version), "namespace": "rw--ada"}
        self.tell(Happened.CHANGED, body)

    def remove(self, name: str) -> None:
        """Remove one, as somebody else."""
        self.tell(Happened.REMOVED, self.workflows.pop(name))

    def tell(self, happened: Happened, body: Object) -> None:
        for one in self.watchers:
            one.put_nowait(Change(happened, copy.deepcopy(body)))

    def end(self, name: str, as_recorded: str) -> None:
        """Let Argo carry a workflow out as it once did."""
        body = json.loads(json.dumps(recorded(as_recorded)).replace("run-0", name))
        self.set(name, {**self.workflows[name], "status": body["status"]})


class Store(Buckets):
    """Buckets in memory."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.objects = self  # type: ignore[assignment]

    def of(self, space: str) -> Bucket:
        return Bucket(space, Keys(space, "secret"))

    async def ensure(self, space: str) -> Bucket:
        return self.of(space)

    async def put(self, keys: Keys, bucket: str, key: str, content: bytes) -> None:
        self.contents[key] = content

    async def remove(self, keys: Keys, bucket: str, key: str) -> None:
        self.contents.pop(key, None)

    async def size(self, keys: Keys, bucket: str, key: str) -> int:
        return len(self.contents[key])

    @asynccontextmanager
    async def open(self, keys: Keys, bucket: str, key: str, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        if key not in self.contents:
            raise NotFound("no such key")

        async def chunks() -> AsyncIterator[bytes]:
            yield self.contents[key][start:]

        yield chunks()

    async def pieces(self, keys: Keys, bucket: str, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        async with self.open(keys, bucket, key, start=start) as chunks:
            async for chunk in chunks:
                yield chunk


class Platform:
    """A platform's side; the journal and the cluster outlive it."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.db")
        self.cluster, self.store = Cluster(), Store()
        self.tasks: tuple[asyncio.Task[None], ...] = ()
        self.build()

    def build(self) -> None:
        clock = SystemClock()
        self.intents = Intents(self.journal, clock)
        ground = KubeGround(
            settings=Settings(),
            journal=self.journal,
            clock=clock,
            api=self.cluster,  # type: ignore[arg-type]
            space=self.space,
            site=self.site,
            intents=self.intents,
        )
        self.runs = ArgoWorkflows(ground, buckets=self.store)

    async def space(self, owner: str) -> str:
        return f"rw--{owner}"

    async def site(self) -> Site:
        return SITE

    def start(self) -> None:
        self.build()
        self.tasks = tuple(asyncio.create_task(one) for one in (self.intents.run(), self.runs.run()))

    async def kill(self) -> None:
        for one in self.tasks:
            one.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def submit(self, name: str = "fan_out") -> Run:
        return await self.runs.submit(ADA, "ada", spec_of(name).model_copy(update={"folder": "work"}))

    async def made(self, run: str) -> None:
        async with asyncio.timeout(20):
            while run not in self.cluster.workflows or self.intents.open("run", "ada", run):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def ended(self, run: str) -> Run:
        async with asyncio.timeout(20):
            while not (found := await self.runs.get(ADA, "ada", run)).status.state.terminal:
                await self.journal.wait(self.journal.cursor, timeout=0.1)
        return found


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    one = Platform(tmp_path)
    one.start()
    yield one
    await one.kill()
    one.journal.close()


def _merged(known: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(known) if isinstance(known, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


async def test_a_run_is_made_seen_and_read_back(platform: Platform) -> None:
    run = await platform.submit()
    await platform.made(run.id)
    assert {one.partition("/")[0] for one in platform.store.contents} == {"bundles"}
    platform.cluster.end(run.id, "fan_out")
    found = await platform.ended(run.id)
    assert found.status.state is State.DONE and found.ended is not None
    digest = found.outputs["result"]["digest"]
    keys = {one.name: one for one in found.steps}["best"].artifacts
    assert [one.digest for one in keys] == [digest]
    record = platform.journal.get("run-step", "ada", f"{run.id}/best")
    assert record is not None
    platform.store.contents[record.body["keys"]["result"]] = b"2.0"
    content = await platform.runs.artifact(ADA, "ada", run.id, digest)
    assert b"".join([one async for one in content]) == b"2.0"
    platform.store.contents[record.body["keys"]["result"]] = b"9.9"
    with pytest.raises(Conflict):
        await platform.runs.artifact(ADA, "ada", run.id, digest)
    platform.store.contents[record.body["log"]] = b"one\ntwo\nthree"
    logs = [(one.offset, one.text) async for one in platform.runs.logs(ADA, "ada", run.id, "best")]
    assert logs == [(4, "one"), (8, "two"), (13, "three")]
    tail = [one.text async for one in platform.runs.logs(ADA, "ada", run.id, "best", after=-9)]
    assert tail == ["two", "three"]
    assert (await platform.submit()).unchanged


async def test_what_a_kill_left_is_carried_out_once(platform: Platform) -> None:
    await platform.kill()
    run = await platform.submit()
    assert platform.cluster.created == []
    platform.start()
    await platform.made(run.id)
    await platform.kill()
    await platform.journal.write(platform.intents.asked("run", "ada", run.id, {"do": "create"}))
    platform.start()
    async with asyncio.timeout(10):
        while platform.intents.open("run", "ada", run.id):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert platform.cluster.created == [run.id]
    platform.cluster.end(run.id, "fan_out")
    assert (await platform.ended(run.id)).status.state is State.DONE


async def test_a_server_that_is_away_is_asked_again_and_a_refusal_ends_the_run(platform: Platform) -> None:
    platform.cluster.fails = [Unavailable("away"), Unavailable("away")]
    run = await platform.submit()
    await platform.made(run.id)
    platform.cluster.fails = [BadInput("The cluster does not take it.")]
    other = await platform.submit("dynamic")
    found = await platform.ended(other.id)
    assert found.status.state is State.FAILED
    assert found.status.why is not None and found.status.why.cause == "The cluster does not take it."
    assert platform.cluster.created == [run.id]


async def test_a_workflow_of_a_runs_name_that_somebody_else_made_is_not_taken_for_the_run(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(kind: Kind, body: Object) -> Object:
        platform.cluster.set(body["metadata"]["name"], {"metadata": {"name": body["metadata"]["name"]}, "spec": {}})
        raise NameTaken("It is there already.")

    monkeypatch.setattr(platform.cluster, "create", taken)
    run = await platform.submit()
    found = await platform.ended(run.id)
    assert found.status.state is State.FAILED and found.status.why is not None
    assert "there already" in found.status.why.cause
    assert found.steps == ()  # nothing of what is there was taken for the run's


async def test_a_run_that_ended_is_removed_with_its_workflow_its_logs_and_its_files(platform: Platform) -> None:
    run = await platform.submit()
    await platform.made(run.id)
    with pytest.raises(Conflict):
        await platform.runs.remove(ADA, "ada", run.id)
    platform.cluster.end(run.id, "fan_out")
    await platform.ended(run.id)
    left = set(platform.store.contents)
    records = [one.body for one in platform.journal.page("run-step", "ada", limit=100)]
    keys = {key for one in records for key in (one["log"], *one["keys"].values())}
    assert keys and run.id in platform.cluster.workflows
    for key in keys:
        platform.store.contents[key] = b"x"
    await platform.runs.remove(ADA, "ada", run.id)
    assert set(platform.store.contents) == left - keys  # code and values stay: other runs may have the same
    assert run.id not in platform.cluster.workflows
    assert not platform.journal.page("run-step", "ada", limit=100)
    for act in (platform.runs.get, platform.runs.remove):
        with pytest.raises(NotFound):
            await act(ADA, "ada", run.id)


async def test_a_refusal_comes_after_a_look_that_is_under_way(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, looked = platform.journal.write, asyncio.Event()

    async def taken(kind: Kind, body: Object) -> Object:
        platform.cluster.set(body["metadata"]["name"], {**body, "status": {"phase": "Running"}})
        await asyncio.sleep(0.01)  # the look that this calls for waits for the run's lock
        raise BadInput("The cluster does not take it.")

    async def slow(*batch: Operation) -> int:
        look = any(isinstance(one, Append) and one.type == "running" for one in batch)
        await asyncio.sleep(0.2 if look else 0)
        cursor = await write(*batch)
        if look:
            looked.set()
        return cursor

    monkeypatch.setattr(platform.cluster, "create", taken)
    monkeypatch.setattr(platform.journal, "write", slow)
    run = await platform.submit()
    await looked.wait()
    assert (await platform.ended(run.id)).status.state is State.FAILED


async def test_a_run_that_is_stopped_before_it_began_is_never_made(platform: Platform) -> None:
    await platform.kill()
    run = await platform.submit()
    await platform.runs.cancel(ADA, "ada", run.id)
    platform.start()
    assert (await platform.ended(run.id)).status.state is State.STOPPED
    assert platform.cluster.created == []
    await platform.runs.retry(ADA, "ada", run.id)
    await platform.made(run.id)
    assert platform.cluster.created == [run.id]


async def test_a_stop_that_lets_on_exit_run_reaches_argo_and_so_does_one_that_ends_them(
    platform: Platform,
) -> None:
    run = await platform.submit()
    await platform.made(run.id)
    for on_exit, word in ((True, "Stop"), (False, "Terminate"), (True, "Terminate")):
        stopped = await platform.runs.cancel(ADA, "ada", run.id, on_exit=on_exit)
        assert stopped.status.state is State.STOPPING
        async with asyncio.timeout(10):
            while platform.cluster.workflows[run.id]["spec"].get("shutdown") != word:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_stop_reaches_argo(platform: Platform) -> None:
    run = await platform.submit()
    await platform.made(run.id)
    assert (await platform.runs.cancel(ADA, "ada", run.id)).status.state is State.STOPPING
    async with asyncio.timeout(10):
        while "shutdown" not in platform.cluster.workflows[run.id]["spec"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    body = platform.cluster.workflows[run.id]
    platform.cluster.set(
        run.id, {**body, "status": {"phase": "Failed", "message": "Stopped with strategy 'Terminate'"}}
    )
    found = await platform.ended(run.id)
    assert (found.status.state, found.status.why) == (State.STOPPED, None)
    assert {one.status.state for one in found.steps} == {State.STOPPED}


async def test_what_others_do_is_seen_and_respected(platform: Platform) -> None:
    run, other = await platform.submit(), await platform.submit("dynamic")
    for one in (run, other):
        await platform.made(one.id)
    platform.cluster.remove(run.id)
    found = await platform.ended(run.id)
    assert (found.status.state, found.status.why) == (State.STOPPED, REMOVED)
    body = platform.cluster.workflows[other.id]
    spec, ended = {**body["spec"], "shutdown": "Stop"}, {"phase": "Failed", "message": "Stopped with strategy 'Stop'"}
    platform.cluster.set(other.id, {**body, "spec": spec, "status": ended})
    stopped = await platform.ended(other.id)
    assert stopped.status.why is not None and stopped.status.why.cause == ELSEWHERE
    with pytest.raises(Conflict):
        await platform.runs.retry(ADA, "ada", run.id)
    assert platform.cluster.created == [run.id, other.id]


async def test_a_removal_while_nobody_looked_is_seen_later(platform: Platform) -> None:
    run = await platform.submit()
    await platform.made(run.id)
    await platform.kill()
    platform.cluster.watchers.clear()
    platform.cluster.remove(run.id)
    platform.start()
    assert (await platform.ended(run.id)).status.why == REMOVED


async def test_a_failed_run_is_tried_again_under_a_new_number(platform: Platform) -> None:
    run = await platform.submit("dynamic")
    await platform.made(run.id)
    platform.cluster.end(run.id, "dynamic_failed")
    failed = await platform.ended(run.id)
    assert failed.status.state is State.FAILED
    before = {one.name: one for one in failed.steps}
    await platform.runs.retry(ADA, "ada", run.id)
    async with asyncio.timeout(10):
        while platform.intents.open("run", "ada", run.id):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    body = platform.cluster.workflows[run.id]
    assert body["metadata"]["annotations"]["ropewalk.dev/generation"] == "2"
    assert body["status"]["phase"] == "Running"
    again = json.loads(json.dumps(recorded("dynamic_failed")).replace("run-0", run.id))["status"]
    platform.cluster.set(run.id, {**body, "status": again})
    found = await platform.ended(run.id)
    attempts = {one.name: one.attempt for one in found.steps if one.attempt}
    assert attempts == {"words": 1, "count(0)": 2, "count(1)": 2, "count(2)": 2}
    assert {one.name: one for one in found.steps}["words"].status == before["words"].status


async def test_a_retry_that_is_stopped_before_it_was_carried_out_ends_the_run(platform: Platform) -> None:
    run = await platform.submit("dynamic")
    await platform.made(run.id)
    platform.cluster.end(run.id, "dynamic_failed")
    await platform.ended(run.id)
    await platform.kill()
    await platform.runs.retry(ADA, "ada", run.id)
    assert (await platform.runs.cancel(ADA, "ada", run.id)).status.state is State.STOPPING
    platform.start()
    found = await platform.ended(run.id)
    assert (found.status.state, found.status.note, found.status.why) == (State.STOPPED, "stopped", None)
    assert all(one.status.state.terminal for one in found.steps)
    assert platform.cluster.workflows[run.id]["status"]["phase"] == "Failed"
    await platform.made(run.id)
    await platform.runs.retry(ADA, "ada", run.id)
    await platform.made(run.id)
    body = platform.cluster.workflows[run.id]
    assert body["metadata"]["annotations"]["ropewalk.dev/generation"] == "3"
    assert body["status"]["phase"] == "Running" and "shutdown" not in body["spec"]


def rendered(spec: RunSpec) -> Object:
    return workflow(spec, read(spec.manifest, AnyImage()), Where("ada", "run-0", "rw--ada"), Settings(), SITE)


def test_nothing_of_a_persons_own_says_with_which_rights_it_runs() -> None:
    hostile = {
        "name": "main",
        "serviceAccountName": "releases",
        "automountServiceAccountToken": True,
        "securityContext": {"runAsUser": 0},
        "tolerations": [{"operator": "Exists"}],
        "archiveLocation": {"s3": {"bucket": "others"}},
        "metadata": {"labels": {"app.kubernetes.io/component": "platform"}},
        "container": {
            "image": "busybox",
            "command": ["sh"],
            "securityContext": {"privileged": True},
            "resources": {"limits": {"cpu": "2"}},
        },
    }
    spec = {
        "entrypoint": "main",
        "templates": [hostile],
        "serviceAccountName": "releases",
        "securityContext": {"runAsUser": 0},
        "imagePullSecrets": [{"name": "objects"}],
        "podPriorityClassName": "system-node-critical",
    }
    manifest = {"kind": "Workflow", "metadata": {"namespace": "kube-system", "name": "mine"}, "spec": spec}
    body = rendered(RunSpec(name="x", manifest=manifest, source="argo", folder="a b"))
    assert body["metadata"]["namespace"] == "rw--ada" and body["metadata"]["name"] == "run-0"
    assert body["spec"]["serviceAccountName"] == "work" and body["spec"]["executor"] == {
        "serviceAccountName": "reports"
    }
    assert body["spec"]["automountServiceAccountToken"] is False
    assert body["spec"]["securityContext"]["runAsNonRoot"] and body["spec"]["securityContext"]["runAsUser"] == 1000
    text = json.dumps(body)
    for word in ("releases", "privileged", "others", "system-node-critical", "imagePullSecrets", "component"):
        assert word not in text, word
    [template] = body["spec"]["templates"]
    assert set(template) == {"name", "outputs", "metadata", "container"}
    assert template["container"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert template["container"]["workingDir"] == "/home/work/a b"
    assert template["container"]["resources"]["limits"] == {"cpu": "2"}
    assert "labels" not in template["metadata"]


def test_a_step_of_ours_tells_its_facts_and_looks_at_the_clock_itself() -> None:
    body = rendered(spec_of("retry").model_copy(update={"folder": ""}))
    [step] = [one for one in body["spec"]["templates"] if one["name"] != "main"]
    call = json.loads(next(one for one in step["inputs"]["artifacts"] if one["name"] == "ropewalk-call")["raw"]["data"])
    assert call["timeout"] == 60 and call["folder"] == "/home/work"
    assert int(step["activeDeadlineSeconds"]) > 60
    assert {one["name"] for one in step["outputs"]["parameters"]} == {"ropewalk-facts"}
    assert step["retryStrategy"]["limit"] == "2"
    assert step["container"]["command"] == ["python", "-P", "-m", "ropewalk_runtime.step"]
    patch = json.loads(body["spec"]["podSpecPatch"])
    assert all(one["resources"]["limits"] for one in (*patch["containers"], *patch["initContainers"]))


def test_argo_is_given_a_steps_mutexes_in_the_newer_form() -> None:
    alone = {"name": "main", "container": {"image": "alpine", "command": ["x"]}}
    alone["synchronization"] = {"mutex": {"name": "a"}, "mutexes": [{"name": "b"}]}
    spec = {"entrypoint": "main", "templates": [alone]}
    body = rendered(RunSpec(name="x", manifest={"kind": "Workflow", "spec": spec}, source="argo"))
    assert body["spec"]["templates"][0]["synchronization"] == {"mutexes": [{"name": "a"}, {"name": "b"}]}

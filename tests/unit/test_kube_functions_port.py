"""The functions port on a cluster that plays along: wishes that are refused, replaced, given up or found after a kill.

The real cluster is in tests/kube; here is what it cannot be made to do at the right moment.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadCode, BadInput, Conflict, Denied, NotFound, RopewalkError, StorageFull, Unavailable
from ropewalk_core.history import CODE, REVISION
from ropewalk_core.journal import Journal, Operation, Remove
from ropewalk_core.kube.function_ledger import AT, FOREIGN_CHANGE, FOREIGN_END, NEXT
from ropewalk_core.kube.function_objects import CONTAINER, KNATIVE, PLAIN, Verdict
from ropewalk_core.kube.functions import KubeFunctions
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.kinds import CONFIG_MAP, DEPLOYMENT, KNATIVE_REVISION, KNATIVE_SERVICE, POD, Kind, Object
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.view import Change, Happened
from ropewalk_core.model import Actor, Bundle, Function, FunctionSpec, Requirements, State, Why
from ropewalk_core.placement import Inventory, Node
from ropewalk_core.settings import Cluster, Settings
from ropewalk_hub.platform import SystemClock
from ropewalk_runtime.serve import DOES_NOT_LOAD

ADA = Actor(account="ada")
SPACE = "ropewalk--ada"
Key = tuple[str, str]


class Playing:
    """An API server that keeps objects, and does at once what controllers would do; ``loads`` says of what."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.refuses: dict[Kind, Exception] = {}
        self.loads, self.slow = True, asyncio.Event()
        self.slow.set()
        self.held: list[asyncio.Event] = []
        self._watching: list[tuple[Kind, asyncio.Queue[Change]]] = []

    def names(self, kind: Kind) -> list[str]:
        return sorted(name for plural, name in self.objects if plural == f"{kind.group}/{kind.plural}")

    async def apply(self, kind: Kind, body: Object, *, force: bool = False) -> Object:
        if kind in self.refuses:
            raise self.refuses[kind]
        if self.held:
            await self.held.pop().wait()
        key = (f"{kind.group}/{kind.plural}", body["metadata"]["name"])
        one, old = copy.deepcopy(body), self.objects.get(key)
        before = old["metadata"]["generation"] if old else 0
        same = old is not None and old.get("spec") == one.get("spec")
        one["metadata"]["generation"] = before if same else before + 1
        one["status"] = old["status"] if old and same else {}
        self.objects[key] = one
        self.tell(kind, one, Happened.CHANGED if old else Happened.ADDED)
        if kind in (KNATIVE_SERVICE, DEPLOYMENT) and not same:
            asyncio.get_running_loop().call_soon(self._start, kind, one)
        return one

    def _start(self, kind: Kind, one: Object) -> None:
        labels = one["spec"]["template"]["metadata"]["labels"]
        ended = {"state": {"terminated": {"exitCode": DOES_NOT_LOAD, "message": '{"message": "no", "details": {}}'}}}
        state: Object = {"state": {"running": {}}} if self.loads else ended
        status = {"containerStatuses": [{"name": CONTAINER, **state}]}
        pod = {"metadata": {"name": "pod", "labels": labels}, "spec": {"nodeName": "n"}, "status": status}
        self.objects["/pods", "pod"] = pod
        self.tell(POD, pod, Happened.ADDED)
        if self.loads and self.slow.is_set():
            self.ready(kind, one)

    def ready(self, kind: Kind, one: Object) -> None:
        revision = one["spec"]["template"]["metadata"].get("name")
        conditions = [{"type": "Ready", "status": "True"}]
        named = {"latestCreatedRevisionName": revision, "latestReadyRevisionName": revision}
        one["status"] = {"observedGeneration": one["metadata"]["generation"], "readyReplicas": 1}
        one["status"] |= {"conditions": conditions, **named} if kind is KNATIVE_SERVICE else {}
        if kind is KNATIVE_SERVICE:
            meta = {"name": revision, "labels": one["spec"]["template"]["metadata"]["labels"]}
            self.objects["serving.knative.dev/revisions", revision] = {"metadata": meta}
        self.tell(kind, one, Happened.CHANGED)

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        found = self.objects.get((f"{kind.group}/{kind.plural}", name))
        if found is None:
            raise NotFound("no")
        return found

    async def create(self, kind: Kind, body: Object) -> Object:
        return await self.apply(kind, body)

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: Any = None, fields: Any = None, page: int = 0
    ) -> Any:
        prefix = f"{kind.group}/{kind.plural}"
        items = [one for (plural, _), one in self.objects.items() if plural == prefix and _has(one, labels)]
        return type("Listing", (), {"items": tuple(items)})()

    async def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        one = self.objects.pop((f"{kind.group}/{kind.plural}", name), None)
        if one is not None:
            self.tell(kind, one, Happened.REMOVED)
        return one is not None

    def tell(self, kind: Kind, one: Object, happened: Happened) -> None:
        for watched, queue in self._watching:
            if watched is kind:
                queue.put_nowait(Change(happened, copy.deepcopy(one)))

    async def watch(self, kind: Kind, namespace: str = "", *, labels: Any = None, fields: Any = None) -> Any:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        for one in (await self.list(kind, labels=labels)).items:
            queue.put_nowait(Change(Happened.ADDED, copy.deepcopy(one)))
        queue.put_nowait(Change(Happened.SYNCED))
        self._watching.append((kind, queue))
        wanted = (fields or {}).get("metadata.name")
        while True:
            change = await queue.get()
            if change.happened is Happened.SYNCED or (
                _has(change.object, labels) and wanted in (None, change.object["metadata"]["name"])
            ):
                yield change


def _has(one: Object, labels: Any) -> bool:
    have = one["metadata"].get("labels") or {}
    return all(have.get(key) == value for key, value in (labels or {}).items())


def _note(stage: Stage) -> str:
    record = stage.journal.get("function", "ada", "double")
    return str(record.body["status"]["note"]) if record else ""


class Stage:
    def __init__(self, folder: Path, how: str) -> None:
        self.settings = Settings(home=folder, backend="kube", cluster=Cluster(functions=how))
        self.journal, self.api = Journal(folder / "journal.db"), Playing()
        self.kind = KNATIVE_SERVICE if how == KNATIVE else DEPLOYMENT
        self.begin()

    def begin(self) -> None:
        clock = SystemClock()
        self.intents = Intents(self.journal, clock)
        inventory = Inventory(nodes=(Node(name="n", arch="amd64", cpu=8, memory=2**34),))

        async def space(owner: str) -> str:
            return SPACE

        async def site() -> Site:
            return Site(inventory, {}, frozenset())

        async def token(actor: Actor) -> str:
            return ""

        ground = KubeGround(
            settings=self.settings,
            journal=self.journal,
            clock=clock,
            api=self.api,  # type: ignore[arg-type]
            space=space,
            site=site,
            intents=self.intents,
        )
        self.functions = KubeFunctions(ground, token=token)
        self.tasks = [asyncio.create_task(one()) for one in (self.intents.run, self.functions.run)]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def deploy(self, factor: int = 2, **changes: Any) -> Any:
        source = f"def handler(value):\n    return {factor} * value\n"
        spec = FunctionSpec(name="double", bundle=Bundle(files={"cell.py": source}, entry="cell:handler"), **changes)
        return await self.functions.deploy(ADA, "ada", spec)

    async def known(self) -> Any:
        return await self.functions.get(ADA, "ada", "double")

    async def until(self, look: Any) -> None:
        async with asyncio.timeout(10):
            while not look():  # noqa: ASYNC110 - another task's doing
                await asyncio.sleep(0.01)

    def served(self) -> Object:
        [name] = self.api.names(self.kind)
        return self.api.objects[f"{self.kind.group}/{self.kind.plural}", name]


@asynccontextmanager
async def staged(folder: Path, how: str) -> AsyncIterator[Stage]:
    one = Stage(folder, how)
    try:
        yield one
    finally:
        await one.end()
        one.journal.close()


@pytest.fixture(params=[KNATIVE, PLAIN])
async def stage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with staged(tmp_path, request.param) as one:
        yield one


async def test_a_deploy_ends_with_one_of_each(stage: Stage) -> None:
    for factor in (2, 3, 4):
        assert (await stage.deploy(factor)).status.state is State.RUNNING
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 1)
    [route] = stage.functions.routes()
    name = "fn--double" if stage.kind is KNATIVE_SERVICE else f"fn--double-{route.revision}"
    assert route.url == f"http://{name}.{SPACE}.svc"
    assert stage.api.names(stage.kind) == [name]
    assert not stage.journal.page(NEXT) and not stage.journal.page("intent")
    assert (await stage.deploy(4)).unchanged


async def test_code_that_does_not_load_leaves_what_was(stage: Stage) -> None:
    stage.api.loads = False
    with pytest.raises(BadCode):
        await stage.deploy()
    assert (await stage.functions.list(ADA, "ada")).items == ()
    await stage.until(lambda: not stage.api.names(stage.kind) and not stage.api.names(CONFIG_MAP))
    stage.api.loads = True
    first = await stage.deploy(2)
    before = copy.deepcopy(stage.served()["spec"])
    stage.api.loads = False
    with pytest.raises(BadCode):
        await stage.deploy(3)
    assert (await stage.known()).revision.id == first.revision.id
    await stage.until(lambda: not stage.journal.page("intent"))
    assert stage.served()["spec"] == before and len(stage.api.names(CONFIG_MAP)) == 1


async def test_requirements_are_refused_until_images_are_built_for_them(stage: Stage) -> None:
    with pytest.raises(BadInput) as caught:
        await stage.deploy(requirements=("pandas==2.2",))
    assert caught.value.field == "requirements" and "cluster" in caught.value.message and caught.value.hint
    with pytest.raises(BadInput) as caught:
        stage.functions.prepare(ADA, "ada", Requirements(requirements=("pandas==2.2",)))
    assert caught.value.field == "requirements"
    with pytest.raises(BadInput) as caught:
        await stage.deploy(requires_python=">=4")
    assert caught.value.field == "requires_python" and not stage.api.names(stage.kind)


async def test_what_the_api_server_refuses_is_not_accepted(stage: Stage) -> None:
    stage.api.refuses[stage.kind] = Denied("You use 50 of 50 pods.")
    with pytest.raises(Denied):
        await stage.deploy()
    assert (await stage.functions.list(ADA, "ada")).items == () and not stage.journal.page(NEXT)
    await stage.until(lambda: not stage.api.names(CONFIG_MAP))


async def test_what_passes_by_itself_is_tried_again(stage: Stage) -> None:
    stage.api.refuses[stage.kind] = Unavailable("The webhook does not answer.")
    deploying = asyncio.create_task(stage.deploy())
    await stage.until(lambda: stage.api.names(CONFIG_MAP))
    stage.api.refuses.clear()
    assert (await deploying).status.state is State.RUNNING


async def test_a_newer_wish_takes_the_place_of_one_that_is_tried(stage: Stage) -> None:
    stage.api.slow.clear()
    first = asyncio.create_task(stage.deploy(2))
    await stage.until(lambda: stage.api.names(stage.kind))
    stage.api.slow.set()
    assert (await stage.deploy(3)).revision.number == 2
    with pytest.raises(Conflict):
        await first
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 1)


async def test_wishing_what_serves_gives_up_what_is_tried(stage: Stage) -> None:
    serves = await stage.deploy(2)
    stage.api.slow.clear()
    tried = asyncio.create_task(stage.deploy(3))
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 2)
    again = await stage.deploy(2)
    assert again.unchanged and again.revision.id == serves.revision.id
    with pytest.raises(Conflict):
        await tried
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 1 and not stage.journal.page("intent"))
    assert stage.served()["spec"]["template"]["metadata"]["labels"]["ropewalk.dev/revision"] == serves.revision.id


async def test_a_start_goes_on_with_what_was_tried(stage: Stage) -> None:
    stage.api.slow.clear()
    deploying = asyncio.create_task(stage.deploy())
    await stage.until(lambda: stage.api.names(stage.kind) and not stage.journal.page("intent"))
    await stage.end()
    deploying.cancel()
    await asyncio.gather(deploying, return_exceptions=True)
    stage.api.ready(stage.kind, stage.served())
    stage.begin()
    await stage.until(lambda: stage.journal.page(AT))
    assert (await stage.known()).status.state is State.RUNNING


async def test_a_removal_while_nobody_looked_is_seen_at_the_next_start(stage: Stage) -> None:
    await stage.deploy()
    await stage.end()
    await stage.api.delete(stage.kind, stage.api.names(stage.kind)[0])
    stage.begin()
    await stage.until(lambda: not stage.journal.page(AT))
    assert (await stage.known()).status.note == FOREIGN_END
    [route] = stage.functions.routes()
    assert "kubectl" in route.away and not route.url and not stage.api.names(stage.kind)


async def test_an_account_that_ends_takes_its_functions_out(stage: Stage) -> None:
    await stage.deploy()
    await stage.functions.stop_all("ada", Why(cause="The account was deactivated."))
    await stage.until(lambda: not stage.journal.page("intent"))
    function = await stage.known()
    assert function.status.state is State.STOPPED and function.status.why is not None
    assert not stage.api.names(stage.kind) and not stage.api.names(CONFIG_MAP)
    with pytest.raises(Unavailable, match="deactivated"):
        await stage.functions.call(ADA, "ada", "double", b"1")
    assert (await stage.deploy()).status.state is State.RUNNING


async def test_what_is_removed_leaves_nothing(stage: Stage) -> None:
    old = (await stage.deploy()).revision
    await stage.functions.remove(ADA, "ada", "double")
    with pytest.raises(NotFound):  # who rolls back, and looked before
        await stage.functions.deploy(ADA, "ada", old.spec, existing=True)
    await stage.until(lambda: not stage.journal.page("intent"))
    assert not stage.api.names(stage.kind) and not stage.api.names(CONFIG_MAP)
    assert not stage.api.names(KNATIVE_REVISION) and not stage.journal.page(AT)


async def test_a_change_by_others_is_noted_once_and_left(stage: Stage) -> None:
    await stage.deploy(2)
    theirs = copy.deepcopy(stage.served())
    theirs["spec"]["theirs"] = True
    await stage.api.apply(stage.kind, theirs)

    def noted() -> bool:
        record = stage.journal.get("function", "ada", "double")
        return record is not None and record.body["status"]["note"] == FOREIGN_CHANGE

    await stage.until(noted)
    assert stage.served()["spec"]["theirs"] is True
    assert [one.type for one in stage.journal.events(kind="function")].count("changed") == 1
    mended = await stage.deploy(3)
    assert mended.status.note == "" and mended.status.state is State.RUNNING


async def _changed_by_others(stage: Stage) -> Object:
    """Change what serves as kubectl would, wait until that is seen, and return what was there before."""
    before: Object = copy.deepcopy(stage.served()["spec"])
    theirs = copy.deepcopy(stage.served())
    theirs["spec"]["theirs"] = True
    await stage.api.apply(stage.kind, theirs)
    await stage.until(lambda: _note(stage) == FOREIGN_CHANGE)
    return before


async def _trial(stage: Stage) -> asyncio.Task[Function]:
    """Deploy another revision, and return once it is in the cluster, where it does not come to run yet."""
    stage.api.slow.clear()
    deploying = asyncio.create_task(stage.deploy(3))
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 2 and not stage.journal.page("intent"))
    return deploying


async def test_what_others_changed_is_put_right_by_deploying_the_same(stage: Stage) -> None:
    first = await stage.deploy(2)
    whole = await _changed_by_others(stage)
    again = await stage.deploy(2)
    assert not again.unchanged and again.status.note == "" and again.status.state is State.RUNNING
    assert again.revision == first.revision and stage.served()["spec"] == whole
    assert (await stage.deploy(2)).unchanged and not stage.journal.page(NEXT)


@pytest.mark.parametrize("waited", [True, False])
async def test_what_others_changed_is_not_forgotten_when_another_deploy_fails(stage: Stage, waited: bool) -> None:
    await stage.deploy(2)
    whole = await _changed_by_others(stage)
    deploying = await _trial(stage)
    tried = stage.functions._ledger.next("ada", "double")
    assert tried is not None
    if waited:
        await stage.functions._judge._judged(tried, Verdict(why=Why(cause="No machine is free.")))
        assert _note(stage) == "Its new revision waits: No machine is free."
    await stage.functions._judge._judged(tried, Verdict(error=BadCode("no")))
    with pytest.raises(BadCode):
        await deploying
    stage.api.slow.set()
    await stage.until(lambda: not stage.journal.page("intent"))
    drift = stage.kind is DEPLOYMENT  # Knative's one object was made ours again when the other revision went
    assert _note(stage) == (FOREIGN_CHANGE if drift else "")
    assert (stage.served()["spec"] == whole) is not drift
    assert (await stage.deploy(2)).unchanged is not drift
    assert stage.served()["spec"] == whole and _note(stage) == ""
    assert (await stage.deploy(2)).unchanged


async def test_what_others_changed_is_put_right_also_while_another_revision_is_tried(stage: Stage) -> None:
    first = await stage.deploy(2)
    whole = await _changed_by_others(stage)
    tried = await _trial(stage)
    stage.api.slow.set()
    again = await stage.deploy(2)
    with pytest.raises(Conflict):
        await tried
    assert not again.unchanged and again.revision == first.revision and again.status.note == ""
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 1)
    assert stage.served()["spec"] == whole and (await stage.deploy(2)).unchanged


@pytest.mark.parametrize("then", ["fails", "is given up"])
async def test_what_serves_does_not_go_on_saying_that_a_new_revision_waits(stage: Stage, then: str) -> None:
    await stage.deploy(2)
    stage.api.slow.clear()
    deploying = asyncio.create_task(stage.deploy(3))
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 2 and stage.journal.page(NEXT))
    tried = stage.functions._ledger.next("ada", "double")
    assert tried is not None
    await stage.functions._judge._judged(tried, Verdict(why=Why(cause="No machine is free.")))
    assert _note(stage) == "Its new revision waits: No machine is free."
    if then == "fails":
        await stage.functions._judge._judged(tried, Verdict(error=BadCode("no")))
    else:
        assert (await stage.deploy(2)).status.note == ""
    with pytest.raises((BadCode, Conflict)):
        await deploying
    assert _note(stage) == "" and (await stage.known()).status.state is State.RUNNING


@pytest.mark.parametrize("how", [KNATIVE, PLAIN])
async def test_a_tried_revision_that_somebody_removes_takes_nothing_else_with_it(tmp_path: Path, how: str) -> None:
    async with staged(tmp_path, PLAIN) as stage:
        serves = await stage.deploy(2)
        object.__setattr__(stage.settings.cluster, "functions", how)  # as when Knative was installed meanwhile
        kind = KNATIVE_SERVICE if how == KNATIVE else DEPLOYMENT
        stage.api.slow.clear()
        tried = asyncio.create_task(stage.deploy(3))
        await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 2 and not stage.journal.page("intent"))
        [name] = [one for one in stage.api.names(kind) if serves.revision.id not in one]
        await stage.until(lambda: len([one for one, _ in stage.api._watching if one is kind]) >= 1)
        await stage.api.delete(kind, name)
        with pytest.raises(Conflict, match="kubectl"):
            await tried
        await stage.until(lambda: not stage.journal.page("intent") and not stage.journal.page(NEXT))
        known = await stage.known()
        assert known.revision.id == serves.revision.id and known.status.state is State.RUNNING
        [route] = stage.functions.routes()
        assert route.url and stage.journal.page(AT)


async def test_whether_knative_is_here_is_asked_without_reading_everybodys_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, "auto") as stage:
        asked, listed = [], stage.api.list

        async def list_(kind: Kind, namespace: str = "", **more: Any) -> Any:
            if kind is KNATIVE_SERVICE:
                asked.append(more)
            return await listed(kind, namespace, **more)

        monkeypatch.setattr(stage.api, "list", list_)
        assert await stage.functions._how(SPACE) == KNATIVE and await stage.functions._how(SPACE) == KNATIVE
        assert [list(one["fields"]) for one in asked] == [["metadata.name"]]


async def test_what_is_refused_says_nothing_of_what_was_wished_since(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, asked, answer = stage.api.apply, asyncio.Event(), asyncio.Event()

    async def refuses_the_first(kind: Kind, body: Object, *, force: bool = False) -> Object:
        if kind is stage.kind and not asked.is_set():
            asked.set()
            await answer.wait()
            raise Denied("You use 50 of 50 pods.")
        return await apply(kind, body, force=force)

    monkeypatch.setattr(stage.api, "apply", refuses_the_first)
    first = asyncio.create_task(stage.deploy(2))
    await asked.wait()
    second = asyncio.create_task(stage.deploy(3))
    with pytest.raises(Conflict):
        await first  # so the second one is accepted
    answer.set()
    assert (await second).status.state is State.RUNNING


@pytest.mark.parametrize("since", ["tried", "serves", "made anew"])
async def test_a_slow_look_takes_nothing_from_what_was_wished_since(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    await stage.deploy(2)
    await stage.until(lambda: stage.functions._minder._minded and not stage.journal.page("intent"))
    asked, answer, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    get, missed = stage.api.get, stage.functions._minder._missed

    async def slowly(kind: Kind, name: str, namespace: str = "") -> Object:
        if kind is not stage.kind or asked.is_set():
            return await get(kind, name, namespace)
        asked.set()
        await answer.wait()
        raise NotFound("no")

    async def looks(owner: str, name: str) -> None:
        await missed(owner, name)
        told.set()

    monkeypatch.setattr(stage.api, "get", slowly)
    monkeypatch.setattr(stage.functions._minder, "_missed", looks)
    await stage.api.delete(stage.kind, stage.api.names(stage.kind)[0])
    await asked.wait()
    if since == "tried":
        stage.api.slow.clear()
    if since == "made anew":
        await stage.functions.remove(ADA, "ada", "double")
    deploying = asyncio.create_task(stage.deploy(2 if since == "made anew" else 3))
    if since != "tried":
        await deploying
    else:
        await stage.until(lambda: stage.api.names(stage.kind) and not stage.journal.page("intent"))
    answer.set()
    await told.wait()
    if since == "tried":
        assert stage.journal.page(NEXT)
        stage.api.ready(stage.kind, stage.served())
    assert (await deploying).status.state is State.RUNNING
    assert (await stage.known()).status.state is State.RUNNING and stage.journal.page(AT)


async def test_the_end_of_a_trial_takes_nothing_from_what_was_wished_since(stage: Stage) -> None:
    await stage.deploy(2)
    stage.api.slow.clear()
    earlier = asyncio.create_task(stage.deploy(3))
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 2)
    tried = stage.functions._ledger.next("ada", "double")
    assert tried is not None
    later = asyncio.create_task(stage.deploy(4))
    with pytest.raises(Conflict):
        await earlier  # so the later one is accepted
    with pytest.raises(Conflict):
        await stage.functions._judge._judged(tried, Verdict(gone=True))
    assert stage.journal.page(NEXT) and stage.journal.page(AT)
    stage.api.slow.set()
    await stage.until(lambda: not stage.journal.page("intent"))
    later.cancel()
    await asyncio.gather(later, return_exceptions=True)


async def test_a_failure_is_not_written_of_what_was_wished_since(stage: Stage) -> None:
    stage.api.slow.clear()
    earlier = asyncio.create_task(stage.deploy(2))
    await stage.until(lambda: stage.api.names(stage.kind) and not stage.journal.page("intent"))
    tried = stage.functions._ledger.next("ada", "double")
    assert tried is not None
    stage.api.slow.set()
    later = asyncio.create_task(stage.deploy(3))
    with pytest.raises(Conflict):
        await earlier
    with pytest.raises(Conflict, match="changed meanwhile"):
        await stage.journal.write(*stage.functions._ledger.failed(tried, Denied("You use 50 of 50 pods.")))
    assert (await later).status.state is State.RUNNING


@pytest.mark.parametrize("said_by", ["the judge", "the API server"])
@pytest.mark.parametrize("before", [True, False])
async def test_what_somebody_was_told_is_written_also_when_the_disk_was_full_at_first(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, said_by: str, before: bool
) -> None:
    if before:
        await stage.deploy(2)
        await stage.functions.stop_all("ada", Why(cause="The account was deactivated."))
        await stage.until(lambda: not stage.journal.page("intent"))
    was = (await stage.functions.list(ADA, "ada")).items
    write, full = stage.journal.write, [StorageFull("The disk is full.")]

    async def writes(*batch: Operation) -> int:
        if full and any(isinstance(one, Remove) and one.kind == NEXT for one in batch):
            raise full.pop()
        return await write(*batch)

    monkeypatch.setattr(stage.journal, "write", writes)
    stage.api.loads = said_by != "the judge"
    if said_by == "the API server":
        stage.api.refuses[stage.kind] = Denied("You use 50 of 50 pods.")
    with pytest.raises(RopewalkError) as found:
        await stage.deploy(3)
    assert isinstance(found.value, BadCode if said_by == "the judge" else Denied)
    await stage.until(lambda: not stage.journal.page(NEXT) and not stage.journal.page("intent"))
    assert not full and (await stage.functions.list(ADA, "ada")).items == was


async def test_who_asks_does_not_wait_for_who_tidies(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.deploy(2)
    asked, answer, applied = asyncio.Event(), asyncio.Event(), list[str]()
    delete, apply = stage.api.delete, stage.api.apply

    async def slowly(kind: Kind, name: str, namespace: str = "") -> bool:
        asked.set()
        await answer.wait()
        return await delete(kind, name, namespace)

    async def applies(kind: Kind, body: Object, *, force: bool = False) -> Object:
        applied.append(body["metadata"]["name"])
        return await apply(kind, body, force=force)

    await stage.deploy(3)
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 1)
    monkeypatch.setattr(stage.api, "delete", slowly)
    await stage.deploy(4)
    await asked.wait()
    monkeypatch.setattr(stage.api, "apply", applies)
    third = asyncio.create_task(stage.deploy(3))  # what is about to go is wished again
    await stage.until(lambda: stage.journal.page(NEXT))
    await asyncio.sleep(0.05)
    assert not applied
    answer.set()
    assert (await third).status.state is State.RUNNING
    await stage.until(lambda: len(stage.api.names(CONFIG_MAP)) == 1)
    assert stage.api.names(CONFIG_MAP) == [f"fn--double-{(await third).revision.id}"]
    labels = stage.served()["spec"]["template"]["metadata"]["labels"]
    assert labels["ropewalk.dev/revision"] == (await third).revision.id


async def test_nothing_is_kept_in_memory_of_functions_that_are_gone(stage: Stage) -> None:
    await stage.deploy(2)
    stage.api.loads = False
    with pytest.raises(BadCode):
        await stage.deploy(3)
    await stage.functions.remove(ADA, "ada", "double")
    await stage.until(lambda: not stage.journal.page("intent") and not stage.intents._queues)
    ledger = stage.functions._ledger
    await stage.until(lambda: not (ledger._locks or ledger._waits or ledger._told))


async def test_what_is_wished_while_another_is_on_its_way_is_not_taken_for_removed(stage: Stage) -> None:
    held = asyncio.Event()
    stage.api.held.append(held)
    first = asyncio.create_task(stage.deploy(2))
    await stage.until(lambda: not stage.api.held)
    second = asyncio.create_task(stage.deploy(3))
    with pytest.raises(Conflict, match="changed or removed meanwhile"):
        await first
    stage.api.held.append(asyncio.Event())  # the second one takes a moment too
    later = stage.api.held[0]
    held.set()
    await stage.until(lambda: not stage.api.held)
    await asyncio.sleep(0.05)
    later.set()
    assert (await second).status.state is State.RUNNING


async def numbers(stage: Stage) -> list[int]:
    return [one.number for one in (await stage.functions.revisions(ADA, "ada", "double")).items]


async def test_only_what_came_to_serve_is_a_revision(stage: Stage) -> None:
    stage.api.slow.clear()
    first = asyncio.create_task(stage.deploy(2))
    await stage.until(lambda: stage.journal.page("function"))
    assert await numbers(stage) == []
    stage.api.slow.set()
    second = await stage.deploy(3)  # takes the place of the first one, which never served
    with pytest.raises(Conflict):
        await first
    stage.api.loads = False
    with pytest.raises(BadCode):
        await stage.deploy(4)
    stage.api.loads = True
    third = await stage.deploy(5)
    assert await numbers(stage) == [third.revision.number, second.revision.number]
    old = await stage.functions.revision(ADA, "ada", "double", second.revision.number)
    assert old == second.revision
    back = await stage.functions.deploy(ADA, "ada", old.spec)
    assert back.revision.id == second.revision.id and len(await numbers(stage)) == 3
    labels = stage.served()["spec"]["template"]["metadata"]["labels"]
    assert labels["ropewalk.dev/revision"] == second.revision.id


@pytest.mark.parametrize("then", ["serves", "stopped"])
async def test_a_function_from_before_revisions_were_kept_loses_none(stage: Stage, then: str) -> None:
    old = await stage.deploy(2)
    for record in stage.journal.page(REVISION):
        await stage.journal.write(*(Remove(kind, "ada", record.name) for kind in (REVISION, CODE)))
    if then == "stopped":
        await stage.functions.stop_all("ada", Why(cause="The account was deactivated."))
        await stage.until(lambda: not stage.journal.page("intent"))
    assert await numbers(stage) == [1]
    new = await stage.deploy(3)
    assert await numbers(stage) == [new.revision.number, 1]
    assert await stage.functions.revision(ADA, "ada", "double", 1) == old.revision
    await stage.functions.remove(ADA, "ada", "double")
    assert not stage.journal.page(REVISION) and not stage.journal.page(CODE)


async def test_putting_right_what_others_changed_is_no_new_revision(stage: Stage) -> None:
    await stage.deploy(2)
    theirs = copy.deepcopy(stage.served())
    theirs["spec"]["theirs"] = True
    await stage.api.apply(stage.kind, theirs)
    await stage.until(lambda: _note(stage) == FOREIGN_CHANGE)
    assert not (await stage.deploy(2)).unchanged
    assert await numbers(stage) == [1]

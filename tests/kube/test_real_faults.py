"""Faults of a real cluster, one that is this module's own: each ends in the right state, with a plain sentence.

The API server is gone for ROPEWALK_TEST_OUTAGE seconds, 15 unless set: longer than any request is repeated, several
tries of every watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ropewalk_core.errors import Denied, NotFound, Unavailable
from ropewalk_core.kube import restricted
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import DEPLOYMENT, EVENT, NAMESPACE, NODE, POD, Object
from ropewalk_core.kube.logs import read
from ropewalk_core.kube.placement import Fragment, place
from ropewalk_core.kube.tenancy import KINDS, WORK, Tenant, render
from ropewalk_core.kube.tenancy_controller import satisfies
from ropewalk_core.kube.tenants import Tenants
from ropewalk_core.kube.view import Happened
from ropewalk_core.model import Why
from ropewalk_core.placement import Placement
from ropewalk_core.settings import Settings
from ropewalk_core.why import cluster as why
from ropewalk_hub.platform import SystemClock
from tests.cluster.cluster import Cluster
from tests.cluster.layout import REGISTRY, ROOT, Layout, layout, machine, nodes
from tests.kube.place import SMALL, Place
from tests.kube.stage import ADMINISTRATOR, Installation, Stage, installed, until

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_slow, pytest.mark.root, pytest.mark.timeout(300)]

CLOCK = SystemClock()
OUTAGE = float(os.environ.get("ROPEWALK_TEST_OUTAGE", "15"))
LOST_AFTER = "15"
TICK = "while :; do date +%s; sleep 1; done"
FIRST, SECOND = nodes()


@pytest.fixture(scope="module")
def own() -> Iterator[Layout]:
    """Return the folders of a cluster whose parts may be killed, beside the one of the other tests."""
    usual = layout()
    one = Layout(usual.run.with_name(usual.run.name + "-faults"), usual.cache)
    environment = {
        **os.environ,
        "ROPEWALK_TEST_CLUSTER_RUN": str(one.run),
        "ROPEWALK_TEST_CLUSTER_CACHE": str(one.cache),
        "ROPEWALK_TEST_CLUSTER_LOST_AFTER": LOST_AFTER,
    }
    Cluster(one).down()
    subprocess.run([sys.executable, "-m", "tests.cluster", "up"], env=environment, cwd=ROOT, check=True)
    yield one
    Cluster(one).down()


@pytest.fixture(scope="module")
def installation(own: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(own, tmp_path_factory.mktemp("installation")) as one:
        yield one


@pytest.fixture
async def ground(stage: Stage) -> Place:
    """Return the namespace of a new account."""
    return Place(stage.api(ADMINISTRATOR), await stage.spaces()("ada"))


async def on(stage: Stage, arch: str) -> Fragment:
    return place(Placement(arch=arch, **SMALL), await stage.site())


def running(pod: Object) -> bool:
    return bool(pod["status"].get("phase") == "Running")


def untouched(before: Object, after: Object) -> None:
    """Check that a pod has gone on as if nothing had been."""
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" not in after["metadata"]
    assert [one["restartCount"] for one in after["status"]["containerStatuses"]] == [0]


async def ticks(api: Api, ground: Place, name: str) -> list[int]:
    return [int(one.text) async for one in read(api, CLOCK, ground.space, name)]


async def test_the_api_server_is_gone_for_a_while(stage: Stage, ground: Place) -> None:
    platform, seen = stage.api("platform"), set[tuple[Happened, str]]()

    async def watch() -> None:
        async with contextlib.aclosing(platform.watch(POD, ground.space)) as changes:
            async for change in changes:
                seen.add((change.happened, change.key[1]))

    watching = asyncio.create_task(watch())
    await ground.pod("worker", TICK, await on(stage, machine()))
    before = await ground.until("worker", running)
    fragment = await on(stage, machine())
    stage.inside.stop("kube-apiserver", kill=True)
    began = CLOCK.steady()
    tenants = Tenants(platform, stage.cluster, CLOCK)
    with pytest.raises(Unavailable) as found:
        await tenants.ensure(stage.tenant("late"))
    assert "The cluster" in found.value.message, found.value.message
    assert platform.troubled()
    await asyncio.sleep(max(0.0, OUTAGE - (CLOCK.steady() - began)))
    stage.inside.start("kube-apiserver")

    async def answers() -> bool:
        with contextlib.suppress(Unavailable, Denied):
            return bool(await tenants.ensure(stage.tenant("late")))
        return False

    await until("an account that was refused meanwhile gets its namespace", answers)
    untouched(before, await ground.until("worker", running))
    await ground.pod("after", "true", fragment)
    await ground.until("after", lambda one: one["status"].get("phase") == "Succeeded")

    async def caught_up() -> bool:
        return any(name == "after" for _, name in seen) and not platform.troubled()

    await until("the watch that was there before goes on", caught_up)
    assert (Happened.REMOVED, "worker") not in seen
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    written = await ticks(platform, ground, "worker")
    assert written[-1] - written[0] >= OUTAGE
    assert max(later - earlier for earlier, later in pairwise(written)) <= 5, "work stood still"


async def test_a_kubelet_is_killed_and_comes_back(stage: Stage, ground: Place) -> None:
    await ground.pod("worker", TICK, await on(stage, machine()))
    before = await ground.until("worker", running)
    stage.inside.stop(f"{FIRST.name}-kubelet", kill=True)
    try:
        told = await ground.why("worker", "Its machine does not answer.")
        assert told.next == "If it lasts, start it again."
    finally:
        stage.inside.start(f"{FIRST.name}-kubelet")
    after = await ground.until("worker", ready)
    untouched(before, after)
    assert why.from_pod(after, (await stage.api("platform").list(EVENT, ground.space)).items) is None
    written = await ticks(stage.api("platform"), ground, "worker")
    assert max(later - earlier for earlier, later in pairwise(written)) <= 5, "work stood still"


def ready(pod: Object) -> bool:
    return {"Ready": "True"}.items() <= {one["type"]: one["status"] for one in pod["status"]["conditions"]}.items()


async def test_a_node_is_lost_and_work_goes_elsewhere(stage: Stage, ground: Place) -> None:
    api = stage.api(ADMINISTRATOR)
    await ground.pod("alone", TICK, await on(stage, SECOND.arch), grace=2)  # as people's work has: it stays to be seen
    await ground.until("alone", running)
    await api.create(DEPLOYMENT, deployment(ground.space, prefers=SECOND.arch))
    [first] = await until("it runs", lambda: replicas(api, ground))
    assert first["spec"]["nodeName"] == SECOND.name
    stage.inside.run("ip", "link", "set", SECOND.name, "down")
    try:
        told = await ground.why("alone", "Its machine was lost or taken out of service.")
        assert told.next == "It is started again elsewhere by itself, or start it again."

        async def elsewhere() -> bool:
            return FIRST.name in [one["spec"]["nodeName"] for one in await replicas(api, ground)]

        await until("its replica runs on the other node", elsewhere)
    finally:
        stage.inside.run("ip", "link", "set", SECOND.name, "up")

    async def is_over() -> bool:
        there = {one["metadata"]["name"] for one in (await api.list(POD, ground.space)).items}
        return not there & {"alone", first["metadata"]["name"]} and ready(await api.get(NODE, SECOND.name))

    await until("the node is back, and what was lost with it is gone", is_over, 120)
    assert len(await replicas(api, ground)) == 1


async def replicas(api: Api, ground: Place) -> list[Object]:
    found = (await api.list(POD, ground.space, labels={"app": "web"})).items
    return [one for one in found if running(one) and ready(one) and not one["metadata"].get("deletionTimestamp")]


def deployment(space: str, *, prefers: str = "", replicas: int = 1) -> Object:
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}
    container = {"name": "main", "image": f"{REGISTRY}/busybox:1", "command": ["sh", "-c", TICK]}
    spec: Object = {
        "containers": [{**container, "securityContext": restricted.alone(), "resources": resources}],
        "serviceAccountName": WORK,
        "terminationGracePeriodSeconds": 0,
    }
    if prefers:
        match = {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": [prefers]}]}
        preferred = [{"weight": 100, "preference": match}]
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": spec}
    body = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": space}, "spec": body}


async def test_more_than_the_quota_is_said_and_what_fits_runs(stage: Stage) -> None:
    api, owner = stage.api("platform"), "small"
    tenant = Tenant(owner, stage.tenant(owner).subject, quota={"pods": "2"})
    space = await Tenants(api, stage.cluster, CLOCK).ensure(tenant)
    ground = Place(stage.api(ADMINISTRATOR), space)
    await api.create(DEPLOYMENT, deployment(space, replicas=3))

    async def told() -> Why | None:
        conditions = (await api.get(DEPLOYMENT, "web", space)).get("status", {}).get("conditions", ())
        failing = [one["message"] for one in conditions if one["type"] == "ReplicaFailure"]
        return why.from_message(failing[0]) if failing else None

    found = await until("it is said why not all of it runs", told)
    assert found and found.cause == "You use 2 of 2 pods, and this asks for pods=1 more."
    assert found.next == "Stop something that you do not need, or ask your administrator for more."

    async def fits() -> bool:
        return len(await replicas(api, ground)) == 2

    await until("what fits runs", fits)


async def test_an_image_that_does_not_exist_and_a_program_that_eats_all_memory(stage: Stage, ground: Place) -> None:
    here = await on(stage, machine())
    await ground.pod("nothing", "true", here, image=f"{REGISTRY}/nothing:1")
    await ground.pod("greedy", "tail /dev/zero", here)
    assert (await ground.why("nothing", "There is no image")).next == "Look at its name and its tag."
    told = await ground.why("greedy", "It ran out of memory and was ended.")
    assert (told.code, told.next) == ("RW-OUT-OF-MEMORY", "Ask for more with `Placement(memory=...)`, or use less.")
    assert (await ground.until("greedy", lambda one: not running(one)))["status"]["phase"] == "Failed"


_TENANCY = """
import asyncio, pathlib, sys
from ropewalk_core import settings
from ropewalk_hub import tenancy
asyncio.run(tenancy.run(settings.load(pathlib.Path(sys.argv[1])), asyncio.Event(), port=0))
"""


@pytest.fixture
async def killed(stage: Stage, tmp_path: Path) -> AsyncIterator[list[int]]:
    """Have the controller run in a process of its own that is killed again and again; the list counts."""
    stage.installation.controllers.stop()
    cluster = stage.cluster
    lists = {"gateways": list(cluster.gateways), "api_server": list(cluster.api_server)}
    facts = {"namespace": cluster.namespace, "prefix": cluster.prefix} | lists
    facts["kubeconfig"] = str(stage.installation.kubeconfig("tenancy"))
    lines = [f"{name} = {value!r}".replace("'", '"') for name, value in facts.items()]
    (tmp_path / "ropewalk.toml").write_text("\n".join(['backend = "kube"', "[cluster]", *lines, ""]))
    kills: list[int] = []
    task = asyncio.create_task(_again_and_again(tmp_path, kills))
    yield kills
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stage.installation.controllers.start()


async def _again_and_again(home: Path, kills: list[int]) -> None:
    chance = random.Random(4)
    while True:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _TENANCY, str(home), cwd=ROOT)
        try:
            await asyncio.wait_for(process.wait(), chance.uniform(1.0, 3.0) if len(kills) < 6 else None)
            raise AssertionError(f"the controller ended with {process.returncode}")
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        kills.append(process.pid)


async def test_the_tenancy_controller_is_killed_at_random(stage: Stage, killed: list[int]) -> None:
    tenants = [stage.tenant(f"many-{number}") for number in range(12)]
    ensuring = [Tenants(stage.api("platform"), stage.cluster, CLOCK).ensure(one, patience=120) for one in tenants]
    spaces = await asyncio.gather(*ensuring)
    assert len(set(spaces)) == len(tenants)

    async def all_whole() -> bool:
        return all([await whole(stage.api(ADMINISTRATOR), one, stage.settings) for one in tenants])

    await until("every namespace has all that belongs in it", all_whole, 120)
    assert len(killed) >= 3, "it was hardly killed"


async def whole(api: Api, tenant: Tenant, settings: Settings) -> bool:
    kinds = {one.name: one for one in (NAMESPACE, *KINDS)}
    for want in render(tenant, settings):
        metadata, kind = want["metadata"], kinds[want["kind"]]
        try:
            have = await api.get(kind, metadata["name"], metadata.get("namespace", ""))
        except NotFound:
            return False
        if not satisfies(want, kind.of(have)):
            return False
    return True

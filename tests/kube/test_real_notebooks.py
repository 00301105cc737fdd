"""Notebooks on the real cluster: the real JupyterHub in its pod, with its own service account's rights alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ropewalk_core.errors import Denied, NotFound, Unavailable
from ropewalk_core.kube.kinds import NAMESPACE, POD
from ropewalk_core.kube.tenancy import namespace_of
from ropewalk_core.model import Actor, Notebook, State
from ropewalk_core.placement import Placement
from ropewalk_core.testing import NotebooksContract
from ropewalk_hub import cluster_doctor
from ropewalk_hub.kube_pod import NOTEBOOK
from ropewalk_hub.notebooks import HubNotebooks
from ropewalk_hub.platform import SystemClock
from tests.cluster import policy_enforcer
from tests.kube.hub_rig import Notebooks, installed_hub, notebooks, started
from tests.kube.runner import fresh
from tests.kube.stage import ADMINISTRATOR, Stage, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(900)]


@pytest.fixture
async def rig(stage: Stage, tmp_path: Path) -> AsyncIterator[Notebooks]:
    await installed_hub(stage)
    async with notebooks(stage, tmp_path) as one:
        yield one


class TestKubeNotebooks(NotebooksContract):
    seconds = 400.0

    @pytest.fixture
    def port(self, rig: Notebooks) -> HubNotebooks:
        return rig.port


def person(name: str) -> Actor:
    return Actor(account=name, subject=name, session="s", audience="api")


async def running(rig: Notebooks, owner: str) -> Notebook:
    await rig.port.start(person(owner), owner)
    return await reached(rig, owner, State.RUNNING)


async def reached(rig: Notebooks, owner: str, state: State, seconds: float = 400) -> Notebook:
    async def there() -> Notebook | None:
        try:
            seen = await rig.port.get(person(owner), owner)
        except Unavailable:
            return None  # a hub that has just become ready is not known at every node yet
        assert state is State.FAILED or seen.status.state is not State.FAILED, seen.status.why
        return seen if seen.status.state is state else None

    found = await until(f"{owner}'s notebook is {state}", there, seconds)
    assert found is not None
    return found


async def test_a_notebook_works_outlives_the_hub_and_stops(rig: Notebooks) -> None:
    await running(rig, "nina")
    pod = await rig.pod("nina")
    [container] = pod["spec"]["containers"]
    assert pod["spec"]["serviceAccountName"] == "work" and not pod["spec"]["automountServiceAccountToken"]
    assert container["resources"]["limits"]["cpu"] and not any(
        "serviceaccount" in one["mountPath"] for one in container["volumeMounts"]
    )

    # The kernel is the account's own Python, over the image's, and knows where it is.
    said = await rig.run(
        "nina",
        "import os, sys, ropewalk; print(sys.prefix, os.getcwd(), os.environ['ROPEWALK_API']);"
        "print(os.path.exists('/var/run/secrets/kubernetes.io'))",
    )
    space = rig.stage.cluster.namespace
    assert said.split() == ["/home/work/.ropewalk/environment", "/home/work", f"http://proxy.{space}:8000", "False"]

    # A new hub finds it as it was.
    await killed(rig.stage)
    await started(rig.stage, "hub")
    await reached(rig, "nina", State.RUNNING)
    after = await rig.pod("nina")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    lines = [one.text async for one in rig.port.logs(person("nina"), "nina")]
    assert any("Jupyter Server" in one for one in lines)

    await rig.port.stop(person("nina"), "nina")
    await reached(rig, "nina", State.STOPPED)


async def killed(stage: Stage) -> None:
    """Kill the hub's pod and wait until it is gone."""
    api, space = stage.api(ADMINISTRATOR), stage.cluster.namespace
    await api.delete(POD, "hub", space, grace=0)

    async def gone() -> bool:
        return not any(one["metadata"]["name"] == "hub" for one in (await api.list(POD, space)).items)

    await until("the old hub is gone", gone)


@pytest.mark.cluster_slow
async def test_a_start_whose_hub_is_killed_goes_on(rig: Notebooks) -> None:
    await rig.port.start(person("olaf"), "olaf")
    await until("there is a pod", partial(_pod_runs, rig, "olaf"), 120)
    pod = await rig.pod("olaf")
    await killed(rig.stage)
    await started(rig.stage, "hub")
    await reached(rig, "olaf", State.RUNNING)
    assert (await rig.pod("olaf"))["metadata"]["uid"] == pod["metadata"]["uid"]


async def _pod_runs(rig: Notebooks, owner: str) -> bool:
    try:
        return (await rig.pod(owner))["status"]["phase"] in ("Pending", "Running")
    except NotFound:
        return False


async def test_what_is_busy_waits_and_says_so_and_can_be_stopped(rig: Notebooks) -> None:
    nodes = (await rig.stage.site()).inventory.nodes
    whole = min(8.0, max(one.cpu for one in nodes))  # fits an empty machine; the platform's own pods are there
    await rig.port.start(person("wim"), "wim", placement=Placement(cpu=whole))

    async def waits_for_room() -> bool:  # it may wait for its volume first
        why = (await reached(rig, "wim", State.WAITING, 120)).status.why
        return why is not None and "cores" in why.cause

    await until("wim's notebook waits for cores", waits_for_room, 120)
    await rig.port.stop(person("wim"), "wim")
    await reached(rig, "wim", State.STOPPED, 120)


async def test_a_namespace_that_somebody_planted_is_refused(rig: Notebooks) -> None:
    api, name = rig.stage.api(ADMINISTRATOR), namespace_of("eve", rig.stage.cluster)
    await api.create(NAMESPACE, {"metadata": {"name": name}})
    try:
        await rig.hub.ensure_user("eve")
        await rig.hub.start("eve", {"subject": rig.stage.tenant("eve").subject})  # past the platform, at the hub itself

        async def failed() -> str:
            async for event in rig.hub.progress("eve"):
                if event.get("failed"):
                    return str(event["message"])
            return ""

        said = await until("the start has failed", failed)
        assert "Spawn failed" in said
        assert not (await api.list(POD, name)).items
        with pytest.raises(Denied):
            await rig.stage.api("hub").get(POD, NOTEBOOK, name)
    finally:
        await api.delete(NAMESPACE, name)


@pytest.mark.timeout(
    1800
)  # two looks, of which each may wait for namespaces, a volume and images, after all of the rig
@pytest.mark.cluster_slow
async def test_the_doctor_finds_out_whether_policies_are_enforced(rig: Notebooks) -> None:
    await asyncio.to_thread(rig.stage.needs, "all")
    runner = await asyncio.to_thread(fresh, rig.stage.installation.at, "runner")
    cluster = replace(rig.stage.cluster, images={**rig.stage.cluster.images, "runner": runner})
    settings = replace(rig.stage.settings, cluster=cluster)  # whose kubeconfig has the platform's rights and no more

    async def examined() -> dict[str, dict[str, str]]:
        found = await cluster_doctor.examine(settings, SystemClock())
        return {one["check"]: one for one in found}

    policy_enforcer.off(rig.stage.inside)
    shut = ("the proxy's inner port", "the API server", "another account's pod", "the address where clouds keep keys")
    found = await examined()
    assert "Network policies are not enforced here" in found["network"]["text"], found
    assert all(one in found["network"]["text"] for one in shut), found
    assert {name: one["state"] for name, one in found.items() if name != "network"} == dict.fromkeys(
        ("nodes", "tenancy", "functions", "workflows", "files"), "ok"
    ), found
    for one in ("system", "root"):
        await until("its namespace is gone", partial(_gone, rig, namespace_of(one, cluster)), 300)
    policy_enforcer.on(rig.stage.inside)
    try:
        found = await examined()
    finally:
        policy_enforcer.off(rig.stage.inside)
    assert found["network"]["state"] == "ok" and "policies are enforced" in found["network"]["text"], found
    assert all(one in found["network"]["text"] for one in shut), found


async def _gone(rig: Notebooks, name: str) -> bool:
    left = (await rig.stage.api(ADMINISTRATOR).list(NAMESPACE)).items
    return not any(one["metadata"]["name"] == name for one in left)

"""Functions on a real cluster whose parts fail: what served goes on serving, and what cannot run says why."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ropewalk_core.errors import NotFound, RopewalkError, Unavailable
from ropewalk_core.kube.function_objects import PLAIN
from ropewalk_core.kube.kinds import NODE, POD
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.tenants import Tenants
from ropewalk_core.model import State
from ropewalk_core.placement import Placement
from ropewalk_core.testing.people import ADA
from ropewalk_hub.platform import SystemClock
from tests.cluster.layout import Layout, nodes
from tests.kube.function_rig import KubeRig, running
from tests.kube.stage import ADMINISTRATOR, Stage, until
from tests.kube.test_real_faults import OUTAGE, installation, own

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_slow, pytest.mark.root, pytest.mark.timeout(580)]

__all__ = ["installation", "own"]
CLOCK = SystemClock()
DOUBLE = "def handler(value):\n    return 2 * value\n"
TRIPLE = "def handler(value):\n    return 3 * value\n"
GREEDY = "def handler(value):\n    return len(b'x' * value)\n"
FIRST, SECOND = nodes()
RETURNS = 180.0
"""Seconds: a deploy ends when its pod has started, and after a long outage each controller and kubelet of the cluster
asks again only after up to a minute (client-go's reflectors wait 30 s, doubled by jitter), one after the other."""


@pytest.fixture(scope="module")
def pushed(own: Layout, at: Layout, images: None) -> None:
    """Have in that cluster's registry what the usual one's has, by links: both keep files under their digests."""
    subprocess.run(["cp", "-aln", f"{at.run / 'registry'}/.", f"{own.run / 'registry'}/"], check=True)


@pytest.fixture
async def rig(stage: Stage, pushed: None) -> AsyncIterator[KubeRig]:
    async with running(stage, PLAIN, stage.spaces()) as one:
        yield one


async def deployed(rig: KubeRig, source: str, name: str = "double", **more: Any) -> None:
    """Deploy, and wait for the image to be pulled if that is what it waits for."""
    function = await rig.functions.deploy(ADA, "ada", rig.spec(source, name=name, **more))

    async def runs() -> bool:
        nonlocal function
        function = await rig.functions.get(ADA, "ada", name)
        return bool(function.status.state is State.RUNNING)

    try:
        await until(f"{name} runs", runs, 180)
    except AssertionError:
        raise AssertionError(function.status) from None


async def answered(rig: KubeRig, seconds: float = 60) -> int:
    """Call until an answer comes, and return it."""
    refused = [""]

    async def call() -> str:
        try:
            return str((await rig.functions.call(ADA, "ada", "double", b"21")).decode())
        except RopewalkError as error:
            refused[0] = error.message
        return ""

    try:
        return int(await until("the function answers", call, seconds))
    except AssertionError:
        raise AssertionError(refused[0]) from None


async def test_the_api_server_is_gone_and_calls_go_on(stage: Stage, rig: KubeRig) -> None:
    known = await stage.site()

    async def site() -> Site:
        return known

    stage.site = site  # type: ignore[method-assign]  # what is known of the nodes is not asked for at each wish
    await rig.again()
    await deployed(rig, DOUBLE)
    assert await answered(rig) == 42
    stage.inside.stop("kube-apiserver", kill=True)
    began = CLOCK.steady()
    try:
        with pytest.raises(Unavailable) as found:
            await rig.functions.deploy(ADA, "ada", rig.spec(TRIPLE, name="triple"))
        assert "The cluster" in found.value.message, found.value.message
        with pytest.raises(NotFound):
            await rig.functions.get(ADA, "ada", "triple")
        assert await answered(rig) == 42
        assert (await rig.functions.get(ADA, "ada", "double")).status.state is State.RUNNING
        await asyncio.sleep(max(0.0, OUTAGE - (CLOCK.steady() - began)))
        assert await answered(rig) == 42
    finally:
        stage.inside.start("kube-apiserver")

    async def taken() -> bool:
        with contextlib.suppress(Unavailable):
            return bool(await rig.functions.deploy(ADA, "ada", rig.spec(TRIPLE, name="triple")))
        return False

    await until("what was refused meanwhile is taken", taken, RETURNS)
    await deployed(rig, TRIPLE, "triple")
    assert (await rig.functions.get(ADA, "ada", "double")).status.state is State.RUNNING


async def test_memory_runs_out_and_the_next_call_is_answered(rig: KubeRig) -> None:
    await deployed(rig, GREEDY, placement=Placement(memory="256Mi"))
    assert await answered(rig) == 21
    with pytest.raises(RopewalkError) as found:
        await rig.functions.call(ADA, "ada", "double", str(2**30).encode())
    assert "memory" in found.value.message, found.value.message
    assert await answered(rig) == 21


async def test_a_node_is_lost_and_the_function_goes_elsewhere(stage: Stage, rig: KubeRig) -> None:
    api, space = stage.api(ADMINISTRATOR), await rig.space("ada")
    await api.patch(NODE, FIRST.name, {"spec": {"unschedulable": True}})
    await deployed(rig, DOUBLE)
    assert await answered(rig) == 42
    assert [one["spec"]["nodeName"] for one in (await api.list(POD, space)).items] == [SECOND.name]
    await api.patch(NODE, FIRST.name, {"spec": {"unschedulable": None}})
    stage.inside.run("ip", "link", "set", SECOND.name, "down")
    try:
        with contextlib.suppress(AssertionError):
            assert await answered(rig, 150) == 42
        told = [(one["spec"].get("nodeName"), one["status"]) for one in (await api.list(POD, space)).items]
        assert await answered(rig, 5) == 42, told
        assert (await rig.functions.get(ADA, "ada", "double")).status.state is State.RUNNING
    finally:
        stage.inside.run("ip", "link", "set", SECOND.name, "up")


async def test_more_than_the_quota(stage: Stage, rig: KubeRig) -> None:
    tenant = replace(stage.tenant("narrow"), quota={"pods": "0"})

    async def space(_owner: str) -> str:
        return await Tenants(stage.api("platform"), stage.cluster, CLOCK).ensure(tenant)

    rig.space = space
    await rig.again()
    told, wanted = "", "You use 0 of 0 pods, and this asks for pods=1 more."

    async def said() -> bool:
        """Look at the reason, which may come after the answer: the cluster says it in its own time."""
        nonlocal told
        why = (await rig.functions.get(ADA, "ada", "double")).status.why
        told = why.cause if why else ""
        return told == wanted

    try:
        await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
        with contextlib.suppress(AssertionError):
            await until("it is said why it does not run", said)
    except RopewalkError as error:
        told = error.message
    assert told == wanted

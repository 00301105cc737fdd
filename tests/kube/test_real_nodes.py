"""Work of a tenant on the nodes of the test cluster: where it lands, what it writes, and why it waits or fails."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ropewalk_core.errors import Conflict, NotFound, Unsatisfiable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import find
from ropewalk_core.kube.kinds import NODE, POD, RUNTIME_CLASS, Object
from ropewalk_core.kube.logs import read
from ropewalk_core.kube.nodes import Site, free, survey
from ropewalk_core.kube.placement import Fragment, busy, place
from ropewalk_core.kube.tenancy import Tenant, namespace_of
from ropewalk_core.kube.tenancy_controller import TenancyController
from ropewalk_core.placement import Placement
from ropewalk_core.settings import Cluster, Settings
from ropewalk_hub.platform import SystemClock
from tests.cluster.layout import REGISTRY, Layout, machine, nodes
from tests.kube.place import SMALL, Place

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]

SETTINGS = Settings(home=Path("/home"), cluster=Cluster(quota={**Cluster().quota, "requests.nvidia.com/gpu": "8"}))
CLOCK = SystemClock()
SECOND = nodes()[1]


@pytest.fixture
async def api(at: Layout) -> AsyncIterator[Api]:
    one = Api(find(at.kubeconfig), CLOCK)
    yield one
    await one.close()


@pytest.fixture
async def tenant(api: Api) -> AsyncIterator[Place]:
    one = Tenant(f"t{secrets.token_hex(4)}", secrets.token_hex(8))
    controller = TenancyController(api, SETTINGS, CLOCK)
    await controller.bring(one)
    yield Place(api, namespace_of(one.account, SETTINGS.cluster))
    with contextlib.suppress(Conflict):
        await controller.bring(Tenant(one.account, one.subject, gone=True))


async def seen(api: Api) -> tuple[Site, tuple[Object, ...]]:
    found, classes = await api.list(NODE), await api.list(RUNTIME_CLASS)
    return survey(found.items, classes.items, SETTINGS.cluster), found.items


async def test_the_inventory_of_real_nodes(api: Api) -> None:
    site, _ = await seen(api)
    first, second = site.inventory.nodes
    assert (first.arch, first.accelerators) == (machine(), {})
    assert second.arch == SECOND.arch and second.accelerators == {"nvidia-gpu": SECOND.accelerators["nvidia.com/gpu"]}
    with pytest.raises(Unsatisfiable, match=r"No machine here can give arch riscv64\. There is node1: arch"):
        place(Placement(arch="riscv64"), site)


async def test_work_lands_where_its_placement_says_and_the_busy_accelerator_is_waited_for(
    api: Api, tenant: Place
) -> None:
    site, raw = await seen(api)
    first = place(Placement(arch=machine(), **SMALL), site)
    await tenant.pod("plain", "sleep 1000", first)
    assert (await tenant.until("plain", is_running))["spec"]["nodeName"] == "node1"
    placement = Placement(arch=(SECOND.arch, machine()), accelerator=("npu", "nvidia-gpu"), **SMALL)
    fragment = place(placement, site)
    count = SECOND.accelerators["nvidia.com/gpu"]
    for number in range(count):
        await tenant.pod(f"gpu{number}", "sleep 1000", fragment)
        assert (await tenant.until(f"gpu{number}", is_running))["spec"]["nodeName"] == SECOND.name
    left = free(site, raw, (await api.list(POD)).items)
    assert busy("The notebook", placement, left) is not None
    assert busy("The notebook", Placement(arch=machine(), **SMALL), left) is None
    await tenant.pod("late", "true", fragment)
    told = await tenant.why("late", "those that could take it are busy")
    assert told.cause.startswith("It waits for a machine with enough free nvidia.com/gpu")
    await api.delete(POD, "gpu0", tenant.space)
    await tenant.until("late", lambda one: one["status"].get("phase") == "Succeeded")


def is_running(one: Object) -> bool:
    return bool(one["status"].get("phase") == "Running")


async def test_a_log_is_followed_to_its_end_and_taken_up_at_an_offset(api: Api, tenant: Place) -> None:
    site, _ = await seen(api)
    fragment = place(Placement(**SMALL), site)
    await tenant.pod("talker", "for n in $(seq 40); do echo line $n; sleep 0.05; done; printf unended", fragment)
    lines = [one async for one in read(api, CLOCK, tenant.space, "talker", follow=True)]
    wanted = [*(f"line {number}" for number in range(1, 41)), "unended"]
    assert [one.text for one in lines] == wanted
    assert [one.at for one in lines] == sorted(one.at for one in lines) and lines[0].at > 1.7e9
    again = [one async for one in read(api, CLOCK, tenant.space, "talker", after=lines[29].offset)]
    assert again == lines[30:]
    with pytest.raises(NotFound):
        [one async for one in read(api, CLOCK, tenant.space, "nobody", follow=True)]


async def test_why_work_fails_or_waits(api: Api, tenant: Place) -> None:
    site, _ = await seen(api)
    here = place(Placement(arch=machine(), **SMALL), site)
    await tenant.pod("greedy", "tail /dev/zero", here)
    await tenant.pod("nowhere", "true", Fragment(selector={"kubernetes.io/arch": "riscv64"}, resources=here.resources))
    await tenant.pod("nothing", "true", here, image=f"{REGISTRY}/nothing:1")
    await tenant.pod("missing", "", here, command=["/bin/nothing-there"])
    await tenant.pod("failing", "exit 3", here)
    await tenant.pod("writer", "dd if=/dev/zero of=/tmp/x bs=1M count=60; sleep 1000", here)
    probe = {"httpGet": {"port": 80}, "periodSeconds": 1}
    await tenant.pod("unready", "sleep 1000", here, readinessProbe=probe)
    assert (await tenant.why("greedy", "ran out of memory")).code == "RW-OUT-OF-MEMORY"
    assert (await tenant.why("nowhere", "No machine")).code == "RW-UNSATISFIABLE"
    assert (await tenant.why("nothing", "There is no image")).cause == f"There is no image '{REGISTRY}/nothing:1'."
    await tenant.why("missing", "The image has no program")
    assert (await tenant.why("failing", "exit code 3")).next == "Look at its log for the last lines."
    await tenant.why("unready", "It runs and is not ready yet: Get")
    assert (await tenant.why("writer", "of scratch space")).code == "RW-STORAGE-FULL"

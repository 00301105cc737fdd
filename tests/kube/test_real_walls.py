"""The walls around a tenant, tried from inside: each way first stands open without the policies' enforcer, then not.

The enforcer is a fixture of the test cluster; on a real one the network plugin is it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ropewalk_core.errors import Conflict
from ropewalk_core.kube import restricted
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import find
from ropewalk_core.kube.kinds import NAMESPACE, POD, Object
from ropewalk_core.kube.tenancy import Tenant, namespace_of
from ropewalk_core.kube.tenancy_controller import TenancyController
from ropewalk_core.settings import Cluster, Settings
from ropewalk_hub.platform import SystemClock
from tests.cluster import policy_enforcer
from tests.cluster.inside import Inside, alive
from tests.cluster.kube import Kube
from tests.cluster.layout import API_PORT, CONTROL, METADATA, REGISTRY_PORT, Layout, nodes
from tests.cluster.scene import PROBE, Scene

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]

CLOCK = SystemClock()
LISTENS = (8000, 8001, 8081, 8888, 9999)


@dataclass
class Street:
    """Two tenants, the platform and a stranger, with probing pods in each."""

    api: Api
    inside: Inside
    scene: Scene
    settings: Settings
    controller: TenancyController
    pods: dict[str, Object] = field(default_factory=dict)

    async def tenant(self, name: str) -> str:
        one = Tenant(name, f"subject-{name}")
        await self.controller.bring(one)
        return namespace_of(name, self.settings.cluster)

    async def pod(self, name: str, namespace: str, **labels: str) -> None:
        args = ["-listen", ",".join(f"tcp/{port}" for port in LISTENS), "-ask", "8079"]
        resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "32Mi"}}
        container = {
            "name": "main",
            "image": PROBE,
            "args": args,
            "securityContext": restricted.alone(),
            "resources": resources,
        }
        spec = {
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": nodes()[0].name},
            "automountServiceAccountToken": False,
        }
        await self.api.create(POD, {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec})
        async with asyncio.timeout(90):
            while not ready(found := await self.api.get(POD, name, namespace)):  # noqa: ASYNC110  # another's event
                await asyncio.sleep(0.2)
        self.pods[name] = found

    def at(self, name: str, port: int) -> str:
        return f"tcp/{self.pods[name]['status']['podIP']}:{port}"

    async def reached(self, name: str, targets: dict[str, str]) -> set[str]:
        """Return which of the named targets a pod reaches."""
        said = await asyncio.to_thread(self.scene.reach, self.pods[name], targets.values())
        return {what for what, target in targets.items() if said[target]}

    async def settled(self, name: str, targets: dict[str, str], wanted: set[str]) -> None:
        """Wait until a pod reaches exactly these, and then see it once more."""
        for _ in range(60):
            if (found := await self.reached(name, targets)) == wanted:
                break
            await asyncio.sleep(0.5)
        assert found == wanted
        assert await self.reached(name, targets) == wanted


def ready(one: Object) -> bool:
    conditions = {each["type"]: each["status"] for each in one.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True"


@pytest.fixture
async def street(at: Layout) -> AsyncIterator[Street]:
    mark, inside, kube = secrets.token_hex(3), alive(at), Kube(at.kubeconfig)
    assert inside is not None
    policy_enforcer.off(inside)
    cluster = Cluster(prefix=f"w{mark}", namespace=f"platform-{mark}")
    settings = Settings(home=Path("/home"), cluster=cluster)
    api, scene = Api(find(at.kubeconfig), CLOCK), Scene(inside, kube)
    one = Street(api, inside, scene, settings, TenancyController(api, settings, CLOCK))
    await api.create(NAMESPACE, {"metadata": {"name": cluster.namespace}})
    ada, bob = await one.tenant("ada"), await one.tenant("bob")
    part = {"app.kubernetes.io/name": "ropewalk"}
    await asyncio.gather(
        one.pod("ada", ada),
        one.pod("ada-database", ada),
        one.pod("ada-step", ada, **{"workflows.argoproj.io/workflow": "run"}),
        one.pod("bob", bob),
        one.pod("gateway", cluster.namespace, **part, **{"app.kubernetes.io/component": "platform"}),
        one.pod("hub", cluster.namespace, **part, **{"app.kubernetes.io/component": "hub"}),
        one.pod("unnamed", cluster.namespace),
        one.pod("impostor", scene.namespace, **part, **{"app.kubernetes.io/component": "platform"}),
    )
    yield one
    policy_enforcer.off(inside)
    for name in ("ada", "bob"):
        await gone(one, name)
    await api.delete(NAMESPACE, cluster.namespace)
    scene.close()
    kube.close()
    await api.close()


async def gone(street: Street, name: str) -> None:
    try:
        await street.controller.bring(Tenant(name, f"subject-{name}", gone=True))
    except Conflict:
        pass  # it is being removed


async def test_what_a_tenants_pod_reaches_and_what_reaches_it(street: Street) -> None:
    dns = (await street.api.list(POD, "kube-system", labels={"k8s-app": "kube-dns"})).items[0]["status"]["podIP"]
    allowed = {
        "own database": street.at("ada-database", 9999),
        "hub": street.at("hub", 8081),
        "gateway": street.at("gateway", 8001),
    }
    attacks = {
        "another tenant": street.at("bob", 8888),
        "another tenant's other port": street.at("bob", 9999),
        "another port of the hub": street.at("hub", 9999),
        "another port of the gateway": street.at("gateway", 9999),
        "an unnamed part of the platform": street.at("unnamed", 8081),
        "a stranger's namespace": street.at("impostor", 8001),
        "the cloud's metadata": f"http/{METADATA}:80",
        "the API server": f"tcp/{CONTROL}:{API_PORT}",
        "the registry": f"http/{CONTROL}:{REGISTRY_PORT}",
        "another node's kubelet": f"http/{nodes()[1].address}:10250",
        "another port of the name server": f"http/{dns}:8080",
    }
    inward = {"notebook": street.at("ada", 8888), "service": street.at("ada", 9999)}
    everything = {**allowed, **attacks}
    open_to_all = await street.reached("ada", everything)
    silent = {"the API server"}  # it waits for a handshake: reaching it is seen with a door of its own below
    assert open_to_all >= set(everything) - silent
    for name in ("bob", "gateway", "hub", "unnamed", "impostor"):
        assert await street.reached(name, inward) == set(inward)

    policy_enforcer.on(street.inside)
    await street.settled("ada", everything, set(allowed))
    await street.settled("gateway", inward, {"notebook", "service"})
    await street.settled("hub", inward, {"notebook"})
    for name in ("bob", "unnamed", "impostor"):
        await street.settled(name, inward, set())


async def test_only_a_step_reaches_what_settings_open_for_its_reporter(street: Street) -> None:
    door = {"registry": f"http/{CONTROL}:{REGISTRY_PORT}"}  # stands for the API server, which says nothing unasked
    policy_enforcer.on(street.inside)
    await street.settled("ada-step", door, set())
    opened = replace(street.settings.cluster, api_server=(f"{CONTROL}:{REGISTRY_PORT}",))
    settings = replace(street.settings, cluster=opened)
    await TenancyController(street.api, settings, CLOCK).bring(Tenant("ada", "subject-ada"))
    await street.settled("ada-step", door, {"registry"})
    await street.settled("ada", door, set())

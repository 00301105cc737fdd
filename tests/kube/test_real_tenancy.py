"""Tenants on a real API server: the controller with its own narrow rights, and what those rights refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Denied, NameTaken, NotFound, Unavailable, Unsatisfiable
from ropewalk_core.kube import restricted
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.census import Census, read
from ropewalk_core.kube.config import find
from ropewalk_core.kube.kinds import (
    CLUSTER_ROLE,
    CONFIG_MAP,
    DEPLOYMENT,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    POD,
    QUOTA,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from ropewalk_core.kube.placement import place
from ropewalk_core.kube.tenancy import KINDS, OWNER, WORK, Tenant, answered, namespace_of, render, request
from ropewalk_core.kube.tenancy_controller import TenancyController, satisfies
from ropewalk_core.kube.tenants import Tenants
from ropewalk_core.placement import Placement
from ropewalk_core.settings import Cluster, Settings
from ropewalk_hub.platform import SystemClock
from tests.kube.real import Cluster as Real
from tests.kube.stage import bound, install, made, token_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

CLUSTER = Cluster(quota={**Cluster().quota, "pods": "2"}, tolerated=("pool",))
SETTINGS = Settings(home=Path("/home"), cluster=CLUSTER)


RULES = Kind("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False)
REVIEWS = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}  # to ask what one may do


@pytest.fixture
async def installed(api: Api, cluster: Real) -> AsyncIterator[Api]:
    """Install what the chart installs, and speak as the controller's own service account."""
    await install(api, CLUSTER)
    token = await token_of(api, "tenancy", "ropewalk")
    narrow = Api(find(cluster.kubeconfig("tenancy", token=token)), SystemClock())
    yield narrow
    await narrow.close()


@pytest.fixture
async def controller(installed: Api) -> AsyncIterator[None]:
    """Run the controller."""
    task = asyncio.create_task(TenancyController(installed, SETTINGS, SystemClock()).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(180):  # a namespace takes its controller 6 s to remove, and rarely far longer
        while not await true():  # noqa: ASYNC110  # what is waited for is another program's
            await asyncio.sleep(0.1)


async def ask(api: Api, tenant: Tenant) -> str:
    await api.apply(CONFIG_MAP, request(tenant, CLUSTER), force=True)
    return namespace_of(tenant.account, CLUSTER)


async def wait_for(api: Api, space: str, state: str) -> str:
    async def is_so() -> bool:
        return answered(await api.get(CONFIG_MAP, space, "ropewalk"))[0] == state

    try:
        await eventually(is_so)
    except TimeoutError:
        there = (await api.list(NAMESPACE, fields={"metadata.name": space})).items
        told = answered(await api.get(CONFIG_MAP, space, "ropewalk"))
        raise AssertionError(f"not {state} but {told}; {[one['status'] for one in there]}") from None
    return answered(await api.get(CONFIG_MAP, space, "ropewalk"))[1]


async def whole(api: Api, tenant: Tenant) -> bool:
    """Whether everything that is rendered is there as it is rendered."""
    kinds = {one.name: one for one in (NAMESPACE, *KINDS)}
    try:
        for want in render(tenant, SETTINGS):
            metadata = want["metadata"]
            have = await api.get(kinds[want["kind"]], metadata["name"], metadata.get("namespace", ""))
            if not satisfies(want, kinds[want["kind"]].of(have)):
                return False
    except NotFound:
        return False
    return True


async def test_a_tenant_is_made_and_its_drift_corrected(api: Api, controller: None) -> None:
    ada = Tenant("ada", "subject-ada")
    space = await ask(api, ada)
    await wait_for(api, space, "ready")
    assert await whole(api, ada)

    await api.patch(NAMESPACE, space, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}})
    await api.delete(NETWORK_POLICY, "default-deny", space)
    await api.patch(QUOTA, "tenant", {"spec": {"hard": {"pods": "1000"}}}, namespace=space)
    await api.patch(SERVICE_ACCOUNT, "work", {"automountServiceAccountToken": True}, namespace=space)
    opened = {"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}}
    await api.patch(NETWORK_POLICY, "allow-world", opened, namespace=space)
    labels = {"metadata": {"labels": None}}
    await api.patch(NETWORK_POLICY, "allow-names", labels, namespace=space)
    await api.delete(ROLE_BINDING, "hub", space)
    body = {"metadata": {"name": "hub", "namespace": space}, "subjects": []}
    body["roleRef"] = {"apiGroup": ROLE.group, "kind": "ClusterRole", "name": "cluster-admin"}
    await made(api, ROLE_BINDING, body)
    await eventually(lambda: whole(api, ada))

    foreign = {"metadata": {"name": "foreign", "namespace": space}, "data": {"a": "1"}}
    await api.create(CONFIG_MAP, foreign)
    policy = {"metadata": {"name": "theirs", "namespace": space}, "spec": {"podSelector": {}}}
    await api.create(NETWORK_POLICY, policy)
    ours = {**policy, "metadata": {**policy["metadata"], "name": "stale", "labels": labels_of(ada)}}
    await api.create(NETWORK_POLICY, ours)

    async def stale_is_gone() -> bool:
        return "stale" not in [one["metadata"]["name"] for one in (await api.list(NETWORK_POLICY, space)).items]

    await eventually(stale_is_gone)
    assert (await api.get(CONFIG_MAP, "foreign", space))["data"] == {"a": "1"}
    assert await api.get(NETWORK_POLICY, "theirs", space)


def labels_of(tenant: Tenant, cluster: Cluster = CLUSTER) -> dict[str, str]:
    return dict(render(tenant, replace(SETTINGS, cluster=cluster))[1]["metadata"]["labels"])


async def test_a_planted_namespace_is_refused_by_name_and_left_alone(api: Api, controller: None) -> None:
    planted = namespace_of("mallory", CLUSTER)
    await made(api, NAMESPACE, {"metadata": {"name": planted, "labels": {"mine": "yes"}}})
    before = (await api.get(NAMESPACE, planted))["metadata"]["labels"]
    await ask(api, Tenant("mallory", "subject-mallory"))
    why = await wait_for(api, planted, "refused")
    assert why == "The namespace 'ropewalk--mallory' is there already and is not ours."
    assert (await api.get(NAMESPACE, planted))["metadata"]["labels"] == before
    assert (await api.list(NETWORK_POLICY, planted)).items == ()
    await ask(api, Tenant("mallory", "subject-mallory", gone=True))
    await asyncio.sleep(0.5)
    assert (await api.get(NAMESPACE, planted))["status"]["phase"] == "Active"


async def test_an_account_of_the_same_name_later_gets_nothing(api: Api, controller: None) -> None:
    space = await ask(api, Tenant("carol", "first"))
    await wait_for(api, space, "ready")
    await ask(api, Tenant("carol", "second"))
    assert "belongs to an earlier account 'carol'" in await wait_for(api, space, "refused")


async def test_the_platform_gets_a_namespace_by_asking(api: Api, controller: None, cluster: Real) -> None:
    platform = await speaking(api, cluster, "platform", "ropewalk")
    tenants = Tenants(platform, CLUSTER, SystemClock())
    ira = Tenant("ira", "subject-ira")
    space = await tenants.ensure(ira)
    assert await tenants.ensure(ira) == await tenants.check(ira) == space == "ropewalk--ira"
    await eventually(lambda: whole(api, ira))
    await api.delete(NAMESPACE, space)  # somebody's slip: made again, empty
    assert await tenants.ensure(ira, patience=90) == space
    with pytest.raises(NameTaken, match="belongs to an earlier account 'ira'"):
        await tenants.ensure(Tenant("ira", "another"))
    with pytest.raises(NameTaken, match="belongs to an earlier account 'ira'"):
        await tenants.check(Tenant("ira", "another"))
    await made(api, NAMESPACE, {"metadata": {"name": namespace_of("jo", CLUSTER)}})
    with pytest.raises(NameTaken, match="'ropewalk--jo' is there already and is not ours"):
        await tenants.ensure(Tenant("jo", "subject-jo"))
    await platform.close()


async def test_nobody_answers_and_the_platform_says_so(api: Api, installed: Api, cluster: Real) -> None:
    platform = await speaking(api, cluster, "platform", "ropewalk")
    with pytest.raises(Unavailable, match="The namespace 'ropewalk--kim' is not there yet"):
        await Tenants(platform, CLUSTER, SystemClock()).ensure(Tenant("kim", "subject-kim"), patience=0.5)
    await api.delete(CONFIG_MAP, "ropewalk--kim", "ropewalk")
    await platform.close()


async def test_a_tenant_goes_only_when_it_is_said(api: Api, controller: None) -> None:
    dan = Tenant("dan", "subject-dan")
    space = await ask(api, dan)
    await wait_for(api, space, "ready")
    await api.delete(CONFIG_MAP, space, "ropewalk")
    await asyncio.sleep(0.5)
    assert (await api.get(NAMESPACE, space))["status"]["phase"] == "Active"
    await ask(api, dan)
    await wait_for(api, space, "ready")
    await ask(api, Tenant("dan", "subject-dan", gone=True))
    await wait_for(api, space, "gone")
    with pytest.raises(NotFound):
        await api.get(NAMESPACE, space)


def pod(space: str, name: str, **spec: Any) -> Object:
    container = {"name": "main", "image": "x", "securityContext": restricted.alone()}
    body = {"serviceAccountName": WORK, "containers": [container], **spec}
    return {"metadata": {"name": name, "namespace": space}, "spec": body}


async def test_what_a_namespace_refuses(api: Api, controller: None) -> None:
    space = await ask(api, Tenant("eve", "subject-eve"))
    await wait_for(api, space, "ready")

    async def counted() -> bool:
        return "pods" in (await api.get(QUOTA, "tenant", space)).get("status", {}).get("used", {})

    await eventually(counted)
    hostile = {
        "hostPath": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
        "hostNetwork": {"hostNetwork": True},
        "privileged": {"containers": [{"name": "main", "image": "x", "securityContext": {"privileged": True}}]},
        "root": {"securityContext": {"runAsUser": 0}},
    }
    for what, spec in hostile.items():
        with pytest.raises(Denied, match="It asks for rights that no work of people has here"):
            await api.create(POD, pod(space, what.lower(), **spec))
    node_port = {"metadata": {"name": "p", "namespace": space}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    with pytest.raises(Denied, match=r"You use 0 of 0 services\.nodeports"):
        await api.create(SERVICE, node_port)
    for number in range(2):
        kept = await api.create(POD, pod(space, f"fine{number}"))
        assert "kube-api-access" not in str(kept["spec"]), "a token is mounted"
        assert kept["spec"]["containers"][0]["resources"]["limits"]["memory"] == "1Gi"
    with pytest.raises(Denied, match="You use 2 of 2 pods, and this asks for pods=1 more") as found:
        await api.create(POD, pod(space, "many"))
    assert "Stop something that you do not need" in found.value.hint


async def test_each_account_may_do_its_part_and_no_more(api: Api, controller: None, cluster: Real) -> None:
    space, other = await ask(api, Tenant("fay", "subject-fay")), await ask(api, Tenant("guy", "subject-guy"))
    await wait_for(api, space, "ready")
    await wait_for(api, other, "ready")
    hub = await speaking(api, cluster, "hub", "ropewalk")
    assert (await hub.get(NAMESPACE, space))["metadata"]["annotations"]["ropewalk.dev/owner"] == "subject-fay"
    await hub.create(POD, pod(space, "nb"))
    await refused(hub.list(NAMESPACE), hub.list(POD), hub.list(SECRET, space), hub.create(SECRET, named(space)))
    platform = await speaking(api, cluster, "platform", "ropewalk")
    await platform.create(CONFIG_MAP, named(space))
    await refused(platform.list(SECRET, space), platform.list(NAMESPACE), platform.create(POD, pod(space, "x")))
    await refused(token_of(platform, "work", space), token_of(platform, "hub", "ropewalk"))
    releases = Api(
        find(cluster.kubeconfig("releases", token=await token_of(platform, "releases", space))), SystemClock()
    )
    await releases.list(DEPLOYMENT, space)
    await refused(
        releases.list(DEPLOYMENT, other),
        releases.list(ROLE_BINDING, space),
        releases.create(POD, pod(space, "x")),
        releases.get(NAMESPACE, space),
    )
    work = await speaking(api, cluster, "work", space)
    await refused(work.list(POD, space), work.list(SECRET, space), work.get(NAMESPACE, space))
    review = await work.create(RULES, {"spec": {"namespace": space}})
    may = {
        (verb, one) for rule in review["status"]["resourceRules"] for verb in rule["verbs"] for one in rule["resources"]
    }
    assert {one for _, one in may} == REVIEWS and {verb for verb, _ in may} == {"create"}
    tenancy = await speaking(api, cluster, "tenancy", "ropewalk")
    role = {"metadata": {"name": "grab", "namespace": space}, "rules": []}
    admin = bound(ROLE_BINDING, "cluster-admin", CLUSTER_ROLE, "tenancy", "ropewalk", space)
    await refused(
        tenancy.list(SECRET), tenancy.list(POD), tenancy.create(ROLE, role), tenancy.create(ROLE_BINDING, admin)
    )
    for one in (hub, platform, releases, work, tenancy):
        await one.close()


def named(space: str) -> Object:
    return {"metadata": {"name": "one", "namespace": space}}


async def speaking(api: Api, cluster: Real, account: str, namespace: str) -> Api:
    token = await token_of(api, account, namespace)
    return Api(find(cluster.kubeconfig(account, token=token)), SystemClock())


async def refused(*acts: Awaitable[Any]) -> None:
    for one in acts:
        with pytest.raises(Denied):
            await one


GUARDED = "pod-security.kubernetes.io/enforce"
OPEN = replace(CLUSTER, prefix="open", namespace="open")
"""An installation without the admission policies."""


async def attempts(api: Api, cluster: Cluster, tenancy: Api, platform: Api) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return what somebody would try who took over the controller, or the platform, and lay out what they try it on."""
    space, stranger = namespace_of("lea", cluster), f"stranger-of-{cluster.prefix}"
    await made(api, NAMESPACE, {"metadata": {"name": stranger, "labels": {GUARDED: "restricted"}}})
    await made(api, CONFIG_MAP, {"metadata": {"name": "settings", "namespace": cluster.namespace}})

    def grab(where: str, role: str) -> Callable[[], Awaitable[Any]]:
        body = bound(ROLE_BINDING, f"{cluster.prefix}-tenant-{role}", CLUSTER_ROLE, "tenancy", cluster.namespace, where)
        return lambda: tenancy.create(ROLE_BINDING, body)

    def change(name: str, **metadata: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: tenancy.patch(NAMESPACE, name, {"metadata": metadata})

    def rewrite(who: Api) -> Callable[[], Awaitable[Any]]:
        return lambda: who.patch(CONFIG_MAP, "settings", {"data": {"ropewalk.toml": "x"}}, namespace=cluster.namespace)

    account = {"metadata": {"name": f"{cluster.prefix}-x", "namespace": "kube-system"}}
    return {
        "read the cluster's secrets": grab("kube-system", "releases"),
        "run pods beside the cluster's own": grab("kube-system", "hub"),
        "read a person's secrets": grab(space, "releases"),
        "make an account among the cluster's own": lambda: tenancy.create(SERVICE_ACCOUNT, account),
        "open a stranger's namespace": change(stranger, labels={GUARDED: "privileged"}),
        "take a stranger's namespace over": change(stranger, labels=labels_of(Tenant("lea", "subject-lea"), cluster)),
        "remove a stranger's namespace": lambda: tenancy.delete(NAMESPACE, stranger),
        "open a person's namespace": change(space, labels={GUARDED: "privileged"}),
        "give a person's namespace away": change(space, annotations={OWNER: "another"}),
        "make any namespace": lambda: tenancy.create(NAMESPACE, {"metadata": {"name": f"{stranger}-too"}}),
        "change the settings as the controller": rewrite(tenancy),
        "change the settings as the platform": rewrite(platform),
    }


async def test_the_controller_and_the_platform_are_kept_to_what_they_write(
    api: Api, installed: Api, cluster: Real
) -> None:
    await install(api, OPEN, bounded=False)
    wide, lax = (
        await speaking(api, cluster, "tenancy", OPEN.namespace),
        await speaking(api, cluster, "platform", "open"),
    )
    lea = Tenant("lea", "subject-lea")
    await TenancyController(wide, replace(SETTINGS, cluster=OPEN), SystemClock()).bring(lea)
    for act in (await attempts(api, OPEN, wide, lax)).values():
        await act()  # nothing but the policies is in the way

    async def reads() -> bool:
        with contextlib.suppress(Denied):  # until the API server has noticed the new binding
            return bool(await wide.list(SECRET, "kube-system"))
        return False

    await eventually(reads)
    platform = await speaking(api, cluster, "platform", "ropewalk")
    await eventually(lambda: in_force(installed, platform))
    controller = TenancyController(installed, SETTINGS, SystemClock())
    assert await controller.bring(lea)
    space = namespace_of("lea", CLUSTER)
    await api.delete(ROLE_BINDING, "releases", space)
    admin = bound(ROLE_BINDING, "cluster-admin", CLUSTER_ROLE, "tenancy", "ropewalk", space)
    await api.create(ROLE_BINDING, {**admin, "metadata": {"name": "releases", "namespace": space}})
    await api.patch(NAMESPACE, space, {"metadata": {"labels": {GUARDED: None}}})
    assert await controller.bring(lea) and await whole(api, lea)  # whatever it corrects, it still may
    wrong = []
    for what, act in (await attempts(api, CLUSTER, installed, platform)).items():
        try:
            await act()
            wrong.append(what)
        except Denied as error:
            assert error.message.startswith("A rule of your cluster (ropewalk-"), error.message
    assert wrong == []
    assert await whole(api, lea)
    for one in (wide, lax, platform):
        await one.close()


async def in_force(tenancy: Api, platform: Api) -> bool:
    """Whether the API server has noticed both policies."""
    body = {"metadata": {"name": "tried", "namespace": "ropewalk"}}
    for who, kind in ((tenancy, NAMESPACE), (platform, CONFIG_MAP)):
        try:
            await who.create(kind, body if kind is CONFIG_MAP else {"metadata": {"name": "tried"}}, dry=True)
        except Denied:
            continue
        return False
    return True


def node(name: str, arch: str, **room: str) -> Object:
    labels = {"kubernetes.io/arch": arch}
    status = {"allocatable": {"cpu": "4", "memory": "8Gi", **room}, "capacity": {"cpu": "4", "memory": "8Gi", **room}}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


async def test_the_platform_knows_the_nodes_without_a_right_to_see_them(
    api: Api, installed: Api, cluster: Real
) -> None:
    platform = await speaking(api, cluster, "platform", "ropewalk")
    await refused(platform.list(NODE))
    with pytest.raises(Unavailable, match="not known yet"):
        await read(platform, CLUSTER)
    await api.create(NODE, node("n1", "amd64"))
    task = asyncio.create_task(Census(installed, CLUSTER, SystemClock()).run())

    async def knows(*archs: str) -> bool:
        with contextlib.suppress(Unavailable):
            return [one.arch for one in (await read(platform, CLUSTER)).inventory.nodes] == list(archs)
        return False

    await eventually(lambda: knows("amd64"))
    with pytest.raises(Unsatisfiable, match="No machine here can give arch riscv64"):
        place(Placement(arch="riscv64"), await read(platform, CLUSTER))
    await api.create(NODE, node("n2", "riscv64", **{"example.test/npu": "2"}))
    await eventually(lambda: knows("amd64", "riscv64"))
    fragment = place(Placement(arch="riscv64", accelerator="example-npu"), await read(platform, CLUSTER))
    assert fragment.resources["limits"] == {"example.test/npu": "1"}
    await api.delete(NODE, "n2")
    await eventually(lambda: knows("amd64"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await platform.close()

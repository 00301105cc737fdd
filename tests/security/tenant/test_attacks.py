"""Attacks from inside a tenant's pod: each succeeds while its defence is off, and is refused by that defence alone.

Network policies are enforced by the test cluster's fixture; on another cluster its network plugin is what does it.
"""

from __future__ import annotations

import contextlib
import datetime
import shlex
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Denied
from ropewalk_core.journal import Journal
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.buckets import Buckets, address
from ropewalk_core.kube.file_pod import PORT as FILES_PORT
from ropewalk_core.kube.file_pod import key_of
from ropewalk_core.kube.kinds import (
    CLAIM,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    POD,
    ROLE,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from ropewalk_core.kube.volumes import NAME as FILES
from ropewalk_core.objects import Keys, Objects, sign
from ropewalk_core.testing import ADA
from ropewalk_core.why import cluster as why
from ropewalk_hub.platform import SystemClock
from tests.cluster import policy_enforcer
from tests.cluster.knative import GATEWAY
from tests.cluster.layout import CONTROL, METADATA, REGISTRY_PORT, ROOT, nodes
from tests.kube.argo_stage import store
from tests.kube.stage import until
from tests.kube.test_real_storage import KEY as FILES_KEY
from tests.kube.test_real_storage import built as file_storage
from tests.security.tenant.attacks import (
    ATTACKS,
    GUARD,
    KEY,
    NETWORK,
    QUOTA,
    RIGHTS,
    SILENCE,
    STORE,
    TOKENLESS,
    TRIED,
    UNPRIVILEGED,
    refused,
    table,
)
from tests.security.tenant.street import PORT, TOKEN, TOOLS, Street

cluster = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(300)]
VOLUME = Kind("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
_REVIEW = Kind("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)
PLATFORM = {"app.kubernetes.io/name": "ropewalk", "app.kubernetes.io/component": "gateway"}
PROXY = {**PLATFORM, "app.kubernetes.io/component": "proxy"}
KNATIVE, _NAMES = "knative-serving", "svc.cluster.local"
FIRST, SECOND = nodes()


def test_people_are_told_what_is_refused_by_what() -> None:
    assert table() in (ROOT / "docs" / "walls.md").read_text()


class TestWalls:
    """On the cluster."""

    pytestmark = cluster

    async def test_the_network(self, street: Street) -> None:
        ada, bob = await street.listens("ada", street.ada), await street.listens("bob", street.bob)
        await street.listens("ada-web", street.ada)
        await street.listens("stranger", street.open)
        everywhere = {"type": "NodePort", "selector": {"app": "stranger"}, "ports": [{"port": PORT}]}
        metadata = {"name": "everywhere", "namespace": street.open}
        made = await street.api.create(SERVICE, {"metadata": metadata, "spec": everywhere})
        await street.listens("impostor", street.bob, PLATFORM)
        street.stage.needs("knative")
        door, orders = street.stage.settings.door.port, 8001
        proxy = await street.listens("proxy", street.stage.cluster.namespace, PROXY, also=(door, orders))
        own = {
            "own service": f"http/ada-web.{street.ada}.svc.cluster.local:{PORT}",
            "own pod": f"tcp/{ada}:9999",
            "the platform's door": f"tcp/{proxy}:{door}",
        }
        attacks = {
            "reach another account's pod": f"tcp/{bob}:9999",
            "reach another account's service by its name": f"http/bob.{street.bob}.svc.cluster.local:{PORT}",
            "reach a port that is open on every node": f"http/{FIRST.address}:{made['spec']['ports'][0]['nodePort']}",
            "reach a node's kubelet": f"http/{SECOND.address}:10250",
            "reach the registry that the nodes pull from": f"http/{CONTROL}:{REGISTRY_PORT}",
            "fetch the cloud's keys at the metadata address": f"http/{METADATA}:80",
            "reach the gateway through which functions are called": f"http/kourier-internal.{GATEWAY}.{_NAMES}:80",
            "reach Knative's activator, which leads to every function": f"http/activator-service.{KNATIVE}.{_NAMES}:80",
            "reach the port at which the proxy takes orders": f"tcp/{proxy}:{orders}",
        }
        inward = {"call another account's pod with the platform's labels on": f"tcp/{ada}:9999"}
        await street.settled("ada", street.ada, {**own, **attacks}, {**own, **attacks})
        await street.settled("impostor", street.bob, inward, inward)
        policy_enforcer.on(street.stage.inside)
        await street.settled("ada", street.ada, {**own, **attacks}, own)
        await street.settled("impostor", street.bob, inward, set())
        for name, space, targets in (("ada", street.ada, attacks), ("impostor", street.bob, inward)):
            reached = await street.reached(name, space, targets)
            for one in targets:
                refused(one, NETWORK, "it answered" if one in reached else SILENCE)

    async def test_the_api_server_and_a_pods_token(self, street: Street) -> None:
        command = f"kubectl --request-timeout=5s --token=$(cat {TOKEN}) --server=https://$KUBERNETES_SERVICE_HOST"
        look = f"{command} --certificate-authority={Path(TOKEN).with_name('ca.crt')} get"
        with_token = {"serviceAccountName": "work", "automountServiceAccountToken": True}
        said = await street.run("token", street.ada, f"cat {TOKEN}", **with_token)
        assert said.count(".") == 2 and said.startswith("ey")
        refused(
            "take the token of the pod's service account",
            TOKENLESS,
            await street.run("tokenless", street.ada, f"cat {TOKEN}", serviceAccountName="work"),
        )

        await street.listens("bob", street.bob)
        looks = {
            "list another account's pods with a pod's token": (f"{look} pods -n {street.bob}", "bob "),
            "read the account's own secrets with a pod's token": (f"{look} secrets -n {street.ada}", "No resources"),
        }
        async with too_much(street, "work"):
            for number, (script, found) in enumerate(looks.values()):
                assert found in await street.run(f"open-{number}", street.ada, script, **with_token)
        for number, (what, (script, _)) in enumerate(looks.items()):
            refused(what, RIGHTS, await street.run(f"closed-{number}", street.ada, script, **with_token))

        policy_enforcer.on(street.stage.inside)

        async def is_closed() -> bool:  # so far it answered, if only to refuse
            closed.append(await street.run(f"walled-{len(closed)}", street.ada, script, **with_token))
            return "Forbidden" not in closed[-1]

        closed: list[str] = []
        await until("the API server cannot be reached", is_closed)
        refused("reach the API server", NETWORK, closed[-1])

    async def test_the_token_of_a_release(self, street: Street) -> None:
        """What Helm runs as is the most that anything of an account has."""
        releases = await street.stage.account("releases", street.ada)
        secret = {"metadata": {"name": "key", "namespace": street.bob}, "stringData": {"key": "bob's"}}
        await street.api.create(SECRET, secret)
        role = {"metadata": {"name": "mine", "namespace": street.ada}, "rules": []}
        folder = {"hostPath": {"path": "/etc"}, "capacity": {"storage": "1Mi"}, "accessModes": ["ReadOnlyMany"]}
        folder |= {"storageClassName": "none"}
        volume = {"metadata": {"name": f"{street.ada}-etc"}, "spec": folder}

        async def steal() -> Object:
            return await releases.get(SECRET, "key", street.bob)

        async def forge() -> Object:
            return await releases.create(
                SERVICE_ACCOUNT, {"spec": {}}, namespace=street.bob, name="releases", sub="token"
            )

        async def rise() -> Object:
            return await releases.create(ROLE, role)

        async def dig() -> Object:
            return await releases.create(VOLUME, volume)

        async with too_much(street, "releases"):
            assert (await steal())["data"]["key"]
            assert (await forge())["status"]["token"]
            await rise()
            await dig()
            script = "head -1 /node/passwd"
            assert await street.run("digger", street.ada, script, **await claimed(street)) == first_user()
        await street.api.delete(ROLE, "mine", street.ada)
        await street.api.delete(POD, "digger", street.ada)
        await street.api.delete(CLAIM, "etc", street.ada)
        await street.api.delete(VOLUME, f"{street.ada}-etc")
        for what, act in (
            ("read another account's secrets with the token of a release", steal),
            ("make a token of another account", forge),
            ("give oneself a role", rise),
            ("make a volume out of a node's folder", dig),
        ):
            with pytest.raises(Denied) as found:
                await act()
            refused(what, RIGHTS, found.value.message)

    async def test_a_share_of_the_cluster(self, street: Street) -> None:
        releases = await street.stage.account("releases", street.ada)
        ports: dict[str, Any] = {"type": "NodePort", "selector": {"app": "it"}, "ports": [{"port": PORT}]}
        huge = {"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "100Gi"}}}
        body: Object = {"metadata": {"name": "everywhere-of-ada", "namespace": street.open}, "spec": ports}
        assert (await street.api.create(SERVICE, body))["spec"]["ports"][0]["nodePort"]
        await street.pod("huge", street.open, "true", container=huge)
        body["metadata"]["namespace"] = street.ada
        refused("open a port on every node", QUOTA, await denied(releases, SERVICE, body))
        with pytest.raises(Denied) as found:
            await street.pod("huge", street.ada, "true", container=huge)
        refused("take more than one's share", QUOTA, found.value.message)

    async def test_the_node(self, street: Street) -> None:
        root: Object = {"runAsUser": 0}
        key = street.stage.installation.at.pki / "ca.key"
        mounted = {
            "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
            "container": {"volumeMounts": [{"name": "node", "mountPath": "/node"}]},
        }
        attacks: dict[str, tuple[str, str, dict[str, Any]]] = {
            "mount a node's folder": (f"head -1 /node{key}", "PRIVATE KEY", {"secure": root, **mounted}),
            "see the node's processes": (
                "cat /proc/[0-9]*/cmdline",
                "kube-apiserver",
                {"secure": root, "hostPID": True},
            ),
            "use the node's network": ("probe -reach http/127.0.0.1:10256", "HTTP/1", {"hostNetwork": True}),
            "run privileged": ("mount -t tmpfs none /tmp && grep /tmp /proc/mounts", "tmpfs", {"secure": privileged()}),
        }
        for number, (what, (script, found, more)) in enumerate(attacks.items()):
            assert found in await street.run(f"open-{number}", street.open, script, **more), what
            with pytest.raises(Denied) as error:
                await street.pod(f"closed-{number}", street.ada, script, **more)
            refused(what, GUARD, error.value.message)
        inside = "mount -t tmpfs none /tmp"
        refused("mount a file system inside a pod", UNPRIVILEGED, await street.run("mounter", street.ada, inside))

    async def test_a_deployment_with_a_pod_that_may_not_be(self, street: Street) -> None:
        def body(space: str) -> Object:
            container = {"name": "main", "image": TOOLS, "command": ["sleep", "1000"], "securityContext": privileged()}
            container["resources"] = {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"cpu": "1", "memory": "32Mi"},
            }
            spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
            template = {"metadata": {"labels": {"app": "sly"}}, "spec": spec}
            selector = {"matchLabels": {"app": "sly"}}
            return {
                "metadata": {"name": "sly", "namespace": space},
                "spec": {"selector": selector, "template": template},
            }

        async def condition(space: str, kind: str) -> str:
            conditions = (await street.api.get(DEPLOYMENT, "sly", space)).get("status", {}).get("conditions", ())
            return next((one["message"] for one in conditions if one["type"] == kind and one["status"] == "True"), "")

        await street.api.create(DEPLOYMENT, body(street.open))
        await until("it runs without the guard", lambda: condition(street.open, "Available"))
        releases = await street.stage.account("releases", street.ada)
        await releases.create(DEPLOYMENT, body(street.ada))
        said = await until("it is refused", lambda: condition(street.ada, "ReplicaFailure"))
        assert (await street.api.list(POD, street.ada, labels={"app": "sly"})).items == ()
        refused("bring such a pod in by a deployment", GUARD, why.from_message(said).cause)

    async def test_another_accounts_bucket(self, street: Street) -> None:
        """All buckets lie in one store, which every account's pods reach."""
        street.stage.needs("argo")
        root, space = await store(street.stage), street.stage.cluster.namespace
        service = await street.api.get(SERVICE, "objects", space)
        host, path = f"{service['spec']['clusterIP']}:7070", f"/{street.bob}/values/key"
        objects = Objects(address(street.stage.cluster), SystemClock(), transport=street.stage.transport())
        buckets = Buckets(street.stage.api("platform"), objects, root)
        ada, bob = await buckets.ensure(street.ada), await buckets.ensure(street.bob)
        await objects.put(bob.keys, bob.name, "values/key", b"bob's")
        await objects.close()

        def look(keys: Keys) -> str:
            said = sign(keys, "GET", path, {"host": host}, b"", datetime.datetime.now(datetime.UTC))
            return busybox_get(f"http://{host}{path}", said)

        assert "bob's" in await street.run("with-bobs-keys", street.ada, look(bob.keys))
        said = await street.run("with-adas-keys", street.ada, look(ada.keys))
        assert "bob's" not in said
        refused("read another account's bucket with one's own keys", STORE, said)
        anonymous = await street.run("with-no-keys", street.ada, busybox_get(f"http://{host}{path}", {}))
        refused("read another account's bucket with one's own keys", STORE, anonymous)

    async def test_the_file_server_of_ones_own(self, street: Street, tmp_path: Path) -> None:
        """What runs in the namespace reaches it, and would read what links lead to if it were let."""

        async def space(_: str) -> str:
            return street.ada

        journal = Journal(tmp_path / "journal.db")
        files = file_storage(street.stage, journal, space)
        assert (await files.usage(ADA, "ada")).used >= 0  # it runs now
        service = await street.api.get(SERVICE, FILES, street.ada)
        url = f"http://{service['spec']['clusterIP']}:{FILES_PORT}/usage"
        key = {"Authorization": f"Bearer {key_of(FILES_KEY, street.ada)}"}
        assert "HTTP/1.1 200" in await street.run("with-its-key", street.ada, busybox_get(url, key))
        for name, headers in (("with-no-key", {}), ("with-a-key", {"Authorization": "Bearer x"})):
            said = await street.run(name, street.ada, busybox_get(url, headers))
            refused("use the account's own file server without its key", KEY, said)
        await files.close()
        journal.close()

    def test_every_attack_that_is_told_of_is_tried(self, request: pytest.FixtureRequest) -> None:
        chosen = {one.name for one in request.session.items if one.parent is request.node.parent}
        if chosen != {one for one in dir(TestWalls) if one.startswith("test_")}:
            pytest.skip("only some of the attacks were chosen")
        assert set(ATTACKS) == TRIED


def busybox_get(url: str, headers: Mapping[str, str]) -> str:
    """Return a command that asks for an address and writes the answer with its status."""
    given = " ".join(shlex.quote(f"--header={name}: {value}") for name, value in headers.items())
    return f"busybox wget -S -O - {given} {shlex.quote(url)}"


def privileged() -> Object:
    return {"privileged": True, "runAsUser": 0}


def first_user() -> str:
    return Path("/etc/passwd").read_text().splitlines()[0]


@contextlib.asynccontextmanager
async def too_much(street: Street, account: str) -> AsyncIterator[None]:
    """Turn the roles' defence off: ada's account of this name may do everything meanwhile."""
    name = f"{street.ada}-too-much"
    body = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": CLUSTER_ROLE.group, "kind": CLUSTER_ROLE.name, "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": street.ada}],
    }
    await street.api.create(CLUSTER_ROLE_BINDING, body)
    try:
        await until("the role is given", lambda: may_everything(street, account))
        yield
    finally:
        await street.api.delete(CLUSTER_ROLE_BINDING, name)

    async def is_back() -> bool:
        return not await may_everything(street, account)

    await until("the role is taken", is_back)


async def may_everything(street: Street, account: str) -> bool:
    """Whether the API server would let ada's account read bob's secrets."""
    asked = {"verb": "get", "resource": "secrets", "namespace": street.bob}
    spec = {"user": f"system:serviceaccount:{street.ada}:{account}", "resourceAttributes": asked}
    return bool((await street.api.create(_REVIEW, {"spec": spec}))["status"]["allowed"])


async def denied(api: Api, kind: Kind, body: Object) -> str:
    with pytest.raises(Denied) as found:
        await api.create(kind, body)
    return found.value.message


async def claimed(street: Street) -> dict[str, Any]:
    """Claim the volume that was made out of a node's folder, and return what a pod says to have it."""
    spec = {
        "storageClassName": "none",
        "volumeName": f"{street.ada}-etc",
        "accessModes": ["ReadOnlyMany"],
        "resources": {"requests": {"storage": "1Mi"}},
    }
    await street.api.create(CLAIM, {"metadata": {"name": "etc", "namespace": street.ada}, "spec": spec})
    return {
        "volumes": [{"name": "node", "persistentVolumeClaim": {"claimName": "etc"}}],
        "container": {"volumeMounts": [{"name": "node", "mountPath": "/node"}]},
    }

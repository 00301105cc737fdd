"""The installation on a bare cluster: helmfile brings it, a second time changes nothing, and what it leaves is volumes.

The cluster is this module's own, with nothing but the core: Argo and Knative come from the helmfile too. The tests
build on each other, in this order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.installed import SPACE, Installed
from tests.cluster.kube import wait
from tests.cluster.layout import ClusterError, Layout, layout
from tests.platform_rig import Loopback
from tests.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_slow, pytest.mark.root, pytest.mark.timeout(1800)]

# Written by the cluster itself all the time, or said again elsewhere.
_RESTLESS = "events|leases|endpoints|componentstatuses|bindings|replicasets|controllerrevisions|ipaddresses"
_OURS = ("argo", "knative-serving", "kourier-system", SPACE)
Key = tuple[str, str, str]


@pytest.fixture(scope="module")
def bare() -> Iterator[Layout]:
    """Return the folders of a cluster beside the one of the other tests."""
    usual = layout()
    one = Layout(usual.run.with_name(usual.run.name + "-bare"), usual.cache)
    Cluster(one).down()
    yield one
    Cluster(one).down()


@pytest.fixture(scope="module")
def prepared(bare: Layout) -> Installed:
    """Return a cluster whose registry has all images, and nothing installed."""
    one = Installed(bare, free_port())
    one.prepare()
    return one


@pytest.fixture(scope="module")
def before(prepared: Installed) -> dict[Key, Any]:
    """Return what there is before."""
    return objects(prepared)


@pytest.fixture(scope="module")
def installed(prepared: Installed, before: dict[Key, Any]) -> Installed:
    """Return the installation."""
    assert not any(one[1] in _OURS for one in before)
    prepared.sync()
    return prepared


@pytest.fixture(scope="module")
def person(installed: Installed) -> Iterator[httpx.Client]:
    """Return a browser in which the first administrator is signed in."""
    headers = {"Origin": installed.origin, "Accept": "text/html"}
    with httpx.Client(transport=Loopback(), headers=headers, timeout=30) as browser:
        form = {"account": "ann", "password": "correct horse battery", "full_name": "Ann"}
        answer = browser.post(installed.first(), data=form)
        assert answer.status_code == 303, answer.text
        yield browser


def objects(one: Installed) -> dict[Key, Any]:
    """Return every object of the cluster: kind, namespace and name, with all that is not its state."""
    listed = one.kubectl("api-resources", "--verbs=list", "--output=name").split()
    kinds = [kind for kind in listed if not kind.startswith(tuple(_RESTLESS.split("|")))]
    found = json.loads(one.kubectl("get", ",".join(kinds), "--all-namespaces", "--output=json"))["items"]
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): {
            name: part for name, part in item.items() if name not in ("metadata", "status")
        }
        | {"uid": item["metadata"]["uid"]}
        for item in found
        if not item["metadata"]["name"].startswith("sh.helm.release.v1.") and item["kind"] != "Node"
    }


def restarts(one: Installed) -> dict[str, int]:
    """Return how often each container was started again."""
    pods = json.loads(one.kubectl("get", "pods", "--all-namespaces", "--output=json"))["items"]
    return {
        f"{pod['metadata']['uid']}/{container['name']}": container["restartCount"]
        for pod in pods
        for container in pod["status"].get("containerStatuses", ())
    }


def pod(one: Installed, part: str) -> Any:
    """Return a running pod of the platform."""
    words = ("--namespace", SPACE, "get", "pods", f"--selector=app.kubernetes.io/component={part}", "--output=json")
    found = [it for it in json.loads(one.kubectl(*words))["items"] if not it["metadata"].get("deletionTimestamp")]
    assert len(found) == 1, [it["metadata"]["name"] for it in found]
    return found[0]


def answers(one: Installed) -> str:
    """Return nothing when the hub answers behind the proxy."""
    try:
        status = httpx.get(f"{one.origin}/hub/health", timeout=5, trust_env=False).status_code
    except httpx.HTTPError as error:
        return str(error)
    return "" if status == 200 else f"the hub says {status}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ropewalk: {imagez: {hub: one}}", "'imagez' not allowed"),
        ("ropewalk: {settings: {door: {host: 'http://one'}}}", "/settings/door/host"),
        ("knativ: {enabled: false}", "'knativ' not allowed"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_installed(
    prepared: Installed, before: dict[Key, Any], tmp_path: Path, text: str, said: str
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    with pytest.raises(ClusterError, match=said):
        prepared.helmfile("--state-values-file", str(wrong), "sync")
    assert objects(prepared).keys() == before.keys()


def test_it_ends_in_a_sign_in_page(installed: Installed) -> None:
    page = httpx.get(f"{installed.origin}/sign-in", timeout=30, trust_env=False)
    assert page.status_code == 200 and "<form" in page.text
    assert installed.first().startswith(f"{installed.origin}/first/")


def test_every_part_answers_from_inside(installed: Installed) -> None:
    assert "Succeeded" in installed.helm("test", "ropewalk")


def test_a_second_sync_changes_no_object_and_restarts_nothing(installed: Installed) -> None:
    was, starts = objects(installed), restarts(installed)
    installed.sync()
    now = objects(installed)
    assert now.keys() == was.keys()
    assert [key for key in was if was[key] != now[key]] == []  # generated secrets are among them
    assert restarts(installed) == starts


def test_no_pod_may_do_more_than_it_must(installed: Installed) -> None:
    found = objects(installed)
    for (kind, _, name), one in found.items():
        if kind in ("ClusterRoleBinding", "RoleBinding") and SPACE in json.dumps(one.get("subjects", [])):
            assert one["roleRef"]["name"] != "cluster-admin", name
    assert [key for key in found if key[0] == "PodDisruptionBudget"] == []
    space = json.loads(installed.kubectl("get", "namespace", SPACE, "--output=json"))
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for account in ("platform", "tenancy"):  # a role cannot say which config maps; the chart's admission policies do
        words = ("patch", "configmap", "settings", "--patch", '{"data": {"x": "y"}}', "--dry-run=server")
        with pytest.raises(ClusterError, match="denied request"):
            installed.kubectl("--namespace", SPACE, f"--as=system:serviceaccount:{SPACE}:{account}", *words)
    tokens = {
        part: any("serviceAccountToken" in json.dumps(volume) for volume in pod(installed, part)["spec"]["volumes"])
        for part in ("proxy", "hub", "platform", "tenancy", "objects")
    }
    assert tokens == {"proxy": False, "hub": True, "platform": True, "tenancy": True, "objects": False}


def test_a_restart_of_the_hub_leaves_a_notebook_alone(installed: Installed, person: httpx.Client) -> None:
    begun = person.post(f"{installed.origin}/api/v1/notebooks/ann/start", json={}, timeout=120)
    assert begun.status_code < 400, begun.text

    def state() -> str:
        found = person.get(f"{installed.origin}/api/v1/notebooks/ann").json()["items"][0]
        return "" if found["status"]["state"] == "running" else json.dumps(found["status"])

    wait("the notebook", state, 300)
    words = ("--namespace", "ropewalk--ann", "get", "pod", "notebook", "--output=json")
    was = json.loads(installed.kubectl(*words))
    installed.kubectl("--namespace", SPACE, "rollout", "restart", "deploy/hub")
    installed.kubectl("--namespace", SPACE, "rollout", "status", "deploy/hub", "--timeout=180s")
    wait("the hub", lambda: answers(installed), 60)
    now = json.loads(installed.kubectl(*words))
    assert now["metadata"]["uid"] == was["metadata"]["uid"]
    assert now["status"]["containerStatuses"][0]["restartCount"] == 0
    wait("the notebook as the new hub knows it", state, 60)


def test_draining_the_hubs_node_moves_it(installed: Installed, person: httpx.Client) -> None:
    node = pod(installed, "hub")["spec"]["nodeName"]
    selector = "--pod-selector=app.kubernetes.io/name=ropewalk"
    try:
        installed.kubectl("drain", node, selector, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=180s")
        for name in ("hub", "platform", "proxy"):
            installed.kubectl("--namespace", SPACE, "rollout", "status", f"deploy/{name}", "--timeout=240s")
        assert pod(installed, "hub")["spec"]["nodeName"] != node
        wait("the hub", lambda: answers(installed), 60)
        assert person.get(f"{installed.origin}/api/v1/me").json()["name"] == "ann"
    finally:
        installed.kubectl("uncordon", node)


def test_destroy_leaves_nothing_but_volumes(installed: Installed, before: dict[Key, Any]) -> None:
    installed.destroy()
    now = objects(installed)
    kept = {key[1] for key in now if key[0] == "PersistentVolumeClaim"}
    assert SPACE in kept
    more = {
        key
        for key in now.keys() - before.keys()
        if key[0] not in ("PersistentVolume", "PersistentVolumeClaim")
        and not (key[0] == "Namespace" and key[2] in kept)
        and key[2] not in ("default", "kube-root-ca.crt")  # of every namespace
    }
    assert more == set()
    assert before.keys() - now.keys() == set()

"""The Kubernetes token of notebooks on the real cluster: narrow where the installation gives it, else not there."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import NotFound
from ropewalk_core.kube.kinds import NETWORK_POLICY, ROLE_BINDING, SERVICE_ACCOUNT
from ropewalk_core.kube.placement import Fragment
from ropewalk_core.kube.tenancy import NOTEBOOKS, WORK
from ropewalk_hub.kube_pod import NOTEBOOK, finished
from tests.cluster import policy_enforcer
from tests.cluster.layout import Layout
from tests.kube.hub_rig import installed_hub, notebooks
from tests.kube.stage import ADMINISTRATOR, Installation, Stage, installed, until
from tests.kube.test_real_notebooks import running
from tests.security.tenant.street import TOKEN, push_tools, settle

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_slow, pytest.mark.root, pytest.mark.timeout(900)]

ASK = """
import json, os, ssl, urllib.error, urllib.request
folder = {folder!r}
token = open(folder + "/token").read()
trust = ssl.create_default_context(cafile=folder + "/ca.crt")
server = "https://" + os.environ["KUBERNETES_SERVICE_HOST"] + ":" + os.environ["KUBERNETES_SERVICE_PORT"]
def ask(asked):
    method, _, path = asked.partition(" ")
    headers = {{"Authorization": "Bearer " + token, "Content-Type": "application/json"}}
    request = urllib.request.Request(server + path, b"{{}}" if method == "POST" else None, headers, method=method)
    try:
        return urllib.request.urlopen(request, context=trust, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
namespace = open(folder + "/namespace").read()
print(json.dumps({{"token": token, "namespace": namespace, "answers": {{one: ask(one) for one in {asked!r}}}}}))
"""
"""What any client of Kubernetes does in a pod, with Python alone."""


@pytest.fixture(scope="module")
def giving(at: Layout, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an installation that gives notebooks a token."""
    push_tools(at)
    with installed(at, tmp_path_factory.mktemp("giving"), notebook_token=True) as one:
        yield one


@pytest.fixture
async def given(giving: Installation) -> AsyncIterator[Stage]:
    """Return it for one test; network policies are not enforced yet."""
    policy_enforcer.off(giving.inside)
    one = Stage(giving)
    yield one
    policy_enforcer.off(giving.inside)
    await one.close()


async def test_where_nobody_asked_for_it_there_is_none(stage: Stage) -> None:
    """What a notebook's pod has there is looked at in `test_real_notebooks`: the account `work`, and no token."""
    space = await stage.space("noor")
    ours = ((SERVICE_ACCOUNT, NOTEBOOKS), (ROLE_BINDING, NOTEBOOKS), (NETWORK_POLICY, "allow-notebook-token"))
    for kind, name in ours:
        with pytest.raises(NotFound):
            await stage.api(ADMINISTRATOR).get(kind, name, space)


async def test_kubectl_works_as_it_comes_and_only_in_a_notebook(given: Stage) -> None:
    """A pod with a notebook's account, label and volume; all else of the account's is as before."""
    street = await settle(given, "kubectl")
    drawn = {"metadata": {}, "spec": {"containers": [{"name": NOTEBOOK}]}}
    pod = finished(drawn, "ada", Fragment(), given.settings)
    [volume] = [one for one in pod["spec"]["volumes"] if "projected" in one]
    mounts = [one for one in pod["spec"]["containers"][0]["volumeMounts"] if one["name"] == volume["name"]]
    label = {"ropewalk.dev/kind": pod["metadata"]["labels"]["ropewalk.dev/kind"]}
    notebook: dict[str, Any] = {
        "serviceAccountName": pod["spec"]["serviceAccountName"],
        "automountServiceAccountToken": pod["spec"]["automountServiceAccountToken"],
        "volumes": [volume],
        "container": {"volumeMounts": mounts},
        "labels": label,
    }
    policy_enforcer.on(given.inside)
    await street.listens("neighbour", street.bob)
    await street.listens("own", street.ada)

    async def said(name: str, words: str, **more: Any) -> str:
        """Return what kubectl says in a new pod, which has no network until its address is known."""
        once = f"said=$(busybox timeout 8 kubectl {words} 2>&1) && break"
        tries = f'for i in 1 2 3; do {once}; case "$said" in *orbidden*) break;; esac; sleep 3; done; echo "$said"'
        return await street.run(name, street.ada, tries, **more)

    assert "own " in await said("sees", "get pods", **notebook)
    assert "own " in await said("reads", "logs sees", **notebook)
    for name, words in (
        ("secrets", "get secrets"),
        ("neighbours", f"get pods --namespace {street.bob}"),
        ("everywhere", "get pods --all-namespaces"),
        ("inside", "exec own -- true"),
        ("removes", "delete pod own"),
    ):
        found = await said(name, words, **notebook)
        assert "orbidden" in found and "neighbour " not in found, (name, found)

    plain = {"serviceAccountName": WORK, "automountServiceAccountToken": False}
    assert "No such file" in await street.run("tokenless", street.ada, f"cat {TOKEN}", **plain)
    blind = "--server=https://$KUBERNETES_SERVICE_HOST --insecure-skip-tls-verify --token=none get --raw /version"
    answers = re.compile("gitVersion|nauthorized|orbidden")
    assert answers.search(await said("labelled", blind, **plain, labels=label))  # it is the label that opens the way
    assert not answers.search(await said("plain", blind, **plain))


async def test_a_notebook_reads_its_own_namespace_and_no_more(given: Stage, tmp_path: Path) -> None:
    await installed_hub(given)
    other = await given.space("bob")
    async with notebooks(given, tmp_path) as rig:
        await running(rig, "nina")
        spec = (await rig.pod("nina"))["spec"]
        assert spec["serviceAccountName"] == NOTEBOOKS and spec["automountServiceAccountToken"] is False
        space = await given.space("nina")
        own, theirs = f"/api/v1/namespaces/{space}", f"/api/v1/namespaces/{other}"
        may = [
            f"GET {own}/pods",
            f"GET {own}/pods/{NOTEBOOK}/log?tailLines=1",
            f"GET {own}/events",
            f"GET /apis/argoproj.io/v1alpha1/namespaces/{space}/workflows",  # 404 where Argo is not
            f"GET /apis/serving.knative.dev/v1/namespaces/{space}/services",
        ]
        may_not = [
            *(f"GET {own}/{one}" for one in ("secrets", "configmaps", "services", "serviceaccounts")),
            *(f"GET {theirs}/{one}" for one in ("pods", "events", "secrets")),
            *(f"GET /api/v1/{one}" for one in ("pods", "namespaces", "nodes", "secrets")),
            f"POST {own}/pods",
            f"POST {own}/pods/{NOTEBOOK}/exec",
            f"POST {own}/serviceaccounts/{NOTEBOOKS}/token",
            f"DELETE {own}/pods/{NOTEBOOK}",
        ]
        policy_enforcer.on(given.inside)
        code = ASK.format(folder=str(Path(TOKEN).parent), asked=[*may, *may_not])
        found: list[str] = []

        async def answered() -> bool:
            found.append(await rig.run("nina", code))
            return found[-1].startswith("{")

        await until("the API server answers", answered, 60)
        said = json.loads(found[-1])
        assert said["namespace"] == space
        answers = said["answers"]
        assert {one: answers[one] for one in may_not} == dict.fromkeys(may_not, 403)
        assert {one: answers[one] for one in may if answers[one] not in (200, 404)} == {}
        assert answers[may[0]] == answers[may[1]] == answers[may[2]] == 200
        body = said["token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        assert claims["sub"] == f"system:serviceaccount:{space}:{NOTEBOOKS}"
        assert claims["exp"] - claims["iat"] <= 600 and claims["kubernetes.io"]["pod"]["name"] == NOTEBOOK

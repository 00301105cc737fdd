"""The profile `argo`: a workflow ends, its values and artifacts pass from step to step, and a failure is one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster import argo
from tests.cluster.cluster import Cluster
from tests.cluster.kube import Kube, Manifest
from tests.cluster.layout import Layout
from tests.cluster.scene import BUSYBOX, Scene

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]
ACCOUNT = "steps"


@pytest.fixture(scope="module", autouse=True)
def installed(at: Layout, kube: Kube) -> None:
    """Have Argo in the cluster."""
    Cluster(at).up("argo")


@pytest.fixture
def flows(scene: Scene) -> Scene:
    """Return a namespace in which steps may say how they went."""
    rbac, place = "rbac.authorization.k8s.io", {"name": ACCOUNT, "namespace": scene.namespace}
    rule = {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
    scene.kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": place, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", **place}],
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": argo.KEYS, "namespace": scene.namespace},
            "data": argo.keys(scene.kube),
        },
    )
    return scene


def step(name: str, script: str, **more: Any) -> dict[str, Any]:
    container = {"image": BUSYBOX, "command": ["sh", "-c", script], **more.pop("container", {})}
    return {"name": name, "container": container, **more}


def submit(scene: Scene, name: str, *templates: dict[str, Any]) -> Manifest:
    """Submit a workflow that begins with the first template and return it when it has ended."""
    spec = {"entrypoint": templates[0]["name"], "serviceAccountName": ACCOUNT, "templates": list(templates)}
    place = {"name": name, "namespace": scene.namespace}
    scene.kube.apply({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": place, "spec": spec})
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{scene.namespace}/workflows/{name}"
    return scene.until(path, "Succeeded", "Failed", "Error", seconds=120)


def test_a_workflow_ends_on_both_nodes(flows: Scene) -> None:
    nodes = ("node1", "node2")
    parts = [step(node, "hostname", nodeSelector={"kubernetes.io/hostname": node}) for node in nodes]
    both = {"name": "both", "steps": [[{"name": node, "template": node} for node in nodes]]}
    done = submit(flows, "hello", both, *parts)
    assert done["status"]["phase"] == "Succeeded", done["status"].get("message")
    assert {one["hostNodeName"] for one in done["status"]["nodes"].values() if one["type"] == "Pod"} == set(nodes)


def test_a_value_and_an_artifact_pass_to_the_next_step(flows: Scene) -> None:
    written = {
        "parameters": [{"name": "word", "valueFrom": {"path": "/tmp/word"}}],
        "artifacts": [{"name": "text", "path": "/tmp/text"}],
    }
    read = {"parameters": [{"name": "word"}], "artifacts": [{"name": "text", "path": "/tmp/text"}]}
    arguments = {
        "parameters": [{"name": "word", "value": "{{steps.write.outputs.parameters.word}}"}],
        "artifacts": [{"name": "text", "from": "{{steps.write.outputs.artifacts.text}}"}],
    }
    main = {
        "name": "main",
        "steps": [
            [{"name": "write", "template": "write"}],
            [{"name": "read", "template": "read", "arguments": arguments}],
        ],
    }
    done = submit(
        flows,
        "passing",
        main,
        step("write", "echo -n seven > /tmp/word; echo a long text > /tmp/text", outputs=written),
        step("read", "test {{inputs.parameters.word}} = seven && grep 'a long text' /tmp/text", inputs=read),
    )
    assert done["status"]["phase"] == "Succeeded", done["status"].get("message")


def test_a_step_that_fails_fails_its_workflow(flows: Scene) -> None:
    done = submit(flows, "failing", step("main", "echo oh; exit 3"))
    assert done["status"]["phase"] == "Failed"
    assert "exit code 3" in done["status"]["message"]

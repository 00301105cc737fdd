"""The profile `knative`: a service answers through Kourier and Envoy, goes to zero when nobody asks, and comes back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.knative import DOMAIN
from tests.cluster.kube import Kube, Manifest, wait
from tests.cluster.layout import Layout
from tests.cluster.scene import PROBE, Scene

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def ingress(at: Layout, kube: Kube) -> str:
    """Have Knative in the cluster and return where its services answer on this machine."""
    cluster = Cluster(at)
    cluster.up("knative")
    return f"http://127.0.0.1:{cluster.state['doors']['ingress']}/"


def deploy(scene: Scene, name: str, **spec: Any) -> None:
    """Deploy a service and wait until it is ready."""
    place = {"name": name, "namespace": scene.namespace}
    window = {"autoscaling.knative.dev/window": "6s"}
    template = {"metadata": {"annotations": window}, "spec": {"containers": [{"image": PROBE}], **spec}}
    body = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": place,
        "spec": {"template": template},
    }
    scene.kube.apply(body)
    path = f"/apis/serving.knative.dev/v1/namespaces/{scene.namespace}/services/{name}"

    def problem() -> str:
        conditions = ((scene.kube.get(path) or {}).get("status") or {}).get("conditions")
        short = [str(one.get("message", one["type"])) for one in conditions or () if one["status"] != "True"]
        return "; ".join(short) if conditions else "nothing is said of it yet"

    wait(f"the service {name}", problem, 90)


def ask(scene: Scene, ingress: str, name: str) -> str:
    """Ask a service from this machine, as a browser would that knows its host name."""
    answer = httpx.get(ingress, headers={"Host": f"{name}.{scene.namespace}.{DOMAIN}"}, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.text


def pods(scene: Scene, name: str) -> list[Manifest]:
    chosen = f"serving.knative.dev/service={name}"
    return scene.kube.listed(f"/api/v1/namespaces/{scene.namespace}/pods", labelSelector=chosen)


@pytest.mark.cluster_slow
def test_a_service_answers_goes_to_zero_and_comes_back(scene: Scene, ingress: str) -> None:
    deploy(scene, "hello")
    assert ask(scene, ingress, "hello").startswith("hello from hello-00001")
    wait("zero", lambda: f"{len(pods(scene, 'hello'))} pods run" if pods(scene, "hello") else "", 120)
    assert ask(scene, ingress, "hello").startswith("hello from hello-00001")
    assert len(pods(scene, "hello")) == 1


def test_a_service_runs_where_its_placement_says(scene: Scene, ingress: str) -> None:
    deploy(scene, "placed", nodeSelector={"kubernetes.io/hostname": "node2"})
    assert ask(scene, ingress, "placed").startswith("hello from placed-00001")
    assert {one["spec"]["nodeName"] for one in pods(scene, "placed")} == {"node2"}

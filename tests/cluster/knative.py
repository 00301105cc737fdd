"""The profile `knative`: Knative Serving, Kourier and a real Envoy, from the manifests of Knative's modules.

Images that the manifests name by source are ours; autoscalers of Knative's own parts and disruption budgets are left
out, and what its parts ask for is cut to what two cores have. Scaling to zero is quick, so that tests can wait for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.builder import Builder
from tests.cluster.images import Image, Registry, with_libraries
from tests.cluster.inside import Inside
from tests.cluster.kube import Kube, Manifest, deployed, documents, established, wait
from tests.cluster.layout import REGISTRY, machine

SERVING = "knative.dev/serving"
DOMAIN = "example.test"
GATEWAY = "kourier-system"
_CORE = "knative-serving"
_PROGRAMS = ("activator", "autoscaler", "controller", "queue", "webhook", "kourier")
_LEFT_OUT = {"HorizontalPodAutoscaler", "PodDisruptionBudget"}
_SETTINGS: dict[str, dict[str, str]] = {
    "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
    "config-domain": {DOMAIN: ""},
    "config-autoscaler": {"stable-window": "6s", "scale-to-zero-grace-period": "1s"},
    "config-deployment": {"queue-sidecar-cpu-request": "5m"},
    "config-features": {
        f"kubernetes.podspec-{one}": "enabled"
        for one in (
            "affinity",
            "fieldref",
            "init-containers",
            "nodeselector",
            "persistent-volume-claim",
            "persistent-volume-write",
            "runtimeclassname",
            "tolerations",
        )
    }
    | {"secure-pod-defaults": "enabled"},
}


def push(registry: Registry, builder: Builder) -> None:
    """Push the images of this profile."""
    version = builder.version("knative", SERVING)
    for name in _PROGRAMS:
        files, entry = {f"ko-app/{name}": builder.binary(name)}, (f"/ko-app/{name}",)
        environment = ("KO_DATA_PATH=/var/run/ko",)
        image = f"knative/{name}:{version}"
        registry.push(Image(image, files, entry, user="65532", environment=environment, arch=machine()))
    files = with_libraries(builder.envoy(), "usr/local/bin/envoy")
    registry.push(Image("envoy:1", files, ("/usr/local/bin/envoy",), user="65534", arch=machine()))


def install(kube: Kube, builder: Builder) -> None:
    """Bring Knative into the cluster and wait until it serves."""
    found = [_own(one, builder) for one in manifests(builder) if one["kind"] not in _LEFT_OUT]
    definitions = [one for one in found if one["kind"] == "CustomResourceDefinition"]
    spaces = [one for one in found if one["kind"] == "Namespace"]
    kube.apply(*spaces, *definitions)
    wait("Knative's definitions", lambda: established(kube, definitions))
    rest = [one for one in found if one not in definitions and one not in spaces]
    # The cached image is checked by Knative's own webhook, which has to be there first.
    late = [one for one in rest if one["apiVersion"].startswith("caching.")]
    kube.apply(*(one for one in rest if one not in late))
    for namespace, name in _deployments(rest):
        wait(f"Knative's {name}", lambda at=namespace, it=name: deployed(kube, at, it), 120)  # type: ignore[misc]
    kube.apply(*late)


def door(inside: Inside, kube: Kube) -> int:
    """Open a port on this machine's loopback that leads to Kourier, and return it."""
    service = kube.get(f"/api/v1/namespaces/{GATEWAY}/services/kourier")
    return inside.door(str((service or {})["spec"]["clusterIP"]), 80)


def _deployments(manifests: list[Manifest]) -> Iterator[tuple[str, str]]:
    for one in manifests:
        if one["kind"] == "Deployment":
            yield one["metadata"]["namespace"], one["metadata"]["name"]


def manifests(builder: Builder) -> list[Manifest]:
    """Return everything to apply; archives leave out links, so what upstream links to is read where it is."""
    serving = builder.module("knative", SERVING) / "config" / "core"
    kourier = builder.module("knative", "knative.dev/net-kourier") / "config"
    networking = builder.module("knative", "knative.dev/networking") / "config"
    caching = builder.module("knative", "knative.dev/caching") / "config"
    folders: list[tuple[Path, str]] = [(networking, "*.yaml"), (caching, "*.yaml"), (serving, "**/*.yaml")]
    files = [file for folder, pattern in [*folders, (kourier, "*.yaml")] for file in sorted(folder.glob(pattern))]
    found = [one for file in files for one in documents(_named(file.read_text(), builder))]
    order = (
        "Namespace",
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
    )
    last = len(order)
    return sorted(found, key=lambda one: order.index(one["kind"]) if one["kind"] in order else last)


def _named(text: str, builder: Builder) -> str:
    """Return a manifest with our images in place of sources."""
    version = builder.version("knative", SERVING)
    text = re.sub(r"ko://knative\.dev/[\w-]+/cmd/([\w-]+)", rf"{REGISTRY}/knative/\1:{version}", text)
    return re.sub(r"docker\.io/envoyproxy/envoy:\S+", f"{REGISTRY}/envoy:1", text)


def _own(manifest: Manifest, builder: Builder) -> Manifest:
    kind, metadata = manifest["kind"], manifest["metadata"]
    if kind == "ConfigMap" and metadata["name"] in _SETTINGS:
        manifest["data"] = {**manifest.get("data", {}), **_SETTINGS[metadata["name"]]}
    if kind == "Deployment":
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            _cut(container)
    if kind == "Service" and manifest["spec"].get("type") == "LoadBalancer":
        manifest["spec"]["type"] = "ClusterIP"  # nothing here balances loads
    return manifest


def _cut(container: dict[str, Any]) -> None:
    container["resources"] = {"requests": {"cpu": "10m", "memory": "30Mi"}}
    container.pop("lifecycle", None)  # Envoy's calls a shell that the image does not have
    for probe in ("readinessProbe", "startupProbe"):
        if probe in container:
            container[probe] |= {"periodSeconds": 1, "initialDelaySeconds": 0}

"""The profile `argo`: Argo's workflow controller and an S3 server for artifacts, from the manifests of Argo's module.

Argo's own server is left out: Ropewalk speaks to the cluster. Workflows of any namespace may name the secret `s3-keys`
there; `keys` says what it must hold.
"""

from __future__ import annotations

import secrets
import subprocess
from typing import Any

from tests.cluster.builder import Builder
from tests.cluster.images import Image, Registry
from tests.cluster.kube import Kube, Manifest, deployed, documents, established, wait
from tests.cluster.layout import REGISTRY, ClusterError, machine

MODULE = "github.com/argoproj/argo-workflows/v3"
NAMESPACE = "argo"
BUCKET = "workflows"
KEYS = "s3-keys"
_USER = "8737"
_LEFT_OUT = {("Deployment", "argo-server"), ("Service", "argo-server")}


def push(registry: Registry, builder: Builder) -> None:
    """Push the images of this profile."""
    version = builder.version("argo", MODULE)
    for name in ("workflow-controller", "argoexec"):
        files, entry = {f"bin/{name}": builder.binary(name)}, (f"/bin/{name}",)
        registry.push(Image(f"argo/{name}:{version}", files, entry, user=_USER, arch=machine()))
    gateway = builder.binary("versitygw")
    registry.push(Image("versitygw:1", {"versitygw": gateway}, ("/versitygw",), user="65532", arch=machine()))


def install(kube: Kube, builder: Builder) -> None:
    """Bring Argo and its S3 server into the cluster and wait until they serve."""
    found = manifests(builder)
    definitions = [one for one in found if one["kind"] == "CustomResourceDefinition"]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kube.apply(namespace, *definitions)
    wait("Argo's definitions", lambda: established(kube, definitions))
    kube.apply(*_storage())
    for one in found:
        if one["kind"] != "CustomResourceDefinition" and (one["kind"], one["metadata"]["name"]) not in _LEFT_OUT:
            kube.apply(_own(one, builder))
    for name in ("workflow-controller", "s3"):
        wait(f"Argo's {name}", lambda it=name: deployed(kube, NAMESPACE, it), 90)  # type: ignore[misc]


def keys(kube: Kube) -> dict[str, str]:
    """Return the S3 server's keys, base64 as a secret holds them."""
    secret = kube.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{KEYS}")
    if secret is None:
        raise ClusterError("the profile argo is not installed")
    return dict(secret["data"])


def manifests(builder: Builder) -> list[Manifest]:
    """Return Argo's manifests as its project wrote them."""
    folder = builder.module("argo", MODULE) / "manifests" / "cluster-install"
    argv = [str(builder.binary("kubectl")), "kustomize", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"the manifests of Argo's module cannot be read: {done.stderr[-1000:]}")
    return documents(done.stdout)


def _own(manifest: Manifest, builder: Builder) -> Manifest:
    """Return a manifest of Argo's with our images and settings."""
    kind, metadata = manifest["kind"], manifest["metadata"]
    if (kind, metadata["name"]) == ("ConfigMap", "workflow-controller-configmap"):
        manifest["data"] = {"artifactRepository": _repository(), "nodeEvents": "enabled: true\n"}
    if (kind, metadata["name"]) == ("Deployment", "workflow-controller"):
        _controller(manifest["spec"], builder.version("argo", MODULE))
    return manifest


def _controller(spec: dict[str, Any], version: str) -> None:
    spec["strategy"] = {"type": "Recreate"}  # without leader election two must not overlap
    container = spec["template"]["spec"]["containers"][0]
    executor = f"{REGISTRY}/argo/argoexec:{version}"
    container |= {
        "image": f"{REGISTRY}/argo/workflow-controller:{version}",
        "args": [
            f"--executor-image={executor}",
            "--executor-image-pull-policy=IfNotPresent",
            "--qps=100",
            "--burst=200",
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "60Mi"}},
        "readinessProbe": {"httpGet": {"port": 6060, "path": "/healthz"}, "periodSeconds": 1},
    }
    container["env"] += [
        {"name": "LEADER_ELECTION_DISABLE", "value": "true"},
        {"name": "DEFAULT_REQUEUE_TIME", "value": "100ms"},
    ]


def _repository() -> str:
    selectors = "".join(f"  {one}KeySecret: {{name: {KEYS}, key: {one}Key}}\n" for one in ("access", "secret"))
    return f"s3:\n  bucket: {BUCKET}\n  endpoint: s3.{NAMESPACE}:7070\n  insecure: true\n{selectors}"


def _storage() -> list[Manifest]:
    """Return the S3 server: a real gateway over a folder."""
    labels, place = {"app": "s3"}, {"name": "s3", "namespace": NAMESPACE}
    variables = (("ROOT_ACCESS_KEY", "accessKey"), ("ROOT_SECRET_KEY", "secretKey"))
    mounts = [{"name": "data", "mountPath": "/data"}]
    container = {
        "name": "s3",
        "image": f"{REGISTRY}/versitygw:1",
        "args": ["--port", ":7070", "--health", "/health", "posix", "/data"],
        "env": [{"name": name, "valueFrom": {"secretKeyRef": {"name": KEYS, "key": key}}} for name, key in variables],
        "ports": [{"containerPort": 7070}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 7070}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "30Mi"}},
        "volumeMounts": mounts,
    }
    bucket = {
        "name": "bucket",
        "image": f"{REGISTRY}/busybox:1",
        "command": ["mkdir", "-p", f"/data/{BUCKET}"],
        "volumeMounts": mounts,
    }
    pod = {
        "securityContext": {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
        "automountServiceAccountToken": False,
        "initContainers": [bucket],
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    made = {"accessKey": secrets.token_hex(8), "secretKey": secrets.token_hex(16)}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {**place, "name": KEYS}, "stringData": made},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": place,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"selector": labels, "ports": [{"port": 7070}]},
        },
    ]

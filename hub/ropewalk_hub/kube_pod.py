"""The pod of a notebook: what we add to the one that KubeSpawner draws. Pure.

Not here: sending it (``kube_spawner.py``).
"""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

from ropewalk_core.kube import restricted, volumes
from ropewalk_core.kube.buckets import ENVIRONMENT
from ropewalk_core.kube.config import POD_FOLDER
from ropewalk_core.kube.kinds import Object
from ropewalk_core.kube.placement import Fragment
from ropewalk_core.kube.tenancy import NOTEBOOKS, WORK
from ropewalk_core.placement import Placement
from ropewalk_core.settings import Cluster, Settings
from ropewalk_hub.notebook_server import THREADS

NOTEBOOK = "notebook"
"""The name of a person's notebook pod and of its container; there is one in each namespace."""
PORT = 8888
_KUBERNETES = "kubernetes"
_TOKEN_SECONDS = 600  # the least that Kubernetes gives; the node writes a new one in time, and clients read it again
_LOOPBACKS = ("localhost", ".localhost")


def variables(settings: Settings, account: str, placement: Placement) -> dict[str, str]:
    """Return what a person's notebook must know of the platform; the same names as on one machine."""
    door, space = settings.door, settings.cluster.namespace
    found = {
        "ROPEWALK_API": f"http://proxy.{space}:{door.port}",
        "ROPEWALK_HOST": f"{door.host}:{door.port}",
        "ROPEWALK_ARGO": f"http://platform.{space}:{door.port}",  # whose clients can name no other host
        "ROPEWALK_ACCOUNT": account,
        "ROPEWALK_PEOPLE": f"{door.scheme}://%s.{door.people}:{door.people_port}",
        "JUPYTER_RUNTIME_DIR": "/tmp/jupyter",  # noqa: S108 - sockets of kernels, in the container's own /tmp
    }
    if door.people.endswith(_LOOPBACKS):  # means the pod itself in there
        found["ROPEWALK_GATEWAY"] = f"http://gateway.{space}:{door.people_port}"
    if index := settings.environments.index:
        found |= {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index}
        if index.startswith("http:"):
            found["PIP_TRUSTED_HOST"] = str(urlsplit(index).hostname)
    if placement.cpu:
        found |= dict.fromkeys(THREADS, str(math.ceil(placement.cpu)))
    return found


def finished(pod: Object, account: str, fragment: Fragment, settings: Settings) -> Object:
    """Return a drawn pod with our placement, files, labels and limits, as every pod of an account has them."""
    files, given = volumes.mount(settings), settings.cluster.notebook_token
    token = [_token()] if given else []
    mounts = [files.mount, *({"name": _KUBERNETES, "mountPath": str(POD_FOLDER), "readOnly": True} for _ in token)]
    spec = dict(pod["spec"])
    containers = [_container(one, mounts, fragment, settings.cluster) for one in spec.get("containers") or ()]
    spec |= {
        **fragment.pod,
        "containers": containers,
        "volumes": [*(spec.get("volumes") or ()), files.volume, *token],
        "restartPolicy": "Never",
        "serviceAccountName": NOTEBOOKS if given else WORK,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": restricted.pod(),
    }
    if affinity := {**fragment.affinity, **files.affinity}:
        spec["affinity"] = affinity
    metadata = dict(pod["metadata"])
    ours = {f"ropewalk.dev/{key}": value for key, value in _names(account).items()}
    metadata["labels"] = {**(metadata.get("labels") or {}), **ours, **files.labels}
    return {**pod, "metadata": metadata, "spec": spec}


def _names(account: str) -> dict[str, str]:
    return {"account": account, "kind": "notebook", "name": NOTEBOOK}


def _token() -> Object:
    """Return the volume with a notebook's own token, laid out as every client looks for it in a pod.

    The nearer way, to have Kubernetes mount one, would give it to every container and for longer.
    """
    sources: list[Object] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    return {"name": _KUBERNETES, "projected": {"sources": sources}}


def _container(one: Object, mounts: list[Object], fragment: Fragment, cluster: Cluster) -> Object:
    if one.get("name") != NOTEBOOK:
        return one
    probe: dict[str, Any] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 600}
    return {
        **one,
        "resources": resources(fragment, cluster),
        "volumeMounts": [*(one.get("volumeMounts") or ()), *mounts],
        "envFrom": [{"secretRef": {"name": ENVIRONMENT, "optional": True}}],
        "securityContext": restricted.container(),
        "startupProbe": probe,  # ready means that it listens, so nobody is sent to a server that is not there yet
    }


def resources(fragment: Fragment, cluster: Cluster) -> dict[str, dict[str, str]]:
    """Return what was asked for, and what a container gets that did not ask; a quota refuses pods without."""
    limits = {**cluster.container, **fragment.resources.get("limits", {})}
    requests = {**cluster.container, **cluster.container_request, **fragment.resources.get("requests", {})}
    return {"requests": requests, "limits": limits}

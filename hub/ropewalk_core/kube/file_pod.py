"""FilePod: what runs the file server of one account: a deployment, the service that finds it, its secret. Pure.

The secret is derived from the platform's key and the namespace, so that nothing has to be kept and one namespace's
secret opens no other's files. Nobody in the namespace can read it: no token that is given there reads secrets, which
are for the platform and Helm's account alone. Not here: when it runs (``file_servers.py``).
"""

from __future__ import annotations

import hashlib
import hmac

from ropewalk_core.kube import restricted
from ropewalk_core.kube.kinds import DEPLOYMENT, SECRET, SERVICE, Kind, Object
from ropewalk_core.kube.tenancy import ACCOUNT, WORK
from ropewalk_core.kube.volumes import HOME, NAME, mount, size
from ropewalk_core.names import slug
from ropewalk_core.settings import Settings

PORT = 8873
LABELS = {"ropewalk.dev/kind": "files", "ropewalk.dev/name": NAME}
"""What is on the pods of a file server, and on nothing else."""
SECRET_NAME = "file-server"  # noqa: S105  # the object's name
_KEYS = "/etc/ropewalk/files"


def key_of(key: bytes, namespace: str) -> str:
    """Return what the platform shows to the file server of a namespace."""
    return hmac.new(key, b"file-server\0" + namespace.encode(), hashlib.sha256).hexdigest()


def host_of(namespace: str) -> str:
    """Return the name under which the cluster knows a namespace's file server."""
    return f"{NAME}.{namespace}.svc"


def render(owner: str, namespace: str, claim: Object, key: str, settings: Settings) -> list[tuple[Kind, Object]]:
    """Return the objects of an account's file server with their kinds, in the order in which they are applied.

    Parameters
    ----------
    owner, namespace
        Whose it is, and where.
    claim
        The claim of the files, for its size.
    key
        What the platform will show.
    settings
        For the image, and how files are mounted.
    """
    labels = {ACCOUNT: slug(owner), **LABELS}
    metadata = {"namespace": namespace, "labels": labels}
    port = {"name": "files", "port": PORT, "targetPort": PORT, "protocol": "TCP"}
    return [
        (SECRET, {"metadata": {**metadata, "name": SECRET_NAME}, "type": "Opaque", "stringData": {"key": key}}),
        (SERVICE, {"metadata": {**metadata, "name": NAME}, "spec": {"selector": LABELS, "ports": [port]}}),
        (
            DEPLOYMENT,
            {
                "metadata": {**metadata, "name": NAME},
                "spec": {
                    "replicas": 1,
                    "strategy": {"type": "Recreate"},  # the volume may be one that only one pod can have
                    "revisionHistoryLimit": 1,
                    "selector": {"matchLabels": LABELS},
                    "template": _template(labels, size(claim), key, settings),
                },
            },
        ),
    ]


def settled(deployment: Object) -> bool:
    """Whether the pod that was asked for last is the only one, and ready."""
    status, generation = deployment.get("status") or {}, deployment["metadata"].get("generation", 0)
    counts = [status.get(one, 0) for one in ("replicas", "updatedReplicas", "readyReplicas")]
    return bool(status.get("observedGeneration", 0) >= generation and counts == [1, 1, 1])


def _template(labels: dict[str, str], limit: int, key: str, settings: Settings) -> Object:
    files = mount(settings)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]  # another key is another pod
    secret = {"secretName": SECRET_NAME, "defaultMode": 0o440, "items": [{"key": "key", "path": "key"}]}
    return {
        "metadata": {"labels": {**labels, **files.labels}, "annotations": {"ropewalk.dev/key": digest}},
        "spec": {
            "serviceAccountName": WORK,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": restricted.pod(),
            **({"affinity": files.affinity} if files.affinity else {}),
            "containers": [_container(limit, files.mount, settings)],
            "volumes": [files.volume, {"name": "key", "secret": secret}],
        },
    }


def _container(limit: int, files: Object, settings: Settings) -> Object:
    probe = {"httpGet": {"path": "/ready", "port": PORT}}
    # -P: what a person calls like one of our modules must not run beside the key.
    command = ["python", "-P", "-m", "ropewalk_hub.file_server", "--folder", HOME, "--key", f"{_KEYS}/key"]
    return {
        "name": NAME,
        "image": settings.cluster.images.get("hub", "ropewalk/hub:0.1"),
        "command": [*command, "--limit", str(limit), "--port", str(PORT)],
        "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],  # its root is read-only
        "securityContext": restricted.container(readOnlyRootFilesystem=True),
        # The content only passes through; what the kernel keeps of it in memory it gives back when it is short.
        "resources": {
            "requests": {"cpu": "10m", "memory": "96Mi", "ephemeral-storage": "16Mi"},
            "limits": {"cpu": "1", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        },
        "startupProbe": {**probe, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 120},
        "readinessProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 20, "timeoutSeconds": 10},
        "volumeMounts": [files, {"name": "key", "mountPath": _KEYS, "readOnly": True}],
    }

"""A fixture: provisions persistent volumes as folders that both nodes see, so that read-write-many is real.

Runs inside the cluster as ``python -m tests.cluster.volumes RUN``. Anyone may write to such a folder, as with a file
server that maps everyone to one owner; sizes are written down and not enforced. Rejected: the controllers' own
host-path provisioner, whose folders only the superuser can write to.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import httpx

from tests.cluster.inside import Inside
from tests.cluster.kube import Kube, Manifest
from tests.cluster.layout import ClusterError, say

CLASS = "shared"
PROVISIONER = "ropewalk.test/folders"
_BY = "pv.kubernetes.io/provisioned-by"


def start(inside: Inside, kube: Kube) -> None:
    """Start the provisioner and make its class the cluster's default."""
    inside.layout.folder("volumes").chmod(0o755)
    kube.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        }
    )
    inside.start("volumes", [sys.executable, "-m", "tests.cluster.volumes", inside.layout.run])


def volume(claim: Manifest, folder: Path) -> Manifest:
    """Return the persistent volume that answers a claim."""
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{metadata['uid']}", "annotations": {_BY: PROVISIONER}},
        "spec": {
            "storageClassName": CLASS,
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "persistentVolumeReclaimPolicy": "Delete",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{name: metadata[name] for name in ("namespace", "name", "uid")},
            },
        },
    }


def waits(claim: Manifest) -> bool:
    """Whether a claim is ours to answer."""
    return claim["spec"].get("storageClassName") == CLASS and not claim["spec"].get("volumeName")


def turn(kube: Kube, folder: Path) -> None:
    """Answer the claims that wait and remove the volumes that were let go."""
    there = {one["metadata"]["name"]: one for one in kube.listed("/api/v1/persistentvolumes", resourceVersion="0")}
    for claim in kube.listed("/api/v1/persistentvolumeclaims", resourceVersion="0"):
        name = f"pvc-{claim['metadata']['uid']}"
        if waits(claim) and name not in there and claim["spec"].get("volumeMode") != "Block":
            path = folder / name
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
            kube.apply(volume(claim, path))
    for name, one in there.items():
        ours = one["metadata"].get("annotations", {}).get(_BY) == PROVISIONER
        if ours and one.get("status", {}).get("phase") == "Released":
            shutil.rmtree(folder / name, ignore_errors=True)
            kube.delete(f"/api/v1/persistentvolumes/{name}")


def main() -> None:
    """Provision until ended."""
    run = Path(sys.argv[1])
    kube = Kube(run / "kubeconfigs" / "admin")
    while True:
        try:
            turn(kube, run / "volumes")
        except (httpx.HTTPError, ClusterError) as error:
            say(f"trying again: {error}")
            time.sleep(1)
        time.sleep(0.25)


if __name__ == "__main__":
    main()

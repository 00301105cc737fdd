"""Volumes: each account's files are one claim, ``files``, mounted at `HOME` in everything that runs for them.

With an access mode that one node at a time may use, everything of an account must run where its files are: `Files`
then asks the scheduler for it, and a space that several people share is refused, because their work would wait for
one another. Not here: what is in the files (``storage.py``). Rejected: a claim per notebook, function or run (files
that are not the same in all of them), and the platform mounting everybody's volumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ropewalk_core.errors import BadInput, Conflict, NameTaken, NotFound, Unsatisfiable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import CLAIM, NAMESPACE, Object
from ropewalk_core.kube.quantities import parse
from ropewalk_core.settings import Settings

NAME = "files"
"""The claim's name, and that of the volume in every pod that mounts it."""
HOME = "/home/work"
"""Where the files are in every container."""
LABEL = "ropewalk.dev/mounts"
"""The label of every pod that mounts the files."""
_MANY, _ONE = "ReadWriteMany", "ReadWriteOnce"
_KIND = "ropewalk.dev/kind"


@dataclass(frozen=True)
class Files:
    """What a pod needs to have the account's files.

    ``volume`` goes into its volumes, ``mount`` into each container's mounts, ``labels`` into the pod's labels and
    ``affinity`` into the pod's affinity. The last one is empty where many nodes may use a volume at once.
    """

    volume: Object
    mount: Object
    labels: Mapping[str, str] = field(default_factory=lambda: {LABEL: NAME})
    affinity: Object = field(default_factory=dict)


def claim(settings: Settings) -> Object:
    """Return the claim of one account's files, without a namespace.

    Raises
    ------
    BadInput
        If a setting's value cannot be one; it is named.
    """
    cluster = settings.cluster
    if cluster.files_access not in (_MANY, _ONE):
        raise BadInput(
            f"{cluster.files_access!r} is no way to use files.",
            field="cluster.files_access",
            hint=f"Write {_MANY}, or {_ONE} where the storage class cannot do that.",
        )
    try:
        parse(cluster.files_size)
    except ValueError as error:
        raise BadInput(f"{error}.", field="cluster.files_size", hint="Write for example 10Gi.") from error
    spec: Object = {
        "accessModes": [cluster.files_access],
        "resources": {"requests": {"storage": cluster.files_size}},
    }
    spec |= {"storageClassName": cluster.storage_class} if cluster.storage_class else {}
    return CLAIM.of({"metadata": {"name": NAME, "labels": {_KIND: NAME}}, "spec": spec})


def mount(settings: Settings, *, folder: str = "") -> Files:
    """Return what a pod needs to have the files, or with ``folder`` only one folder of them, at `HOME`."""
    mounted: Object = {"name": NAME, "mountPath": HOME} | ({"subPath": folder} if folder else {})
    return Files(
        volume={"name": NAME, "persistentVolumeClaim": {"claimName": NAME}},
        mount=mounted,
        affinity={} if settings.cluster.files_access == _MANY else _together(),
    )


async def ensure_files(api: Api, namespace: str, settings: Settings) -> Object:
    """Return the claim of a tenant's files, made if it lacks; one that is there stays as it is.

    Nobody waits here for the volume: many classes make it only when the first pod comes.

    Raises
    ------
    Unsatisfiable
        If the space is shared and one node at a time may use its files.
    Conflict
        If the files are being removed.
    """
    wanted = claim(settings)
    try:
        return _checked(await api.get(CLAIM, NAME, namespace))
    except NotFound:
        await _refuse_shared(api, namespace, settings)
    wanted["metadata"]["namespace"] = namespace
    try:
        return await api.create(CLAIM, wanted)
    except NameTaken:  # another part of the platform was quicker
        return _checked(await api.get(CLAIM, NAME, namespace))


def size(claim: Mapping[str, Any]) -> int:
    """Return the bytes that a claim may hold: what its volume has, else what was asked for."""
    status, spec = claim.get("status") or {}, claim.get("spec") or {}
    had = (status.get("capacity") or {}).get("storage")
    return int(parse(had or spec["resources"]["requests"]["storage"]))


async def _refuse_shared(api: Api, namespace: str, settings: Settings) -> None:
    if settings.cluster.files_access == _MANY:
        return
    labels = (await api.get(NAMESPACE, namespace))["metadata"].get("labels") or {}
    if labels.get(_KIND, "person") != "person":
        raise Unsatisfiable(
            "This cluster cannot give a shared space: only one machine at a time can use a volume here.",
            field="cluster.files_access",
            hint="An administrator names a storage class for many machines (cluster.storage_class) and sets "
            f"cluster.files_access to {_MANY}.",
        )


def _checked(there: Object) -> Object:
    if there["metadata"].get("deletionTimestamp"):
        raise Conflict(
            "The files of this account are being removed from the cluster.",
            hint="Stop everything that uses them; they are made anew, and empty, once they are gone.",
        )
    return there


def _together() -> Object:
    """Ask for the node where the account's files are in use already; the first pod may choose any."""
    chosen = {"matchLabels": {LABEL: NAME}}
    term = {"labelSelector": chosen, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}

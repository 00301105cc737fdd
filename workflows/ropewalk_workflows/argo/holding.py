"""Suspending and resuming a workflow: what ``argo suspend`` and ``argo resume`` do to it, as patches. Pure.

Each order has a number, which the record of the run and then the workflow carry, so that one that is carried out twice
ends no pause that began in between, and an older look at the workflow is known for one. Argo does nothing more with a
suspended workflow, also when nothing of it is left to do. Not here: sending a patch (``carrying``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk_core.kube.kinds import Object
from ropewalk_workflows.argo.nodes import hydrated, numbered, packed

HELD = "ropewalk.dev/held"


def held(workflow: Object) -> int:
    """Return the number of the last order to suspend or resume that this workflow carries out; 0 for none."""
    return numbered(workflow, HELD, 0)


def is_suspended(workflow: Object, body: Mapping[str, Any]) -> bool:
    """Say whether a run is suspended: as its record wants it until the cluster has that order, then as it is there."""
    if held(workflow) < int(body.get("held", 0)):
        return bool(body.get("suspended"))
    return bool((workflow.get("spec") or {}).get("suspend"))


def ordered(workflow: Object, body: Mapping[str, Any]) -> Object:
    """Return a workflow to create, or a change to one, with what the run's record wants of it."""
    metadata, spec = workflow["metadata"], workflow.get("spec") or {}
    annotations = {**(metadata.get("annotations") or {}), HELD: str(body.get("held", 0))}
    spec = {**spec, "suspend": True} if body.get("suspended") else spec
    return {**workflow, "metadata": {**metadata, "annotations": annotations}, "spec": spec}


def suspended(workflow: Object, number: int) -> Object:
    """Return the patch after which no further step starts. ``number`` is that of our order."""
    return {**_order(workflow, number), "spec": {"suspend": True}}


def resumed(workflow: Object, number: int, now: str) -> Object:
    """Return the patch after which a workflow goes on, and the pauses at which it stands are over.

    Parameters
    ----------
    workflow
        As it is.
    number
        The number of our order, which the workflow carries from then on.
    now
        The time, as Kubernetes writes it.
    """
    nodes = hydrated(workflow)
    stands = [key for key, one in nodes.items() if one.get("type") == "Suspend" and one.get("phase") == "Running"]
    over = {key: {"phase": "Succeeded", "finishedAt": now} for key in stands}
    patch = {**_order(workflow, number), "spec": {"suspend": None}}
    if not over:
        return patch
    if (workflow.get("status") or {}).get("compressedNodes"):
        whole = {key: {**one, **over.get(key, {})} for key, one in nodes.items()}
        return {**patch, "status": {"compressedNodes": packed(whole)}}
    return {**patch, "status": {"nodes": over}}


def _order(workflow: Object, number: int) -> Object:
    metadata = {"resourceVersion": workflow["metadata"]["resourceVersion"], "annotations": {HELD: str(number)}}
    return {"metadata": metadata}

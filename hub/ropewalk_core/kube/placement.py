"""Placement on a cluster: one `Placement` becomes the same part of a pod for all four nouns. Pure.

What no node can ever satisfy is refused here, with the words of ``placement.fit``; what is only busy may wait and says
so. Tolerations repeat what was asked for by name and nothing else, so that nobody tolerates their way to a node that
is kept from them. Not here: what nodes are (``nodes.py``), and who sends the pod.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ropewalk_core import why
from ropewalk_core.errors import Unsatisfiable
from ropewalk_core.kube.kinds import Object
from ropewalk_core.kube.nodes import ARCH, Device, Site
from ropewalk_core.kube.quantities import cores
from ropewalk_core.model import Why
from ropewalk_core.placement import Inventory, Placement, fit, format_size


@dataclass(frozen=True)
class Fragment:
    """What a placement adds to a pod: where it may run, and what its main container may use."""

    selector: dict[str, str] = field(default_factory=dict)
    affinity: Object = field(default_factory=dict)
    tolerations: tuple[Object, ...] = ()
    runtime_class: str = ""
    resources: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def pod(self) -> Object:
        """The fields of a pod's spec; those without a value are left out."""
        fields: Object = {
            "nodeSelector": self.selector,
            "affinity": self.affinity,
            "tolerations": [dict(one) for one in self.tolerations],
            "runtimeClassName": self.runtime_class,
        }
        return {name: value for name, value in fields.items() if value}

    def onto(self, spec: Object, *, container: str) -> Object:
        """Return a pod's spec with this on top; ``container`` names the one that gets the resources."""
        containers = [
            {**one, "resources": self.resources} if one.get("name") == container and self.resources else one
            for one in spec.get("containers") or ()
        ]
        return {**spec, **self.pod, "containers": containers}


def place(placement: Placement, site: Site) -> Fragment:
    """Return the part of a pod that says this placement.

    The first accelerator of the list that exists is taken: which are free, only the scheduler knows.

    Raises
    ------
    Unsatisfiable
        If no node, and no pool, can ever satisfy it.
    """
    chosen = fit(placement, site.inventory)
    device = site.devices.get(chosen.accelerator) if chosen.accelerator else None
    if chosen.accelerator and device is None:
        raise Unsatisfiable(
            f"Nobody has said what the accelerator {chosen.accelerator!r} of the pool {chosen.node.name!r} is.",
            field="placement.accelerator",
            hint=f"An administrator adds `cluster.accelerators.{chosen.accelerator}`.",
        )
    return Fragment(
        selector=dict(sorted({**placement.labels, **_architecture(placement)}.items())),
        affinity=_affinity(placement, device),
        tolerations=tuple(_tolerations(placement, device, site)),
        runtime_class=placement.isolation or "",
        resources=_resources(placement, device),
    )


def busy(what: str, placement: Placement, free: Inventory) -> Why | None:
    """Return what a placement waits for when it fits the cluster and not what is free now; None if it fits now."""
    try:
        fit(placement, free)
    except Unsatisfiable:
        return why.waiting(
            what,
            f"a machine with {placement.describe()} to be free",
            next_step="It starts by itself when something else ends. To start sooner, ask for less.",
        )
    return None


def _architecture(placement: Placement) -> dict[str, str]:
    return {ARCH: placement.arch[0]} if len(placement.arch) == 1 else {}


def _affinity(placement: Placement, device: Device | None) -> Object:
    """Return the node affinity: several architectures in order of preference, and the models of an accelerator."""
    required: list[Object] = []
    preferred: list[Object] = []
    if len(placement.arch) > 1:
        required.append({"key": ARCH, "operator": "In", "values": sorted(set(placement.arch))})
        for rank, one in enumerate(dict.fromkeys(placement.arch)):
            term = {"matchExpressions": [{"key": ARCH, "operator": "In", "values": [one]}]}
            preferred.append({"weight": max(1, 100 - 40 * rank), "preference": term})
    if device is not None and device.label:
        required.append({"key": device.label, "operator": "In", "values": list(device.values)})
    node: dict[str, Any] = {}
    if required:
        terms = [{"matchExpressions": required}]
        node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    if preferred:
        node["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return {"nodeAffinity": node} if node else {}


def _tolerations(placement: Placement, device: Device | None, site: Site) -> list[Object]:
    kept = [(ARCH, one) for one in dict.fromkeys(placement.arch)]
    kept += [(key, value) for key, value in sorted(placement.labels.items()) if key in site.askable]
    equal = [{"key": key, "operator": "Equal", "value": value} for key, value in kept]
    return equal + ([{"key": device.resource, "operator": "Exists"}] if device is not None else [])


def _resources(placement: Placement, device: Device | None) -> dict[str, dict[str, str]]:
    """Return requests and limits, which are the same: nobody lives on what a neighbor does not use right now."""
    asked: dict[str, str] = {}
    if placement.cpu:
        asked["cpu"] = cores(placement.cpu)
    if placement.memory:
        asked["memory"] = format_size(placement.memory)
    if placement.scratch:
        asked["ephemeral-storage"] = format_size(placement.scratch)
    if device is not None:
        asked[device.resource] = "1"
    return {"requests": dict(asked), "limits": asked} if asked else {}

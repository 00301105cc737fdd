"""Write a `Placement` into a template: resources, node selector, affinity, and the placement itself as an annotation.

The annotation is what our engine reads, so that nothing is lost in translation; the rest is for a cluster.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ropewalk_core.placement import Placement, format_size
from ropewalk_workflows import names


@dataclass(frozen=True)
class Rendered:
    """The parts of a template that a placement fills."""

    annotations: dict[str, str]
    resources: Any
    node_selector: dict[str, str]
    affinity: Any


def render(models: Any, placement: Placement) -> Rendered:
    """Return the parts; an empty placement fills none.

    Parameters
    ----------
    models
        Hera's models.
    placement
        What the step needs.
    """
    asked = placement.model_dump(mode="json", exclude_defaults=True)
    if not asked:
        return Rendered({}, None, {}, None)
    limits: dict[str, str] = {}
    if placement.cpu:
        limits["cpu"] = f"{placement.cpu:g}"
    if placement.memory:
        limits["memory"] = format_size(placement.memory)
    if placement.scratch:
        limits["ephemeral-storage"] = format_size(placement.scratch)
    selector = dict(placement.labels)
    several = {}
    for label, wanted in ((names.ARCH_LABEL, placement.arch), (names.ACCELERATOR_LABEL, _required(placement))):
        if len(wanted) == 1:
            selector[label] = wanted[0]
        elif wanted:
            several[label] = list(wanted)
    resources = models.ResourceRequirements(limits=limits, requests=dict(limits)) if limits else None
    annotations = {names.PLACEMENT: json.dumps(asked, sort_keys=True)}
    return Rendered(annotations, resources, selector, _affinity(models, several))


def _required(placement: Placement) -> tuple[str, ...]:
    """Return the accelerators of which one must be there; none when the step also runs without."""
    return () if "cpu" in placement.accelerator else placement.accelerator


def _affinity(models: Any, several: dict[str, list[str]]) -> Any:
    if not several:
        return None
    expressions = [
        models.NodeSelectorRequirement(key=key, operator="In", values=choices)
        for key, choices in sorted(several.items())
    ]
    term = models.NodeSelectorTerm(match_expressions=expressions)
    required = models.NodeSelector(node_selector_terms=[term])
    return models.Affinity(
        node_affinity=models.NodeAffinity(required_during_scheduling_ignored_during_execution=required)
    )

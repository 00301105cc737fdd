"""Which nodes of an ended workflow run again: what ``argo retry`` does to them, as a patch. Pure.

A failed step goes away with everything after it; the composites around it are set to running again; all else stays as
it is. Then Argo makes what is missing. Of a composite that is tried again the first attempt stays, because Argo numbers
the next one by how many there are. Not here: sending the patch, and removing pods (``carrying``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ropewalk_core.kube.kinds import Object
from ropewalk_workflows.argo.nodes import hydrated, packed
from ropewalk_workflows.argo.render import GENERATION

_GROUPS = ("DAG", "TaskGroup", "StepGroup", "Steps")
_RUNS = ("Pod", "Container", "HTTP", "Plugin", "Suspend")
_FAILED = ("Failed", "Error")
Nodes = Mapping[str, Mapping[str, Any]]


def retried(workflow: Object, generation: int, now: str) -> tuple[Object, list[str]]:
    """Return the patch that makes a workflow go on, and the nodes whose pods must be gone before.

    Parameters
    ----------
    workflow
        As it is, ended.
    generation
        The number of our order, which the workflow carries from then on.
    now
        The time, as Kubernetes writes it.
    """
    nodes = hydrated(workflow)
    metadata, status = workflow["metadata"], workflow["status"]
    gone, reset = _chosen(nodes, str(metadata["name"]))
    changed: dict[str, Any] = dict.fromkeys(gone)
    for name, node in nodes.items():
        if name in gone:
            continue
        body = dict(node) | {
            key: [one for one in node[key] if one not in gone] for key in ("children", "outboundNodes") if key in node
        }
        if name in reset:
            phase = node.get("phase") if node.get("phase") == "Skipped" else "Running"
            body |= {"phase": phase, "message": None, "startedAt": now, "finishedAt": None}
        if body != node:
            changed[name] = body
    where: dict[str, Any] = {"nodes": changed}
    if status.get("compressedNodes"):
        whole = {name: changed.get(name, node) for name, node in nodes.items() if name not in gone}
        where = {"compressedNodes": packed(whole)}
    patch: Object = {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "annotations": {GENERATION: str(generation)},
            "labels": {
                "workflows.argoproj.io/completed": None,
                "workflows.argoproj.io/workflow-archiving-status": None,
                "workflows.argoproj.io/phase": "Running",
            },
        },
        "spec": {"shutdown": None, "suspend": None},
        "status": {
            "phase": "Running",
            "message": None,
            "startedAt": now,
            "finishedAt": None,
            **where,
            "persistentVolumeClaims": None,
            "conditions": [
                {**one, "status": "False"} if one.get("type") == "Completed" else one
                for one in status.get("conditions") or ()
            ],
        },
    }
    if status.get("storedWorkflowTemplateSpec"):
        patch["status"]["storedWorkflowTemplateSpec"] = {"shutdown": None}
    return patch, sorted(one for one in gone if nodes[one].get("type") == "Pod")


def _chosen(nodes: Nodes, root: str) -> tuple[set[str], set[str]]:
    """Return the nodes that go away, and those that are set to running."""
    parents: dict[str, str] = {}
    for name in sorted(nodes):
        for child in nodes[name].get("children") or ():
            parents[child] = name
    retries = {child: name for name, one in nodes.items() if one.get("type") == "Retry" for child in _tried(nodes, one)}
    over = _over(nodes, retries)
    gone = {
        name
        for name, one in nodes.items()
        if str(one.get("name") or "").startswith((f"{root}.onExit", f"{root}.hooks."))
    }  # exit handlers, and the workflow's hooks, run again
    reset: set[str] = set()
    for name, one in nodes.items():
        later = _attempts(nodes, one)[1:]
        if later and one.get("phase") in _FAILED and name not in over:
            gone |= {each for attempt in later for each in (attempt, *_within(nodes, attempt))}
            _back_to_the_top(nodes, parents, name, reset)
    for name in _from_the_top(nodes, root):
        node = nodes[name]
        if name in gone or name in over or node.get("phase") not in _FAILED or node.get("type") not in _RUNS:
            continue
        whole = retries.get(name, name)
        if _succeeded_below(nodes, whole):
            continue
        gone |= {name, *_below(nodes, name)}
        _back_to_the_top(nodes, parents, name, reset)
    return gone, reset - gone


def _attempts(nodes: Nodes, node: Mapping[str, Any]) -> list[str]:
    """Return the attempts of a composite that is tried again, in their order."""
    if node.get("type") != "Retry":
        return []
    return [one for one in _tried(nodes, node) if nodes[one].get("type") in _GROUPS]


def _tried(nodes: Nodes, node: Mapping[str, Any]) -> list[str]:
    """Return the attempts among the children of a node, whose hooks lie there too."""
    inside = [one for one in _children(node) if one in nodes]
    return [one for one in inside if not _is_hook(nodes[one])]


def _over(nodes: Nodes, retries: Mapping[str, str]) -> set[str]:
    """Return all that lies in a composite which succeeded in a later attempt: what failed in it is made up for."""
    found: set[str] = set()
    for name, one in nodes.items():
        if one.get("type") in _GROUPS and name in retries and nodes[retries[name]].get("phase") == "Succeeded":
            found |= {name, *_within(nodes, name)}
    return found


def _within(nodes: Nodes, name: str) -> set[str]:
    """Return what a composite holds, at any depth."""
    around: dict[str, list[str]] = {}
    for one, node in nodes.items():
        around.setdefault(str(node.get("boundaryID") or ""), []).append(one)
    found: set[str] = set()
    waiting = [name]
    while waiting:
        inside = [one for one in around.get(waiting.pop(), ()) if one not in found]
        found.update(inside)
        waiting += inside
    return found


def _back_to_the_top(nodes: Nodes, parents: Mapping[str, str], start: str, reset: set[str]) -> None:
    """Set to running what holds a failed step: its retries, its group, and the composites around it."""
    at: str | None = start
    while at is not None and at in nodes:
        node = nodes[at]
        if node.get("type") in _GROUPS or (node.get("type") == "Retry" and node.get("phase") in _FAILED):
            reset.add(at)
        parent = parents.get(at)
        if node.get("type") in _GROUPS and (around := node.get("boundaryID")) and around in nodes:
            if parent is not None and nodes[parent].get("type") in ("Retry", "StepGroup", "TaskGroup"):
                reset.add(parent)
            reset.add(str(around))
            at = str(around)
            continue
        at = parent


def _from_the_top(nodes: Nodes, root: str) -> list[str]:
    order, seen = [root] if root in nodes else [], {root}
    for name in order:  # grows while it is read
        for child in _children(nodes[name]):
            if child in nodes and child not in seen:
                seen.add(child)
                order.append(child)
    return order


def _below(nodes: Nodes, name: str, *, hooks: bool = True) -> set[str]:
    found: set[str] = set()
    waiting = list(_children(nodes[name]))
    while waiting:
        one = waiting.pop()
        if one in nodes and one not in found and (hooks or not _is_hook(nodes[one])):
            found.add(one)
            waiting += _children(nodes[one])
    return found


def _succeeded_below(nodes: Nodes, name: str) -> bool:
    """Say whether anything after this one succeeded: then its failure was no hindrance. Its hooks ran in any case."""
    return any(nodes[one].get("phase") == "Succeeded" for one in _below(nodes, name, hooks=False))


def _is_hook(node: Mapping[str, Any]) -> bool:
    return bool((node.get("nodeFlag") or {}).get("hooked"))


def _children(node: Mapping[str, Any]) -> Iterable[str]:
    return node.get("children") or ()

"""A run as the Workflow object that Argo's clients read: metadata, spec as it was submitted, status with nodes. Pure.

Only what the clients read is written. Not here: nodes (``nodes``), what a client sends (``wishes``). Rejected: the
Workflow that a cluster has; it holds what the platform added, and one machine has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ropewalk_core.errors import RopewalkError
from ropewalk_core.flows import Run
from ropewalk_core.model import State
from ropewalk_workflows.argo_server.nodes import nodes
from ropewalk_workflows.argo_server.times import stamp
from ropewalk_workflows.argo_server.told import Told, strategy
from ropewalk_workflows.argo_server.wishes import DOMAIN

VERSION = "v3.7.18+ropewalk"
"""Which Argo Server's interface this is; Ropewalk's own version is in `ropewalk version`."""
_PODS = f"{DOMAIN}pod-name-format"
_PHASES = {State.DONE: "Succeeded", State.FAILED: "Failed", State.STOPPED: "Failed"}


def phase(run: Run) -> str:
    """Return Argo's word for where a run stands; Hera takes any other than Running for the end of its wait."""
    return _PHASES.get(run.status.state, "Running")


def workflow(told: Told, *, tree: bool = True) -> dict[str, Any]:
    """Return the Workflow object of a run.

    Parameters
    ----------
    told
        The run.
    tree
        Whether its nodes are wanted; lists have none.
    """
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": _metadata(told),
        "spec": _spec(told),
        "status": _status(told, tree=tree),
    }


def labels(told: Told) -> dict[str, str]:
    """Return a run's labels: its manifest's own, and those by which Argo's clients choose."""
    given = (told.spec.manifest.get("metadata") or {}).get("labels") or {}
    ended = told.run.status.state.terminal
    return {
        **{str(key): str(one) for key, one in given.items()},
        f"{DOMAIN}phase": phase(told.run),
        f"{DOMAIN}completed": "true" if ended else "false",
        f"{DOMAIN}creator": told.run.owner,
    }


def listing(told: Iterable[dict[str, Any]], version: int, following: str) -> dict[str, Any]:
    """Return the object of a list; ``following`` continues it, empty at the end."""
    metadata = {"resourceVersion": str(version), **({"continue": following} if following else {})}
    return {"metadata": metadata, "items": list(told)}


def version() -> dict[str, str]:
    """Return what `argo version` shows of a server; Hera wants each field."""
    words = ("buildDate", "compiler", "gitCommit", "gitTag", "gitTreeState", "goVersion", "platform")
    return {"version": VERSION, **dict.fromkeys(words, "")}


def _metadata(told: Told) -> dict[str, Any]:
    given = told.spec.manifest.get("metadata") or {}
    begins = {"generateName": given["generateName"]} if given.get("generateName") else {}
    return {
        "name": told.name,
        **begins,
        "namespace": told.namespace,
        "uid": told.run.id,
        "resourceVersion": str(told.version),
        "creationTimestamp": stamp(told.run.created),
        "labels": labels(told),
        "annotations": {**(given.get("annotations") or {}), _PODS: "v2"},
    }


def _spec(told: Told) -> dict[str, Any]:
    spec = dict(told.spec.manifest.get("spec") or {}) | ({"suspend": True} if told.run.suspended else {})
    return spec | ({"shutdown": strategy(told.run)} if told.run.status.state in (State.STOPPING, State.STOPPED) else {})


def _status(told: Told, *, tree: bool) -> dict[str, Any]:
    run, word = told.run, phase(told.run)
    status: dict[str, Any] = {"phase": word, "startedAt": stamp(run.created), "finishedAt": stamp(run.ended)}
    if message := _message(run):
        status["message"] = message
    ended = run.status.state.terminal
    status["conditions"] = [{"type": "Completed", "status": "True"}] if ended else []
    if not tree:
        return status
    try:
        found, _ = nodes(told, word)
    except RopewalkError as error:  # written under older rules
        return {**status, "message": status.get("message") or error.message}
    root = found.get(told.name) or {}
    drawn = {key: {name: value for name, value in one.items() if name != "_last"} for key, one in found.items()}
    return {**status, "progress": root.get("progress") or "0/0", **({"nodes": drawn} if drawn else {})}


def _message(run: Run) -> str:
    if run.status.state is State.STOPPED:
        return f"Stopped with strategy '{strategy(run)}'"
    return run.status.why.cause if run.status.why and run.status.state is State.FAILED else ""

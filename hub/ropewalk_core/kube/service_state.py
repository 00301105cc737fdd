"""The state of a service, from its Deployment, its pods and what was said about them. Pure.

Not here: asking the cluster (``services.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ropewalk_core.kube.kinds import Object
from ropewalk_core.model import State, Why
from ropewalk_core.why import cluster as why

MOST_ENDS = 5
"""Ends of the program in a row after which it has failed, as on one machine; the cluster goes on trying."""
_LOG = "Look at its log for the last lines, then launch it again."
_HOPELESS = frozenset({"InvalidImageName", "CreateContainerConfigError"})
_WHILE_IT_RUNS = frozenset({"Unhealthy", "NodeNotReady", "BackOff", "Killing"})


def judge(
    name: str, deployment: Object, pods: Iterable[Object], events: Iterable[Object] = ()
) -> tuple[State, Why | None]:
    """Return the state of a service that is there, and why it is not running.

    Parameters
    ----------
    name
        The service's.
    deployment, pods
        What there is of it.
    events
        What was said about its newest pod.
    """
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    if spec.get("replicas", 1) == 0:
        return State.STOPPED, Why(
            cause="It was scaled to nothing with kubectl or another tool.", next="Launch it again when you need it."
        )
    if _runs(deployment):
        return State.RUNNING, None
    late = next((one for one in _conditions(status) if one.get("reason") == "ProgressDeadlineExceeded"), None)
    pod = newest(pods)
    if pod is None:
        refused = next((one for one in _conditions(status) if one.get("type") == "ReplicaFailure"), None)
        if refused is None or refused.get("status") != "True":
            return State.STARTING, None
        return State.WAITING, why.from_message(str(refused.get("message")), reason=str(refused.get("reason")))
    ends = _ends(pod)
    told = _again_and_again(name, pod) or why.from_pod(pod, _fitting(pod, events, ends))
    if told is None:
        return State.STARTING, None
    failed = late is not None or ends >= MOST_ENDS or _waits_for(pod) in _HOPELESS
    return State.FAILED if failed else State.WAITING, told


def newest(pods: Iterable[Object]) -> Object | None:
    """Return the pod that was made last, one that is not being removed if there is one."""
    order = sorted(pods, key=lambda one: (not one["metadata"].get("deletionTimestamp"), _made(one)))
    return order[-1] if order else None


def _runs(deployment: Object) -> bool:
    metadata, status = deployment["metadata"], deployment.get("status") or {}
    current = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
    return current and int(status.get("updatedReplicas") or 0) > 0 and int(status.get("availableReplicas") or 0) > 0


def _conditions(status: Mapping[str, Any]) -> list[Object]:
    return list(status.get("conditions") or ())


def _containers(pod: Object) -> list[Object]:
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def _ends(pod: Object) -> int:
    return max((int(one.get("restartCount") or 0) for one in _containers(pod)), default=0)


def _waits_for(pod: Object) -> str:
    reasons = (((one.get("state") or {}).get("waiting") or {}).get("reason") for one in _containers(pod))
    return next((str(one) for one in reasons if one), "")


def _again_and_again(name: str, pod: Object) -> Why | None:
    """Return why a program that ends again and again did: its exit code says more than that it is being waited for."""
    for one in _containers(pod):
        ended = (one.get("lastState") or {}).get("terminated") or {}
        waiting = ((one.get("state") or {}).get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        if waiting and ended.get("exitCode") and ended.get("reason") == "Error":
            cause = f"The service '{name}' ended with exit code {ended['exitCode']}, {one.get('restartCount')} times."
            return Why(cause=cause, next=_LOG, code="RW-USER-CODE", raw=str(ended.get("message") or ""))
    return None


def _fitting(pod: Object, events: Iterable[Object], ends: int) -> list[Object]:
    """Return the events that say what is now: not why it waited once, nor that a program does not answer yet."""
    running = any("running" in (one.get("state") or {}) for one in _containers(pod))
    kept = [one for one in events if not running or one.get("reason") in _WHILE_IT_RUNS]
    return [one for one in kept if ends or not str(one.get("message")).startswith("Startup probe")]


def _made(one: Object) -> str:
    return str(one["metadata"].get("creationTimestamp") or "")

"""The state of a service on a cluster, from recorded objects."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk_core.kube.service_state import judge, newest
from ropewalk_core.model import State

PULL = (
    'Failed to pull image "r/x:1": failed to pull and unpack image "r/x:1": failed to resolve reference "r/x:1": '
    "r/x:1: not found"
)
QUOTA = (
    'pods "service--one-5d-x" is forbidden: exceeded quota: tenant, requested: limits.memory=512Mi, used: '
    "limits.memory=32Gi, limited: limits.memory=32Gi"
)
BUSY = "0/2 nodes are available: 2 Insufficient memory. preemption: 0/2 nodes are available: 2 No preemption victims."


def deployment(*, replicas: int = 1, seen: int = 3, available: int = 0, conditions: Any = ()) -> dict[str, Any]:
    status = {
        "observedGeneration": seen,
        "updatedReplicas": 1,
        "availableReplicas": available,
        "conditions": conditions,
    }
    return {"metadata": {"name": "service--one", "generation": 3}, "spec": {"replicas": replicas}, "status": status}


def pod(made: str = "2026-01-01T00:00:00Z", *, going: bool = False, **status: Any) -> dict[str, Any]:
    metadata = {"name": f"p-{made}", "creationTimestamp": made} | ({"deletionTimestamp": made} if going else {})
    return {"metadata": metadata, "status": status}


def container(state: dict[str, Any], *, last: dict[str, Any] | None = None, restarts: int = 0) -> dict[str, Any]:
    return {"containerStatuses": [{"state": state, "lastState": last or {}, "restartCount": restarts}]}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return container({"waiting": {"reason": reason, "message": message}}, **more)


ENDED = {"terminated": {"exitCode": 3, "reason": "Error"}}
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:01Z"}}
UNHEALTHY = {"type": "Warning", "reason": "Unhealthy", "message": "Startup probe failed: connection refused"}
MISSED = {"type": "Warning", "reason": "FailedScheduling", "message": BUSY}
UNREADY = {"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: HTTP 500"}
REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": BUSY}


@pytest.mark.parametrize(
    ("there", "pods", "events", "state", "says"),
    [
        (deployment(available=1), [pod(**container(RUNNING))], [], State.RUNNING, ""),
        (deployment(available=1, seen=2), [pod(**container(RUNNING))], [], State.STARTING, ""),
        (deployment(replicas=0), [], [], State.STOPPED, "scaled to nothing"),
        (deployment(), [], [], State.STARTING, ""),
        (deployment(conditions=[REFUSED]), [], [], State.WAITING, "limits.memory"),
        (deployment(), [pod(phase="Pending", conditions=[UNPLACED])], [], State.WAITING, "enough free memory"),
        (deployment(), [pod(**waiting("ContainerCreating"))], [], State.STARTING, ""),
        (deployment(), [pod(**waiting("ErrImagePull", PULL))], [], State.WAITING, "There is no image 'r/x:1'"),
        (deployment(conditions=[LATE]), [pod(**waiting("ErrImagePull", PULL))], [], State.FAILED, "no image"),
        (deployment(), [pod(**waiting("InvalidImageName"))], [], State.FAILED, "name cannot be read"),
        (deployment(), [pod(**container(RUNNING))], [UNHEALTHY], State.STARTING, ""),
        (deployment(), [pod(**container(RUNNING))], [MISSED], State.STARTING, ""),
        (deployment(), [pod(**container(RUNNING))], [UNREADY], State.WAITING, "HTTP 500"),
        (deployment(), [pod(**waiting("CrashLoopBackOff", last=ENDED, restarts=2))], [], State.WAITING, "exit code 3"),
        (deployment(), [pod(**waiting("CrashLoopBackOff", last=ENDED, restarts=5))], [], State.FAILED, "exit code 3"),
        (deployment(), [pod(**container(ENDED, restarts=1))], [], State.WAITING, "exit code 3"),
        (
            deployment(),
            [pod(**waiting("CrashLoopBackOff", last={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}))],
            [],
            State.WAITING,
            "ran out of memory",
        ),
    ],
)
def test_what_is_there_becomes_a_state(there: Any, pods: Any, events: Any, state: State, says: str) -> None:
    found, why = judge("one", there, pods, events)
    assert found is state
    assert (why is not None and says in why.cause) if says else why is None


def test_the_newest_pod_counts_and_not_one_that_goes() -> None:
    old, new, going = pod("2026-01-01T00:00:00Z"), pod("2026-01-02T00:00:00Z"), pod("2026-01-03T00:00:00Z", going=True)
    assert newest([new, going, old]) is new
    assert newest([going]) is going
    assert newest([]) is None

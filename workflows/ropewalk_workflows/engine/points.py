"""The moments at which a kill of the engine, or of the platform's desk, is interesting; tests kill there, one by one.

Whoever adds a transition adds its point here: a test goes over all of them and fails when one is never reached. A
process dies at a point only if ROPEWALK_CRASH_AT names it, which `ropewalk up` passes on to nobody. Not here: what is
proved then (tests). Rejected: killing at random moments (it finds the same few again and again), names that nothing
checks (a test with a wrong one would prove nothing and pass).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TypeAlias

from ropewalk_core.errors import BadInput

Crash: TypeAlias = Callable[[str], None]
"""Called with the name of each point as it is reached."""

VARIABLE = "ROPEWALK_CRASH_AT"
ENGINE = {
    "run-heard": "a run came from the desk and is not taken up yet",
    "kept-heard": "results of earlier runs came with it",
    "hold-heard": "it is to be suspended or to go on",
    "cancel-heard": "it is to be stopped",
    "lock-given": "a step may have its mutexes and does not hold them yet",
    "timer-set": "a wait was decided: before another attempt, of a pause, for a limit",
    "timer-due": "such a wait is over",
    "before-report": "what was decided is not on its way to the desk",
    "after-report": "it is durable, and nothing was done about it",
    "before-launch": "an attempt that is durable is not begun",
    "before-run": "its order is made and not given to the host",
    "order-taken": "the host has begun it",
    "after-run": "its end was heard",
    "outputs-read": "what it gave is read and not taken in",
    "before-end": "the host is not told yet to end an attempt",
    "after-end": "the host is told",
    "recovering": "an attempt of an engine that died is to be looked for",
    "recovered": "its outputs were looked for",
    "run-ended": "the end of a run is durable and the run is not forgotten",
}
"""Points of the engine's process, and what is so there."""
DESK = {
    "desk-taken-over": "a new engine's name is durable and it has heard of nothing",
    "desk-kept-read": "results of earlier runs are looked up for a run",
    "desk-hands-out": "runs are about to be handed out",
    "desk-before-commit": "a report was checked and is not written",
    "desk-after-commit": "it is durable, and the engine does not know",
}
"""Points of the platform's process."""


def nowhere(point: str) -> None:
    """Go on: what holds wherever no test asks for more."""


def killer(wanted: str) -> Crash:
    """Return what ends this process at once at a point: ``point``, or ``point:2`` the second time. Empty: nowhere.

    Raises
    ------
    BadInput
        If there is no such point.
    """
    point, _, count = wanted.partition(":")
    if not wanted:
        return nowhere
    if point not in ENGINE | DESK or not (count or "1").isdecimal():
        raise BadInput(
            f"{VARIABLE} names no point at which a process could end: {wanted[:100]!r}.",
            field=VARIABLE,
            hint="It is for tests only; unset it, or use a name of ropewalk_workflows/engine/points.py.",
        )
    left = [int(count or 1)]

    def crash(reached: str) -> None:
        left[0] -= reached == point
        if reached == point and left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return crash

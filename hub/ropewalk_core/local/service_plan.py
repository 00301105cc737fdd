"""What to do about one service: pure, from what is wanted and what is seen. The table of cases is the test.

Not here: doing it (``services.py``). Rejected: states that remember how they were reached; a killed platform would
forget them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ropewalk_core.model import State

MOST_FAILURES = 5
STEADY = 60.0
"""Seconds a service must have answered for its earlier failures to be forgotten."""


class Do(StrEnum):
    """The next act about one service."""

    START = "start"
    PROBE = "probe"
    KEEP = "keep"
    END = "end"
    PAUSE = "pause"
    GIVE_UP = "give up"
    FORGET = "forget"
    REST = "rest"


@dataclass(frozen=True)
class Have:
    """What is seen of one service.

    Parameters
    ----------
    alive
        A process of it lives.
    current
        That process was started from what is wanted now.
    ready
        It has answered.
    age
        Seconds since it was started.
    failures
        Starts in a row that ended or never answered.
    pause
        Seconds until it may be started again.
    """

    alive: bool = False
    current: bool = True
    ready: bool = False
    age: float = 0.0
    failures: int = 0
    pause: float = 0.0


def plan(state: State | None, have: Have, patience: float) -> Do:
    """Return the next act.

    Parameters
    ----------
    state
        The recorded state; None when nothing of this name is wanted.
    have
        What is seen.
    patience
        Seconds a start may take until it counts as failed.
    """
    if state is None or state is State.STOPPING:
        return Do.END if have.alive else Do.FORGET
    if state in (State.FAILED, State.STOPPED):
        return Do.END if have.alive else Do.REST
    if have.alive and (not have.current or (not have.ready and have.age > patience)):
        return Do.END
    if have.alive:
        return Do.KEEP if have.ready else Do.PROBE
    if have.failures >= MOST_FAILURES:
        return Do.GIVE_UP
    return Do.PAUSE if have.pause > 0 else Do.START


def pause_after(failures: int) -> float:
    """Return the seconds to wait before the next start: 1, 2, 4, ... 60."""
    return float(min(60, 2 ** max(0, failures - 1))) if failures else 0.0

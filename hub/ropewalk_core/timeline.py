"""When each step of a run waited and ran: rows, bars and marks of a picture (a Gantt chart). Pure.

A row is a step, or all steps of a wide fan-out, whose bars are then where at least one of them ran. Before a bar lies
when its step was free to start and did not. Places are in the picture's own units and say nothing of colors: the
notebook's cards and the run's page draw the same rows, each in its own way. Not here: text of people, which whoever
draws escapes. Rejected: a row for each step of a wide fan-out (nobody reads 5,000 rows), and a chart library (a page
would load it, a saved notebook lose it).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ropewalk_core.flows import Run, Step
from ropewalk_core.model import State

WIDE, ROW, TOP = 720, 20, 22
LEFT = 168
"""Where the bars begin; names stand before it."""
_THICK, _THIN = 10, 2
_RIGHT = 64
_MANY = 10
_LETTERS = 24
_MARKS = 6
_NARROWEST = 2.0
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_Place: TypeAlias = Callable[[float], float]
_WORST = (State.FAILED, State.RUNNING, State.STARTING, State.STOPPING, State.WAITING, State.ASKED, State.STOPPED)


@dataclass(frozen=True)
class Bar:
    """A stretch of time: thin while a step waited for room, thick while it ran."""

    x: float
    y: float
    width: float
    height: float
    state: State
    waited: bool = False


@dataclass(frozen=True)
class Row:
    """A step, or many alike: its name, its bars, and how long it took, with where to write both."""

    id: str
    label: str
    y: int
    bars: tuple[Bar, ...]
    state: State
    words: str
    took: str
    end: float
    count: int = 1

    @property
    def title(self) -> str:
        """All of it in one line, for whoever does not see the picture."""
        return f"{self.label}: {self.words}"


@dataclass(frozen=True)
class Mark:
    """A moment of the run's time, in seconds since it was asked for."""

    x: float
    words: str


@dataclass(frozen=True)
class Timeline:
    """A picture of its own height; ``left_out`` rows have no place in it."""

    rows: tuple[Row, ...]
    marks: tuple[Mark, ...]
    height: int
    seconds: float
    left_out: int = 0

    @property
    def said(self) -> str:
        """What the picture shows, in words."""
        return f"{len(self.rows)} rows over {span(self.seconds)}: " + "; ".join(row.title for row in self.rows[:12])


def lay(run: Run, now: float, *, most: int = 40) -> Timeline:
    """Return the picture of a run as it is now, its rows in the order in which they began.

    Parameters
    ----------
    run
        With its steps.
    now
        Unix time in seconds, up to which what goes on is drawn.
    most
        Rows at most; what began later is counted in ``left_out``.
    """
    ends = {step.id: step.ended for step in run.steps}
    groups = sorted(_rows(run.steps), key=lambda group: min(one.started or now for one in group))
    starts = [one.started for one in run.steps if one.started is not None]
    start = min([run.created, *starts])
    # A clock that was set back meanwhile tells of ends before starts: all of it is drawn all the same.
    end = max([run.ended or now, run.created, *starts, *(one for one in ends.values() if one is not None)])
    seconds = max(end - start, 0.001)
    per_second = (WIDE - LEFT - _RIGHT) / seconds

    def at(moment: float) -> float:
        return round(LEFT + (min(max(moment, start), end) - start) * per_second, 1)

    rows = tuple(
        _row(group, TOP + number * ROW, ends, run.created, end, at) for number, group in enumerate(groups[:most])
    )
    marks = tuple(Mark(at(start + moment), span(moment)) for moment in _moments(seconds))
    return Timeline(rows, marks, TOP + len(rows) * ROW + 4, seconds, max(0, len(groups) - most))


def span(seconds: float) -> str:
    """Return a time with one unit or two: ``120 ms``, ``2.5 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds == 0:
        return "0"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def short(text: str, letters: int = _LETTERS) -> str:
    """Return a name that fits before the bars."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _rows(steps: Sequence[Step]) -> list[list[Step]]:
    """Return the steps that share a row: alike ones where they are many, else each alone."""
    groups: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.kind == "step":
            groups[step.template or _stem(step.name)].append(step)
    return [
        some for group in groups.values() for some in ([group] if len(group) >= _MANY else [[one] for one in group])
    ]


def _row(group: list[Step], top: int, ends: Mapping[str, float | None], created: float, end: float, at: _Place) -> Row:
    bars = [*_waits(group, ends, created, end), *_runs(group, end)]
    drawn = tuple(
        Bar(
            at(start),
            top + (ROW - (_THIN if waited else _THICK)) / 2,
            max(round(at(stop) - at(start), 1), 0.0 if waited else _NARROWEST),
            _THIN if waited else _THICK,
            state,
            waited,
        )
        for start, stop, state, waited in bars
    )
    state = worst(one.status.state for one in group)
    first = group[0]
    label = first.name if len(group) == 1 else f"{first.template or _stem(first.name)} \u00d7 {len(group)}"
    last = max((one.x + one.width for one in drawn), default=float(LEFT))
    return Row(first.id, label, top, drawn, state, _words(group, end), _took(group, end), last, len(group))


def _waits(
    group: list[Step], ends: Mapping[str, float | None], created: float, end: float
) -> Iterable[tuple[float, float, State, bool]]:
    """Yield from when to when a lone step was free to start and did not."""
    if len(group) != 1:
        return
    needed = [ends.get(need) for need in group[0].needs]
    if any(one is None for one in needed) or (group[0].started is None and group[0].status.state.terminal):
        return
    free = max([created, *(one for one in needed if one is not None)])
    start = end if group[0].started is None else group[0].started
    if start > free:
        yield free, start, State.WAITING, True


def _runs(group: list[Step], end: float) -> Iterable[tuple[float, float, State, bool]]:
    """Yield the stretches in which at least one of the steps ran, and what is worst of those in it."""
    spans = sorted(
        (
            (one.started, max(one.ended or end, one.started), one.status.state)
            for one in group
            if one.started is not None
        ),
        key=lambda one: (one[0], one[1]),
    )
    if not spans:
        return
    start, stop, inside = spans[0][0], spans[0][1], [spans[0][2]]
    for begins, ends, state in spans[1:]:
        if begins > stop:
            yield start, stop, worst(inside), False
            start, stop, inside = begins, ends, [state]
        else:
            stop, inside = max(stop, ends), [*inside, state] if state not in inside else inside
    yield start, stop, worst(inside), False


def worst(states: Iterable[State]) -> State:
    """Return what matters most of several states: a failure first, done only when all are."""
    present = set(states)
    return next((one for one in _WORST if one in present), State.DONE)


def _words(group: list[Step], end: float) -> str:
    if len(group) > 1:
        counts = Counter(one.status.state for one in group)
        return ", ".join(f"{counts[one]} {one.value}" for one in State if counts[one])
    one = group[0]
    note = f" ({one.status.note})" if one.status.note else ""
    took = _took(group, end)
    return f"{one.status.state.value}{note}{f', {took}' if took else ''}"


def _took(group: list[Step], end: float) -> str:
    """Return how long it took from the first start to the last end; empty for what did not start."""
    starts = [one.started for one in group if one.started is not None]
    ends = [one.ended or end for one in group if one.started is not None]
    return span(max(max(ends) - min(starts), 0.0)) if starts else ""


def _moments(seconds: float) -> list[float]:
    """Return round moments from 0 on, as many as can be told apart."""
    step = next((one for one in _STEPS if seconds / one <= _MARKS), None) or _hours(seconds)
    return [number * step for number in range(int(seconds / step) + 1)]


def _hours(seconds: float) -> float:
    hours = 3600.0
    while seconds / hours > _MARKS:
        hours *= 2
    return hours


def _stem(name: str) -> str:
    return re.sub(r"\(.*\)$|-\d+$", "", name)

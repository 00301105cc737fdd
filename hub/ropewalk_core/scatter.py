"""Where the points of a drawing stand: one column of a comparison against another. Pure.

Places and words, from which a page and a card each make an SVG and escape the words. Who does not see it has the same
numbers as a table beside it. Not here: choosing columns (``comparison``). Rejected: a plotting library (as ``plots``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ropewalk_core import comparison
from ropewalk_core.flows import Compared

WIDE, HIGH = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 12, 32
_MOST_WORDS = 12
"""Different texts along one axis."""
_LETTERS = 14
_LARGEST = 1e150
_MANY_TIMES = 100.0
"""From this ratio on between the largest and the smallest an axis is logarithmic."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    words: str


@dataclass(frozen=True)
class Point:
    """One run."""

    run: str
    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Scatter:
    """A drawing that is laid out; ``left_out`` runs have nothing in one of both columns, or no place on the axis."""

    x: str
    y: str
    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    left_out: int
    logarithmic: tuple[str, ...]

    @property
    def label(self) -> str:
        """What it shows, in words."""
        note = f"; {' and '.join(self.logarithmic)} on a logarithmic axis" if self.logarithmic else ""
        return f"{self.y} against {self.x}, {len(self.points)} run{'' if len(self.points) == 1 else 's'}{note}"


def lay(rows: Sequence[Compared], x: str, y: str) -> Scatter | None:
    """Return the drawing of a column against another, which must hold numbers; None where there is no point."""
    pairs = [(one, comparison.value(one, x), comparison.number(comparison.value(one, y))) for one in rows]
    there = [(one, left, up) for one, left, up in pairs if left is not None and up is not None and abs(up) < _LARGEST]
    if not there:
        return None
    across = _axis([left for _, left, _ in there], LEFT, WIDE - RIGHT)
    upward = _axis([up for _, _, up in there], HIGH - BOTTOM, TOP)
    points = []
    for one, left, up in there:
        place, height = across.place(left), upward.place(up)
        if place is not None and height is not None:
            title = f"{one.run}: {x} {comparison.words(left)}, {y} {comparison.words(up)}"
            points.append(Point(one.run, round(place, 1), round(height, 1), title))
    logarithmic = tuple(name for name, axis in ((x, across), (y, upward)) if axis.logarithmic)
    return Scatter(x, y, tuple(points), across.ticks, upward.ticks, len(rows) - len(points), logarithmic)


class _Axis:
    """From values to places: numbers evenly or by their logarithm, else each text at a place of its own."""

    logarithmic = False
    ticks: tuple[Tick, ...] = ()

    def place(self, value: object) -> float | None:
        """Return where a value stands, or None where it has no place."""
        raise NotImplementedError


class _Numbers(_Axis):
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        self.logarithmic = low > 0 and high / low >= _MANY_TIMES
        self._start, self._end = start, end
        self._low, self._high = self._scaled(low), self._scaled(high)
        room = (self._high - self._low) * 0.05 or abs(self._low) * 0.5 or 1.0
        self._low, self._high = self._low - room, self._high + room
        self.ticks = tuple(Tick(round(self._at(one), 1), self._words(one)) for one in _round(self._low, self._high))

    def place(self, value: object) -> float | None:
        known = comparison.number(value)
        return None if known is None else self._at(self._scaled(known))

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def _at(self, scaled: float) -> float:
        return self._start + (scaled - self._low) / (self._high - self._low) * (self._end - self._start)

    def _words(self, scaled: float) -> str:
        return f"{10.0**scaled:.3g}" if self.logarithmic else f"{scaled:.6g}"


class _Words(_Axis):
    def __init__(self, values: Sequence[object], start: float, end: float) -> None:
        known = sorted({comparison.words(one) for one in values})[:_MOST_WORDS]
        width = (end - start) / len(known)
        self._places = {one: start + (at + 0.5) * width for at, one in enumerate(known)}
        self.ticks = tuple(Tick(round(at, 1), _brief(one)) for one, at in self._places.items())

    def place(self, value: object) -> float | None:
        return self._places.get(comparison.words(value))


def _axis(values: Sequence[object], start: float, end: float) -> _Axis:
    known = [comparison.number(one) for one in values]
    found = [one for one in known if one is not None and abs(one) < _LARGEST]
    return _Numbers(found, start, end) if len(found) == len(values) else _Words(values, start, end)


def _round(low: float, high: float) -> list[float]:
    """Return at most seven round numbers between two."""
    rough = (high - low) / 6
    size = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next((size * one for one in (1, 2, 5) if size * one >= rough), size * 10)
    first = math.ceil(low / step)
    return [at * step for at in range(first, first + 8) if at * step <= high]


def _brief(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}\u2026"

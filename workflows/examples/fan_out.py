"""Fan out over settings with a list comprehension, and join: the best of several models wins.

A plain Python loop is enough. The results need not be JSON: here they are objects of a class of one's own, and they
travel as files.
"""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk import step, workflow

POINTS = [(0.0, 1.0), (1.0, 3.1), (2.0, 4.9), (3.0, 7.2)]


@dataclass(frozen=True)
class Line:
    slope: float
    error: float


@step
def fit(slope: float) -> Line:
    error = sum((slope * x + 1.0 - y) ** 2 for x, y in POINTS)
    print(f"slope {slope}: error {error:.3f}")  # noqa: T201 - the step's log
    return Line(slope, round(error, 6))


@step
def best(lines: list[Line]) -> float:
    return min(lines, key=lambda one: one.error).slope


@workflow
def choose_slope(slopes: tuple[float, ...] = (1.0, 1.5, 2.0, 2.5)) -> object:
    return best([fit(slope) for slope in slopes])


EXAMPLE, ARGUMENTS, RESULT = choose_slope, {}, 2.0

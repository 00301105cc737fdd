"""Run a notebook as a step: its parameters are those of its tagged cell, its result what a cell says."""

from __future__ import annotations

from pathlib import Path

from ropewalk import notebook, step, workflow

report = notebook(Path(__file__).with_name("report.ipynb"))


@step
def measured(count: int) -> list[int]:
    return list(range(count))


@step
def told(found: dict[str, float]) -> str:
    return f"{found['total']:g} at {found['rate']:g}"


@workflow
def reported(count: int = 4, rate: float = 0.25) -> object:
    return told(report(rate=rate, values=measured(count)))


EXAMPLE, ARGUMENTS, RESULT = reported, {}, "1.5 at 0.25"

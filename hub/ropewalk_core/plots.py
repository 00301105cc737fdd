"""Figures as two small drawings and a sentence, the same on a page, in a notebook and at a prompt. Pure.

The drawings are SVG made of numbers only, so that nothing that a person wrote can be in them; colors are the classes'.
Who does not see them has the sentence as their label and the same numbers as a table, which whoever shows them puts
beside. Not here: fetching figures. Rejected: a plotting library (a page would load it, a saved notebook lose it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ropewalk_core.model import Figure, Figures

WIDE, HIGH = 720, 88
_STEPS = {60: "minute", 900: "quarter of an hour"}
_TIMES: dict[str, Callable[[Figure], float | None]] = {
    "p99": lambda one: one.p99,
    "p95": lambda one: one.p95,
    "p50": lambda one: one.p50,
}


def span(seconds: float | None) -> str:
    """Return a time in one unit with the digits that are sure: ``0.85 ms``, ``12 ms``, ``1.2 s``, ``3.5 min``."""
    if seconds is None:
        return ""
    for size, unit in ((60.0, "min"), (1.0, "s"), (0.001, "ms")):
        if seconds >= size or unit == "ms":
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.2g} {unit}"
    raise AssertionError("unreachable")


def moment(figures: Figures) -> str:
    """Return the window in words."""
    return f"in the last {figures.window}, by {_STEPS.get(figures.step, f'{figures.step} s')}"


def said(one: Figure) -> str:
    """Return what a stretch of time was like, as one sentence."""
    if not one.calls:
        return "No calls."
    parts = [f"{one.calls:,} call{'' if one.calls == 1 else 's'}"]
    parts += [
        f"{count:,} {word}" for count, word in ((one.errors, "failed"), (one.left, "left by their caller")) if count
    ]
    parts += [f"{one.cold:,} cold"] if one.cold else []
    if one.p50 is not None:
        parts.append(f"p50 {span(one.p50)}, p95 {span(one.p95)}, p99 {span(one.p99)}")
    if one.unkept:
        parts.append(f"{one.unkept:,} without a record, because more came than are kept")
    return ", ".join(parts) + "."


def rows(figures: Figures) -> Iterator[Figure]:
    """Yield the bars in which there were calls, the latest first."""
    return (one for one in reversed(figures.bars) if one.calls)


def calls(figures: Figures) -> str:
    """Return the drawing of how many calls there were, and how many of them failed."""
    most = max((*(one.calls for one in figures.bars), 1))
    width = WIDE / max(1, len(figures.bars))
    parts = []
    for at, one in enumerate(figures.bars):
        for kind, count in (("calls", one.calls), ("errors", one.errors)):
            if count:
                high = max(1.0, count / most * HIGH)
                parts.append(
                    f'<rect class="plot-{kind}" x="{at * width:.1f}" y="{HIGH - high:.1f}"'
                    f' width="{width - 1:.1f}" height="{high:.1f}"/>'
                )
    total = figures.total
    return _drawing(f"Calls {moment(figures)}: {total.calls}, of them {total.errors} failed", parts)


def times(figures: Figures) -> str:
    """Return the drawing of p50, p95 and p99 over time; where there were no calls, the lines have gaps."""
    most = longest(figures) or 1.0
    width = WIDE / max(1, len(figures.bars))
    parts = []
    for name, pick in _TIMES.items():
        path: list[str] = []
        before = False
        for at, one in enumerate(figures.bars):
            value = pick(one)
            if value is not None:
                place = f"{(at + 0.5) * width:.1f} {HIGH - value / most * (HIGH - 2) - 1:.1f}"
                path.append(f"L{place}" if before else f"M{place}h0")
            before = value is not None
        if path:
            parts.append(f'<path class="plot-{name}" d="{"".join(path)}"/>')
    one = figures.total
    words = f"p50 {span(one.p50)}, p95 {span(one.p95)}, p99 {span(one.p99)}" if one.p50 is not None else "no calls"
    return _drawing(f"Times {moment(figures)}: {words}", parts)


def longest(figures: Figures) -> float:
    """Return the time at the top of the drawing of times, in seconds; 0 if there is none."""
    return max((one.p99 or 0.0 for one in figures.bars), default=0.0)


def busiest(figures: Figures) -> int:
    """Return the number of calls at the top of the drawing of calls."""
    return max((one.calls for one in figures.bars), default=0)


def _drawing(label: str, parts: list[str]) -> str:
    base = f'<path class="plot-base" d="M0 {HIGH - 0.5}h{WIDE}"/>'
    return (
        f'<svg class="plot" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" preserveAspectRatio="none"'
        f' role="img" aria-label="{label}">{base}{"".join(parts)}</svg>'
    )

"""What became of a function's calls, in a notebook: figures as two drawings, costs as a table.

Not here: the calls themselves, which are a list (``functions``); arithmetic and drawing (``ropewalk_core``).
"""

from __future__ import annotations

import time

from ropewalk_core import plots, sync
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Costs, Figure, Figures, Spent, Window
from ropewalk_kernel import cards, look

_HEAD = ("from", "calls", "failed", "cold", "p50", "p95", "p99", "CPU", "memory")


class ShownFigures(cards.Pictured):
    """Figures that read well in a notebook; ``total`` and ``bars`` are the numbers, in seconds.

    Parameters
    ----------
    figures
        What the platform told.
    """

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    @property
    def total(self) -> Figure:
        """The whole window."""
        return self.figures.total

    @property
    def bars(self) -> tuple[Figure, ...]:
        """Its minutes, or quarters of an hour, oldest first."""
        return self.figures.bars

    def _picture(self) -> cards.Picture:
        found = self.figures
        clock = "%H:%M" if found.window == "hour" else "%a %H:%M"
        rows = [_row(time.strftime(clock, time.localtime(one.at)), one) for one in plots.rows(found)]
        line = f"function {found.function}, {plots.moment(found)}"
        sentence = plots.said(found.total)
        if not rows:
            return cards.notice(f"{line}: {sentence}")
        html = (
            f"<div>{look.text(sentence)}</div>"
            f'<div class="rw-dim">calls, failed ones in red; at most {plots.busiest(found):,} at once</div>'
            f"{plots.calls(found)}"
            f'<div class="rw-dim">p50, p95, p99; up to {look.text(plots.span(plots.longest(found)))}</div>'
            f"{plots.times(found)}"
            f"<details><summary>as a table</summary>{look.table(_HEAD, rows)}</details>"
        )
        text = "\n".join([f"{line}: {sentence}", look.columns(_HEAD, rows)])
        return cards.framed(line, html, text)


class ShownCosts(cards.Pictured):
    """Costs by day that read well in a notebook; ``days`` are the numbers.

    Parameters
    ----------
    costs
        What the platform told.
    """

    def __init__(self, costs: Costs) -> None:
        self.costs = costs

    @property
    def days(self) -> tuple[Spent, ...]:
        """The days, the latest first."""
        return self.costs.days

    def _picture(self) -> cards.Picture:
        rows = [
            (one.day, f"{one.calls:,}", f"{one.cpu:,.3f} s", f"{one.gb_seconds:,.1f} GB-s") for one in self.costs.days
        ]
        title = f"costs of {self.costs.function or 'all functions'}"
        empty = "No calls in the last month."
        return cards.listing(title, ("day", "calls", "CPU", "memory"), rows, empty=empty)


def figures(name: str, window: Window) -> ShownFigures:
    """Return the figures of a function."""
    if window not in ("hour", "day"):
        raise BadInput(f"window is {window!r}.", field="window", hint='Write "hour" or "day".')
    return ShownFigures(sync.wait(sync.client().functions.figures(name, window=window)))


def costs(name: str = "") -> ShownCosts:
    """Return what a function, or without a name all of them, cost by day."""
    return ShownCosts(sync.wait(sync.client().functions.costs(name)))


def _row(moment: str, one: Figure) -> tuple[str, ...]:
    times = (plots.span(one.p50), plots.span(one.p95), plots.span(one.p99))
    cost = (f"{one.cpu:.3f} s", f"{one.gb_seconds:.1f} GB-s")
    return (moment, str(one.calls), str(one.errors), str(one.cold), *times, *cost)

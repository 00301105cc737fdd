"""Runs of one workflow side by side, in a notebook: a table that reads like a data frame, and a drawing.

Not here: what a metric is and how rows are ordered (``ropewalk_core.comparison``), where points stand (``scatter``).
Rejected: a data frame as such (pandas may not be there, and its HTML is a stranger's in a saved notebook).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from ropewalk_core import comparison, scatter, sync
from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.flows import Compared
from ropewalk_core.flows import Comparison as Found
from ropewalk_kernel import cards, look

_ROWS, _COLUMNS = 20, 10


class Comparison(cards.Pictured):
    """Runs of a workflow with what they were given and the numbers that they returned.

    Iterate over it for rows; ``rows`` are the runs, ``columns`` the names, ``comparison["accuracy"]`` is one column.

    Parameters
    ----------
    found
        What the platform told.
    sort
        By which column the rows are ordered, ``-name`` from the largest; the newest run comes first without.
    """

    def __init__(self, found: Found, sort: str = "") -> None:
        self._known = comparison.columns(found.rows)
        self.found = found
        self.rows: Sequence[Compared] = comparison.ordered(found.rows, sort, self._known)

    @property
    def columns(self) -> list[str]:
        """Names of parameters, then of metrics; ``seconds`` is how long a run took."""
        return [one.name for one in self._known]

    @property
    def steps(self) -> tuple[str, ...]:
        """Steps that returned numbers: ``steps=[...]`` has them in the table too."""
        return self.found.steps

    def sort(self, column: str) -> Comparison:
        """Return the same runs ordered by a column, ``-name`` from the largest; what has nothing there comes last."""
        return Comparison(self.found, column)

    def frame(self) -> Any:
        """Return a pandas data frame: a row for each run, by its identifier.

        Raises
        ------
        NotFound
            If there is no pandas.
        """
        try:
            import pandas  # type: ignore[import-untyped,unused-ignore]  # half a second, and not everybody's
        except ImportError:
            raise NotFound("There is no pandas here.", hint="Run `%pip install pandas`, then try again.") from None
        facts: dict[str, list[Any]] = {
            "state": [one.status.state.value for one in self.rows],
            "started": [datetime.fromtimestamp(one.created, UTC) for one in self.rows],
        }
        own = {name: self[name] for name in self.columns}
        return pandas.DataFrame(facts | own, index=pandas.Index([one.run for one in self.rows], name="run"))

    def plot(self, x: str = "", y: str = "") -> cards.Picture:
        """Return a drawing of one column against a metric; without names of what differs between the runs.

        Raises
        ------
        NotFound
            If there is no such column.
        BadInput
            If no run has both.
        """
        first, second = comparison.axes(self._known)
        x, y = x or first, y or second
        comparison.check([one for one in (x, y) if one], self._known)
        drawing = scatter.lay(self.rows, x, y) if x and y else None
        if drawing is None:
            raise BadInput("No run has both, a value across and a number upward.", field="x", hint=_hint())
        points = [(comparison.value(one, x), comparison.value(one, y), one.run) for one in self.rows]
        rows = [
            (comparison.words(left), comparison.words(up), run)
            for left, up, run in points
            if left is not None and up is not None
        ]
        return cards.framed(drawing.label, _svg(drawing), look.columns((x, y, "run"), rows))

    def __getitem__(self, column: str) -> list[Any]:
        comparison.check([column], self._known)
        return [comparison.value(one, column) for one in self.rows]

    def _ipython_key_completions_(self) -> list[str]:
        return self.columns

    def __iter__(self) -> Iterator[Compared]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def _picture(self) -> cards.Picture:
        some = sorted(self._known, key=lambda one: not one.varies)[:_COLUMNS]
        names = [one.name for one in self._known if one in some]
        head = ("run", "state", *names)
        shown = self.rows[:_ROWS]
        rows = [
            (one.run, look.word(one.status), *(comparison.words(comparison.value(one, name)) for name in names))
            for one in shown
        ]
        left = [f"{len(self.rows) - len(shown):,} more runs: .frame() has all of them"] * (len(self.rows) > len(shown))
        left += [f"{len(self._known) - len(some)} more columns: .columns names them"] * (len(self._known) > len(some))
        x, y = comparison.axes(self._known)
        drawing = scatter.lay(self.rows, x, y) if x and y and len(self.rows) > 1 else None
        picture = f'<div class="rw-dim">{look.text(drawing.label)}</div>{_svg(drawing)}' if drawing else ""
        notes = "".join(f'<div class="rw-dim">{look.text(one)}</div>' for one in left)
        line = comparison.said(self.found)
        table = f'<div style="overflow-x:auto">{look.table(head, rows)}</div>'
        return cards.framed(line, f"{table}{notes}{picture}", "\n".join([line, look.columns(head, rows), *left]))


def compare(name: str, steps: Sequence[str] = (), limit: int = comparison.MOST_RUNS) -> Comparison:
    """Return the latest runs of a workflow side by side."""
    if isinstance(steps, str):
        raise BadInput("steps is one text.", field="steps", hint=f'Write a list: steps=["{steps}"].')
    return Comparison(sync.wait(sync.client().workflows.compare(name, steps=steps, limit=limit)))


def _hint() -> str:
    return "A workflow that returns a number, or a dictionary of numbers, has a metric."


def _svg(drawing: scatter.Scatter) -> str:
    """Return the drawing; colors are the card's own, so that light and dark both work."""
    parts = []
    for one in drawing.up:
        parts.append(f'<path d="M{scatter.LEFT} {one.at}H{scatter.WIDE - scatter.RIGHT}" stroke="#8886"/>')
        parts.append(_words(scatter.LEFT - 8, one.at + 4, "end", one.words))
    for one in drawing.across:
        parts.append(f'<path d="M{one.at} {scatter.TOP}V{scatter.HIGH - scatter.BOTTOM}" stroke="#8886"/>')
        parts.append(_words(one.at, scatter.HIGH - 14, "middle", one.words))
    for point in drawing.points:
        parts.append(
            f'<circle cx="{point.x}" cy="{point.y}" r="4.5" fill="var(--rw-calm)" fill-opacity=".75">'
            f"<title>{look.text(point.title)}</title></circle>"
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {scatter.WIDE} {scatter.HIGH}" width="{scatter.WIDE}" '
        f'height="{scatter.HIGH}" role="img" aria-label="{look.text(drawing.label)}">{"".join(parts)}</svg>'
    )


def _words(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="rw-small">{look.text(words)}</text>'

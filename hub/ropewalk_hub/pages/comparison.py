"""The page that shows runs of one workflow side by side; what it shows is all in its address.

Columns, order, both axes and the part of the table are chosen by plain links and one form, without scripts. Not here:
what a metric is (``ropewalk_core.comparison``) and where points stand (``scatter``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from ropewalk_core import comparison, scatter
from ropewalk_core.comparison import Column
from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Comparison
from ropewalk_core.model import Actor
from ropewalk_hub.pages.common import PAGE, Its, every
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed

router = APIRouter(include_in_schema=False)
_SHOWN = 12
"""Columns that are shown where nobody chose."""
_PATH = "/workflows/compare"
Several = Annotated[list[str] | None, Query()]


@dataclass(frozen=True)
class Chosen:
    """What the address asks for; what is empty is chosen for the person."""

    name: str = ""
    step: tuple[str, ...] = ()
    column: tuple[str, ...] = ()
    sort: str = ""
    x: str = ""
    y: str = ""
    row: int = 0

    def link(self, **changes: object) -> str:
        """Return the address with changes; another order starts at the first row."""
        asked = replace(self, **({} if "row" in changes else {"row": 0}), **changes)  # type: ignore[arg-type]
        pairs = [(name, one) for name in ("step", "column") for one in getattr(asked, name)]
        pairs += [(name, getattr(asked, name)) for name in ("sort", "x", "y", "row") if getattr(asked, name)]
        return f"{_PATH}?{urlencode([('name', asked.name), *pairs])}"

    def by(self, column: str) -> str:
        """Return the address in which this column orders the table: from the largest, or else the smallest."""
        return self.link(sort=column if self.sort == f"-{column}" else f"-{column}")

    def order(self, column: str) -> str:
        """Return how a column orders the table, as assistive technology has it."""
        return {f"-{column}": "descending", column: "ascending"}.get(self.sort, "none")


def _chosen(
    name: str = "",
    step: Several = None,
    column: Several = None,
    sort: str = "",
    x: str = "",
    y: str = "",
    row: Annotated[int, Query(ge=0, le=comparison.MOST_RUNS)] = 0,
) -> Chosen:
    steps = tuple(step or ())[: comparison.MOST_STEPS]
    return Chosen(name.strip(), steps, tuple(column or ()), sort, x, y, row)


@router.get(_PATH)
async def compare(request: Request, actor: Signed, its: Its, chosen: Annotated[Chosen, Depends(_chosen)]) -> Response:
    """Show runs of one workflow as a table, with a drawing of one column against another."""
    found, problem = await _found(its, actor, chosen)
    if found is None:
        ran = await _names(its, actor)
        return render(request, "comparisons.html", names=ran, problem=problem, status_code=404 if problem else 200)
    known = comparison.columns(found.rows)
    names = {one.name for one in known}
    shown = _shown(known, chosen)
    sort = chosen.sort if chosen.sort.removeprefix("-") in names or chosen.sort in names else ""
    chosen = replace(
        chosen, sort=sort, x=chosen.x if chosen.x in names else "", y=chosen.y if chosen.y in names else ""
    )
    x, y = comparison.axes(known)
    x, y = chosen.x or x, chosen.y or y
    rows = comparison.ordered(found.rows, sort, known)
    first = min(chosen.row, len(rows) - 1) // PAGE * PAGE
    return render(
        request,
        "compare.html",
        found=found,
        chosen=chosen,
        x=x,
        y=y,
        columns=known,
        shown=shown,
        rows=rows[first : first + PAGE],
        first=first,
        most=PAGE,
        value=comparison.value,
        words=comparison.words,
        said=comparison.said(found),
        drawing=scatter.lay(found.rows, x, y) if x and y else None,
        size=scatter,
        steps=list(dict.fromkeys([*found.steps, *chosen.step])),
        python=_python(chosen),
        command=f"ropewalk workflows compare {found.name}"
        + "".join(f" --step {one}" for one in chosen.step)
        + (f" --sort={sort}" if sort else ""),
    )


async def _found(its: Platform, actor: Actor, chosen: Chosen) -> tuple[Comparison | None, str]:
    """Return the runs, or why there are none."""
    if not chosen.name:
        return None, ""
    try:
        return await its.workflows.compare(actor, actor.account, chosen.name, steps=chosen.step), ""
    except NotFound as error:
        return None, error.message


async def _names(its: Platform, actor: Actor) -> dict[str, int]:
    """Return the names of workflows that ran lately, each with how many of its runs were seen."""
    runs = await every(lambda after, limit: its.workflows.list(actor, actor.account, after=after, limit=limit))
    counts: dict[str, int] = {}
    for one in runs:
        counts[one.name] = counts.get(one.name, 0) + 1
    return counts


def _shown(known: list[Column], chosen: Chosen) -> list[Column]:
    """Return the chosen columns; where none are chosen, those in which runs differ come before the others."""
    if found := [one for one in known if one.name in chosen.column]:
        return found
    some = sorted(known, key=lambda one: not one.varies)[:_SHOWN]
    return [one for one in known if one in some]


def _python(chosen: Chosen) -> str:
    steps = f", steps={list(chosen.step)!r}" if chosen.step else ""
    return f"import ropewalk\n\nropewalk.runs.compare({chosen.name!r}{steps})"

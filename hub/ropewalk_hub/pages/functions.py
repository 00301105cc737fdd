"""Pages of functions: the table, one function with its calls and revisions, and the form that tries it.

Not here: running anything; the try-it form goes through the port, as every caller does. Rejected: showing a traceback
to anybody but its owner; these pages show the signed-in person's own functions only.
"""

from __future__ import annotations

import asyncio
import json
import keyword
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ropewalk_core import samples
from ropewalk_core.errors import BadInput, RopewalkError
from ropewalk_core.model import Actor, Call, Function, State
from ropewalk_core.revisions import stories
from ropewalk_hub.pages.common import Its, Viewed, hit, or_none, search, see
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed

router = APIRouter(include_in_schema=False)
_STATES = (State.RUNNING, State.IDLE, State.FAILED)
_BARS = 30
_SHOWN = 100_000


@dataclass(frozen=True)
class Figures:
    """What the latest calls say.

    Parameters
    ----------
    bars
        Calls in each of the last 30 minutes, oldest first.
    """

    calls: int = 0
    errors: int = 0
    p95: float | None = None
    last: float | None = None
    bars: tuple[int, ...] = ()

    @property
    def most(self) -> int:
        """The highest bar, at least one."""
        return max((*self.bars, 1))


def figures(calls: Sequence[Call], now: float) -> Figures:
    """Return the figures of the latest calls."""
    times = sorted(one.ended - one.started for one in calls if one.ended is not None)
    bars = [0] * _BARS
    for one in calls:
        minute = int((now - one.started) // 60)
        if 0 <= minute < _BARS:
            bars[_BARS - 1 - minute] += 1
    return Figures(
        calls=len(calls),
        errors=sum(one.state is State.FAILED for one in calls),
        p95=times[math.ceil(0.95 * len(times)) - 1] if times else None,
        last=max((one.started for one in calls), default=None),
        bars=tuple(bars),
    )


@dataclass(frozen=True)
class Try:
    """What the try-it form shows: the payload (None for a sample), and the answer or the failure."""

    payload: str | None = None
    answer: str | None = None
    seconds: float = 0.0
    problem: dict[str, object] | None = None
    traceback: str = ""


@router.get("/functions")
async def functions(request: Request, actor: Signed, its: Its, view: Viewed) -> Response:
    """Show my functions as a table."""
    owner = actor.account
    listing = await search(
        lambda after, limit: its.functions.list(actor, owner, after=after, limit=limit),
        lambda one: hit(view, one.status.state, one.name),
        view,
    )
    rows = await asyncio.gather(*(_row(its, actor, one) for one in listing.items))
    return render(request, "functions.html", listing=listing, rows=rows, view=view, states=_STATES)


async def _row(its: Platform, actor: Actor, one: Function) -> tuple[Function, Figures]:
    page, _ = await or_none(its.functions.calls(actor, actor.account, one.name, limit=200))
    return one, figures(page.items if page else (), its.clock.wall())


@router.get("/functions/{name}")
async def function(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Show one function."""
    return await _show(request, actor, its, name, Try())


@router.post("/functions/{name}/call")
async def call(
    request: Request, actor: Signed, its: Its, name: str, payload: Annotated[str, Form(max_length=_SHOWN)] = ""
) -> Response:
    """Call a function with the payload of the form; show its answer as text, or why it failed."""
    started = time.perf_counter()
    try:
        _check(payload)
        answer = await its.functions.call(actor, actor.account, name, payload.encode())
    except RopewalkError as error:
        traceback = str(error.details.get("traceback", ""))
        tried = Try(payload, None, time.perf_counter() - started, error.problem(), traceback)
        return await _show(request, actor, its, name, tried, status=error.status)
    seconds = time.perf_counter() - started
    text = answer[:_SHOWN].decode("utf-8", "replace")
    return await _show(request, actor, its, name, Try(payload, text, seconds))


def _check(payload: str) -> None:
    """Refuse what is not JSON in words for a form; the function's own words are for programs, which choose a type."""
    try:
        json.loads(payload or "null")
    except json.JSONDecodeError as error:
        raise BadInput(
            f"What you typed is not JSON (line {error.lineno}, column {error.colno}).",
            field="payload",
            hint='Correct it there. Text stands in double quotes, for example "Ada" or {"name": "Ada"}.',
        ) from error
    except (ValueError, RecursionError):  # a number or a nesting too long for us; the function says what it takes
        return


@router.post("/functions/{name}/rollback")
async def roll_back(actor: Signed, its: Its, name: str, number: Annotated[int, Form(ge=1)]) -> Response:
    """Deploy a kept revision again."""
    revision = await its.functions.revision(actor, actor.account, name, number)
    await its.functions.deploy(actor, actor.account, revision.spec)
    return see(f"/functions/{name}#revisions")


@router.post("/functions/{name}/remove")
async def remove(actor: Signed, its: Its, name: str) -> Response:
    """Remove a function."""
    await its.functions.remove(actor, actor.account, name)
    return see("/functions")


async def _show(request: Request, actor: Actor, its: Platform, name: str, tried: Try, status: int = 200) -> Response:
    one = await its.functions.get(actor, actor.account, name)
    page, away = await or_none(its.functions.calls(actor, actor.account, name, limit=200))
    calls = page.items if page else ()
    kept, unknown = await or_none(its.functions.revisions(actor, actor.account, name))
    revisions = kept.items if kept else ()
    sample = json.dumps(samples.payload(one.revision.spec.bundle), ensure_ascii=False)
    return render(
        request,
        "function.html",
        status_code=status,
        here=f"/functions/{name}",  # a refresh asks for the page, never for the call again
        function=one,
        calls=calls[:50],
        figures=figures(calls, its.clock.wall()),
        away=away.problem() if away else None,
        revisions=list(zip(revisions, stories(revisions), strict=True)),
        unknown=unknown.problem() if unknown else None,
        tried=tried,
        payload=sample if tried.payload is None else tried.payload,
        curl=_curl(one, sample),
        python=_python(one),
    )


def _curl(one: Function, sample: str) -> str:
    return (
        f'curl -H "Authorization: Bearer $(ropewalk token)" \\\n'
        f"     -H 'Content-Type: application/json' -d {shlex.quote(sample)} \\\n     {one.address}"
    )


def _python(one: Function) -> str:
    variable = one.name.replace("-", "_")
    variable += "_" if keyword.iskeyword(variable) else ""
    call = samples.python(one.revision.spec.bundle, variable)
    return f'import ropewalk\n\n{variable} = ropewalk.functions.get("{one.name}")\n{call}'

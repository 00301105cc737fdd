"""Pages of functions: the table, one function with its calls and revisions, and the form that tries it.

Not here: running anything; the try-it form goes through the port, as every caller does. Rejected: showing a traceback
to anybody but its owner; these pages show the signed-in person's own functions only.
"""

from __future__ import annotations

import asyncio
import json
import keyword
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ropewalk_core import samples, traffic
from ropewalk_core.access import said
from ropewalk_core.errors import BadInput, NotFound, RopewalkError, TooLarge
from ropewalk_core.functions import roll_back as roll_back_to
from ropewalk_core.model import Actor, Call, Figure, Figures, Function, NewKey, State, Window
from ropewalk_core.revisions import stories
from ropewalk_core.signatures import Signature, read
from ropewalk_core.triggers import words
from ropewalk_hub.pages import folds, trying
from ropewalk_hub.pages.common import Its, Viewed, hit, or_none, search, see
from ropewalk_hub.pages.forms import Complaint
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed
from ropewalk_workflows import previews

router = APIRouter(include_in_schema=False)
_STATES = (State.RUNNING, State.IDLE, State.FAILED)
_BARS = 30
_SHOWN = 100_000
_PICTURE = 1_000_000
"""Bytes of a picture that is shown."""
_LATEST, _FIRST = 5, 10
"""Durable calls that the function's own page shows, and other calls that it shows before one asks for more."""


@dataclass(frozen=True)
class Row:
    """A function in the list, with what its page counts of the last hour.

    Parameters
    ----------
    hour
        All calls of the hour.
    bars
        Calls in each of the last 30 minutes, oldest first.
    last
        When the last call came that is known of.
    """

    function: Function
    hour: Figure
    bars: tuple[int, ...] = ()
    last: float | None = None

    @property
    def most(self) -> int:
        """The highest bar, at least one."""
        return max((*self.bars, 1))


def row(one: Function, told: Figures | None, latest: Sequence[Call]) -> Row:
    """Return a function's row; ``told`` are the figures of its hour, None where nobody knows them."""
    known = [call.queued or call.started for call in latest]
    if told is None:
        return Row(one, Figure(at=0.0), last=max(known, default=None))
    known += [bar.at for bar in told.bars if bar.calls]
    return Row(one, told.total, tuple(bar.calls for bar in told.bars[-_BARS:]), max(known, default=None))


@dataclass(frozen=True)
class Try:
    """What was tried and what came of it.

    Parameters
    ----------
    typed
        What the form held; None shows samples.
    answer
        The answer as text.
    picture
        The answer if it is a PNG of a bounded size, in base64.
    problem
        The failure, unless it stands beside a field.
    errors
        Complaints by parameter.
    began, ended
        When the call went out and came back; ended is 0 if none went out.
    call
        The identifier of the call's record, where a failure names it.
    """

    typed: Mapping[str, str] | None = None
    answer: str | None = None
    picture: str = ""
    problem: dict[str, object] | None = None
    traceback: str = ""
    errors: Mapping[str, Complaint] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    call: str = ""

    def record(self, calls: Sequence[Call]) -> Call | None:
        """Return the record of what was tried; None if several calls could be it, or none is there yet."""
        if self.call:
            return next((one for one in calls if one.id == self.call), None)
        between = [one for one in calls if self.began <= (one.queued or one.started) <= self.ended]
        return between[0] if len(between) == 1 and self.ended else None


@dataclass(frozen=True)
class Split:
    """What the form of shares held, by field, and what was wrong with it."""

    typed: Mapping[str, str]
    problem: dict[str, object] | None = None


@dataclass(frozen=True)
class Door:
    """What the form of who may call holds, and that of a key; what was wrong, and a key that was made just now."""

    who: str = "private"
    accounts: Sequence[str] = ()
    origins: Sequence[str] = ()
    problem: dict[str, object] | None = None
    made: NewKey | None = None
    typed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Calling:
    """What the form of a new trigger held, by field, and what was wrong with it."""

    typed: Mapping[str, str] = field(default_factory=dict)
    problem: dict[str, object] | None = None


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


async def _row(its: Platform, actor: Actor, one: Function) -> Row:
    told, _ = await or_none(its.functions.figures(actor, actor.account, one.name))
    page, _ = await or_none(its.functions.calls(actor, actor.account, one.name, limit=1))
    return row(one, told, page.items if page else ())


@router.get("/functions/{name}")
async def function(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Show one function."""
    one = await its.functions.get(actor, actor.account, name)
    return await show(request, actor, its, one, read(one.revision.spec.bundle), Try())


@router.post("/functions/{name}/call")
async def call(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Call a function with the form's values; show its answer as text, or why it failed."""
    sent = await request.form()
    typed = {key: value for key, value in sent.items() if isinstance(value, str)}
    one = await its.functions.get(actor, actor.account, name)
    signature = read(one.revision.spec.bundle)
    tried, status = await _try(actor, its, name, signature, typed)
    return await show(request, actor, its, one, signature, tried, status=status)


async def _try(
    actor: Actor, its: Platform, name: str, signature: Signature | None, typed: Mapping[str, str]
) -> tuple[Try, int]:
    tried = Try(typed, began=its.clock.wall())
    try:
        if "payload" in typed or signature is None:
            payload = typed.get("payload", "")
            _check(payload)
        else:
            values, errors = trying.parse(signature, typed)
            if errors:
                return replace(tried, errors=errors), BadInput.status
            payload = json.dumps(values)
        answer = await its.functions.call(actor, actor.account, name, payload.encode())
    except RopewalkError as error:
        beside = {} if "payload" in typed else trying.complaints(signature, error)
        failed = replace(
            tried,
            problem=None if beside else error.problem(),
            errors=beside,
            traceback=str(error.details.get("traceback", "")),
            ended=its.clock.wall(),
            call=str(error.details.get("call", "")),
        )
        return failed, error.status
    return _answered(replace(tried, ended=its.clock.wall()), answer), 200


def _answered(tried: Try, answer: bytes) -> Try:
    """Return what the page shows of an answer: a small picture, text, or how many bytes there are of neither."""
    if picture := previews.png(answer, _PICTURE):
        return replace(tried, answer="", picture=picture)
    try:
        return replace(tried, answer=answer.decode("utf-8")[:_SHOWN])
    except UnicodeDecodeError:
        said = f"{len(answer):,} bytes, which are no text. Save them with curl, below: add --output FILE."
        return replace(tried, answer=said)


def _check(payload: str) -> None:
    """Refuse what is not JSON in words for a form; the function's own words are for programs, which choose a type."""
    if len(payload) > _SHOWN:
        raise TooLarge(
            f"The payload is {len(payload)} characters, and here it may have {_SHOWN}.",
            field="payload",
            hint="Call it with curl or from a notebook, or pass the data as a file.",
        )
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
    await roll_back_to(its.functions, actor, actor.account, name, number)
    return see(f"/functions/{name}#revisions")


@router.post("/functions/{name}/traffic")
async def split(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Split calls between revisions as the form says; what is wrong with it is said beside it."""
    sent = await request.form()
    typed = {key: value.strip() for key, value in sent.items() if isinstance(value, str) and value.strip()}
    try:
        wish = {
            key.removeprefix("r"): int(one) if one.isdecimal() and len(one) < 9 else one for key, one in typed.items()
        }
        await its.functions.traffic(actor, actor.account, name, traffic.weights(wish))
    except BadInput as error:
        one = await its.functions.get(actor, actor.account, name)
        return await show(
            request, actor, its, one, read(one.revision.spec.bundle), Try(), error.status, Split(typed, error.problem())
        )
    return see(f"/functions/{name}#revisions")


@router.post("/functions/{name}/remove")
async def remove(actor: Signed, its: Its, name: str) -> Response:
    """Remove a function."""
    await its.functions.remove(actor, actor.account, name)
    return see("/functions")


async def show(
    request: Request,
    actor: Actor,
    its: Platform,
    one: Function,
    signature: Signature | None,
    tried: Try,
    status: int = 200,
    shares: Split | None = None,
    door: Door | None = None,
    calling: Calling | None = None,
) -> Response:
    """Show one function, with what came of a form of its page."""
    name = one.name
    page, away = await or_none(its.functions.calls(actor, actor.account, name, limit=200))
    calls = page.items if page else ()
    window: Window = "day" if request.query_params.get("window") == "day" else "hour"
    told, uncounted = await or_none(its.functions.figures(actor, actor.account, name, window=window))
    costs, _ = await or_none(its.functions.costs(actor, actor.account, name))
    kept, unknown = await or_none(its.functions.revisions(actor, actor.account, name))
    revisions = kept.items if kept else ()
    keys, unlisted = await or_none(its.functions.keys(actor, actor.account, name))
    durable, lost = await or_none(its.durable.list(actor, actor.account, name, limit=_LATEST))
    triggers, unheard = await or_none(its.triggers.list(actor, actor.account, name))
    heard = triggers.items if triggers else () if isinstance(unheard, NotFound) else None
    sample = json.dumps(samples.payload(signature), ensure_ascii=False)
    typed = tried.typed or {}
    by_hand = "payload" in typed
    return render(
        request,
        "function.html",
        status_code=status,
        here=f"/functions/{name}{'?window=day' if window == 'day' else ''}",  # never the call again
        function=one,
        calls=calls[:50],
        shown=_FIRST,
        window=window,
        told=told,
        uncounted=uncounted.problem() if uncounted else None,
        costs=costs.days if costs else (),
        away=away.problem() if away else None,
        missing=await _missing(its, actor, one),
        folded=folds.lines(one, keys.items if keys else None, kept.items if kept else None, heard),
        revisions=list(zip(revisions, stories(revisions), strict=True)),
        unknown=unknown.problem() if unknown else None,
        shares=shares or Split(_shares(one)),
        addresses={share.number: share.address for share in one.traffic.shares},
        split=traffic.said(one),
        opened=said(one.access),
        door=door or Door(who=one.access.who, accounts=one.access.accounts, origins=one.access.origins),
        keys=keys.items if keys else (),
        closed=unlisted.problem() if unlisted else None,
        triggers=[(each, words.said(each.spec), words.coming(each)) for each in heard or ()],
        unheard=unheard.problem() if unheard and heard is None else None,
        calling=calling or Calling(),
        durable=durable,
        lost=lost.problem() if lost else None,
        tried=tried,
        record=tried.record(calls),
        fields=trying.fields(signature, None if by_hand else tried.typed, tried.errors)
        if signature and trying.shown(signature) is not None
        else None,
        by_hand=by_hand,
        payload=typed.get("payload", sample),
        curl=_curl(one, sample),
        python=_python(one, signature),
    )


async def _missing(its: Platform, actor: Actor, one: Function) -> list[str]:
    """Return the names of secrets that it needs and its owner has not stored; none while that is not known."""
    if not one.revision.spec.secrets:
        return []
    page, _ = await or_none(its.secrets.list(actor, actor.account))
    stored = {each.name for each in page.items} if page else set(one.revision.spec.secrets)
    return [name for name in one.revision.spec.secrets if name not in stored]


def _shares(one: Function) -> dict[str, str]:
    """Return what the form of shares holds before anybody types."""
    return {"latest": str(one.traffic.latest)} | {f"r{share.number}": str(share.weight) for share in one.traffic.shares}


def _curl(one: Function, sample: str) -> str:
    return (
        f'curl -H "Authorization: Bearer $(ropewalk token)" \\\n'
        f"     -H 'Content-Type: application/json' -d {shlex.quote(sample)} \\\n     {one.address}"
    )


def _python(one: Function, signature: Signature | None) -> str:
    variable = one.name.replace("-", "_")
    variable += "_" if keyword.iskeyword(variable) else ""
    call = samples.python(signature, variable)
    return f'import ropewalk\n\n{variable} = ropewalk.functions.get("{one.name}")\n{call}'

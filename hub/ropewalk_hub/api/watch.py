"""REST of changes: one stream of server-sent events for all of a person's things, in the journal's order.

``id`` is the cursor and resumes the stream, ``event`` the kind, ``data`` a `model.Event` whose body is the thing.
Rejected: merging the ports' own watches; two of them side by side cannot be resumed by one cursor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, get_args

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import StreamingResponse

from ropewalk_core import guard
from ropewalk_core.errors import BadInput, RopewalkError
from ropewalk_core.model import Actor, Event
from ropewalk_core.policy import Kind
from ropewalk_hub.api.common import ApiRoute, Its, problems
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed, signed

router = APIRouter(route_class=ApiRoute, tags=["platform"])
KINDS: tuple[Kind, ...] = ("notebook", "service", "function", "run")
BEAT = 4.0
"""Seconds of silence after which a comment is sent and the sign-in is looked at again; it may have ended."""


@router.get("/watch/{owner}", operation_id="watch", responses=problems(404, 422), response_class=StreamingResponse)
async def watch(
    actor: Signed,
    its: Its,
    request: Request,
    owner: str,
    kinds: Annotated[str, Query(max_length=100, description="Kinds, separated by commas; empty means all")] = "",
    after: Annotated[int | None, Query(ge=0, description="Cursor; left out, the stream starts now")] = None,
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> StreamingResponse:
    """Return changes of a person's things as server-sent events, for as long as the sign-in lasts."""
    chosen = _kinds(kinds)
    outlined = [kind for kind in chosen if guard.check(actor, "watch", kind, owner).outline]
    start = int(last_event_id) if last_event_id.isdecimal() else its.journal.cursor if after is None else after
    return StreamingResponse(
        _stream(its, request, owner, chosen, outlined, start),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


def _kinds(text: str) -> tuple[Kind, ...]:
    named = [one for one in text.split(",") if one]
    if unknown := [one for one in named if one not in KINDS]:
        raise BadInput(f"There is no kind '{unknown[0]}'.", field="kinds", hint=f"Kinds are {', '.join(KINDS)}.")
    return tuple(kind for kind in get_args(Kind) if kind in (named or KINDS))


async def _stream(
    its: Platform, request: Request, owner: str, kinds: tuple[Kind, ...], outlined: list[Kind], after: int
) -> AsyncIterator[str]:
    yield f": from {after}\n\n"
    checked = its.clock.steady()
    while True:
        seen = its.journal.cursor
        events = its.journal.events(after=after, owner=owner, limit=200)
        for event in events:
            after = event.cursor
            if event.kind in kinds:
                yield _encode(event.model_copy(update={"body": {}}) if event.kind in outlined else event)
        if its.clock.steady() - checked >= BEAT:
            checked = its.clock.steady()
            if not await _still_signed(request):
                return
            yield ": beat\n\n"
        if not events:
            await its.journal.wait(seen, timeout=BEAT)


async def _still_signed(request: Request) -> bool:
    try:
        actor: Actor = await signed(request)
    except RopewalkError:
        return False
    return bool(actor.account)


def _encode(event: Event) -> str:
    return f"id: {event.cursor}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"

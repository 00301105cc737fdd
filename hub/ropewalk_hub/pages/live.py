"""What changed, as one stream of server-sent events for the signed-in person's pages.

An event says only which kind of thing changed, its name and its new state; the page asks again for the parts that show
it. ``id`` is the journal's cursor, so a stream resumes after a break. Rejected: sending the things themselves; the
server would render twice, or the browser would.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from ropewalk_core.errors import RopewalkError
from ropewalk_core.model import Actor, Event
from ropewalk_hub.pages.common import Its
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed, signed

router = APIRouter(include_in_schema=False)
_KINDS = frozenset({"notebook", "service", "function", "run", "account", "secret"})
_BEAT = 15.0
_FAR = 1000


@router.get("/events")
async def events(request: Request, actor: Signed, its: Its, after: int | None = None) -> StreamingResponse:
    """Stream changes of the person's things; administrators also see that accounts changed."""
    last = request.headers.get("last-event-id", "")
    newest = its.journal.cursor
    start = int(last) if last.isdecimal() and len(last) < 20 else newest if after is None else after
    if not 0 <= newest - start <= _FAR:  # too long away, or another home: the page shows the present anyway
        start = newest
    return StreamingResponse(
        _stream(request, its, actor, start),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(request: Request, its: Platform, actor: Actor, after: int) -> AsyncIterator[str]:
    yield f"retry: 2000\nid: {after}\nevent: position\ndata: {{}}\n\n"
    while True:
        newest = its.journal.cursor
        for event in its.journal.events(after=after):
            after = event.cursor
            if _concerns(event, actor):
                yield encode(event)
        if its.journal.cursor == newest:
            woken = await its.journal.wait(newest, timeout=_BEAT)
            if woken == newest:
                yield ": still here\n\n"
            if not await _still(request):
                return


def encode(event: Event) -> str:
    """Return one event as it travels; the text of a name cannot leave its line, because JSON escapes it."""
    data = json.dumps({"kind": event.kind, "name": event.name, "type": event.type})
    return f"id: {event.cursor}\nevent: change\ndata: {data}\n\n"


def _concerns(event: Event, actor: Actor) -> bool:
    if event.kind not in _KINDS:
        return False
    return event.owner == actor.account or (event.kind == "account" and actor.administrator)


async def _still(request: Request) -> bool:
    """Say whether the sign-in is still good; a stream must not outlive it."""
    try:
        return bool((await signed(request)).account)
    except RopewalkError:
        return False

"""Pages of durable calls: those of one function in pages, and one call with its result, or why it failed.

Not here: what becomes of a call (``ropewalk_core.durable``). A result is shown as text, never rendered.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from ropewalk_core.durable import Shelf
from ropewalk_core.durable.shelves import function_of
from ropewalk_core.errors import NotFound, RopewalkError
from ropewalk_core.model import Actor, DurableCall, State
from ropewalk_hub.pages.common import Its, or_none, see
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed
from ropewalk_runtime import packed
from ropewalk_runtime.packed import PACKED

router = APIRouter(include_in_schema=False, prefix="/functions/{name}/durable")
SHELVES = {"": "all", "open": "open", "failed": "failed", "ended": "done or canceled"}
_SHOWN = 100_000
After = Annotated[str, Query(max_length=200)]


@router.get("")
async def calls(request: Request, actor: Signed, its: Its, name: str, shelf: str = "", after: After = "") -> Response:
    """Show the durable calls of one function."""
    shelf = shelf if shelf in SHELVES else ""
    after = after if function_of(after) == name else ""
    page = await its.durable.list(actor, actor.account, name, shelf=cast(Shelf, shelf), after=after)
    here = f"/functions/{name}/durable"
    return render(
        request,
        "durable.html",
        here=_link(here, shelf=shelf, after=after),
        name=name,
        calls=page.items,
        shelf=shelf,
        shelves={_link(here, shelf=one): (one, words) for one, words in SHELVES.items()},
        first=_link(here, shelf=shelf) if after else "",
        more=_link(here, shelf=shelf, after=page.next) if page.next else "",
    )


@router.get("/{call}")
async def call(request: Request, actor: Signed, its: Its, name: str, call: str) -> Response:
    """Show one durable call."""
    one = await its.durable.get(actor, actor.account, call)
    if one.function != name:
        raise NotFound("There is no such durable call of this function.", field="call")
    page, _ = await or_none(its.functions.calls(actor, actor.account, name, limit=200))
    return render(
        request,
        "durable_call.html",
        here=f"/functions/{name}/durable/{one.id}",
        call=one,
        answer=await _answer(actor, its, one),
        record=next((each for each in page.items if each.id == one.call), None) if page else None,
        kept=its.settings.limits.durable_kept,
        python=f'import ropewalk\n\nropewalk.functions.spawned("{one.id}").result()',
        command=f"ropewalk durable result {one.id}",
    )


@router.post("/{call}/cancel")
async def cancel(actor: Signed, its: Its, name: str, call: str) -> Response:
    """Stop a call."""
    return await _done(its.durable.cancel(actor, actor.account, call))


@router.post("/{call}/replay")
async def replay(actor: Signed, its: Its, name: str, call: str) -> Response:
    """Try a failed call again."""
    return await _done(its.durable.replay(actor, actor.account, call))


@router.post("/{call}/forget")
async def forget(actor: Signed, its: Its, name: str, call: str) -> Response:
    """Remove a call that has ended."""
    one = await its.durable.forget(actor, actor.account, call)
    return see(f"/functions/{one.function}/durable")


async def _done(changed: Awaitable[DurableCall]) -> Response:
    one = await changed
    return see(f"/functions/{one.function}/durable/{one.id}")


async def _answer(actor: Actor, its: Platform, one: DurableCall) -> str | None:
    """Return the result as text, cut where a page would become long."""
    if one.status.state is not State.DONE:
        return None
    try:
        found = await its.durable.result(actor, actor.account, one.id)
    except RopewalkError:  # it ended its time meanwhile
        return None
    body = found.body or b""
    body = packed.outline(body) if found.content_type == PACKED else body
    return body[:_SHOWN].decode("utf-8", "replace") + ("\n..." if len(body) > _SHOWN else "")


def _link(path: str, **values: str) -> str:
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{query}" if query else path

"""REST of durable calls: accepted on disk before their 202, then asked for by identifier, from anywhere, for days.

Programs that call often use the function's own address with ``Prefer: respond-async``, which is faster. Not here: what
becomes of a call (``ropewalk_core.durable``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from ropewalk_core.model import DurableCall, Page
from ropewalk_hub.api.common import After, ApiRoute, Its, Key, Limit, problems, trace_of
from ropewalk_hub.security import Signed

router = APIRouter(route_class=ApiRoute, tags=["durable calls"], prefix="/durable")
Shelf = Annotated[Literal["", "open", "failed", "ended"], Query(description="Which; left out, all")]
Function = Annotated[str, Query(max_length=64, description="Name of the function; needed")]
Wait = Annotated[float, Query(ge=0, le=20, description="Seconds that the answer may wait for the end")]


@router.get("/{owner}", operation_id="list_durable_calls", responses=problems(404, 422))
async def list_durable_calls(
    actor: Signed,
    its: Its,
    owner: str,
    function: Function = "",
    shelf: Shelf = "",
    after: After = "",
    limit: Limit = 50,
) -> Page[DurableCall]:
    """Return a page of a function's durable calls, newest first."""
    return await its.durable.list(actor, owner, function, shelf=shelf, after=after, limit=limit)


@router.post(
    "/{owner}",
    status_code=202,
    operation_id="spawn_durable_call",
    responses=problems(404, 409, 413, 422, 429, 507),
    response_model=DurableCall,
)
async def spawn_durable_call(
    actor: Signed, its: Its, owner: str, request: Request, function: Function = "", key: Key = ""
) -> Response:
    """Accept a call of a function with the request's body; it is on disk when this answers, and then carried out."""
    content_type = request.headers.get("content-type", "application/json")[:200]
    payload, trace = await request.body(), trace_of(request)
    call = await its.durable.spawn(actor, owner, function, payload, content_type=content_type, key=key, trace=trace)
    where = {"Location": f"/api/v1/durable/{owner}/{call.id}"}
    return JSONResponse(call.model_dump(mode="json"), status_code=202, headers=where)


@router.get("/{owner}/{call}", operation_id="get_durable_call", responses=problems(404))
async def get_durable_call(actor: Signed, its: Its, owner: str, call: str) -> DurableCall:
    """Return where a call stands."""
    return await its.durable.get(actor, owner, call)


@router.get(
    "/{owner}/{call}/result",
    operation_id="get_durable_result",
    responses=problems(404, 409, 422, 500, 503, 504) | {202: {"model": DurableCall}},
    response_class=Response,
)
async def get_durable_result(actor: Signed, its: Its, owner: str, call: str, wait: Wait = 0.0) -> Response:
    """Return what a call gave, as bytes; 202 with the call while it has not ended, its own problem if it failed."""
    found = await its.durable.result(actor, owner, call, wait=wait)
    if found.body is None:
        return JSONResponse(found.call.model_dump(mode="json"), status_code=202, headers={"Retry-After": "1"})
    # Somebody's bytes: a browser saves and never renders them here.
    headers = {"Content-Disposition": 'attachment; filename="result"', "X-Ropewalk-Type": _plain(found.content_type)}
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return Response(found.body, media_type="application/octet-stream", headers=headers)


@router.post("/{owner}/{call}/cancel", operation_id="cancel_durable_call", responses=problems(404))
async def cancel_durable_call(actor: Signed, its: Its, owner: str, call: str) -> DurableCall:
    """Stop a call; one that has ended stays as it is."""
    return await its.durable.cancel(actor, owner, call)


@router.post("/{owner}/{call}/replay", operation_id="replay_durable_call", responses=problems(404, 409, 429))
async def replay_durable_call(actor: Signed, its: Its, owner: str, call: str) -> DurableCall:
    """Try a failed call again with the arguments that it kept."""
    return await its.durable.replay(actor, owner, call)


@router.delete("/{owner}/{call}", operation_id="forget_durable_call", responses=problems(404, 409))
async def forget_durable_call(actor: Signed, its: Its, owner: str, call: str) -> DurableCall:
    """Remove a call that has ended, and its result."""
    return await its.durable.forget(actor, owner, call)


def _plain(text: str) -> str:
    return "".join(one for one in text if " " <= one <= "~")[:200]

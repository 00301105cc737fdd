"""What the gateway asks about durable calls, on its own socket: it hands in wishes and reports, and takes work.

Bodies are read and written as bytes of JSON, in batches: this is on the way of every durable call. The gateway has
judged who asks. Not here: what is done (``ropewalk_core.durable``), the gateway's side (``gateway/durable.py``).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import TypeAdapter, ValidationError

from ropewalk_core.durable import Accepted, DurableDesk, Report, Wish
from ropewalk_core.errors import RopewalkError
from ropewalk_core.model import Actor, DurableCall, DurableResult
from ropewalk_core.wrong import wrong

router = APIRouter(prefix="/durable")
_WISHES, _REPORTS = TypeAdapter(tuple[Wish, ...]), TypeAdapter(tuple[Report, ...])
_ACCEPTED = TypeAdapter(list[Accepted])
_RESULT = TypeAdapter(DurableResult)


def _desk(request: Request) -> DurableDesk:
    desk: DurableDesk = request.app.state.platform.desk
    return desk


Desk = Annotated[DurableDesk, Depends(_desk)]


@router.post("/accept")
async def accept(desk: Desk, request: Request) -> Response:
    """Accept calls; the answer holds each call, or the problem that it met."""
    accepted = await desk.accept(_read(_WISHES, await request.body()))
    answers = [
        Accepted(problem=one.problem()) if isinstance(one, RopewalkError) else Accepted(call=one) for one in accepted
    ]
    return _json(_ACCEPTED.dump_json(answers))


@router.post("/take")
async def take(
    desk: Desk,
    request: Request,
    life: Annotated[str, Body()],
    holding: Annotated[list[str], Body()],
    room: Annotated[int, Body()],
) -> Response:
    """Give the gateway work; waits a little for some, and gives none to a gateway that was killed meanwhile."""
    return _json((await desk.take(life, holding, room, request.is_disconnected)).model_dump_json().encode())


@router.post("/report", status_code=204)
async def report(desk: Desk, request: Request) -> None:
    """Hear what became of attempts."""
    await desk.report(_read(_REPORTS, await request.body()))


@router.get("/{owner}/{call}")
async def get(desk: Desk, owner: str, call: str) -> DurableCall:
    """Return a call."""
    return await desk.get(Actor(account=owner), owner, call)


@router.get("/{owner}/{call}/result")
async def result(desk: Desk, owner: str, call: str, wait: float = 0.0) -> Response:
    """Return what a call gave."""
    return _json(_RESULT.dump_json(await desk.result(Actor(account=owner), owner, call, wait=wait)))


@router.post("/{owner}/{call}/cancel")
async def cancel(desk: Desk, owner: str, call: str) -> DurableCall:
    """Stop a call."""
    return await desk.cancel(Actor(account=owner), owner, call)


@router.post("/{owner}/{call}/replay")
async def replay(desk: Desk, owner: str, call: str) -> DurableCall:
    """Try a failed call again."""
    return await desk.replay(Actor(account=owner), owner, call)


def _read(adapter: TypeAdapter[Any], body: bytes) -> Any:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise wrong(error.errors()) from error


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")

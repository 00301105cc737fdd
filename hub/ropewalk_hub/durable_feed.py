"""What the gateway asks about durable calls, on its own socket: it hands in wishes and reports, and takes work.

Bodies are read and written as bytes of JSON, in batches: this is on the way of every durable call. The gateway has
judged who asks. Not here: what is done (``ropewalk_core.durable``), the gateway's side (``gateway/durable.py``).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ropewalk_core.durable import Accepted, DurableDesk, Report, Wish
from ropewalk_core.errors import BadInput, RopewalkError
from ropewalk_core.model import Actor
from ropewalk_core.wrong import wrong


class _Taking(BaseModel):
    """Which life of the gateway asks for work, what it holds, and for how much it has room."""

    life: str
    holding: list[str]
    room: int


_WISHES, _REPORTS = TypeAdapter(tuple[Wish, ...]), TypeAdapter(tuple[Report, ...])
_ACCEPTED = TypeAdapter(list[Accepted])
_TAKING = TypeAdapter(_Taking)


def _desk(request: Request) -> DurableDesk:
    desk: DurableDesk = request.app.state.platform.desk
    return desk


def _named(request: Request) -> tuple[Actor, str, str]:
    """Return who asks, which is the owner, and the owner and the call that are asked for."""
    owner, call = str(request.path_params["owner"]), str(request.path_params["call"])
    return Actor(account=owner), owner, call


async def accept(request: Request) -> Response:
    """Accept calls; the answer holds each call, or the problem that it met."""
    accepted = await _desk(request).accept(_read(_WISHES, await request.body()))
    answers = [
        Accepted(problem=one.problem()) if isinstance(one, RopewalkError) else Accepted(call=one) for one in accepted
    ]
    return _json(_ACCEPTED.dump_json(answers))


async def take(request: Request) -> Response:
    """Give the gateway work; waits a little for some, and gives none to a gateway that was killed meanwhile."""
    asked = _read(_TAKING, await request.body())
    return _said(await _desk(request).take(asked.life, asked.holding, asked.room, request.is_disconnected))


async def report(request: Request) -> Response:
    """Hear what became of attempts."""
    await _desk(request).report(_read(_REPORTS, await request.body()))
    return Response(status_code=204)


async def get(request: Request) -> Response:
    """Return a call."""
    return _said(await _desk(request).get(*_named(request)))


async def result(request: Request) -> Response:
    """Return what a call gave."""
    return _said(await _desk(request).result(*_named(request), wait=_seconds(request)))


async def cancel(request: Request) -> Response:
    """Stop a call."""
    return _said(await _desk(request).cancel(*_named(request)))


async def replay(request: Request) -> Response:
    """Try a failed call again."""
    return _said(await _desk(request).replay(*_named(request)))


def _seconds(request: Request) -> float:
    try:
        return float(request.query_params.get("wait", "0"))
    except ValueError as error:
        raise BadInput("'wait' must be a number of seconds.", field="wait") from error


def _read(adapter: TypeAdapter[Any], body: bytes) -> Any:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise wrong(error.errors()) from error


def _said(model: BaseModel) -> Response:
    return _json(model.model_dump_json().encode())


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


ROUTES = (
    Route("/accept", accept, methods=["POST"]),
    Route("/take", take, methods=["POST"]),
    Route("/report", report, methods=["POST"]),
    Route("/{owner}/{call}", get, methods=["GET"]),
    Route("/{owner}/{call}/result", result, methods=["GET"]),
    Route("/{owner}/{call}/cancel", cancel, methods=["POST"]),
    Route("/{owner}/{call}/replay", replay, methods=["POST"]),
)
"""What is below ``/internal/durable``."""

"""What siblings ask on unix sockets: only the home's own user can connect, so nobody signs in here.

Strangers speak to the gateway, so it has a socket in a folder of its own, ``run/gateway/``, with what it needs and
nothing that hands out rights; on a cluster its container is given that folder alone. Everybody else asks on
``run/platform.sock``. Not here: anything a browser may reach. Folders have mode 0700 and sockets 0600.
Rejected: FastAPI (what it does around a handler took most of the time of an engine's report, which every step waits
for).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ropewalk_core.errors import NotFound
from ropewalk_core.model import CallReport
from ropewalk_core.wrong import wrong
from ropewalk_hub import durable_feed
from ropewalk_hub.answers import add_handlers
from ropewalk_hub.door import redeem
from ropewalk_hub.first import link_command
from ropewalk_hub.platform import Platform
from ropewalk_workflows.desk import Desk
from ropewalk_workflows.engine.wire import Batch

T = TypeVar("T", bound=BaseModel)


class _Wish(BaseModel):
    """For whom a token is, and for what."""

    account: str = ""
    audience: str = "functions"


class _Code(BaseModel):
    """What a browser brought to the people's door."""

    code: str
    host: str
    state: str


def create_app(platform: Platform, routes: Sequence[BaseRoute]) -> Starlette:
    """Return the application that siblings use: with `SIBLINGS`, or with `GATEWAYS` the one for the gateway."""
    app = Starlette(routes=[Mount("/internal", routes=routes)])
    app.state.platform = platform
    add_handlers(app)
    return app


def _platform(request: Request) -> Platform:
    platform: Platform = request.app.state.platform
    return platform


async def _body(request: Request, model: type[T]) -> T:
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        raise wrong(error.errors()) from error


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


async def ready(request: Request) -> Response:
    """Say that the process serves."""
    return JSONResponse({"ready": True, "cursor": _platform(request).journal.cursor})


async def first(request: Request) -> Response:
    """Return a fresh link that makes the first administrator; null when there is one."""
    return JSONResponse({"link": await run_in_threadpool(_platform(request).issuer.first_link)})


async def token(request: Request) -> Response:
    """Return a token for the home's owner at a prompt: of the named account, else of the first administrator."""
    platform, wish = _platform(request), await _body(request, _Wish)
    accounts = platform.issuer.accounts
    found = accounts.get(wish.account) if wish.account else accounts.first_administrator()
    if found is None:
        raise NotFound(
            f"There is no account '{wish.account[:60]}'." if wish.account else "Nobody has an account yet.",
            field="account",
            hint=f"Open the link that `{link_command(platform.settings)}` prints to make the first account.",
        )
    made, until = await run_in_threadpool(platform.issuer.tokens.make, found, f"cli:{found.name}", wish.audience)
    door = platform.settings.door
    said: dict[str, Any] = {
        "token": made,
        "expires": until,
        "account": found.name,
        "api": f"http://127.0.0.1:{door.port}",  # the name may not resolve for programs; Host says it
        "host": f"{door.host}:{door.port}",
    }
    return JSONResponse(said)


async def enter(request: Request) -> Response:
    """Exchange the code of the people's door."""
    asked = await _body(request, _Code)
    return JSONResponse(await redeem(_platform(request), asked.code, asked.host, asked.state))


async def snapshot(request: Request) -> Response:
    """Return what it must know; waits for news after a cursor."""
    after = request.query_params.get("after", "")
    return _json(await _platform(request).feed.snapshot(int(after) if after.isdecimal() else None))


async def calls(request: Request) -> Response:
    """Take what became of calls, and say of which functions somebody watches them."""
    platform, body = _platform(request), await _body(request, CallReport)
    platform.feed.record_calls(body)
    await platform.house.calls(body.calls)
    return JSONResponse({"watch": platform.backend.traffic.called.watched()})


async def runs(request: Request) -> Response:
    """Return the runs that the engine is to carry out; waits a little for one."""
    return _json(await _desk(request).runs(request.query_params.get("after", "")))


async def run_events(request: Request) -> Response:
    """Make the engine's reports durable, then say so."""
    return _json(await _desk(request).record(await _body(request, Batch)))


def _desk(request: Request) -> Desk:
    desk = _platform(request).backend.desk
    if desk is None:
        raise NotFound("This platform's workflows are not run by an engine of ours.")
    return desk


SIBLINGS = (
    Route("/runs/events", run_events, methods=["POST"]),
    Route("/runs", runs, methods=["GET"]),
    Route("/ready", ready, methods=["GET"]),
    Route("/first", first, methods=["POST"]),
    Route("/token", token, methods=["POST"]),
)
"""What the engine, the supervisor and the home's owner ask."""
GATEWAYS = (
    Mount("/durable", routes=durable_feed.ROUTES),
    Route("/calls", calls, methods=["POST"]),
    Route("/snapshot", snapshot, methods=["GET"]),
    Route("/ready", ready, methods=["GET"]),
    Route("/door", enter, methods=["POST"]),
)
"""What the gateway asks."""

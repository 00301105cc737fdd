"""What siblings ask on unix sockets: only the home's own user can connect, so nobody signs in here.

Strangers speak to the gateway, so it has a socket in a folder of its own, ``run/gateway/``, with what it needs and
nothing that hands out rights; on a cluster its container is given that folder alone. Everybody else asks on
``run/platform.sock``. Not here: anything a browser may reach. Folders have mode 0700 and sockets 0600.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool

from ropewalk_core.errors import NotFound
from ropewalk_core.model import CallReport, Snapshot
from ropewalk_hub import durable_feed
from ropewalk_hub.answers import add_handlers
from ropewalk_hub.door import redeem
from ropewalk_hub.first import link_command
from ropewalk_hub.platform import Platform
from ropewalk_workflows.desk import Desk
from ropewalk_workflows.engine.wire import Batch, WantedPage

router = APIRouter(prefix="/internal")
gateways = APIRouter(prefix="/internal")
gateways.include_router(durable_feed.router)


def platform_of(request: Request) -> Platform:
    """Return the platform of the application."""
    platform: Platform = request.app.state.platform
    return platform


def create_app(platform: Platform, routes: APIRouter = router) -> FastAPI:
    """Return the application that siblings use, or with `gateways` the one for the gateway."""
    app = FastAPI(title="Ropewalk, inside", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.platform = platform
    app.include_router(routes)
    add_handlers(app)
    return app


Its = Annotated[Platform, Depends(platform_of)]


@router.get("/ready")
@gateways.get("/ready")
async def ready(platform: Its) -> dict[str, Any]:
    """Say that the process serves."""
    return {"ready": True, "cursor": platform.journal.cursor}


@router.post("/first")
async def first(platform: Its) -> dict[str, str | None]:
    """Return a fresh link that makes the first administrator; null when there is one."""
    return {"link": await run_in_threadpool(platform.issuer.first_link)}


@router.post("/token")
async def token(
    platform: Its, account: Annotated[str, Body()] = "", audience: Annotated[str, Body()] = "functions"
) -> dict[str, Any]:
    """Return a token for the home's owner at a prompt: of the named account, else of the first administrator."""
    accounts = platform.issuer.accounts
    found = accounts.get(account) if account else accounts.first_administrator()
    if found is None:
        raise NotFound(
            f"There is no account '{account[:60]}'." if account else "Nobody has an account yet.",
            field="account",
            hint=f"Open the link that `{link_command(platform.settings)}` prints to make the first account.",
        )
    made, until = await run_in_threadpool(platform.issuer.tokens.make, found, f"cli:{found.name}", audience)
    door = platform.settings.door
    return {
        "token": made,
        "expires": until,
        "account": found.name,
        "api": f"http://127.0.0.1:{door.port}",  # the name may not resolve for programs; Host says it
        "host": f"{door.host}:{door.port}",
    }


@gateways.post("/door")
async def enter(
    platform: Its, code: Annotated[str, Body()], host: Annotated[str, Body()], state: Annotated[str, Body()]
) -> dict[str, Any]:
    """Exchange the code of the people's door."""
    return await redeem(platform, code, host, state)


@gateways.get("/snapshot")
async def snapshot(platform: Its, after: str = "") -> Snapshot:
    """Return what it must know; waits for news after a cursor."""
    return await platform.feed.snapshot(int(after) if after.isdecimal() else None)


@gateways.post("/calls")
async def calls(platform: Its, body: CallReport) -> dict[str, Any]:
    """Take what became of calls, and say of which functions somebody watches them."""
    platform.feed.record_calls(body)
    await platform.trigger_desk.calls(body.calls)
    return {"watch": platform.backend.traffic.called.watched()}


@router.get("/runs")
async def runs(platform: Its, after: str = "") -> WantedPage:
    """Return the runs that the engine is to carry out; waits a little for one."""
    return await _desk(platform).runs(after)


@router.post("/runs/events")
async def run_events(platform: Its, batch: Batch) -> dict[str, int]:
    """Make the engine's reports durable, then say so."""
    return {"cursor": await _desk(platform).record(batch)}


def _desk(platform: Platform) -> Desk:
    if platform.backend.desk is None:
        raise NotFound("This platform's workflows are not run by an engine of ours.")
    return platform.backend.desk

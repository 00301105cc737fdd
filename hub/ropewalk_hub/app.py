"""The platform process: people on a port behind the proxy, siblings on unix sockets, one event loop.

This module mounts what the other modules bring and turns their errors into answers. It must hold no logic of its own.
Run it as ``python -m ropewalk_hub.app``; `ropewalk up` does. Rejected: two processes, because one of them alone may
write the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.applications import Starlette

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import RopewalkError
from ropewalk_core.settings import Settings
from ropewalk_hub import addresses, api, argo_api, door, internal, metrics
from ropewalk_hub.answers import LARGEST_FORM, FormLimit, add_handlers
from ropewalk_hub.issuer import endpoints
from ropewalk_hub.issuer import pages as identity_pages
from ropewalk_hub.lasting import lasting
from ropewalk_hub.pages import routes
from ropewalk_hub.platform import Platform, build
from ropewalk_hub.security import Guard
from ropewalk_hub.sockets import private

log = logging.getLogger("ropewalk.platform")


def create_app(platform: Platform) -> FastAPI:
    """Return the application that people use."""
    app = FastAPI(
        title="Ropewalk", docs_url=None, redoc_url=None, openapi_url=None, swagger_ui_oauth2_redirect_url=None
    )
    app.state.platform = platform
    for router in (endpoints.router, identity_pages.router, door.router, metrics.router, routes.router):
        app.include_router(router, max_body_size=LARGEST_FORM)
    app.include_router(api.router)  # has limits of its own; files are large
    app.include_router(argo_api.router)
    add_handlers(app)
    app.add_middleware(FormLimit)
    app.add_middleware(Guard, door=platform.settings.door, siblings=addresses.names(platform.settings))
    return app


async def serve(platform: Platform, where: addresses.Addresses, run: Path) -> None:
    """Serve people, and siblings on sockets in the folder ``run``, until a signal comes."""
    siblings = {run / "platform.sock": internal.SIBLINGS, run / "gateway" / "platform.sock": internal.GATEWAYS}
    people = _server(create_app(platform), host=where.bind, port=where.platform)
    inside = [_server(internal.create_app(platform, routes)) for routes in siblings.values()]
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, _stop, platform, people, *inside)
    async with _background(platform):
        sockets = [_socket(path) for path in siblings]
        await asyncio.gather(
            people.serve(), *(server.serve(sockets=[sock]) for server, sock in zip(inside, sockets, strict=True))
        )
    await platform.close()
    for path in siblings:
        path.unlink(missing_ok=True)


def _socket(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return private(path)


class _Server(uvicorn.Server):
    """Leaves signals to us: two servers share this process."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def _server(app: Starlette, **where: object) -> _Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=3,
        **where,  # type: ignore[arg-type]
    )
    return _Server(config)


def _stop(platform: Platform, *servers: uvicorn.Server) -> None:
    platform.feed.end()
    for server in servers:
        server.should_exit = True


@contextlib.asynccontextmanager
async def _background(platform: Platform) -> AsyncIterator[None]:
    works = (lambda: _sweep(platform), *platform.tasks)
    tasks = [asyncio.create_task(lasting(one)) for one in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sweep(platform: Platform) -> None:
    """Forget expired codes, tokens and sessions."""
    while True:
        await platform.clock.sleep(60.0)
        try:
            await asyncio.wrap_future(platform.journal.sweep())
        except RopewalkError as error:
            log.warning("Expired records stay for now: %s", error.message)


async def run(settings: Settings, where: addresses.Addresses) -> None:
    """Put the platform together and serve it."""
    before = os.umask(0o077)  # the journal's side files and the socket are for us alone
    try:
        platform = build(settings, where)
    finally:
        os.umask(before)
    await serve(platform, where, settings.run)


def main() -> None:
    """Run the platform process of the home in $ROPEWALK_HOME."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = settings_module.load()
    where = addresses.read(settings)
    uvloop.run(run(settings, where))


if __name__ == "__main__":
    main()

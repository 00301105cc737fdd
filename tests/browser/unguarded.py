"""The platform's application without its guard, open to every page: what the attacks must be able to do to.

An attack that is refused proves nothing unless the same attack, through the same browser, works where the defence is
off. This one has a home, people and pages of its own and no other process.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from argon2 import PasswordHasher
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ropewalk_core import settings as settings_module
from ropewalk_hub import addresses
from ropewalk_hub.app import create_app
from ropewalk_hub.issuer.passwords import Passwords
from ropewalk_hub.platform import Platform, build
from ropewalk_hub.security import Guard
from tests.browser.rig import PASSWORD
from tests.ports import free_port


class Everybody:
    """Lets every page read and send everything, as a careless platform does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights with yes, and add what lets a page read the answer."""
        origin = Headers(scope=scope).get("origin", "") if scope["type"] == "http" else ""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and origin:
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Allow-Credentials"] = "true"
                headers["Access-Control-Allow-Methods"] = "GET, PUT, POST, DELETE"
                headers["Access-Control-Allow-Headers"] = "content-type"
            await send(message)

        if scope.get("method") == "OPTIONS":
            await sending({"type": "http.response.start", "status": 204, "headers": []})
            await sending({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, sending)


@dataclass
class Unguarded:
    """A running one."""

    origin: str
    port: int
    platform: Platform


@contextlib.contextmanager
def running(host: str, scheme: str) -> Iterator[Unguarded]:
    """Serve it on 127.0.0.1 in a thread."""
    port = free_port()
    ready: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="rw-open-") as folder:
        thread = threading.Thread(target=lambda: asyncio.run(_serve(Path(folder), host, scheme, port, ready)))
        thread.start()
        end = time.monotonic() + 30
        while not (server := ready.get("server")) or not server.started:
            assert thread.is_alive() and time.monotonic() < end
            time.sleep(0.05)
        try:
            yield Unguarded(f"{scheme}://{host}:{port}", port, ready["platform"])
        finally:
            server.should_exit = True
            thread.join(20)


async def _serve(home: Path, host: str, scheme: str, port: int, ready: dict[str, Any]) -> None:
    settings = settings_module.load(home, environ={}, door_port=port, door_host=host, door_scheme=scheme)
    cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    platform = build(settings, addresses.pick(), passwords=cheap)
    for name in ("ada", "bob", "carol"):
        platform.issuer.accounts.create(name, PASSWORD, administrator=name == "ada", also=[])
    platform.issuer.accounts.set_state("bob", "active")
    app = create_app(platform)
    app.user_middleware = [one for one in app.user_middleware if one.cls is not Guard]
    app.add_middleware(Everybody)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off", ws="none")
    ready["platform"], ready["server"] = platform, uvicorn.Server(config)
    await ready["server"].serve()
    platform.feed.end()
    await platform.close()

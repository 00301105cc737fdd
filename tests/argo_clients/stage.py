"""A platform behind a real door, with an engine, in one process: no proxy, no hub, no sandbox. Clients speak HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import uvicorn
from argon2 import PasswordHasher

from ropewalk_hub import addresses
from ropewalk_hub.app import create_app
from ropewalk_hub.issuer.passwords import Passwords
from ropewalk_hub.platform import Platform, build
from ropewalk_workflows.engine.shell import Engine
from ropewalk_workflows.local import LocalWorkflows
from tests.argo_clients.manifests import NOTE
from tests.identity.stage import PASSWORD, settings_of
from tests.ports import free_port
from tests.workflow_rig import DirectFeed, PlainHost


@dataclass
class Door:
    """A platform that answers at ``origin``; Ada and Bob have accounts."""

    platform: Platform
    origin: str

    def token(self, account: str = "ada") -> str:
        found = self.platform.issuer.accounts.get(account)
        assert found is not None
        text: str = self.platform.issuer.tokens.make(found, f"server:{account}", "api")[0]
        return text

    def client(self, account: str = "ada", **headers: str) -> httpx.AsyncClient:
        given = {"Authorization": f"Bearer {self.token(account)}", **headers}
        return httpx.AsyncClient(base_url=f"{self.origin}/argo/", headers=given, timeout=30, trust_env=False)

    @property
    def workflows(self) -> LocalWorkflows:
        return cast(LocalWorkflows, self.platform.backend.workflows)

    async def ended(self, client: httpx.AsyncClient, name: str, namespace: str = "ada") -> dict[str, Any]:
        async with asyncio.timeout(40):
            while True:
                found: dict[str, Any] = (await client.get(f"api/v1/workflows/{namespace}/{name}")).json()
                if found["status"]["finishedAt"]:
                    return found
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Door]:
    port = free_port()
    settings = settings_of(home, door_port=port)
    cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    platform = build(settings, addresses.pick(), passwords=cheap)
    platform.issuer.accounts.create("ada", PASSWORD, administrator=True, also=[])
    platform.issuer.accounts.create("bob", PASSWORD, administrator=False, also=[])
    platform.issuer.accounts.set_state("bob", "active")
    workflows = cast(LocalWorkflows, platform.backend.workflows)
    engine = asyncio.create_task(Engine(settings, DirectFeed(workflows), PlainHost(home)).run())
    server = _Server(uvicorn.Config(create_app(platform), port=port, log_config=None, lifespan="off", ws="none"))
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield Door(platform, f"http://localhost:{port}")
    finally:
        server.force_exit = server.should_exit = True
        engine.cancel()
        await asyncio.gather(serving, engine, return_exceptions=True)
        await platform.close()
        NOTE.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield

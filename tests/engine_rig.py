"""The real engine process and the real host with its sandbox, joined by a stand-in for the platform's socket."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from ropewalk_core import environments, settings
from ropewalk_core.errors import RopewalkError
from ropewalk_core.flows import Run, RunSpec
from ropewalk_core.journal import Journal
from ropewalk_core.local import accounts
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Actor
from ropewalk_core.placement import Inventory, Node
from ropewalk_hub.host import Host
from ropewalk_runtime import values
from ropewalk_workflows.engine.wire import Batch
from ropewalk_workflows.local import LocalWorkflows
from tests import accelerated

ADA = Actor(account="ada")
MACHINE = Inventory(nodes=(Node(name="here", arch="amd64", cpu=2, memory=8 * 2**30),))


class EngineRig:
    """A home with one account; host and engine as processes of their own where a test kills them."""

    def __init__(self, home: Path, accelerators: Mapping[str, str] | None = None, **chosen: Any) -> None:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        home.chmod(0o711)
        accelerated.install(home, accelerators or {})
        self.settings = settings.load(home, environ={}, **chosen)
        self.settings.run.mkdir(mode=0o700)
        self.settings.logs.mkdir(mode=0o700)
        self.paths = accounts.prepare(self.settings, "ada")
        self.journal = Journal(home / "journal.db")
        machine = accelerated.counted(MACHINE, self.settings)
        self.workflows = LocalWorkflows(
            self.settings, self.journal, machine, prepare=accounts.equip, fingerprint=environments.fingerprint
        )
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._host: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, *, crash: str = "", host_apart: bool = False) -> None:
        await self.serve()
        if host_apart:
            await self.spawn("ropewalk_hub.host")
        else:
            self._host = asyncio.create_task(Host(self.settings, environments).serve())
        await self.spawn("ropewalk_workflows.engine", crash=crash)

    async def serve(self) -> None:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/internal/runs", self._runs)
        app.router.add_post("/internal/runs/events", self._events)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.settings.run / "platform.sock")).start()

    async def unserve(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def spawn(self, module: str, *, crash: str = "") -> None:
        environment = os.environ | {"ROPEWALK_HOME": str(self.settings.home), "ROPEWALK_CRASH_AT": crash}
        with (self.settings.logs / f"{module}.log").open("ab") as log:
            self.processes[module] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, env=environment, stdout=log, stderr=log
            )

    async def kill(self, module: str) -> None:
        process = self.processes.pop(module)
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def close(self) -> None:
        for module in list(self.processes):
            process = self.processes.pop(module)
            if process.returncode is None:
                process.terminate()
            await process.wait()
        if self._host is not None:
            self._host.cancel()
            await asyncio.gather(self._host, return_exceptions=True)
        await self.unserve()
        self.journal.close()

    async def submit(self, spec: RunSpec) -> Run:
        return await self.workflows.submit(ADA, "ada", spec.model_copy(update={"folder": ""}))

    async def wait(self, run: str, *, seconds: float = 50.0) -> Run:
        async with asyncio.timeout(seconds):
            while not (found := await self.workflows.get(ADA, "ada", run)).status.state.terminal:
                await self.journal.wait(self.journal.cursor, timeout=0.2)
        return found

    async def log(self, run: str, step: str) -> list[str]:
        return [one.text async for one in self.workflows.logs(ADA, "ada", run, step)]

    def result(self, run: Run) -> Any:
        facts = run.outputs["result"]
        store = AccountPaths(self.settings.home, "ada").artifacts
        return values.load(store / facts["digest"][:2] / facts["digest"])

    async def _runs(self, request: web.Request) -> web.Response:
        try:
            page = await self.workflows.internal_runs(request.query["after"])
        except RopewalkError as error:
            return web.json_response(error.problem(), status=error.status)
        return web.Response(text=page.model_dump_json(), content_type="application/json")

    async def _events(self, request: web.Request) -> web.Response:
        try:
            recorded = await self.workflows.record_events(Batch.model_validate_json(await request.read()))
        except RopewalkError as error:
            return web.json_response(error.problem(), status=error.status)
        return web.Response(text=recorded.model_dump_json(), content_type="application/json")

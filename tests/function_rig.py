"""A host, a gateway and the Functions port on a scratch home, joined by a small stand-in for the platform's socket.

Host and gateway run in this process's loop, or as processes of their own where a test kills them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.routing import Mount

from ropewalk_core import environments, settings
from ropewalk_core.durable import DurableDesk
from ropewalk_core.journal import Journal
from ropewalk_core.local import accounts, cgroups, sandbox
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.local.host_client import HostClient
from ropewalk_core.model import AccountRule, Actor, Bundle, CallReport, FunctionSpec, ServiceRoute, Snapshot
from ropewalk_core.placement import Inventory, Node
from ropewalk_core.settings import Settings
from ropewalk_hub import durable_feed
from ropewalk_hub.answers import add_handlers
from ropewalk_hub.gateway.__main__ import listeners, serve
from ropewalk_hub.host import Host
from ropewalk_hub.platform import SystemClock
from tests import accelerated
from tests.ports import free_port

INVENTORY = Inventory(nodes=(Node(name="here", arch="amd64", cpu=2, memory=8 * 2**30),))


def needs_sandbox() -> None:
    report = sandbox.probe()
    if not report.works:
        pytest.skip(f"no working bubblewrap: {report.why}")


class Rig:
    """Everything that a test of functions needs; ``accelerators`` are written as in settings."""

    def __init__(self, home: Path, accelerators: Mapping[str, str] | None = None, **chosen: Any) -> None:
        home.chmod(0o711)
        accelerated.install(home, accelerators or {})
        self.settings: Settings = settings.load(home, environ={}, door_port=free_port(), **chosen)
        self.settings.run.mkdir(mode=0o700)
        self.settings.logs.mkdir(mode=0o700)
        for name in ("ada", "bob"):
            accounts.prepare(self.settings, name)
        self.journal = Journal(home / "journal.db")
        self.inventory = accelerated.counted(INVENTORY, self.settings)
        self.key = ECKey.generate_key("P-256", parameters={"kid": "test"})
        self.rules = {name: AccountRule(subject=f"subject-{name}", active=True) for name in ("ada", "bob")}
        self.ended: tuple[str, ...] = ()
        self.services: tuple[ServiceRoute, ...] = ()
        self.doors: dict[str, dict[str, Any]] = {}
        self.cursor = 0
        self.client = HostClient(self.settings.run / "host.sock")
        self.functions = LocalFunctions(
            self.settings, self.journal, self.inventory, SystemClock(), host=self.client, token=self._token_of
        )
        self.desk = self.new_desk()
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._host: asyncio.Task[None] | None = None
        self._gateway: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    # What tests use

    def new_desk(self) -> DurableDesk:
        """Return the desk of durable calls on this journal; the next one is what a platform that starts again has."""
        return DurableDesk(
            self.settings,
            self.journal,
            SystemClock(),
            route=lambda owner, name: self.functions.route(owner, name),
            active=lambda account: account in self.rules and self.rules[account].active,
        )

    async def restart_platform(self) -> None:
        """Do what a killed platform is for the journal and for whoever asked it; its address answers all the time."""
        self.journal.close()
        self.journal = Journal(self.settings.home / "journal.db")
        self.functions = LocalFunctions(
            self.settings, self.journal, self.inventory, SystemClock(), host=self.client, token=self._token_of
        )
        self.desk = self.new_desk()

    def token(self, account: str = "ada", **changes: Any) -> str:
        claims = {
            "iss": self.settings.door.origin,
            "sub": f"subject-{account}",
            "aud": "functions",
            "account": account,
            "sid": f"ses-{account}",
            "epoch": 0,
            "iat": int(time.time()),
            "exp": int(time.time()) + 600,
        }
        claims |= changes
        return jwt.encode({"alg": "ES256", "kid": "test"}, claims, self.key, ["ES256"])

    def spec(self, source: str, name: str = "double", entry: str = "handler", **changes: Any) -> FunctionSpec:
        return FunctionSpec(name=name, bundle=Bundle(files={"cell.py": source}, entry=f"cell:{entry}"), **changes)

    def host_of(self, label: str) -> str:
        return f"{label}.localhost:{self.settings.door.people_port}"

    async def request(self, method: str, label: str, path: str = "/", **keywords: Any) -> httpx.Response:
        headers = {"Host": self.host_of(label)} | keywords.pop("headers", {})
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            address = f"http://127.0.0.1:{self.settings.door.people_port}{path}"
            return await client.request(method, address, headers=headers, **keywords)

    async def call(self, content: bytes = b"21", *, function: str = "double", account: str = "ada") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token(account)}", "Content-Type": "application/json"}
        return await self.request("POST", f"{function}--fn--ada", headers=headers, content=content)

    async def settled(self) -> None:
        """Wait until the gateway has what was changed here."""
        await asyncio.sleep(0.3)

    # Its parts

    async def start_host(self, *, apart: bool = False) -> None:
        if apart:
            await self._spawn("ropewalk_hub.host")
        else:
            self._host = asyncio.create_task(Host(self.settings, environments).serve())
        await self._until(lambda: (self.settings.run / "host.sock").exists())

    async def start_gateway(self, *, apart: bool = False) -> None:
        if apart:
            await self._spawn("ropewalk_hub.gateway")
        else:
            self._gateway = asyncio.create_task(serve(self.settings, listeners(self.settings), self._stop))
        await self._until(self._gateway_answers)

    async def kill(self, module: str) -> None:
        process = self.processes.pop(module)
        process.kill()
        await process.wait()

    async def _spawn(self, module: str) -> None:
        environment = os.environ | {
            "ROPEWALK_HOME": str(self.settings.home),
            "ROPEWALK_DOOR_PORT": str(self.settings.door.port),
        }
        with (self.settings.logs / f"{module}.log").open("ab") as log:
            self.processes[module] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, env=environment, stdout=log, stderr=log
            )

    def _gateway_answers(self) -> bool:
        with socket.socket() as sock:
            sock.settimeout(0.5)
            return sock.connect_ex(("127.0.0.1", self.settings.door.people_port)) == 0

    async def _until(self, ready: Any, seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not ready():  # noqa: ASYNC110 - a file or a port wakes nobody
                await asyncio.sleep(0.02)

    async def _token_of(self, actor: Actor) -> str:
        return self.token(actor.account)

    async def _snapshot(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "")
        if after.isdecimal():
            self.functions.gateway_asked(int(after))
            until = time.monotonic() + 2
            while self._cursor() <= int(after) and time.monotonic() < until:  # noqa: ASYNC110 - a stand-in, kept small
                await asyncio.sleep(0.01)
        snapshot = Snapshot(
            cursor=self._cursor(),
            keys=KeySet([self.key]).as_dict(private=False),
            accounts=self.rules,
            ended_sessions=self.ended,
            functions=self.functions.routes(),
            services=self.services,
        )
        return web.json_response(text=snapshot.model_dump_json())

    def _cursor(self) -> int:
        return self.journal.cursor + self.cursor

    async def _calls(self, request: web.Request) -> web.Response:
        self.functions.record_calls(CallReport.model_validate_json(await request.read()))
        return web.json_response({"watch": self.functions.called.watched()})

    async def _door(self, request: web.Request) -> web.Response:
        body = await request.json()
        facts = self.doors.pop(body["code"], None)
        if facts is None or facts["state"] != body["state"]:
            return web.json_response({"code": "RW-SIGN-IN", "message": "no"}, status=401)
        return web.json_response(
            {"account": facts["account"], "subject": f"subject-{facts['account']}", "sid": facts["sid"], "epoch": 0}
        )

    async def _durable(self, request: web.Request) -> web.Response:
        """Answer with the platform's own routes, on the desk that there is now."""
        app = Starlette(routes=[Mount("/internal/durable", routes=durable_feed.ROUTES)])
        app.state.platform = self
        add_handlers(app)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://platform", timeout=30) as inside:
            kind = {"Content-Type": "application/json"}
            answer = await inside.request(request.method, request.path_qs, content=await request.read(), headers=kind)
        return web.Response(body=answer.content, status=answer.status_code, content_type="application/json")

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[None]:
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/internal/durable/{path:.*}", self._durable)
        application.router.add_get("/internal/snapshot", self._snapshot)
        application.router.add_post("/internal/calls", self._calls)
        application.router.add_post("/internal/door", self._door)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        sock = self.settings.run / "gateway" / "platform.sock"
        sock.parent.mkdir(mode=0o700, exist_ok=True)
        await web.UnixSite(runner, str(sock)).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def close(self) -> None:
        self._stop.set()
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 10)
        await self.client.close()
        if self._gateway is not None:
            await asyncio.wait_for(self._gateway, 10)
        if self._host is not None:
            self._host.cancel()
            await asyncio.gather(self._host, return_exceptions=True)
        self.journal.close()


@contextmanager
def scratch_home() -> Iterator[Path]:
    """Give a folder with a short path, as names of unix sockets hold 107 characters; its control groups go with it."""
    with tempfile.TemporaryDirectory(prefix="rw-", ignore_cleanup_errors=True) as folder:
        home = Path(folder).resolve()
        try:
            yield home
        finally:
            cgroups.remove(Settings(home=home))


@asynccontextmanager
async def running(*, apart: bool = False, **chosen: Any) -> AsyncIterator[Rig]:
    """Give a rig that answers."""
    needs_sandbox()
    with scratch_home() as home:
        async with _running(Rig(home, **chosen), apart) as rig:
            yield rig


@asynccontextmanager
async def _running(rig: Rig, apart: bool) -> AsyncIterator[Rig]:
    try:
        async with rig.platform():
            try:
                await rig.start_host(apart=apart)
                await rig.start_gateway(apart=apart)
                await rig.settled()
                yield rig
            finally:
                await rig.close()
    finally:
        rig.journal.close()

"""The real gateway over HTTP, in front of a function that is played and with a snapshot that was put in by hand."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from ropewalk_core import callkeys
from ropewalk_core.model import Access, AccountRule, Bundle, FunctionRoute, FunctionSpec, Snapshot, StoredKey
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway.app import Gateway
from ropewalk_hub.gateway.front import Front
from ropewalk_hub.gateway.sessions import COOKIE, BrowserSession
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime.frames import pack
from ropewalk_runtime.serve import FRAME

PEOPLE = ("ada", "bob", "eve")
SPEC = FunctionSpec(name="double", bundle=Bundle(files={}, entry="c:h"))


class There(AbstractResolver):
    """Leads every name to this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=6, flags=0)]

    async def close(self) -> None: ...


class GatewayRig:
    """The gateway, and what its function was asked."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.gateway = Gateway(self.settings, resolver=There())
        self.key = ECKey.generate_key("P-256", parameters={"kid": "test"})
        self.seen: list[web.Request] = []
        self.port = self.function_port = self.cursor = 0
        self.answer: tuple[dict[str, Any], bytes] = ({"status": 200, "type": "application/json", "age": 99.0}, b"42")

    def put(self, access: Access, *keys: StoredKey, name: str = "double", active: tuple[str, ...] = PEOPLE) -> None:
        """Put a snapshot with one function of Ada's in force."""
        url = f"http://fn--{name}.space.svc:{self.function_port}"
        route = FunctionRoute(owner="ada", name=name, revision="r1", spec=SPEC, url=url, access=access, keys=keys)
        self.cursor += 1
        self.gateway.directory.take(
            Snapshot(
                cursor=self.cursor,
                keys=KeySet([self.key]).as_dict(private=False),
                accounts={one: AccountRule(subject=f"subject-{one}", active=one in active) for one in PEOPLE},
                functions=(route,),
            )
        )

    def token(self, account: str) -> str:
        now = int(time.time())
        claims = {"iss": self.settings.door.origin, "sub": f"subject-{account}", "aud": "functions", "account": account}
        claims |= {"sid": f"ses-{account}", "epoch": 0, "iat": now, "exp": now + 600}
        return jwt.encode({"alg": "ES256", "kid": "test"}, claims, self.key, ["ES256"])

    def bearer(self, account: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(account)}"}

    def cookie(self, account: str, label: str = "double--fn--ada") -> dict[str, str]:
        """Sign a browser in on a host, as the platform's door does."""
        caller = Caller(account, f"subject-{account}", f"ses-{account}", 0, time.time() + 600)
        self.gateway.sessions._sessions["session"] = BrowserSession(self.host(label), caller)
        return {"Cookie": f"{COOKIE}=session"}

    def host(self, label: str) -> str:
        return f"{label}.localhost:{self.settings.door.people_port}"

    async def ask(
        self,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        method: str = "POST",
        label: str = "double--fn--ada",
    ) -> httpx.Response:
        several = list(headers.items()) if isinstance(headers, dict) else headers or []
        several = [("Host", self.host(label)), *several]
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            body = b"21" if method not in ("GET", "HEAD", "OPTIONS") else None
            return await client.request(method, f"http://127.0.0.1:{self.port}/", headers=several, content=body)

    async def function(self, request: web.Request) -> web.Response:
        await request.read()
        self.seen.append(request)
        header, body = self.answer
        return web.Response(body=pack(header, body), content_type=FRAME)


def stored(identifier: str = "0123456789", calls: int = 100, seconds: int = 60) -> tuple[StoredKey, str]:
    """Return a key as the gateway knows it, and its secret."""
    kept, told = callkeys.make(identifier, "test", calls, seconds, 0.0)
    return kept, told.secret


def problem(answer: httpx.Response) -> Any:
    return json.loads(answer.text)


@asynccontextmanager
async def gateway(home: Path) -> AsyncIterator[GatewayRig]:
    """Give a gateway that answers."""
    rig, inner = GatewayRig(home), web.Application()
    inner.router.add_route("*", "/{path:.*}", rig.function)
    runner, front = web.AppRunner(inner, access_log=None, shutdown_timeout=0.1), Front(rig.gateway)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        rig.function_port = runner.addresses[0][1]
        sock = socket.create_server(("127.0.0.1", 0))
        rig.port = sock.getsockname()[1]
        await front.start([sock])
        yield rig
    finally:
        await front.close()
        await runner.cleanup()

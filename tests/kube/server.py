"""A small API server on a real socket that keeps history and misbehaves on order: what `api` must live through.

It knows lists, watches with bookmarks, conflicts and a log. ``faults`` holds what the next requests of a verb get
instead; each is used once.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import Access, Token
from ropewalk_core.ports import Clock

Object = dict[str, Any]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


class QuickClock:
    """A clock of real time whose long waits are noted and cut short."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def wall(self) -> float:
        return asyncio.get_running_loop().time()

    def steady(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds, 0.02))


class Server:
    """Config maps of one namespace, and their history."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.history: list[tuple[int, str, Object]] = []
        self.version, self.oldest, self.uids = 100, 0, 0
        self.changed = asyncio.Event()
        self.faults: dict[str, deque[Fault]] = {one: deque() for one in ("list", "watch", "write", "log", "get")}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.tokens: list[str] = []
        self.log: list[tuple[str, str]] = []
        self.pod: Object = {}

    def put(self, name: str, **data: str) -> Object:
        """Create or change an object, as somebody else."""
        self.version += 1
        known = self.objects.get(name)
        self.uids += known is None
        metadata = {
            "name": name,
            "namespace": "n",
            "uid": known["metadata"]["uid"] if known else f"uid-{self.uids}",
            "resourceVersion": str(self.version),
            "managedFields": [{"manager": "somebody"}],
        }
        self.objects[name] = {"metadata": metadata, "data": data}
        self._note("MODIFIED" if known else "ADDED", self.objects[name])
        return self.objects[name]

    def remove(self, name: str) -> None:
        """Remove an object."""
        self.version += 1
        one = self.objects.pop(name)
        one = {**one, "metadata": {**one["metadata"], "resourceVersion": str(self.version)}}
        self._note("DELETED", one)

    def forget(self) -> None:
        """Compact the history: a watch from an older version is answered with 410."""
        self.oldest = self.version
        self.history.clear()

    def _note(self, kind: str, one: Object) -> None:
        self.history.append((self.version, kind, one))
        self.changed.set()
        self.changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        verb = "watch" if query.get("watch") else "log" if request.path.endswith("/log") else "get"
        if request.method != "GET":
            verb = "write"
        elif verb == "get" and request.path.endswith("/configmaps"):
            verb = "list"
        self.requests.append((verb, request.path, query))
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.faults[verb]:
            return await self.faults[verb].popleft()(request)
        answer = {"list": self._list, "watch": self._watch, "log": self._log, "get": self._get, "write": self._write}
        return await answer[verb](request)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        names = sorted(self.objects)
        start = int(request.query.get("continue", "0"))
        end = start + int(request.query.get("limit", "500"))
        metadata = {"resourceVersion": str(self.version)} | ({"continue": str(end)} if end < len(names) else {})
        return web.json_response({"items": [self.objects[one] for one in names[start:end]], "metadata": metadata})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rsplit("/", 1)[1]
        if "/pods/" in request.path and self.pod:
            return web.json_response(self.pod)
        if name not in self.objects:
            return status(404, "NotFound", f'configmaps "{name}" not found')
        return web.json_response(self.objects[name])

    async def _write(self, request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            name = request.path.rsplit("/", 1)[1]
            if name not in self.objects:
                return status(404, "NotFound", f'configmaps "{name}" not found')
            wanted = (await request.json()).get("preconditions", {}).get("uid")
            if wanted and wanted != self.objects[name]["metadata"]["uid"]:
                return status(409, "Conflict", "Precondition failed: UID in precondition")
            self.remove(name)
            return web.json_response({"kind": "Status", "status": "Success"})
        body = await request.json()
        name = body["metadata"]["name"]
        if request.method == "POST" and name in self.objects:
            return status(409, "AlreadyExists", f'configmaps "{name}" already exists')
        return web.json_response(self.put(name, **body.get("data", {})))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = await stream(request)
        if since < self.oldest:
            await response.write(
                event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
            )
            return response
        loop = asyncio.get_running_loop()
        end = loop.time() + int(request.query["timeoutSeconds"])
        while loop.time() < end:
            changed = self.changed
            for version, kind, one in list(self.history):
                if version > since:
                    await response.write(event(kind, one))
                    since = version
            try:
                await asyncio.wait_for(changed.wait(), end - loop.time())
            except TimeoutError:
                break
        await response.write(event("BOOKMARK", {"metadata": {"resourceVersion": str(since)}}))
        return response

    async def _log(self, request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        since = request.query.get("sinceTime", "").removesuffix("Z")
        for stamp, text in self.log:
            if stamp >= since:
                await response.write(f"{stamp} {text}".encode() + (b"" if text == "unended" else b"\n"))
        return response


def event(kind: str, one: Object) -> bytes:
    return json.dumps({"type": kind, "object": one}).encode() + b"\n"


def status(
    code: int, reason: str, message: str, *, headers: dict[str, str] | None = None, **details: Any
) -> web.Response:
    body = {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }
    return web.json_response(body, status=code, headers=headers)


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


def says(
    code: int, reason: str = "", message: str = "", *, headers: dict[str, str] | None = None, **details: Any
) -> Fault:
    """Answer with this status."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        return status(code, reason, message, headers=headers, **details)

    return fault


def writes(*parts: bytes, cut: bool = False) -> Fault:
    """Begin a watch, write this and end; with ``cut`` by closing the connection in the middle."""

    async def fault(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        for one in parts:
            await response.write(one)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return fault


def hangs() -> Fault:
    """Open a watch and never write again: what a half-open connection looks like."""

    async def fault(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        await asyncio.sleep(30)
        return response

    return fault


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """Serve on a free port of the loopback."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def spoken_to(server: Server, clock: Clock, *, token: Token | None = None, **options: Any) -> AsyncIterator[Api]:
    """Serve, and speak to it."""
    async with serving(server) as address:
        api = Api(Access(address, None, token or Token()), clock, jitter=lambda: 0.5, **options)
        try:
            yield api
        finally:
            await api.close()

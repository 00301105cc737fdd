"""The file server: one account's volume over HTTP, for the platform alone; ``python -m ropewalk_hub.file_server``.

On a cluster the platform cannot mount the volumes of other namespaces, so this small program runs beside each and does
with the very code of `LocalStorage` what is asked: links, ``..`` and races are refused here as they are on one machine.
What runs in the same namespace can reach its port; whoever lacks the namespace's secret is refused before anything is
looked at. Not here: who may ask (the platform's policy) and when it runs (``kube/file_server.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from ropewalk_core import beneath
from ropewalk_core.errors import BadInput, Internal, NotFound, RopewalkError, Unauthenticated, Unavailable
from ropewalk_core.local.storage import LocalStorage
from ropewalk_core.model import Actor
from ropewalk_core.settings import Limits, Settings

CHUNK = 256 * 1024
LINE = 64 * 1024
"""Bytes of a request's first line: a path of 1024 characters may be twelve times as long when it is quoted."""
_OWNER = "work"
_ACTOR = Actor(account=_OWNER, audience="file-server")
_log = logging.getLogger("ropewalk.files")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FileServer:
    """One volume, served.

    Parameters
    ----------
    files
        The volume.
    key
        What the platform shows with each request.
    """

    def __init__(self, files: LocalStorage, key: str) -> None:
        self._files, self._shown = files, f"Bearer {key}".encode()

    def application(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._guarded])
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/list", self._list)
        app.router.add_get("/usage", self._usage)
        app.router.add_get("/file", self._read)
        app.router.add_put("/file", self._write)
        app.router.add_delete("/file", self._remove)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if request.path != "/ready":
                self._check(request)
            return await handler(request)
        except RopewalkError as error:
            return _problem(error)
        except web.HTTPException as error:
            return _problem(NotFound("The file server has no such address."), error.status)
        except (OSError, ValueError) as error:
            _log.exception("%s failed", request.method)
            return _problem(Internal(f"{error!r}"))

    def _check(self, request: web.Request) -> None:
        shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(shown, self._shown):
            raise Unauthenticated("Only the platform may use the file server.")

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        try:
            limit = int(query.get("limit", "200"))
        except ValueError as error:
            raise BadInput("'limit' is a number.", field="limit") from error
        page = await self._files.list(_ACTOR, _OWNER, query.get("path", ""), after=query.get("after", ""), limit=limit)
        return _json(page.model_dump_json())

    async def _usage(self, _: web.Request) -> web.StreamResponse:
        return _json((await self._files.usage(_ACTOR, _OWNER)).model_dump_json())

    async def _read(self, request: web.Request) -> web.StreamResponse:
        with await self._files.open(_ACTOR, _OWNER, request.query.get("path", "")) as file:
            size = os.fstat(file.fileno()).st_size
            answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            answer.content_length = size
            await answer.prepare(request)
            try:
                async for chunk in _first(file, size):
                    await answer.write(chunk)
            except OSError:  # the head is sent: only a broken connection says that the rest is no content
                if request.transport is not None:
                    request.transport.abort()
            return answer

    async def _write(self, request: web.Request) -> web.StreamResponse:
        entry = await self._files.write(_ACTOR, _OWNER, request.query.get("path", ""), _whole(request))
        return _json(entry.model_dump_json())

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        await self._files.remove(_ACTOR, _OWNER, request.query.get("path", ""))
        return web.Response(status=204)


async def _first(file: BinaryIO, size: int) -> AsyncIterator[bytes]:
    """Yield as many bytes as were announced; a file that shrank meanwhile breaks the connection."""
    while size:
        chunk = await asyncio.to_thread(file.read, min(CHUNK, size))
        if not chunk:
            raise ConnectionResetError("the file was cut short while it was read")
        size -= len(chunk)
        yield chunk


async def _whole(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body; one that ends early is an error, so that what came is dropped."""
    came, announced = 0, request.content_length
    try:
        async for chunk in request.content.iter_chunked(CHUNK):
            came += len(chunk)
            yield chunk
    except (web.PayloadAccessError, web.RequestPayloadError, OSError) as error:
        raise Unavailable("The upload broke off; nothing was written.") from error
    if announced is not None and came != announced:
        raise Unavailable("The upload broke off; nothing was written.")


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def _problem(error: RopewalkError, status: int = 0) -> web.Response:
    return web.json_response(error.problem(), status=status or error.status, content_type="application/problem+json")


async def serve(app: web.Application, port: int, stop: asyncio.Event) -> None:
    """Serve on every address until told to stop; what is under way has a moment to end."""
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=20.0, max_line_size=LINE, max_field_size=LINE
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Run the file server until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m ropewalk_hub.file_server")
    parser.add_argument("--folder", type=Path, required=True, help="the volume")
    parser.add_argument("--key", type=Path, required=True, help="file with what the platform shows")
    parser.add_argument("--limit", type=int, required=True, help="bytes that the volume may hold")
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    key = chosen.key.read_text().strip()
    files = LocalStorage(Settings(home=chosen.folder, limits=Limits(files=chosen.limit)), key=b"", volume=chosen.folder)
    asyncio.run(_run(FileServer(files, key).application(), chosen.port, chosen.folder))


async def _run(app: web.Application, port: int, folder: Path) -> None:
    stop = asyncio.Event()
    # There is one server at a time for a volume, so what another left half-written was left by one that was killed.
    threading.Thread(target=beneath.sweep, args=[folder], name="sweep", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(app, port, stop)


if __name__ == "__main__":
    main()

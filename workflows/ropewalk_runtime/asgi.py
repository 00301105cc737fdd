"""ASGI apps in a worker: requests as frames in, answers out, whole or in parts as the app sends them; and its lifespan.

The app sees the request as it came to the gateway: method, path, query, headers and body; who calls is the header
``x-ropewalk-account``. A caller that leaves is an ``http.disconnect``, and an app that does not end by itself within a
moment is cancelled. Startup runs before the worker is ready, in the loop in which calls run later; shutdown runs when
the gateway needs the worker no more. Standard library only. Not here: reading HTTP (the gateway, ``wire``). Rejected:
a server in each worker (uvicorn is in no environment by itself, and the gateway has parsed the request already);
websockets (a call of a function ends).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ropewalk_runtime.failing import CallerLeft
from ropewalk_runtime.frames import pack
from ropewalk_runtime.handler import BadAnswer, TooLong
from ropewalk_runtime.serving import Call, Coroutines
from ropewalk_runtime.streams import Answer, pieces
from ropewalk_runtime.wire import octets, words

Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_TO_END = 1.0
"""Seconds that an app has to end after it was told that its caller left."""
_TO_SHUT_DOWN = 5.0


class NotStarted(Exception):
    """The app said that its startup failed."""


class Application:
    """An app and its lifespan; in a worker it has the place of a handler.

    Parameters
    ----------
    app
        What answers.
    """

    is_async = True
    parameters: list[dict[str, Any]] = []

    def __init__(self, app: App) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Future[Message] | None = None
        self._lifespan: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the app's startup; an app without a lifespan has none. Raises `NotStarted`, or what the app raised."""
        self._lifespan = asyncio.create_task(self._live())
        said = await self._tell("lifespan.startup")
        if said.get("type") == "lifespan.startup.failed":
            raise NotStarted(str(said.get("message", "")).strip() or "its startup failed")

    async def end(self) -> None:
        """Run the app's shutdown."""
        if self._lifespan is not None and not self._lifespan.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._tell("lifespan.shutdown"), _TO_SHUT_DOWN)
            self._lifespan.cancel()

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": _ASGI, "state": self.state}
        try:
            await self.app(scope, self._told.get, self._hear)
        except Exception:  # noqa: BLE001 - by the standard an app that raises here knows no lifespan
            self._answer({"type": ""})
        else:
            self._answer({"type": ""})

    async def _tell(self, what: str) -> Message:
        self._said = asyncio.get_running_loop().create_future()
        self._told.put_nowait({"type": what})
        return await self._said

    async def _hear(self, message: Message) -> None:
        self._answer(message)

    def _answer(self, message: Message) -> None:
        if self._said is not None and not self._said.done():
            self._said.set_result(message)


def made(target: Any) -> App:
    """Return the app that an entry point names: itself, or what a function without parameters makes.

    Raises
    ------
    TypeError
        If it is none.
    """
    if inspect.isfunction(target) and not inspect.signature(target).parameters:
        target = target()
    if not callable(target):
        raise TypeError(f"{type(target).__name__} is no ASGI app, and no function that returns one")
    app: App = target
    return app


class Requests(Coroutines):
    """The loop over an app's requests."""

    async def _run(self, call: Call, body: bytes) -> Answer:
        application = self._handler
        assert isinstance(application, Application)
        exchange = _Request(call, body, self._limit, self._put, self._send)
        call.leave = exchange.leave
        try:
            await application.app(exchange.scope(application.state), exchange.receive, exchange.send)
        except Exception as error:
            if call.left:
                raise CallerLeft from error
            raise  # its owner sees the lines, whatever page the app made of it
        finally:
            exchange.stop()
        return exchange.answer()

    async def _end(self) -> None:
        assert isinstance(self._handler, Application)
        await self._handler.end()


class _Request:
    """One request: what the app receives, and what it sends."""

    def __init__(
        self,
        call: Call,
        body: bytes,
        limit: int,
        put: Callable[[Call, bytes], Awaitable[None]],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._call, self._limit, self._put, self._write = call, limit, put, send
        self._body: bytes | None = body
        self._left = asyncio.Event()
        self._ending: asyncio.TimerHandle | None = None
        self._start: Message | None = None
        self._kept = b""
        self._begun = self.over = False

    def scope(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the request's facts as ASGI names them."""
        http = self._call.http
        path = str(http.get("path", "/"))
        server = str(http.get("server", "")).rpartition(":")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": str(http.get("method", "POST")).upper(),
            "scheme": str(http.get("scheme", "http")),
            "path": urllib.parse.unquote(path),
            "raw_path": path.encode("latin-1", "replace"),
            "query_string": self._call.query.encode("latin-1", "replace"),
            "root_path": "",
            "headers": _headers(http),
            "client": None,
            "server": (server[0], int(server[2])) if server[2].isdecimal() else (server[2], None),
            "state": dict(state),
        }

    async def receive(self) -> Message:
        """Return the body, and after it only that the caller left."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take what the app answers."""
        if self._call.left:
            raise OSError("The caller left.")
        kind = message.get("type")
        if kind == "http.response.start" and self._start is None:
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self.over:
            await self._pass(bytes(message.get("body", b"")), more=bool(message.get("more_body")))
        else:
            raise RuntimeError(f"An ASGI message of type {kind!r} cannot come now.")

    def leave(self) -> None:
        """Tell the app that its caller left; cancel it when it does not end by itself."""
        self._left.set()
        task = self._call.task
        if task is not None:
            self._ending = asyncio.get_running_loop().call_later(_TO_END, task.cancel)

    def stop(self) -> None:
        """Note that the app is done."""
        if self._ending is not None:
            self._ending.cancel()
        self._left.set()  # whatever it left running learns that the request is over

    def answer(self) -> Answer:
        """Return what ends the answer, or all of it. Raises `BadAnswer` if the app sent none."""
        if self._call.left:
            raise CallerLeft
        if not self.over:
            raise BadAnswer("The app ended before it sent a whole answer.", hint="Send http.response.body to its end.")
        return ({"status": 200}, b"") if self._begun else (self._head(), self._kept)

    async def _pass(self, body: bytes, *, more: bool) -> None:
        self.over = not more
        if self.over and not self._begun:
            if len(body) <= self._limit:
                self._kept = body
                return
            raise TooLong(f"The answer is {len(body)} bytes, over the limit of {self._limit}.")
        if not self._begun:
            self._begun = True
            await self._write(pack({"op": "head", "id": self._call.id, **self._head()}))
        for piece in pieces(body):
            await self._put(self._call, piece)

    def _head(self) -> dict[str, Any]:
        start = self._start or {}
        headers = [(words(bytes(k)), words(bytes(v))) for k, v in start.get("headers", ())]
        kind = next((value for key, value in headers if key.lower() == "content-type"), "")
        return {"status": int(start.get("status", 200)), "type": kind, "headers": headers}


def _headers(http: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    pairs = [(str(one[0]), str(one[1])) for one in http.get("headers", ()) if len(one) == 2]
    return [(octets(name.lower()), octets(value)) for name, value in pairs]

"""The people's port at its sockets: plain calls of functions are answered right here, everything else by aiohttp.

A connection begins here. While each request on it is plain (``plain``) and may be answered, it stays; the first other
one goes to aiohttp together with the connection and every byte that came, before anything of it was answered. So each
rule about who may ask what is decided in one place (``app``, ``functions``), and a call that a running worker takes
costs no task, no router and no second look at its headers. Not here: what a call is, and how it is refused. Rejected:
aiohttp alone (three times the time of a warm call), and a web server of our own (the rest of HTTP is not ours).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Awaitable, Coroutine, Iterable
from contextlib import AbstractContextManager, suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

from ropewalk_core.errors import Internal, RopewalkError
from ropewalk_core.model import FunctionRoute
from ropewalk_core.tasks import Tasks
from ropewalk_hub.gateway import answers, plain
from ropewalk_hub.gateway.app import SLOWEST, TO_TELL, Gateway
from ropewalk_hub.gateway.callers import Asking
from ropewalk_hub.gateway.flow import Streamed
from ropewalk_hub.gateway.functions import Asked, Reply, UnderWay
from ropewalk_hub.gateway.plain import Plain
from ropewalk_hub.gateway.room import SMALL, Place
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime.bundle import RAW

log = logging.getLogger("ropewalk.gateway")
_AHEAD = plain.LONGEST_HEAD + plain.LONGEST_BODY
"""Bytes of further requests that are read while one is answered."""
_IDLE = 75.0
"""Seconds after which a connection on which nothing happens is closed, as aiohttp does."""
_ENDING = 1.0
"""Seconds that calls have for their end when the gateway ends."""


class Front:
    """The people's port.

    Parameters
    ----------
    gateway
        Answers.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.tasks = Tasks()
        self.open: set[Connection] = set()
        self._runner = web.AppRunner(
            gateway.application(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_ENDING,
            handler_cancellation=True,  # who hangs up waits for nothing any more
        )
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Answer on listening sockets."""
        await self._runner.setup()
        self.tasks.start(self._sweep())
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
            self._servers.append(await loop.create_server(lambda: Connection(self), sock=sock, backlog=512))

    async def close(self) -> None:
        """Take nothing more, let calls end for a moment, and end."""
        for server in self._servers:
            server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await asyncio.gather(*(one.quiet.wait() for one in self.open))
        for one in list(self.open):
            one.abort()
        await self.tasks.end()
        await self._runner.cleanup()

    def other(self) -> asyncio.Protocol:
        """Return who reads a connection that is not for here."""
        assert self._runner.server is not None
        return self._runner.server()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_IDLE / 5)
            before = time.monotonic() - _IDLE
            for one in [one for one in self.open if one.quiet.is_set() and one.used < before]:
                one.abort()


class Connection(asyncio.Protocol):
    """One connection, up to its first request that is not plain."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._data = bytearray()
        self._head = b""
        self._plain: Plain | None = None
        self._call: _Call | None = None
        self._room: asyncio.Future[None] | None = None
        self._paused = False
        self.transport: asyncio.Transport
        self.used = time.monotonic()
        self.quiet = asyncio.Event()
        self.quiet.set()

    def abort(self) -> None:
        """End it now."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self.transport.set_write_buffer_limits(high=0)  # so that it is known when the last byte has left
        self._front.open.add(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._data += data
        if self._call is None:
            self._next()
        elif len(self._data) > _AHEAD:
            self._paused = True
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._front.open.discard(self)
        if self._room is not None and not self._room.done():
            self._room.set_exception(ConnectionResetError())
        if self._call is not None:
            self._call.leave()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def written(self) -> None:
        """Wait until all that was written has left. Raises `ConnectionError`."""
        if self.transport.is_closing():
            raise ConnectionResetError
        if self.transport.get_write_buffer_size():
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def over(self) -> None:
        """Go on with the next request."""
        self._call, self.used = None, time.monotonic()
        self.quiet.set()
        if self.transport.is_closing():
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._next()

    def _next(self) -> None:
        """Begin the call that has come whole, or give away what is none; anything else waits for more."""
        data = self._data
        if not data:
            return
        end = data.find(plain.END)
        if end < 0 or end > plain.LONGEST_HEAD:
            if len(data) > plain.LONGEST_HEAD or not plain.BEGIN.startswith(data[: len(plain.BEGIN)]):
                self._give_away()
            return
        asked = self._read(bytes(data[: end + len(plain.END)]))
        whole = end + len(plain.END) + (asked.length if asked else 0)
        if asked is not None and len(data) < whole:
            return
        call = asked and _Call.admitted(self._front, self, asked)
        if not call:
            self._give_away()
            return
        self._call = call
        self.quiet.clear()
        payload = bytes(data[end + len(plain.END) : whole])
        del data[:whole]
        call.start(payload)

    def _read(self, head: bytes) -> Plain | None:
        if head != self._head:
            self._head, self._plain = head, plain.read(head, self._front.gateway.settings.door.people)
        return self._plain

    def _give_away(self) -> None:
        self._front.open.discard(self)
        other, transport, data = self._front.other(), self.transport, bytes(self._data)
        transport.set_write_buffer_limits()
        transport.set_protocol(other)
        other.connection_made(transport)
        if data:
            other.data_received(data)


class _Call:
    """One call on a connection, from its admission to the last byte of its answer."""

    def __init__(
        self,
        front: Front,
        connection: Connection,
        route: FunctionRoute,
        caller: Caller,
        asked: Plain,
        room: tuple[AbstractContextManager[Place], Place],
    ) -> None:
        self._front, self._connection = front, connection
        self._route, self._caller = route, caller
        self._asked = Asked(asked.type, "", asked.accept, trace=asked.trace, agent=asked.agent)
        self._held: AbstractContextManager[Place] | None
        self._held, self._place = room
        self._under_way: UnderWay | None = None
        self._late: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._left = False

    @classmethod
    def admitted(cls, front: Front, connection: Connection, asked: Plain) -> _Call | None:
        """Return the call that a request asks for; None if it is refused, or wants more than a plain answer."""
        gateway, host = front.gateway, asked.host
        try:
            asking = Asking(gateway.verifier.caller(asked.token))
            route, caller = gateway.functions.admit(host.account, host.name, asking, host.revision)
            if route.spec.bundle.form in RAW:
                return None
            held = gateway.room.call(route.owner, asked.length)
            return cls(front, connection, route, caller, asked, (held, held.__enter__()))
        except RopewalkError:
            return None

    def start(self, payload: bytes) -> None:
        """Begin it: with a worker that is free, or as a task that waits for one."""
        functions = self._front.gateway.functions
        self._under_way = functions.begin(self._route, self._caller, payload, self._asked)
        if self._under_way is None:
            waiting = functions.call(self._route, self._caller, payload, self._asked, self._place)
            self._run(self._answer(waiting))
            return
        begun = self._under_way.begun
        self._late = asyncio.get_running_loop().call_at(begun.until, self._finish)
        begun.exchange.first.add_done_callback(self._answered)

    def leave(self) -> None:
        """Note that the caller is gone."""
        self._left = True
        if self._late is not None:
            self._late.cancel()
        if self._task is not None:
            self._task.cancel()
        elif self._under_way is not None:
            self._front.gateway.functions.leave(self._under_way)
            self._over()

    def _answered(self, first: asyncio.Future[tuple[dict[str, object], bytes]]) -> None:
        if self._left or self._task is not None or self._under_way is None:
            return
        if self._late is not None:
            self._late.cancel()
        exchange = self._under_way.begun.exchange
        if first.cancelled() or first.exception() or exchange.streams or len(first.result()[1]) > SMALL:
            self._finish()
            return
        try:
            self._send(self._front.gateway.functions.answered(self._under_way))
        except RopewalkError as error:
            self._refuse(error)
        if self._connection.transport.get_write_buffer_size():
            self._run(self._written())
        else:
            self._over()

    def _finish(self) -> None:
        """See to an answer that takes longer: it is late, large, comes in parts, or its worker is gone."""
        if self._under_way is not None and self._task is None:
            self._run(self._answer(self._front.gateway.functions.finish(self._under_way, self._place)))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._front.tasks.start(work, failed=lambda _error: self._connection.abort())
        self._task.add_done_callback(lambda _task: self._over())

    async def _answer(self, reply: Awaitable[Reply]) -> None:
        try:
            found = await reply
            if found.parts is not None:
                await self._stream(found, found.parts)
                return
            self._send(found)
        except RopewalkError as error:
            self._refuse(error)
        await self._written()

    async def _written(self) -> None:
        try:
            async with asyncio.timeout(SLOWEST):
                await self._connection.written()
        except TimeoutError:
            self._connection.abort()
        except ConnectionError:
            pass  # the caller is gone

    async def _stream(self, reply: Reply, parts: Streamed) -> None:
        """Send an answer as it comes. One that is not whole breaks off, so that nobody takes it for whole."""
        transport = self._connection.transport
        headers = {**answers.of_reply(reply), "X-Accel-Buffering": "no", "Transfer-Encoding": "chunked"}
        try:
            async with asyncio.timeout_at(parts.until + TO_TELL):
                transport.write(_head(reply.status, headers))
                while (data := await parts.next()) is not None:
                    transport.write(b"%x\r\n%b\r\n" % (len(data), data))
                    await self._connection.written()
                if parts.whole:
                    transport.write(b"0\r\n\r\n")
                    await self._connection.written()
                else:
                    transport.close()
        except TimeoutError:
            parts.late()
            transport.abort()
        except ConnectionError:
            pass  # the caller is gone
        finally:
            parts.close()

    def _send(self, reply: Reply) -> None:
        headers = answers.of_reply(reply)
        headers["Content-Length"] = str(len(reply.body))
        self._connection.transport.write(_head(reply.status, headers) + reply.body)

    def _refuse(self, error: RopewalkError) -> None:
        if isinstance(error, Internal):
            log.error("%s of %s: %s", self._route.name, self._route.owner, error)
        body = json.dumps(error.problem(origin=self._front.gateway.settings.door.origin)).encode()
        headers = {
            **answers.of_error(error),
            "Content-Type": f"{answers.PROBLEM}; charset=utf-8",
            "Content-Length": str(len(body)),
        }
        self._connection.transport.write(_head(error.status, headers) + body)

    def _over(self) -> None:
        """Give back what it held, once."""
        if self._held is not None:
            held, self._held = self._held, None
            held.__exit__(None, None, None)
            self._connection.over()


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"HTTP/1.1 {status} {_phrase(status)}\r\n{lines}Date: {_date(int(time.time()))}\r\n\r\n".encode()


@lru_cache(64)
def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


@lru_cache(1)
def _date(now: int) -> str:
    return formatdate(now, usegmt=True)

"""Calls of functions that answer in the cluster: over HTTP, with what a worker is told as headers.

The function's own server answers with a frame, as a worker does, so that logs and tracebacks travel too; whatever
comes from between (Knative's proxies, Envoy) is turned into our errors. A call is sent again only while nothing of it
was sent. Not here: who may call, and records (``functions``). Rejected: trusting the function's word for anything but
its own answer: its codes, sizes and texts are held as those of a worker.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import deque
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from ropewalk_core.errors import Limited, RopewalkError, TimedOut, TooLarge, Unavailable, UserCodeFailed
from ropewalk_core.model import FunctionRoute
from ropewalk_core.placement import parse_size
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import tcp
from ropewalk_hub.gateway.flow import Left, Noted
from ropewalk_hub.gateway.link import LONGEST_LOG, text_of, worker_error
from ropewalk_hub.gateway.pool import Outcome
from ropewalk_hub.gateway.room import Place
from ropewalk_runtime.frames import MAX_HEADER, FrameError, Unpacker
from ropewalk_runtime.served import FRAME, FRAMES, HTTP
from ropewalk_runtime.streams import PIECE

_START_PATIENCE = 90.0
"""Seconds that a call waits, on top of its own time, for a pod to be started for it."""
_TRIES, _BETWEEN = 4, 0.25
_IDLE = 15.0
_TO_END = 1.0
"""Seconds in which an answer whose last frame has come must be over."""
_LITTLE = 16 * 2**10
"""Bytes of a payload that the other side's kernel takes, whether its program reads or not."""


class Remote:
    """Sends calls to functions in the cluster.

    Parameters
    ----------
    settings
        Limits.
    resolver
        Leads names of the cluster elsewhere; tests outside of it need that.
    """

    def __init__(self, settings: Settings, resolver: AbstractResolver | None = None) -> None:
        self._settings, self._limit = settings, settings.limits.payload
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def call(
        self, route: FunctionRoute, header: dict[str, Any], payload: bytes, place: Place, left: Left, note: Noted
    ) -> Outcome:
        """Run one call. Whoever is cancelled here closes the connection, by which the function's server ends the call.

        ``note`` is told that it is on its way; which pod has it, its answer says.

        Raises
        ------
        RopewalkError
            If there is no answer; the message says why.
        """
        started = time.monotonic()
        headers = {
            "Accept": FRAME,
            "X-Ropewalk-Account": header["caller"],
            "X-Ropewalk-Call": header["call"],
        }
        headers |= {"Content-Type": header["type"]} if header["type"] else {}
        headers |= {"X-Ropewalk-Accept": header["accept"]} if header.get("accept") else {}
        headers |= {name: header[name] for name in ("traceparent", "tracestate") if name in header}
        if "http" in header:
            headers[HTTP] = base64.b64encode(json.dumps(header["http"]).encode()).decode()
        url = f"{route.url}/" + (f"?{header['query']}" if header["query"] else "")
        until = asyncio.get_running_loop().time() + route.spec.timeout + _START_PATIENCE
        note.began("", False)
        try:
            async with asyncio.timeout_at(until) as time_left:
                response = await self._sent(url, headers, payload)
                if (response.status, response.content_type) == (200, FRAMES):
                    return await self._parts(route, response, until, started)
                async with response:
                    body = await self._body(response, place, time_left)
        except aiohttp.ClientError as error:
            raise _broken(error) from error
        except TimeoutError:
            raise TimedOut(f"'{route.name}' did not answer within {route.spec.timeout:g} seconds.") from None
        except OSError as error:
            raise _broken(error) from error
        except asyncio.CancelledError:
            left("The caller left, and the function's server was told to end the call.", None)
            raise
        if response.status != 200 or response.content_type != FRAME:
            raise _from_between(route.name, response.status, response.content_type, body)
        return self._outcome(route, body, time.monotonic() - started)

    def reported(self, route: FunctionRoute, header: dict[str, Any]) -> RopewalkError | None:
        """Return the failure in a frame, if there is one; that a worker was ended is nobody's code."""
        facts = header.get("error")
        if isinstance(facts, dict) and facts.get("code") == Unavailable.code:
            return _ended()
        return worker_error(header, self.memory(route), 0)

    def memory(self, route: FunctionRoute) -> int:
        """Return the bytes of memory that a function may use; 0 when nobody says."""
        return route.spec.placement.memory or parse_size(self._settings.cluster.container.get("memory") or 0)

    async def close(self) -> None:
        """End the connections."""
        for session in self._sessions.values():
            await session.close()

    async def _sent(self, url: str, headers: dict[str, str], payload: bytes) -> aiohttp.ClientResponse:
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._http(len(payload)).post(URL(url, encoded=True), data=payload, headers=headers)
            except aiohttp.ClientConnectorError as error:  # nothing was sent
                if attempt == _TRIES:
                    raise Unavailable("The function cannot be reached in the cluster.") from error
                await asyncio.sleep(_BETWEEN * attempt)
        raise AssertionError

    async def _parts(
        self, route: FunctionRoute, response: aiohttp.ClientResponse, until: float, started: float
    ) -> Outcome:
        """Return an answer in parts, of which the head has come."""
        flow = _Streaming(route, response, until)
        try:
            head = await flow.head()
        except BaseException:
            response.close()
            raise
        age, took = head.get("age"), time.monotonic() - started
        return Outcome(head, b"", isinstance(age, int | float) and age < took, flow)

    async def _body(self, response: aiohttp.ClientResponse, place: Place, time_left: asyncio.Timeout) -> bytes:
        """Return the answer's body, as far as an answer may go with its log, once there is room for it."""
        most, body = self._limit + MAX_HEADER + 8, bytearray()
        size, loop = response.content_length, asyncio.get_running_loop()
        left = (time_left.when() or loop.time()) - loop.time()
        time_left.reschedule(None)  # it has run, so it does not wait in its own time
        await place.answer(most if size is None or size > most else size)
        time_left.reschedule(loop.time() + left)
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > most:
                raise TooLarge(f"The answer is over the limit of {self._limit} bytes.", field="limits.payload")
        return bytes(body)

    def _outcome(self, route: FunctionRoute, body: bytes, took: float) -> Outcome:
        try:
            [(header, answer)] = Unpacker(self._limit).feed(body)
        except (FrameError, ValueError) as error:
            raise UserCodeFailed("The function's server did not answer in its form.") from error
        age = header.get("age")
        cold = isinstance(age, int | float) and age < took  # its server is younger than the call
        facts = header.get("error")
        if isinstance(facts, dict):
            code, message = text_of(facts.get("code"), 100), text_of(facts.get("message", ""), 2000)
            if code == Limited.code:
                raise Limited(message or f"Too many calls of '{route.name}' wait.", field="queue")
            if code == Unavailable.code:
                raise _ended()
        return Outcome(header, answer, cold)

    def _http(self, size: int) -> aiohttp.ClientSession:
        little = size <= _LITTLE
        if little not in self._sessions:
            connector = aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=_IDLE,
                resolver=self._resolver,
                use_dns_cache=self._resolver is None,
                socket_factory=tcp.prompt if little else tcp.watched,
            )
            self._sessions[little] = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
                skip_auto_headers=("User-Agent", "Content-Type", "Accept-Encoding"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[little]


class _Streaming:
    """The parts of one answer from a server in the cluster; see `Flow`. TCP holds back who sends too much."""

    def __init__(self, route: FunctionRoute, response: aiohttp.ClientResponse, until: float) -> None:
        self._route, self._response, self.until = route, response, until
        self._unpacker = Unpacker(PIECE)
        self._frames: deque[tuple[dict[str, Any], bytes]] = deque()
        self.last: dict[str, Any] | None = None

    async def head(self) -> dict[str, Any]:
        """Return the first frame's header."""
        await self._fill()
        return self._frames.popleft()[0]

    async def next(self) -> bytes | None:
        try:
            async with asyncio.timeout_at(self.until):
                await self._fill()
        except TimeoutError:
            self._response.close()
            raise TimedOut(f"'{self._route.name}' did not end within {self._route.spec.timeout:g} seconds.") from None
        except RopewalkError:
            self._response.close()
            raise
        found: list[bytes] = []
        while self._frames:
            header, body = self._frames.popleft()
            if header.get("op") != "part":
                self.last = header
                break
            found.append(body)
        if not found:
            await self._over()
            return None
        if self.last is not None:  # told with the next question
            self._frames.appendleft((self.last, b""))
            self.last = None
        return b"".join(found)

    def leave(self, left: Left) -> None:
        self._response.close()
        left("The caller left, and the function's server was told to end the call.", None)

    async def _over(self) -> None:
        """Read up to the real end: who leaves before it ends its connection, and each further one on the way."""
        try:
            async with asyncio.timeout(_TO_END):
                await self._response.content.readany()
        except (aiohttp.ClientError, OSError):
            pass  # it was answered whole, whatever becomes of the connection
        self._response.release()  # which closes it where the end has not come

    async def _fill(self) -> None:
        """Wait until there is a frame."""
        try:
            while not self._frames:
                data = await self._response.content.readany()
                if not data:
                    raise _broken(EOFError("the answer ended before its last frame"))
                self._frames.extend(self._unpacker.feed(data))
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error) from error
        except FrameError as error:
            raise UserCodeFailed("The function's server did not answer in its form.") from error


def _ended() -> Unavailable:
    return Unavailable("The worker that ran this call was ended.", hint="Call again; a new worker takes it.")


def _broken(error: Exception) -> Unavailable:
    hint = "It may have run. Call again if it may run twice."
    details = {"raw": f"{type(error).__name__}: {error}"[:LONGEST_LOG]}
    return Unavailable("The connection to the function broke off.", hint=hint, details=details)


def _from_between(name: str, status: int, kind: str, body: bytes) -> RopewalkError:
    """Return the error for an answer that the function's server did not give."""
    said = body[:200].decode("utf-8", "replace").strip()
    details = {"raw": f"{status} {said}"[:LONGEST_LOG]}
    if status == 429 or (status == 503 and "queue" in said.lower()):
        return Limited(f"Too many calls of '{name}' wait already.", field="queue", details=details)
    if status == 504:
        return TimedOut(f"'{name}' took too long to answer.", field="timeout", details=details)
    if status == 431:
        return TooLarge("The request's headers are longer than the cluster takes.", field="headers", details=details)
    if status == 413:
        return TooLarge("The payload is larger than the cluster takes.", field="limits.payload", details=details)
    if status == 502:
        hint = "It may have run out of memory: ask for more with `%%function --memory ...`, or call again."
        return Unavailable("The worker that ran this call was ended.", hint=hint, details=details)
    return Unavailable(f"The cluster does not reach '{name}' now.", details=details)

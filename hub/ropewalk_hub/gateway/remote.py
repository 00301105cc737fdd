"""Calls of functions that answer in the cluster: over HTTP, with what a worker is told as headers.

The function's own server answers with a frame, as a worker does, so that logs and tracebacks travel too; whatever
comes from between (Knative's proxies, Envoy) is turned into our errors. A call is sent again only while nothing of it
was sent. Not here: who may call, and records (``functions``). Rejected: trusting the function's word for anything but
its own answer: its codes, sizes and texts are held as those of a worker.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from ropewalk_core.errors import Limited, RopewalkError, TimedOut, TooLarge, Unavailable, UserCodeFailed
from ropewalk_core.model import FunctionRoute
from ropewalk_core.placement import parse_size
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import tcp
from ropewalk_hub.gateway.link import LONGEST_LOG
from ropewalk_hub.gateway.pool import Outcome
from ropewalk_hub.gateway.room import Place
from ropewalk_runtime.frames import MAX_HEADER, FrameError, Unpacker
from ropewalk_runtime.serve import FRAME

_START_PATIENCE = 90.0
"""Seconds that a call waits, on top of its own time, for a pod to be started for it."""
_TRIES, _BETWEEN = 4, 0.25
_IDLE = 15.0
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

    async def call(self, route: FunctionRoute, header: dict[str, Any], payload: bytes, place: Place) -> Outcome:
        """Run one call.

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
        url = f"{route.url}/" + (f"?{header['query']}" if header["query"] else "")
        try:
            async with asyncio.timeout(route.spec.timeout + _START_PATIENCE) as time_left:
                status, kind, body = await self._sent(url, headers, payload, place, time_left)
        except TimeoutError:
            raise TimedOut(f"'{route.name}' did not answer within {route.spec.timeout:g} seconds.") from None
        if status != 200 or kind != FRAME:
            raise _from_between(route.name, status, kind, body)
        return self._outcome(route, body, time.monotonic() - started)

    def memory(self, route: FunctionRoute) -> int:
        """Return the bytes of memory that a function may use; 0 when nobody says."""
        return route.spec.placement.memory or parse_size(self._settings.cluster.container.get("memory") or 0)

    async def close(self) -> None:
        """End the connections."""
        for session in self._sessions.values():
            await session.close()

    async def _sent(
        self, url: str, headers: dict[str, str], payload: bytes, place: Place, time_left: asyncio.Timeout
    ) -> tuple[int, str, bytes]:
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._http(len(payload)).post(
                    URL(url, encoded=True), data=payload, headers=headers
                ) as response:
                    return response.status, response.content_type, await self._body(response, place, time_left)
            except aiohttp.ClientConnectorError as error:  # nothing was sent
                if attempt == _TRIES:
                    raise Unavailable("The function cannot be reached in the cluster.") from error
                await asyncio.sleep(_BETWEEN * attempt)
            except (aiohttp.ClientError, OSError) as error:
                hint = "It may have run. Call again if it may run twice."
                raise Unavailable("The connection to the function broke off.", hint=hint) from error
        raise AssertionError

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
            code, message = str(facts.get("code")), str(facts.get("message", ""))[:2000]
            if code == Limited.code:
                raise Limited(message or f"Too many calls of '{route.name}' wait.", field="queue")
            if code == Unavailable.code:
                raise Unavailable("The worker that ran this call was ended.", hint="Call again; a new worker takes it.")
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


def _from_between(name: str, status: int, kind: str, body: bytes) -> RopewalkError:
    """Return the error for an answer that the function's server did not give."""
    said = body[:200].decode("utf-8", "replace").strip()
    details = {"raw": f"{status} {said}"[:LONGEST_LOG]}
    if status == 429 or (status == 503 and "queue" in said.lower()):
        return Limited(f"Too many calls of '{name}' wait already.", field="queue", details=details)
    if status == 504:
        return TimedOut(f"'{name}' took too long to answer.", field="timeout", details=details)
    if status == 413:
        return TooLarge("The payload is larger than the cluster takes.", field="limits.payload", details=details)
    if status == 502:
        hint = "It may have run out of memory: ask for more with `Placement(memory=...)`, or call again."
        return Unavailable("The worker that ran this call was ended.", hint=hint, details=details)
    return Unavailable(f"The cluster does not reach '{name}' now.", details=details)

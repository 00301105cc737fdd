"""The wire: requests with a token, patience with a platform that restarts, errors as our own classes, and streams.

A request that may be repeated (GET, PUT, DELETE, or a POST with a key) is repeated while the platform is away, for
``patience`` seconds, or ``reading`` when it changes nothing; so killing any process of the platform costs a wait and no
error. Not here: what the routes mean
(``nouns.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from ropewalk_core.client.tokens import Token, Tokens, TokenSource
from ropewalk_core.errors import (
    Denied,
    Limited,
    NotFound,
    RopewalkError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    from_problem,
)
from ropewalk_core.model import Event, LogLine

_SILENCE = 45.0  # three missed heartbeats of a stream
READING = 120.0
"""Seconds in a row without an answer after which who waits for something gives up: a cluster that moves the platform to
another node, or whose names are away, needs one to two minutes. Nothing is changed by asking again, and the person can
interrupt at any time."""
_FALLBACK: dict[int, type[RopewalkError]] = {
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    413: TooLarge,
    429: Limited,
}


class Wire:
    """One platform, seen by one person.

    Parameters
    ----------
    api
        Address to connect to, such as ``http://127.0.0.1:8000``.
    source
        Where tokens come from.
    host
        The ``Host`` header, when the platform's name does not resolve here.
    account
        The person's account, when it is known already.
    transport
        Replaces the network; tests pass httpx's ASGI transport.
    patience
        Seconds for which a platform that is away is waited for.
    reading
        The same for what only reads: polls, streams, content. Not given, it is ``patience``.
    """

    def __init__(
        self,
        api: str,
        source: TokenSource,
        *,
        host: str = "",
        account: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
        patience: float = 15.0,
        reading: float | None = None,
    ) -> None:
        self._api, self._host, self.account, self.patience = api.rstrip("/"), host, account, patience
        self.reading = patience if reading is None else reading
        self.tokens = Tokens(source)
        self._http = httpx.AsyncClient(transport=transport, trust_env=False, timeout=httpx.Timeout(30.0, connect=5.0))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        content: bytes | None = None,
        content_type: str = "",
        key: str = "",
        timeout: float = 30.0,
    ) -> httpx.Response:
        """Send one request and return its successful answer.

        ``body`` goes as JSON, ``content`` as it is. ``key`` makes a POST repeatable.

        Raises
        ------
        RopewalkError
            What the platform refused with, or `Unavailable` when it did not answer in time.
        """
        headers = {"Idempotency-Key": key} if key else {}
        headers |= {"Content-Type": content_type} if content_type else {}
        repeatable = method in ("GET", "PUT", "DELETE") or bool(key)
        patience = self.reading if method == "GET" else self.patience
        since, pause, stale = time.monotonic(), 0.1, ""
        while True:
            failure: RopewalkError
            try:
                token = await self._token(stale)
                response = await self._http.request(
                    method,
                    f"{self._api}/api/v1/{path}",
                    params=_given(params),
                    json=body,
                    content=content,
                    headers=headers | self._headers(token),
                    timeout=timeout,
                )
                if not response.is_error:
                    return response
                failure = problem_of(response.status_code, response.content, response.headers)
                if isinstance(failure, Unauthenticated) and not stale:
                    stale = token.text
                    continue
            except httpx.TransportError as error:
                repeatable = repeatable or isinstance(error, httpx.ConnectError)
                failure = Unavailable(f"The platform does not answer ({type(error).__name__}).")
            except Unavailable as error:  # from the source of tokens: nothing was sent yet
                repeatable, failure = True, error
            pause = await self._pause_or_raise(failure, pause, since, patience if repeatable else None)

    async def _pause_or_raise(
        self, failure: RopewalkError, pause: float, since: float, patience: float | None
    ) -> float:
        """Wait before the next attempt and return the next pause, or raise when there is none (without patience)."""
        wait, repeatable, end = pause, patience is not None, since + (patience or 0.0)
        if isinstance(failure, Limited):  # it says itself for how long: a person would rather know than wait
            wait, end = failure.retry_after, min(end, since + self.patience)
        passes = isinstance(failure, Unavailable | Limited) and failure.details.get("wait", True)
        if not repeatable or not passes or time.monotonic() + wait > end:
            raise failure
        await asyncio.sleep(wait)
        return min(pause * 2, 2.0)

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, Any] | None = None, *, body: Any = None
    ) -> AsyncIterator[httpx.Response]:
        """Open a streaming GET, or a POST with a body as JSON.

        Errors are raised as by `request`, transport errors as `Unavailable`.
        """
        stale = ""
        while True:
            token = await self._token(stale)
            try:
                async with self._http.stream(
                    "GET" if body is None else "POST",
                    f"{self._api}/api/v1/{path}",
                    params=_given(params),
                    json=body,
                    headers=self._headers(token),
                    timeout=httpx.Timeout(_SILENCE, connect=5.0),
                ) as response:
                    if response.is_error:
                        failure = problem_of(response.status_code, await response.aread(), response.headers)
                        if isinstance(failure, Unauthenticated) and not stale:
                            stale = token.text
                            continue
                        raise failure
                    yield response
                    return
            except httpx.TransportError as error:
                raise Unavailable(f"The platform does not answer ({type(error).__name__}).") from error

    async def events(self, path: str, *, after: int | None, kinds: str = "") -> AsyncIterator[Event]:
        """Yield server-sent events after a cursor (None: from now); connect again, for ever, after the last one."""
        pause = 0.1
        while True:
            try:
                async with self.stream(path, {"after": after, "kinds": kinds}) as response:
                    after = int(response.headers.get("Ropewalk-Cursor", 0)) if after is None else after
                    async for data in _sse(response.aiter_lines()):
                        event = Event.model_validate_json(data)
                        after, pause = event.cursor, 0.1
                        yield event
            except (Unavailable, Limited):
                pause = min(pause * 2, 2.0)
            await asyncio.sleep(pause)

    async def log_lines(self, path: str, *, after: int, follow: bool, **which: str) -> AsyncIterator[LogLine]:
        """Yield a log's lines after an offset; one that breaks, or is cut, is taken up there."""
        since, pause = time.monotonic(), 0.1
        while True:
            try:
                async with self.stream(path, {**which, "after": after, "follow": follow}) as response:
                    async for text in response.aiter_lines():
                        if text.strip():
                            line = LogLine.model_validate_json(text)
                            if line.cut:
                                after = line.offset
                                raise Unavailable(line.text)
                            after, since, pause = line.offset, time.monotonic(), 0.1
                            yield line
                return
            except Unavailable as error:
                pause = await self._pause_or_raise(error, pause, since, self.reading)

    async def made(self, path: str, body: Any) -> AsyncIterator[LogLine]:
        """Have something made that lasts, and yield what is said meanwhile; leaving the loop ends it.

        One that breaks is asked for again; what is made already stays.
        """
        since, pause = time.monotonic(), 0.1
        while True:
            try:
                async with self.stream(path, body=body) as response:
                    async for text in response.aiter_lines():
                        since = time.monotonic()
                        if text.strip():
                            yield _said(json.loads(text))
                return
            except Unavailable as error:
                pause = await self._pause_or_raise(error, pause, since, self.reading)

    async def content(self, path: str, *, fixed: bool) -> AsyncIterator[bytes]:
        """Yield some content's bytes; what is cut goes on where it was cut if the content is ``fixed`` for ever."""
        since, pause, given = time.monotonic(), 0.1, 0
        while True:
            try:
                async with self.stream(path) as response:
                    place = 0
                    async for chunk in response.aiter_bytes():
                        known, place = max(0, given - place), place + len(chunk)
                        if fresh := chunk[known:]:
                            given, since, pause = place, time.monotonic(), 0.1
                            yield fresh
                return
            except (Unavailable, Limited) as error:
                goes_on = fixed or not given
                pause = await self._pause_or_raise(error, pause, since, self.reading if goes_on else None)

    async def known_account(self) -> str:
        """Return the person's account if the giver of tokens says it, else nothing."""
        if not self.account:
            with contextlib.suppress(Unavailable):  # a request waits longer for it
                await self._token("")
        return self.account

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _token(self, stale: str) -> Token:
        token = await self.tokens.get(stale=stale)
        self._api, self._host = token.api.rstrip("/") or self._api, token.host or self._host
        self.account = self.account or token.account
        return token

    def _headers(self, token: Token) -> dict[str, str]:
        return {"Authorization": f"Bearer {token.text}"} | ({"Host": self._host} if self._host else {})


def _said(line: Any) -> LogLine:
    """Return a line of a log, or raise the problem that stands in its place."""
    if isinstance(line, dict) and isinstance(line.get("problem"), dict):
        raise from_problem(line["problem"])
    return LogLine.model_validate(line)


def problem_of(status: int, content: bytes, headers: Mapping[str, str]) -> RopewalkError:
    """Return the error that an answer carries; an answer that is not ours (a proxy's page) goes by its status."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and str(problem.get("code", "")).startswith("RW-"):
        return from_problem(problem)
    if status in (502, 503, 504):
        return Unavailable("A part of the platform is starting again.")
    if status == 429:
        return Limited("Too many requests at once.", retry_after=_seconds(headers.get("Retry-After", "")))
    return _FALLBACK.get(status, RopewalkError)(f"The platform answered with status {status}.")


def _seconds(text: str) -> float:
    try:
        return max(0.1, float(text))
    except ValueError:
        return 1.0


def _given(params: Mapping[str, Any] | None) -> httpx.QueryParams:
    """Return the parameters that have a value, as text; one with a list as often as it has values."""
    pairs = {name: value for name, value in (params or {}).items() if value not in (None, "")}
    each = [(name, one) for name, value in pairs.items() for one in (value if isinstance(value, list) else [value])]
    return httpx.QueryParams([(name, str(one).lower() if isinstance(one, bool) else str(one)) for name, one in each])


async def _sse(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the data of each server-sent event; comments (heartbeats) and other fields are skipped."""
    data: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []

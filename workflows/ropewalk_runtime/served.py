"""A function's container towards HTTP: what a request says, who hung up, and answers in parts as they leave.

Not here: the worker and its calls (``serve``), HTTP itself (``wire``).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ropewalk_runtime.frames import pack
from ropewalk_runtime.parts import BYTES, tail
from ropewalk_runtime.streams import Exchange, pieces
from ropewalk_runtime.trace import read
from ropewalk_runtime.wire import BadRequest, Request, begin, came, finish, send

FRAME = "application/vnd.ropewalk.frame"
"""What the gateway accepts: header and body as one frame, so that logs and tracebacks travel with the answer."""
FRAMES = "application/vnd.ropewalk.frames"
"""The same of an answer in parts: its head, its parts, and what ends it, each a frame."""
HTTP = "X-Ropewalk-Http"
"""The header in which the gateway tells an app the request as it came: JSON in base64."""
BORN, NODE = time.monotonic(), os.uname().nodename
_TO_TELL = 5.0


class WorkerGone(Exception):
    """The worker ended before it answered; ``facts`` say how."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts["message"])
        self.facts = facts


def status_of(said: Mapping[str, Any]) -> int:
    """Return the status that a worker names; one that no answer can have is a failure of its own."""
    status = said.get("status", 200)
    return status if isinstance(status, int) and 200 <= status <= 599 else 500


def facts_of(said: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the failure that a worker reports, if it does: any true word there is one."""
    facts = said.get("error")
    if not facts:
        return None
    return facts if isinstance(facts, dict) else {"code": "RW-USER-CODE", "message": "The function failed."}


class Parts:
    """An answer in parts on a connection: as frames for the gateway, else as it is.

    Parameters
    ----------
    writer
        The connection.
    exchange
        Where the parts come from.
    head
        What the worker said first.
    framed
        Whether the gateway reads it.
    keep
        Whether the connection may be used again.
    """

    def __init__(
        self, writer: asyncio.StreamWriter, exchange: Exchange, head: dict[str, Any], *, framed: bool, keep: bool
    ) -> None:
        self._writer, self._exchange, self._head, self._framed, self._keep = writer, exchange, head, framed, keep
        self._kind = str(head.get("type") or BYTES)

    async def send(self, until: float, late: dict[str, Any]) -> bool:
        """Send it to its end, and say whether the connection can be used again.

        Parameters
        ----------
        until
            When the call must be over, in the event loop's time.
        late
            What to say when it is not.
        """
        try:
            async with asyncio.timeout_at(until):
                await self._begin()
                while (data := await self._exchange.next()) is not None:
                    await self._pass(data)
            last = self._exchange.last or {}
        except WorkerGone as error:
            last = {"error": error.facts}
        except TimeoutError:
            last = {"error": late}
        try:
            async with asyncio.timeout(_TO_TELL):
                return await self._end(last)
        except TimeoutError:
            return False

    async def _begin(self) -> None:
        status = 200 if self._framed else status_of(self._head)
        await begin(self._writer, status, FRAMES if self._framed else self._kind, keep=self._keep)
        if self._framed:
            await send(self._writer, pack({**self._head, **here()}))

    async def _pass(self, data: bytes) -> None:
        for piece in pieces(data) if self._framed else (data,):
            await send(self._writer, pack({"op": "part"}, piece) if self._framed else piece)

    async def _end(self, last: dict[str, Any]) -> bool:
        whole = True
        if self._framed:
            await send(self._writer, pack({**last, "worker": NODE, "op": "end"}))
        else:
            formed = self._head.get("values") is True
            error = facts_of(last)
            data, whole = tail(self._kind, error) if formed else (b"", error is None)
            await send(self._writer, data)
        if whole:
            await finish(self._writer)
        return whole and self._keep


class Reader(asyncio.StreamReader):
    """Tells when the other side hangs up."""

    ended: Callable[[], object] | None = None

    def feed_eof(self) -> None:
        """See `asyncio.StreamReader`."""
        super().feed_eof()
        if self.ended is not None:
            self.ended()

    def set_exception(self, exc: Exception) -> None:
        """See `asyncio.StreamReader`."""
        super().set_exception(exc)
        if self.ended is not None:
            self.ended()


@contextlib.contextmanager
def leaving(reader: asyncio.StreamReader) -> Iterator[None]:
    """Cancel what runs here when the other side hangs up. Raises `ConnectionResetError` then."""
    task, left = asyncio.current_task(), False

    def gone() -> None:
        nonlocal left
        if task is not None and not left:
            left = True
            task.cancel()

    if isinstance(reader, Reader):
        reader.ended = gone
    try:
        yield
    except asyncio.CancelledError:
        if not left or task is None:
            raise
        task.uncancel()
        raise ConnectionResetError from None
    finally:
        if isinstance(reader, Reader):
            reader.ended = None


def here() -> dict[str, Any]:
    """Return what an answer says of the container: its name, and its age, by which a cold start is known."""
    return {"age": time.monotonic() - BORN, "worker": NODE}


def told(request: Request, query: str, framed: bool) -> dict[str, Any]:
    """Return what a worker is told of a request."""
    accept = request.headers.get("x-ropewalk-accept" if framed else "accept", "")
    header = {"type": request.headers.get("content-type", "")[:200], "query": query[:8192], "accept": accept[:200]}
    if (trace := read([request.headers.get("traceparent", "")], [request.headers.get("tracestate", "")])) is not None:
        header |= trace.headers()
    header |= {"caller": request.headers.get("x-ropewalk-account", "")[:100]}
    return header | {"call": request.headers.get("x-ropewalk-call", "")[:100]}


def http_of(request: Request, path: str, framed: bool) -> Any:
    """Return the request as an app gets it: as the gateway says it came, or as it came here."""
    if not framed:
        headers = [(name, came(value)) for name, value in request.headers.items()]
        return {"method": request.method, "path": path, "headers": headers}
    try:
        return json.loads(base64.b64decode(request.headers.get(HTTP.lower(), ""), validate=True))
    except ValueError:
        raise BadRequest("The request behind this one cannot be read.") from None

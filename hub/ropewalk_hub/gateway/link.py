"""A connection to one worker: frames out, frames back, matched by number. The worker is user code and not trusted.

Not here: choosing a worker (``pool``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, cast

from ropewalk_core import machine
from ropewalk_core.errors import BadInput, OutOfMemory, RopewalkError, TimedOut, TooLarge, UserCodeFailed
from ropewalk_core.why import more_memory
from ropewalk_runtime.frames import FrameError, Unpacker, pack
from ropewalk_runtime.streams import Exchange

LONGEST_LOG = 70_000
"""Characters of a call's log, and of a traceback, that are taken from a worker."""
_MOST_STRAYS = 20_000
"""Frames in a row that answer nothing which was asked; a call that was left may have sent a window full of them."""
_FROM_WORKER: dict[str, type[RopewalkError]] = {
    one.code: one for one in (BadInput, TooLarge, UserCodeFailed, OutOfMemory, TimedOut)
}


class Gone(Exception):
    """The worker ended, or spoke nonsense, before it answered."""


class Link(asyncio.Protocol):
    """One worker's socket.

    Parameters
    ----------
    max_body
        Bytes of an answer that are accepted.
    """

    def __init__(self, max_body: int) -> None:
        self._unpacker = Unpacker(max_body)
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, Exchange] = {}
        self._next = self._strays = 0
        self.hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.hello.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.closed = asyncio.Event()
        self.nonsense = ""

    @classmethod
    async def open(cls, sock: socket.socket, max_body: int) -> Link:
        """Return a link on a connected socket."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: cls(max_body), sock=sock)
        return link

    @property
    def busy(self) -> int:
        """How many calls wait for their answer."""
        return len(self._waiting)

    def send(self, header: dict[str, Any], body: bytes) -> Exchange:
        """Send a call; what comes back is in its exchange, until that is forgotten. Raises `Gone`."""
        if self._transport is None or self.closed.is_set():
            raise Gone
        self._next, self._strays = self._next + 1, 0
        number = self._next
        exchange = self._waiting[number] = Exchange(number, self._tell)
        self._transport.write(pack({**header, "id": number}, body))
        return exchange

    def forget(self, exchange: Exchange) -> None:
        """Take nothing more of a call."""
        self._waiting.pop(exchange.number, None)

    def close(self) -> None:
        """Close the socket; the worker ends when it reads that."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            for header, body in self._unpacker.feed(data):
                self._take(header, body)
        except FrameError as error:
            self.nonsense = str(error)
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.closed.set()
        if not self.hello.done():
            self.hello.set_exception(Gone())
        for exchange in self._waiting.values():
            exchange.fail(Gone())

    def _take(self, header: dict[str, Any], body: bytes) -> None:
        if not self.hello.done():
            self.hello.set_result(header)
            return
        number = header.get("id")
        exchange = self._waiting.get(number) if isinstance(number, int) else None
        if exchange is not None and exchange.last is None:
            exchange.take(header, body)
            return
        self._strays += 1
        if self._strays > _MOST_STRAYS:  # each costs everybody's event loop a moment
            raise FrameError("Too many frames answer nothing.")

    def _tell(self, header: dict[str, Any]) -> None:
        if self._transport is not None and not self.closed.is_set():
            self._transport.write(pack(header))


def text_of(said: object, most: int) -> str:
    """Return text of a worker's as it can be passed on: a half of a surrogate pair is in nobody's JSON."""
    text = "" if isinstance(said, list | dict) else str(said)
    return text[:most].encode(errors="replace").decode()


def worker_error(header: Mapping[str, Any], memory: int, most: int | None = None) -> RopewalkError | None:
    """Return the failure that a worker reported. The worker is user code: only known codes and plain text count.

    ``memory`` is its limit, from which the advice goes on when that was not enough; ``most`` is what its machine has,
    0 if nobody knows, and this machine's when it is left out.
    """
    facts = header.get("error")
    if not isinstance(facts, dict):
        return None
    kind = _FROM_WORKER.get(text_of(facts.get("code"), 100), UserCodeFailed)
    details = facts.get("details")
    known = details if isinstance(details, dict) else {}
    hint = text_of(facts["hint"], 500) if facts.get("hint") else None
    if kind is OutOfMemory:
        hint = more_memory(memory, machine.memory() if most is None else most, function=True)
    return kind(
        text_of(facts.get("message", "The function failed."), 2000),
        hint=hint,
        field=text_of(facts["field"], 100) if facts.get("field") else None,
        details={key: text_of(known[key], LONGEST_LOG) for key in ("traceback", "error") if known.get(key)},
    )

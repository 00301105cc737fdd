"""HTTP/1.1 requests over kept connections, as cheap as calls of a function are: h11 reads and writes the protocol.

One `Posts` belongs to one event loop. A request is sent once: what follows from a broken connection is for who asked.
Not here: what is sent (``calls``). Rejected: httpx and httpcore, whose own work for one request is more than twice that
of the gateway which answers it; aiohttp, which no notebook has; a parser of our own.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import h11
import httpx

from ropewalk_runtime.packed import PACKED
from ropewalk_runtime.parts import PARTS_TYPE

_CONNECT = 5.0
_KEPT = 20.0
"""Seconds that an unused connection is kept: less than any server or proxy on the way keeps it."""
_AHEAD = 2**18
"""Bytes of an answer in parts that are kept before nothing more is read."""
_PARTS, _PACKED = (b"content-type", PARTS_TYPE.encode()), (b"content-type", PACKED.encode())
_JOINED = 2**16
"""Bytes up to which head and body leave in one piece; a larger body is not copied for it."""


class Broken(Exception):
    """No whole answer came; the message is the cause in a word or two."""


class Place(NamedTuple):
    """Where to connect to."""

    host: str
    port: int
    secure: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer as it came; one in parts has a ``stream`` instead of a body."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    stream: Stream | None = None

    @property
    def kind(self) -> str:
        """Its content type."""
        return next((value.decode("latin-1") for name, value in self.headers if name.lower() == b"content-type"), "")


class Stream:
    """The body of an answer as it comes, held back when nobody takes it. Used in the loop that it came in."""

    def __init__(self, over: Callable[[], None], hold: Callable[[bool], None]) -> None:
        self._over, self._hold = over, hold
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended, self._held = False, False
        self._failure: Broken | None = None
        self._news: asyncio.Future[None] | None = None

    async def next(self) -> bytes | None:
        """Return what came since the last time, None after the end.

        Raises
        ------
        Broken
            If it broke off.
        """
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._held and not self._ended:
            self._held = False
            self._hold(False)
        return data

    def close(self) -> None:
        """Take no more; what is under way is given up."""
        if not self._ended:
            self._ended = True
            self._over()

    def feed(self, data: bytes) -> None:
        """Keep a piece that came."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _AHEAD and not self._held:
            self._held = True
            self._hold(True)
        self._wake()

    def end(self, failure: Broken | None = None) -> None:
        """Note that no more will come."""
        if not self._ended:
            self._ended, self._failure = True, failure
            if self._held:  # nobody takes from what has ended, and the connection serves the next request
                self._held = False
                self._hold(False)
            self._wake()
            self._over()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Posts:
    """Connections to any number of places, each used by one request at a time."""

    def __init__(self) -> None:
        self._idle: dict[Place, list[Connection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def post(
        self, place: Place, target: str, headers: tuple[tuple[str, str], ...], body: bytes, timeout: float
    ) -> Answer:
        """Send one request and return its answer, whatever its status; a cancelled one closes its connection.

        An answer in parts (`PARTS_TYPE`, or `PACKED` in chunks) is returned as soon as it begins, and read or closed
        by who asked.

        Raises
        ------
        Broken
            If no whole answer came.
        """
        connection = self._kept(place) or await _connect(place)
        answer = None
        try:
            answer = await connection.post(target, headers, body, timeout, lambda: self._back(place, connection))
            return answer
        finally:
            if answer is None or answer.stream is None:
                self._back(place, connection)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._sweep(until=float("inf"))

    def _back(self, place: Place, connection: Connection) -> None:
        """Take a connection back after its request."""
        if connection.idle:
            self._keep(place, connection)
        else:
            connection.close()

    def _kept(self, place: Place) -> Connection | None:
        kept = self._idle.get(place)
        while kept:
            if (connection := kept.pop()).idle:
                return connection
        return None

    def _keep(self, place: Place, connection: Connection) -> None:
        connection.used = time.monotonic()
        self._idle.setdefault(place, []).append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_KEPT, self._sweep)

    def _sweep(self, until: float | None = None) -> None:
        """Close what was unused for too long; the latest used are at the end."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        until = time.monotonic() - _KEPT if until is None else until
        for place, kept in list(self._idle.items()):
            for connection in kept:
                if connection.used <= until:
                    connection.close()
            self._idle[place] = [one for one in kept if one.idle]
            if not self._idle[place]:
                del self._idle[place]
        if self._idle:
            self._sweeping = asyncio.get_running_loop().call_later(_KEPT, self._sweep)


class Connection(asyncio.Protocol):
    """One connection, and at most one request on it."""

    def __init__(self) -> None:
        self.used = 0.0
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._head: h11.Response | None = None
        self._parts: list[bytes] = []
        self._stream: Stream | None = None
        self._over: Callable[[], None] = self.close

    @property
    def idle(self) -> bool:
        """Whether a request may be sent."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return open_ and self._answer is None and self._stream is None and self._http.our_state is h11.IDLE

    async def post(
        self,
        target: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        timeout: float,
        over: Callable[[], None],
    ) -> Answer:
        """Send one request and return its answer; ``over`` is called at the end of one in parts."""
        self._over = over
        if self._transport is None or not self.idle:
            raise Broken("ConnectionError")
        head = self._http.send(_request(target, headers, len(body))) or b""
        body = self._http.send(h11.Data(data=body)) or b""
        self._http.send(h11.EndOfMessage())
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        for piece in [head + body] if len(body) <= _JOINED else [head, body]:
            self._transport.write(piece)
        end = loop.call_later(timeout, self._break, TimeoutError())
        try:
            return await self._answer  # who is cancelled here leaves it set, so that the connection is not used again
        finally:
            end.cancel()

    def close(self) -> None:
        """Close it now; what is under way is given up."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to the other side."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what came, up to the end of the answer."""
        if self._answer is None and self._stream is None:  # the other side closes, or is none of ours
            self.close()
            return
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED) and not self._took(event):
                pass
        except h11.ProtocolError as error:
            self._break(error)

    def eof_received(self) -> None:
        """Take the end, which ends some answers."""
        self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits."""
        self._break(error or ConnectionResetError())

    def _took(self, event: object) -> bool:
        """Take one event and say whether it was the last."""
        if isinstance(event, h11.Response):
            self._head = event
            if event.status_code == 200 and _in_pieces(event):
                self._begin(event)
        elif isinstance(event, h11.Data):
            (self._parts.append if self._stream is None else self._stream.feed)(bytes(event.data))
        elif isinstance(event, h11.ConnectionClosed):
            self._break(ConnectionResetError())
            return True
        elif isinstance(event, h11.EndOfMessage) and self._stream is not None:
            stream, self._stream = self._stream, None
            self._reuse()
            stream.end()
            return True
        elif isinstance(event, h11.EndOfMessage) and self._head is not None and self._answer is not None:
            answer = Answer(self._head.status_code, self._head.headers, b"".join(self._parts))
            waiting, self._answer, self._parts = self._answer, None, []
            self._reuse()
            if not waiting.done():
                waiting.set_result(answer)
            return True
        return False

    def _begin(self, head: h11.Response) -> None:
        """Give who waits the answer while its body comes."""
        waiting, self._answer = self._answer, None
        if waiting is not None:
            self._stream = Stream(self._over, self._hold)
            if waiting.done():
                self._stream.close()
            else:
                waiting.set_result(Answer(head.status_code, head.headers, b"", self._stream))

    def _hold(self, held: bool) -> None:
        if isinstance(self._transport, asyncio.ReadTransport) and not self._transport.is_closing():
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    def _reuse(self) -> None:
        spent = self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE
        if not spent and not self._http.trailing_data[0]:  # more than the answer would be taken for the next one
            self._http.start_next_cycle()
        else:
            self.close()

    def _break(self, error: Exception) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.end(Broken(type(error).__name__))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken(type(error).__name__))
        self.close()


def _in_pieces(head: h11.Response) -> bool:
    """Say whether an answer is taken as it comes: what is yielded, and frames and arrays whose size nobody says."""
    if _PARTS in head.headers:
        return True
    return _PACKED in head.headers and all(key != b"content-length" for key, _ in head.headers)


@functools.lru_cache(256)
def _request(target: str, headers: tuple[tuple[str, str], ...], size: int) -> h11.Request:
    """Return a request's head, which h11 checks; many calls share it."""
    return h11.Request(method="POST", target=target, headers=[*headers, ("Content-Length", str(size))])


async def _connect(place: Place) -> Connection:
    context = _certificates() if place.secure else None
    try:
        async with asyncio.timeout(_CONNECT):
            loop = asyncio.get_running_loop()
            return (await loop.create_connection(Connection, place.host, place.port, ssl=context))[1]
    except (OSError, TimeoutError) as error:
        raise Broken(type(error).__name__) from error


_certificates = functools.cache(lambda: httpx.create_ssl_context(trust_env=False))

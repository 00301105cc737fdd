"""The front keeps what may still become a plain request, and gives away everything else with every byte that came."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from ropewalk_core.errors import Unauthenticated
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import plain
from ropewalk_hub.gateway.front import Connection, Front
from tests.unit.test_plain import USUAL, head, heads

BODY = b"21"


class Other(asyncio.Protocol):
    """Whoever gets what is not for the front."""

    def __init__(self) -> None:
        self.data = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


class Line:
    """A transport of which nothing is read."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.protocol, self.closed = protocol, False

    def set_write_buffer_limits(self, high: int | None = None) -> None: ...

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.closed = True


class Refusing:
    """A front at which nobody is let in, so that every request is aiohttp's."""

    def __init__(self) -> None:
        self.open: set[Any] = set()
        self.given = Other()
        self.gateway = cast(Any, self)
        self.settings, self.verifier = Settings(home=cast(Any, None)), self
        self.asked: list[str] = []

    def caller(self, token: str) -> Any:
        self.asked.append(token)
        raise Unauthenticated("no")

    def other(self) -> asyncio.Protocol:
        return self.given


def fed(data: bytes, sizes: list[int]) -> tuple[Refusing, Connection]:
    """Return who has which bytes after they came in pieces."""

    async def run() -> tuple[Refusing, Connection]:
        front = Refusing()
        connection = Connection(cast(Front, front))
        line = Line(connection)
        connection.connection_made(cast(asyncio.Transport, line))
        at, turn = 0, 0
        while at < len(data):
            size = sizes[turn % len(sizes)]
            line.protocol.data_received(data[at : at + size])
            at, turn = at + size, turn + 1
        return front, connection

    return asyncio.run(run())


_CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=5)


@given(st.one_of(heads(), st.binary(max_size=300)), st.binary(max_size=10), _CUTS)
@example(head(*USUAL), BODY, [1])
@example(head(*USUAL), b"", [1])
@example(b"POST / HTTP/1.1\r\n" + b"x: y\r\n" * 3000, b"", [50])
@example(b"POST / HTTP/1.1\r\n\r\n", b"", [1])
def test_no_byte_is_lost_whoever_reads_it(start: bytes, body: bytes, sizes: list[int]) -> None:
    data = start + body
    front, connection = fed(data, sizes)
    if front.given.transport is None:
        assert bytes(connection._data) == data
        assert len(data) <= plain.LONGEST_HEAD + plain.LONGEST_BODY
        end = data.find(plain.END)
        if end < 0:  # it may still become one
            assert plain.BEGIN.startswith(data[: len(plain.BEGIN)]) and len(data) <= plain.LONGEST_HEAD
        else:
            said = plain.read(data[: end + len(plain.END)], "localhost")
            assert said is not None and len(data) < end + len(plain.END) + said.length
    else:
        assert front.given.data == data and connection not in front.open


@given(heads())
@example(head(*USUAL))
def test_what_is_plain_is_the_same_to_h11(data: bytes) -> None:
    """A second reader beside aiohttp's: whatever the front answers itself has one meaning."""
    said = plain.read(data, "localhost")
    if said is None:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data + b"x" * said.length)
    request = connection.next_event()
    assert isinstance(request, h11.Request) and (request.method, request.target) == (b"POST", b"/")
    found: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        found.setdefault(name, []).append(value)
    assert found[b"content-length"] == [str(said.length).encode()] and b"transfer-encoding" not in found
    assert len(found[b"host"]) == 1 and found[b"authorization"][0].partition(b" ")[2].strip() == said.token.encode()
    assert found.get(b"content-type", [b""]) == [said.type.encode()]
    length = 0
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        length += len(event.data)
    assert length == said.length and connection.trailing_data[0] == b""

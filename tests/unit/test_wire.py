"""A function's server reads HTTP: what it takes is the same to another reader, and no bytes break or stop it."""

from __future__ import annotations

import asyncio

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ropewalk_runtime.wire import BadRequest, Request, read

LONGEST = 1000
_NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"Expect", b"X", b" X", b""]
)
_VALUES = st.one_of(
    st.sampled_from([b"3", b"03", b"+3", b"3, 3", b"chunked", b"gzip, chunked", b"close", b"100-continue", b"a\nb: c"]),
    st.binary(max_size=10),
)
_BODIES = st.one_of(
    st.just(b"abc"),
    st.just(b"3\r\nabc\r\n0\r\n\r\n"),
    st.just(b"3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"),
    st.binary(max_size=30),
)
_ENDS = st.sampled_from([b"\r\n"] * 5 + [b"\n", b"\r", b" \r\n"])
_CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return what is nearly a request, or one."""
    first = draw(
        st.sampled_from([b"POST / HTTP/1.1", b"GET /a?b HTTP/1.1", b"POST / HTTP/1.0", b"POST  / HTTP/1.1", b"x"])
    )
    pairs = [(b"Host", b"a"), *draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=3))]
    if draw(st.booleans()):
        pairs.append(draw(st.sampled_from([(b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")])))
    lines = b"".join(name + b": " + value + draw(_ENDS) for name, value in pairs)
    return first + draw(_ENDS) + lines + b"\r\n" + draw(_BODIES)


class _Kept:
    """Where answers to what is half read go."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


async def taken(data: bytes, sizes: list[int]) -> tuple[Request | BadRequest | None, bytes]:
    """Read a request that comes in pieces and then ends; nothing takes longer than its last byte."""
    reader, kept = asyncio.StreamReader(limit=2**16), _Kept()
    reading = asyncio.create_task(read(reader, kept, LONGEST))  # type: ignore[arg-type]
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        reader.feed_data(data[at : at + size])
        at, turn = at + size, turn + 1
        await asyncio.sleep(0)
    reader.feed_eof()
    try:
        async with asyncio.timeout(5):
            return await reading, kept.data
    except BadRequest as error:
        return error, kept.data


def by_h11(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return method, target and body as h11 reads them, None where it does not."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    head, body = None, b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                return None
    except h11.RemoteProtocolError:
        return None
    return None if head is None else (head.method, head.target, body)


@given(requests(), _CUTS)
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", [1])
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\nabc", [7])
def test_what_is_taken_is_the_same_to_another_reader(data: bytes, sizes: list[int]) -> None:
    found, _ = asyncio.run(taken(data, sizes))
    other = by_h11(data)
    if isinstance(found, Request) and other is not None:
        assert (found.method.encode(), found.target.encode("latin-1"), found.body) == other
    if isinstance(found, Request):
        assert len(found.body) <= LONGEST


@given(st.binary(max_size=400), _CUTS)
def test_any_bytes_are_a_request_none_or_refused(data: bytes, sizes: list[int]) -> None:
    found, _ = asyncio.run(taken(data, sizes))
    assert found is None or isinstance(found, Request | BadRequest)


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 10_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\na",
    ],
    ids=["length twice", "coding twice", "trailers", "pieces", "piece", "expects too much", "half"],
)
def test_what_is_twofold_endless_or_half_is_refused(head: bytes) -> None:
    found, said = asyncio.run(taken(head, [1000]))
    assert isinstance(found, BadRequest)
    assert (b"100 Continue" in said) == (b"Length: 3\r\nExpect" in head)  # nobody is told to send what is too much

"""What the front takes for a plain request is what aiohttp reads too; everything else it leaves alone."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from hypothesis import example, given
from hypothesis import strategies as st

from ropewalk_core.names import PeopleHost
from ropewalk_hub.gateway import plain

USUAL = [
    (b"Host", b"double--fn--ada.localhost:8001"),
    (b"Authorization", b"Bearer abc.def"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"2"),
]
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_NAMES = st.sampled_from([name for name, _ in USUAL] + [b"Accept", b"Connection", b"Expect", b"Transfer-Encoding"])
_VALUES = st.one_of(
    st.sampled_from([value for _, value in USUAL] + [b"keep-alive", b"close", b"chunked", b"+2", b"2, 2", b" 2\t"]),
    st.binary(max_size=12),
)
_ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b" \r\n", b"\x00\r\n"])
_FIRST = st.sampled_from(
    [b"POST / HTTP/1.1", b"POST /x HTTP/1.1", b"GET / HTTP/1.1", b"POST / HTTP/1.0", b"POST  / HTTP/1.1"]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Return a head that is plain but for a few changes."""
    lines = list(USUAL)
    for name, value in draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=3)):
        at = draw(st.integers(0, len(lines)))
        lines[at : at + draw(st.integers(0, 1))] = [(name, value)]
    colon = draw(st.sampled_from([b": ", b":", b":\t", b" : "]))
    return draw(_FIRST) + draw(_ENDS) + b"".join(name + colon + value + draw(_ENDS) for name, value in lines) + b"\r\n"


def head(*lines: tuple[bytes, bytes], first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"".join([first, b"\r\n", *(name + b": " + value + b"\r\n" for name, value in lines), b"\r\n"])


def read_by_aiohttp(data: bytes) -> list[RawRequestMessage]:
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        messages, _, _ = parser.feed_data(data)
    finally:
        loop.close()
    return [message for message, _ in messages]


@given(heads())
@example(head(*USUAL))
def test_what_is_plain_is_the_same_to_aiohttp(data: bytes) -> None:
    said = plain.read(data, "localhost")
    if said is None:
        return
    (message,) = read_by_aiohttp(data + b"x" * said.length)
    assert (message.method, message.path, message.should_close) == ("POST", "/", False)
    assert not message.chunked and not message.upgrade and message.compression is None
    assert message.headers.getall("Content-Length") == [str(said.length)]
    assert message.headers.getall("Authorization")[0].partition(" ")[2].strip() == said.token
    assert message.headers.get("Content-Type", "") == said.type and message.headers.get("Accept", "") == said.accept
    assert len(message.headers.getall("Host")) == len(message.headers.getall("Authorization")) == 1


def test_a_plain_request_is_read_whole() -> None:
    said = plain.read(head(*USUAL, (b"Accept", b"*/*"), (b"Connection", b"Keep-Alive")), "localhost")
    assert said == plain.Plain(PeopleHost("function", "ada", "double"), "abc.def", "application/json", "*/*", 2)


@pytest.mark.parametrize(
    "more",
    [
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"2"),
        (b"Expect", b"100-continue"),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"close"),
        (b"Cookie", b"a=b"),
        (b"Origin", b"https://example.org"),
        (b"Prefer", b"respond-async"),
        (b"Idempotency-Key", b"k"),
        (b"X-Ropewalk-Key", b"k"),
        (b"Content-Encoding", b"gzip"),
        (b"X-Forwarded-For", b"1.1.1.1"),
        (b"Accept", "é".encode()),
        (b" Accept", b"x"),
    ],
    ids=lambda more: more[0].decode().strip(),
)
def test_what_needs_a_rule_is_not_plain(more: tuple[bytes, bytes]) -> None:
    assert plain.read(head(*USUAL, more), "localhost") is None


@pytest.mark.parametrize("length", [b"-1", b"+2", b"0x2", b"02", b"2 2", b"65537", b"", b"99999999999999999999"])
def test_a_length_that_can_be_read_in_two_ways_is_not_plain(length: bytes) -> None:
    assert plain.read(head(*USUAL[:3], (b"Content-Length", length)), "localhost") is None


def test_other_hosts_methods_and_sign_ins_are_not_plain() -> None:
    assert plain.read(head((b"Host", b"lab--ada.localhost"), *USUAL[1:]), "localhost") is None
    assert plain.read(head(*USUAL, first=b"GET / HTTP/1.1"), "localhost") is None
    assert plain.read(head(*USUAL, first=b"POST /?a=1 HTTP/1.1"), "localhost") is None
    assert plain.read(head(USUAL[0], (b"Authorization", b"Basic abc"), *USUAL[2:]), "localhost") is None
    assert plain.read(head(USUAL[0], *USUAL[2:]), "localhost") is None
    assert plain.read(head(*USUAL)[:-2], "localhost") is None


def test_a_request_of_a_traced_program_is_plain_and_its_trace_is_read() -> None:
    traced = plain.read(head(*USUAL, (b"Traceparent", TRACE), (b"tracestate", b"a=1, b=2")), "localhost")
    assert traced is not None and traced.trace is not None
    assert traced.trace.headers() == {"traceparent": TRACE.decode(), "tracestate": "a=1,b=2"}
    for odd in ((b"traceparent", TRACE.upper()), (b"traceparent", b""), (b"tracestate", b"a=1")):
        found = plain.read(head(*USUAL, odd), "localhost")
        assert found is not None and found.trace is None
    assert plain.read(head(*USUAL, (b"traceparent", TRACE), (b"traceparent", TRACE)), "localhost") is None

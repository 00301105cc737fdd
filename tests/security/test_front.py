"""The front and aiohttp behind it answer the same, however a request's bytes come, and whatever they are."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from ropewalk_core.model import Access
from tests.gateway_rig import GatewayRig, gateway

_CHANGING = re.compile(rb"(?im)^(date|server|x-ropewalk-call): .*\r\n")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[GatewayRig]:
    async with gateway(tmp_path) as one:
        one.put(Access())
        yield one


@pytest.fixture
async def behind(rig: GatewayRig) -> AsyncIterator[int]:
    """Return a port at which aiohttp alone asks the same gateway."""
    application = web.Application(client_max_size=rig.settings.limits.payload)
    application.router.add_route("*", "/{path:.*}", rig.gateway.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


def request(
    rig: GatewayRig, *lines: str, body: bytes = b"21", first: str = "POST / HTTP/1.1", account: str = "ada"
) -> bytes:
    kept = [f"Host: {rig.host('double--fn--ada')}", f"Authorization: Bearer {rig.token(account)}"]
    kept += ["Content-Type: application/json", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([first, *kept, "", ""]).encode() + body


async def said(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces, and return all that comes until a moment of silence, or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        if pause:
            await asyncio.sleep(pause)
    found = b""
    try:
        while data := await asyncio.wait_for(reader.read(65536), 0.1 if found else 5):
            found += data
    except TimeoutError:
        pass
    except ConnectionError:
        found += b"<reset>"
    writer.close()
    return found


def compared(answer: bytes) -> tuple[list[bytes], bytes]:
    """Return what two answers must have in common: lines of heads in any order, and bodies."""
    head, _, body = _CHANGING.sub(b"", answer).partition(b"\r\n\r\n")
    return sorted(head.lower().split(b"\r\n")), re.sub(rb'"call-[^"]*"', b"", body)


async def test_a_plain_call_is_answered_like_any_other(rig: GatewayRig, behind: int) -> None:
    front, other = await said(rig.port, request(rig)), await said(behind, request(rig))
    assert front.startswith(b"HTTP/1.1 200 OK\r\n") and front.endswith(b"42") and b"\r\nDate: " in front
    assert b"Server:" not in front  # so that this was the front
    assert compared(front) == compared(other)


async def test_what_a_function_refuses_is_said_alike(rig: GatewayRig, behind: int) -> None:
    error = {"code": "RW-USER-CODE", "message": "It raised.", "details": {"traceback": "line 1"}}
    rig.answer = ({"status": 500, "error": error, "age": 99.0}, b"")
    front, other = await said(rig.port, request(rig)), await said(behind, request(rig))
    assert b"Server:" not in front and b"line 1" in front
    assert compared(front) == compared(other)


@pytest.mark.parametrize(
    "change",
    [
        {"account": "eve"},
        {"first": "GET / HTTP/1.1", "body": b""},
        {"first": "POST /there?x=1 HTTP/1.1"},
        {"first": "PUT / HTTP/1.1"},
        {"first": "POST / HTTP/1.0"},
        {"first": "POST * HTTP/1.1"},
        {"first": "NONSENSE"},
        {"lines": ("Expect: 100-continue",)},
        {"lines": ("Content-Length: 7",)},
        {"lines": ("Transfer-Encoding: chunked",)},
        {"lines": ("Authorization: Bearer other",)},
        {"lines": ("Origin: https://evil.example",)},
        {"lines": ("Connection: close",)},
        {"lines": (" folded: x",)},
        {"lines": ("No colon",)},
        {"lines": ("Accept: " + "x" * 20_000,)},
        {"body": b"x" * 100_000},
        {"body": b""},
    ],
    ids=lambda change: str(change)[:50],
)
async def test_everything_else_is_aiohttps(rig: GatewayRig, behind: int, change: dict[str, object]) -> None:
    lines = change.pop("lines", ())
    asked = request(rig, *lines, **change)  # type: ignore[misc, arg-type]
    assert compared(await said(rig.port, asked)) == compared(await said(behind, asked))


async def test_pieces_and_rows_of_requests_are_answered_in_order(rig: GatewayRig) -> None:
    one, chance = request(rig), random.Random(5)
    row = one * 5
    for _ in range(5):
        cuts = sorted(chance.sample(range(1, len(row)), 6))
        pieces = [row[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(row)], strict=True)]
        answer = await said(rig.port, *pieces, pause=0.002)
        assert answer.count(b"HTTP/1.1 200 OK") == 5 and answer.count(b"Server:") == 0


async def test_a_connection_that_is_given_away_goes_on_where_it_was(rig: GatewayRig) -> None:
    plain, other = request(rig), request(rig, "Origin: https://example.org")
    answer = await said(rig.port, plain + plain + other + plain)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(b"Server:") == 2  # the third, and all after it


async def test_a_caller_that_leaves_gives_its_room_back(rig: GatewayRig) -> None:
    asked = request(rig)
    for _ in range(200):  # far more than may be under way at once
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(asked)
        await writer.drain()
        writer.transport.abort()
    await asyncio.sleep(0.3)
    assert (await said(rig.port, request(rig))).startswith(b"HTTP/1.1 200")
    assert not rig.gateway.room._floor._held


@pytest.mark.parametrize(
    ("lines", "cut"),
    [((), -40), ((), -2), ((), -1), (("Expect: 100-continue",), -2), (("Accept: x", "Origin: https://a.b"), -1)],
    ids=["half a head", "a head alone", "half a payload", "waits to be told", "half of another"],
)
async def test_callers_that_say_half_and_leave_hold_nothing(rig: GatewayRig, lines: tuple[str, ...], cut: int) -> None:
    asked = request(rig, *lines)[:cut]
    for number in range(60):
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(asked)
        await writer.drain()
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()
    async with asyncio.timeout(5):
        while rig.gateway.room._floor._held:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)
    assert (await said(rig.port, request(rig))).startswith(b"HTTP/1.1 200") and len(rig.seen) == 1


async def test_who_reads_nothing_keeps_only_what_is_theirs(rig: GatewayRig) -> None:
    rig.answer = ({"status": 200, "type": "application/json", "age": 99.0}, b"1" * 100_000)
    sock = socket.create_connection(("127.0.0.1", rig.port))
    sock.setblocking(False)
    row = request(rig) * 100
    try:
        with pytest.raises(BlockingIOError):  # its requests are read no further than what is under way
            for _ in range(1000):
                sock.send(row)
                await asyncio.sleep(0.001)
    finally:
        sock.close()
    await asyncio.sleep(0.3)
    assert not rig.gateway.room._floor._held
    assert (await said(rig.port, request(rig))).startswith(b"HTTP/1.1 200")


async def test_bytes_of_chance_never_end_the_front(rig: GatewayRig) -> None:
    chance, usual = random.Random(7), request(rig)
    for _ in range(60):
        data = bytearray(usual)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(bytes(data))
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert (await said(rig.port, usual)).startswith(b"HTTP/1.1 200")

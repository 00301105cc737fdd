"""Requests over kept connections, against servers that say exactly what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ropewalk_kernel import posts
from ropewalk_kernel.posts import Broken, Place, Posts

HEADERS = (("Host", "double--fn--ada.localhost:8001"), ("Authorization", "Bearer token"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42"


class Server:
    """Reads whole requests and writes the next of its answers to each; an empty one closes the connection."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers, self.requests, self.connections = answers, list[bytes](), 0
        self.gone = asyncio.Event()
        self.place = Place("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(size))
                answer = self.answers.pop(0) if self.answers else OK
                if answer == b"wait":
                    await reader.read()
                    return
                writer.write(answer)
                await writer.drain()
                if b"close" in answer or not answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[tuple[Server, Posts]]:
    server, ours = Server(list(answers)), Posts()
    running = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.place = Place("127.0.0.1", running.sockets[0].getsockname()[1])
    try:
        yield server, ours
    finally:
        ours.close()
        running.close()
        await asyncio.sleep(0.01)


async def post(server: Server, ours: Posts, body: bytes = b"[1]", timeout: float = 20) -> posts.Answer:
    return await ours.post(server.place, "/", HEADERS, body, timeout)


async def test_one_connection_serves_one_call_after_the_other() -> None:
    async with serving() as (server, ours):
        for number in range(5):
            answer = await post(server, ours, str(number).encode())
            assert (answer.status, answer.body) == (200, b"42")
        assert server.connections == 1
        assert server.requests[3].startswith(b"POST / HTTP/1.1\r\nHost: double--fn--ada.localhost:8001\r\n")
        assert server.requests[3].endswith(b"Content-Length: 1\r\n\r\n3")
        await asyncio.gather(*(post(server, ours) for _ in range(3)))
        assert server.connections == 3


async def test_large_bodies_travel_whole() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000) as (server, ours):
        answer = await post(server, ours, b"y" * 2_000_000)
        assert answer.body == b"x" * 3_000_000
        assert server.requests[0].endswith(b"\r\n\r\n" + b"y" * 2_000_000)


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n", b"[1]"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1", b"1"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nX: close\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", b"1"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
async def test_every_form_of_answer_is_read_and_the_next_call_works(wire: bytes, body: bytes) -> None:
    async with serving(wire) as (server, ours):
        assert (await post(server, ours)).body == body
        assert (await post(server, ours)).body == b"42"


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nclose, and not whole",
        b"HTTP/1.1 200 OK\r\nX: close",
        b"close: this is not HTTP\r\n\r\n",
    ],
)
async def test_half_an_answer_is_none_and_nothing_is_sent_twice(wire: bytes) -> None:
    async with serving(wire) as (server, ours):
        with pytest.raises(Broken):
            await post(server, ours)
        assert len(server.requests) == 1
        assert (await post(server, ours)).body == b"42"


async def test_more_than_the_answer_is_not_taken_for_the_next_one() -> None:
    async with serving(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong") as (server, ours):
        assert (await post(server, ours)).body == b"42"
        assert (await post(server, ours)).body == b"42"
        assert server.connections == 2


async def test_a_connection_that_was_closed_meanwhile_is_not_used() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclose") as (server, ours):
        assert (await post(server, ours)).body == b"close"
        await asyncio.sleep(0.05)
        assert (await post(server, ours)).body == b"42"
        assert server.connections == 2


async def test_who_gives_up_closes_the_connection() -> None:
    async with serving(b"wait") as (server, ours):
        task = asyncio.create_task(post(server, ours))
        while not server.requests:  # noqa: ASYNC110 - a server of a few lines
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), 10)
        assert (await post(server, ours)).body == b"42"
    async with serving(b"wait") as (server, ours):
        with pytest.raises(Broken, match="TimeoutError"):
            await post(server, ours, timeout=0.05)
        await asyncio.wait_for(server.gone.wait(), 10)


async def test_nobody_there() -> None:
    with pytest.raises(Broken, match="ConnectionRefusedError"):
        await Posts().post(Place("127.0.0.1", 1), "/", HEADERS, b"", 5)


async def test_unused_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "_KEPT", 0.05)
    async with serving() as (server, ours):
        await asyncio.gather(*(post(server, ours) for _ in range(3)))
        await asyncio.wait_for(server.gone.wait(), 10)
        for _ in range(200):
            if not ours._idle:
                break
            await asyncio.sleep(0.02)
        assert ours._idle == {} and ours._sweeping is None
        assert (await post(server, ours)).body == b"42"


PARTS = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.ropewalk.parts+json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_an_answer_in_parts_is_there_at_once_and_its_connection_serves_on() -> None:
    async with serving(PARTS + chunk(b'{"value":1}\n') + chunk(b'{"end":true}\n') + b"0\r\n\r\n") as (server, ours):
        answer = await post(server, ours)
        assert answer.stream is not None
        found = b""
        while (data := await answer.stream.next()) is not None:
            found += data
        assert found == b'{"value":1}\n{"end":true}\n'
        assert (await post(server, ours)).body == b"42" and server.connections == 1


async def test_an_answer_that_ended_while_it_was_held_back_leaves_its_connection_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posts, "_AHEAD", 10)
    async with serving(PARTS + chunk(b'{"value":"more than ten"}\n') + b"0\r\n\r\n") as (server, ours):
        answer = await post(server, ours)
        assert answer.stream is not None
        while await answer.stream.next() is not None:
            pass
        assert (await post(server, ours, timeout=5)).body == b"42" and server.connections == 1


async def test_an_answer_that_breaks_off_says_so_after_what_came() -> None:
    async with serving(PARTS + chunk(b"close")) as (server, ours):
        answer = await post(server, ours)
        assert answer.stream is not None and await answer.stream.next() == b"close"
        with pytest.raises(Broken):
            await answer.stream.next()


async def test_who_reads_no_further_closes_the_connection() -> None:
    async with serving(PARTS + chunk(b"x")) as (server, ours):
        answer = await post(server, ours)
        assert answer.stream is not None
        answer.stream.close()
        await asyncio.wait_for(server.gone.wait(), 5)
        assert await answer.stream.next() == b"x" and await answer.stream.next() is None


async def test_what_nobody_reads_is_held_back() -> None:
    async with serving(PARTS + b"".join(chunk(b"x" * 60_000) for _ in range(200))) as (server, ours):
        answer = await post(server, ours)
        assert answer.stream is not None
        await asyncio.sleep(0.3)
        first = await answer.stream.next()
        assert first is not None and len(first) < 2_000_000
        size = len(first)
        while size < 12_000_000:
            size += len(await answer.stream.next() or b"")
        assert size == 12_000_000
        answer.stream.close()

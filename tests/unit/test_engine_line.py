"""The engine's connection to the platform: kept, made again, and never out of step with its answers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ropewalk_core.errors import Conflict, Internal, Unavailable
from ropewalk_workflows.engine.line import Line
from ropewalk_workflows.engine.wire import Batch, PlatformFeed

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-More: a:b\r\n\r\n{}"


class Server:
    """Answers each question with what it was told to say, and notes the questions and the connections."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.say: Callable[[bytes], bytes] = lambda asked: GOOD
        self.asked: list[bytes] = []
        self.met = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._connected, str(self.socket))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                length = next((int(one.split(b":")[1]) for one in asked.split(b"\r\n") if b"-Length" in one), 0)
                self.asked.append(asked + await reader.readexactly(length))
                self.met.set()
                if not (answer := self.say(asked)):
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:
        one = Server(Path(folder) / "s.sock")
        serving = await one.serve()
        yield one
        serving.close()


async def test_one_connection_answers_many_questions(server: Server) -> None:
    line = Line(server.socket)
    assert await asyncio.gather(*(line.ask("POST", f"/{number}", b'"x"') for number in range(3))) == [(200, b"{}")] * 3
    assert len(server.writers) == 1
    assert [one.split(b" ")[1] for one in server.asked] == [b"/0", b"/1", b"/2"]
    assert all(one.endswith(b'\r\n\r\n"x"') for one in server.asked)
    line.close()


async def test_a_connection_that_the_server_closed_is_made_again(server: Server) -> None:
    line = Line(server.socket)
    await line.ask("GET", "/")
    server.writers[0].close()
    await server.writers[0].wait_closed()
    await asyncio.sleep(0.05)
    assert await line.ask("GET", "/") == (200, b"{}")
    assert len(server.writers) == 2
    line.close()


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 2", GOOD[:-1]])
async def test_an_answer_that_is_cut_off_is_no_answer(server: Server, cut: bytes) -> None:
    line = Line(server.socket)
    server.say = lambda asked: cut if b"/cut" in asked else GOOD
    if cut:
        asking = asyncio.create_task(line.ask("GET", "/cut"))
        await server.met.wait()
        server.writers[0].close()
        with pytest.raises(OSError, match="ended"):
            await asking
    else:
        with pytest.raises(OSError, match="ended"):
            await line.ask("GET", "/cut")
    assert await line.ask("GET", "/") == (200, b"{}")
    line.close()


async def test_who_gives_up_leaves_no_answer_for_the_next(server: Server) -> None:
    line = Line(server.socket)
    server.say = lambda asked: b"HTTP/1.1 200 OK\r\nContent-Le" if b"/slow" in asked else GOOD
    asking = asyncio.create_task(line.ask("GET", "/slow"))
    await server.met.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert await line.ask("GET", "/") == (200, b"{}")
    line.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Unavailable),
        (b"what\r\n\r\n", Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>", Unavailable),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", Internal),
        (b'HTTP/1.1 409 No\r\nContent-Length: 23\r\n\r\n{"code": "RW-CONFLICT"}', Conflict),
    ],
)
async def test_an_answer_that_is_none_is_said_in_our_words(server: Server, answer: bytes, error: type) -> None:
    feed = PlatformFeed(server.socket)
    server.say = lambda asked: answer
    with pytest.raises(error):
        await feed.report(Batch(engine="e", runs=[]))
    server.say = lambda asked: GOOD
    await feed.report(Batch(engine="e", runs=[]))
    await feed.close()


async def test_nobody_there_is_a_platform_that_is_away(tmp_path: Path) -> None:
    feed = PlatformFeed(tmp_path / "none.sock")
    with pytest.raises(Unavailable, match="away"):
        await feed.runs("e.")

"""Programs that listen on a port as handlers: one for each worker, started before it is ready, asked over HTTP.

The port is in ``PORT``; a program that listens within the time that code has to load is ready. On a machine it has a
network of its own, in which nobody else reaches that port; in a container the pod's. It gets each request as it came to
the gateway. When it ends, its worker ends. What it prints goes to the log of the call that ends next. Standard library
only. Not here: programs for one call (``programs``). Rejected: a program on the machine's own loopback, which every
account could ask around the gateway; and keeping connections to it (a program may serve one at a time).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ropewalk_runtime import programs
from ropewalk_runtime.failing import CallerLeft
from ropewalk_runtime.frames import pack
from ropewalk_runtime.handler import CALL_TYPE, BadPayload, problem
from ropewalk_runtime.loopback import free_port, listens
from ropewalk_runtime.packed import PACKED
from ropewalk_runtime.serving import Call, Coroutines
from ropewalk_runtime.streams import Answer, pieces
from ropewalk_runtime.wire import octets, words

_POLL = 0.01
_LONGEST_HEAD = 64 * 2**10
_READ = 64 * 2**10
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "expect"})


class Listening(programs.Program):
    """A program that runs as long as its worker."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it listens. Raises `programs.NotRunnable`."""
        environment = {"PORT": str(self.port), "HOST": "127.0.0.1"}
        self.process = await programs.start(self.argv, environment)
        while not await listens(self.port):
            if self.process.returncode is not None:
                raise programs.NotRunnable(f"It ended with exit code {self.process.returncode} before it listened.")
            await asyncio.sleep(_POLL)


class Forwarded(Coroutines):
    """The loop over calls, each a request to the program."""

    async def _main(self) -> None:
        program = self._handler
        assert isinstance(program, Listening) and program.process is not None
        serving, ending = asyncio.create_task(super()._main()), asyncio.create_task(program.process.wait())
        await asyncio.wait([serving, ending], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():  # a moment for the calls that it left unanswered to say so
            await asyncio.wait([serving], timeout=0.2)
            os._exit(program.process.returncode or 1)
        ending.cancel()
        await programs.end(program.process)

    async def _run(self, call: Call, body: bytes) -> Answer:
        program = self._handler
        assert isinstance(program, Listening)
        reader, writer = await self._asked(program, call, body)
        try:
            status, pairs = await _head(reader)
            headers = dict(pairs)
            said: dict[str, Any] = {"status": status, "type": headers.get("content-type", "")}
            said["headers"] = [[key, value] for key, value in pairs if key not in _HOP]  # some come more than once
            length, chunked = headers.get("content-length", ""), "chunked" in headers.get("transfer-encoding", "")
            empty = status in (204, 304) or str(call.http.get("method", "POST")).upper() == "HEAD"
            if empty or (length.isdecimal() and int(length) <= self._limit and not chunked):
                return said, b"" if empty else await reader.readexactly(int(length))
            await self._send(pack({"op": "head", "id": call.id, **said}))
            await self._stream_body(call, reader, chunked, int(length) if length.isdecimal() else None)
            return {"status": status}, b""
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, asyncio.LimitOverrunError) as error:
            if call.left:
                raise CallerLeft from error
            said_why = problem("RW-USER-CODE", "The program broke off its answer.", hint="Its log may say why.")
            return {"error": said_why}, b""
        finally:
            writer.close()

    async def _asked(
        self, program: Listening, call: Call, body: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", program.port, limit=_LONGEST_HEAD)
        writer.write(_request(call, body, program.port) + body)
        await writer.drain()
        return reader, writer

    async def _stream_body(self, call: Call, reader: asyncio.StreamReader, chunked: bool, length: int | None) -> None:
        """Pass on a body as it comes: in chunks, of a known length, or up to the end of the connection."""
        while chunked:
            size = int((await reader.readuntil(b"\r\n")).partition(b";")[0].strip(), 16)
            if not size:
                return
            await self._pass(call, reader, size)
            await reader.readexactly(2)
        await self._pass(call, reader, length)

    async def _pass(self, call: Call, reader: asyncio.StreamReader, size: int | None) -> None:
        left = size
        while left is None or left > 0:
            data = await reader.read(_READ if left is None else min(_READ, left))
            if not data:
                if left is None:
                    return
                raise ConnectionResetError
            left = None if left is None else left - len(data)
            for piece in pieces(data):
                await self._put(call, piece)


def _request(call: Call, body: bytes, port: int) -> bytes:
    """Return the head of a request to the program."""
    http = call.http
    if call.type.split(";")[0].strip().lower() in (CALL_TYPE, PACKED):
        raise BadPayload(
            "This function is a program that answers HTTP.", hint="Write f.request('POST', '/', json=...)."
        )
    target = str(http.get("path", "/")) + (f"?{call.query}" if call.query else "")
    lines = [f"{http.get('method', 'POST')} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    for pair in http.get("headers", ()):
        if pair[0].lower() not in _HOP and pair[0].lower() != "content-length":
            lines.append(f"{pair[0]}: {pair[1]}")
    lines.append(f"Content-Length: {len(body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise BadPayload("The request cannot be passed on.")
    return octets("\r\n".join(lines) + "\r\n\r\n")


async def _head(reader: asyncio.StreamReader) -> tuple[int, list[tuple[str, str]]]:
    """Return an answer's status and headers; what comes before the answer itself is left out."""
    while True:
        first, *lines = map(words, (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n"))
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal():
            raise ValueError("no answer")
        if not parts[1].startswith("1"):
            found = [line.partition(":") for line in lines]
            return int(parts[1]), [(name.strip().lower(), value.strip()) for name, _, value in found]

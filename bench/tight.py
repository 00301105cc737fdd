"""The peer of `f.map`: the same calls by a client that does nothing but write and read them, as tight as Python gets.

One protocol object for each connection, heads made before, no check of anything but the status. Not for use: it
knows no chunks, no closed connections, no failures.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any


class Wire(asyncio.Protocol):
    """One connection; ``head`` is a request's but for the length of its body."""

    good = b"HTTP/1.1 200 "

    def __init__(self, head: bytes) -> None:
        self._head, self._buffer = head, b""
        self._transport: Any = None
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < size or self._answer is None:
            return
        if not head.startswith(self.good):
            self._answer.set_exception(RuntimeError(head.decode()))
        else:
            self._answer.set_result(rest[:size])
        self._answer, self._buffer = None, rest[size:]

    async def post(self, body: bytes, more: bytes = b"") -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(b"%s%sContent-Length: %d\r\n\r\n%s" % (self._head, more, len(body), body))
        return await self._answer

    def close(self) -> None:
        self._transport.close()


async def calls(port: int, headers: dict[str, str], items: range, connections: int) -> list[Any]:
    """Call with each item and return the answers in order."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST / HTTP/1.1\r\n{lines}".encode()
    loop, left, answers = asyncio.get_running_loop(), iter(items), [None] * len(items)

    async def lane(left: Iterator[int]) -> None:
        wire = (await loop.create_connection(lambda: Wire(head), "127.0.0.1", port))[1]
        for item in left:
            body = json.dumps({"args": [item], "kwargs": {}}).encode()
            answers[item - items.start] = json.loads(await wire.post(body))
        wire.close()

    await asyncio.gather(*(lane(left) for _ in range(connections)))
    return answers

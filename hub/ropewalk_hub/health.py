"""Answers a kubelet that asks how a process is, for processes that serve nothing else: ``/healthz`` and ``/readyz``.

That it answers at all says that the event loop turns. Not here: what makes a process ready. Rejected: a web framework
for two fixed answers, and probes that start a Python interpreter each time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

_PATIENCE = 5.0
_WORDS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


@contextlib.asynccontextmanager
async def served(host: str, port: int, troubles: Callable[[], str]) -> AsyncIterator[int]:
    """Answer as long as the context lasts, and give the port.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    troubles
        Says why the process cannot do its work now; empty when it can.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_PATIENCE):
                path = [*(await reader.readline()).split(), b"", b""][1].decode("latin-1")
                while (await reader.readline()).strip():
                    pass
                status, text = _answer(path, troubles)
                head = f"HTTP/1.1 {status} {_WORDS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                body = f"{text}\n".encode()
                writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=8192)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def _answer(path: str, troubles: Callable[[], str]) -> tuple[int, str]:
    if path == "/healthz":
        return 200, "ok"
    if path == "/readyz":
        return (503, why) if (why := troubles()) else (200, "ok")
    return 404, "There is nothing here."

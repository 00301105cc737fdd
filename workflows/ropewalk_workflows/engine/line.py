"""A kept connection to the platform's socket: HTTP/1.1, one question after another, bytes both ways.

The engine reports after each step of a chain, and a general HTTP client took longer for that than the platform did, its
disk included. What answers is our own server, which always says how long an answer is. Not here: what is asked
(``wire``). Rejected: httpx (6 ms of processor time a report), frames of our own (a second server in the platform, for
the same two questions).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

_PATIENCE = 30.0
_NEWLINE = "\r\n"
_END = b"\r\n\r\n"
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Line:
    """One connection, made when it is needed and again when the server closed it.

    Parameters
    ----------
    socket
        Where the server listens.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._streams: _Streams | None = None
        self._turn = asyncio.Lock()

    async def ask(self, method: str, path: str, content: bytes | None = None) -> tuple[int, bytes]:
        """Return the status and the body of an answer.

        Parameters
        ----------
        method, path
            As in the request's first line.
        content
            JSON to send along.

        Raises
        ------
        OSError
            If nobody listens, the connection ends before the whole answer is there, or that takes over 30 seconds.
        ValueError
            If the answer is not HTTP, or does not say how long it is.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(_PATIENCE):
                    reader, writer = await self._opened()
                    writer.write(_request(method, path, content))
                    await writer.drain()
                    return await _answer(reader)
            except (EOFError, asyncio.LimitOverrunError) as error:
                self.close()
                raise ConnectionResetError("the connection ended before the answer") from error
            except BaseException:  # cancelled too: what comes would be taken for the answer to the next question
                self.close()
                raise

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _opened(self) -> _Streams:
        if self._streams is not None and self._streams[0].at_eof():  # servers close what is idle
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(str(self._socket))
        return self._streams


def _request(method: str, path: str, content: bytes | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: platform"]
    if content is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return _NEWLINE.join([*lines, "", ""]).encode() + (content or b"")


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(_END)).decode("latin-1").split(_NEWLINE)
    fields = dict(one.lower().split(":", 1) for one in head[1:] if ":" in one)
    _, status, *_ = head[0].split(" ")
    return int(status), await reader.readexactly(int(fields.get("content-length", "it does not say")))

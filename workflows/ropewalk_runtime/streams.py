"""Answers in parts, from the side that asked: read as they come, never ahead of who reads, and ended when nobody does.

A worker answers a call with one frame; or with a *head*, any number of *parts* and the frame that ends it, which is
what the one frame is otherwise: log, time and failure. It sends `WINDOW` bytes ahead at most; ``more`` frames say
what was passed on, ``cancel`` that whoever asked has left, and ``log`` asks what was printed so far, which one ``log``
frame answers. The worker is user code, so it is held to that. Not here: sending parts (``serving``), what their bytes
mean (``parts``). Rejected: a socket for each call (two more descriptors on their way through four processes), the
socket's own buffer as the window (one slow reader would hold up the other calls of its worker), and logs that are sent
unasked (each call would pay for readers that almost none has).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ropewalk_runtime.frames import FrameError

WINDOW = 128 * 2**10
"""Bytes of one answer that may be on their way between a worker and whoever passes them on."""
PIECE = 32 * 2**10
"""Bytes of a part; what is longer is sent as several."""
_EACH = 64
"""What a part counts on top of its bytes, so that a million of one byte each are no small amount."""
LONGEST_PRINTED = 70_000
"""Characters of a call's log that are taken from a worker."""
Answer = tuple[dict[str, Any], bytes]


def cost(part: bytes | memoryview) -> int:
    """Return what a part takes of the window."""
    return len(part) + _EACH


def pieces(data: bytes | memoryview) -> Iterator[bytes]:
    """Yield some bytes as parts."""
    for start in range(0, len(data), PIECE):
        yield bytes(data[start : start + PIECE])


class Exchange:
    """One call as its sender sees it. Made and used in one event loop.

    Parameters
    ----------
    number
        Its number on the worker's socket.
    tell
        Sends a header to the worker.
    """

    def __init__(self, number: int, tell: Callable[[dict[str, Any]], None]) -> None:
        self.number = number
        self.first: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.last: dict[str, Any] | None = None
        self.streams = False
        self._tell = tell
        self._parts: deque[bytes] = deque()
        self._held = self._passed = 0
        self._left = self._asked = False
        self.printed = ""
        self._failure: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    def take(self, header: dict[str, Any], body: bytes) -> None:
        """Take a frame of the worker. Raises `FrameError` if it is none that may come now."""
        if self.last is not None:
            return
        op = header.get("op")
        if op == "log":
            self._print(header.get("text"))
            return
        if op == "part":
            self._held += cost(body)
            if not self.streams or self._held > WINDOW:
                raise FrameError("A part came that was not asked for.")
            if not self._left:
                self._parts.append(body)
        elif op == "head" and not self.streams:
            self.streams = True
            self._answered((header, b""))
        else:
            self.last = header
            self._answered((header, body))
        self._wake()

    def fail(self, error: Exception) -> None:
        """Note that nothing more will come, and why."""
        if self.last is None and self._failure is None:
            self._failure = error
            if not self.first.done():
                self.first.set_exception(error)
            self._wake()

    def cancel(self) -> None:
        """Tell the worker that nobody wants the answer any more; `ended` says when it has ended that."""
        self._left = True
        self._parts.clear()
        if self.last is None and self._failure is None:
            self._tell({"op": "cancel", "id": self.number})

    def look(self) -> None:
        """Ask what the call has printed so far; it is in ``printed`` when the worker has told."""
        if not self._asked and self.last is None and self._failure is None:
            self._asked = True
            self._tell({"op": "log", "id": self.number})

    def _print(self, text: object) -> None:
        if not self._asked or not isinstance(text, str):
            raise FrameError("A log came that was not asked for.")
        self._asked = False
        self.printed += text[: LONGEST_PRINTED - len(self.printed)]

    async def next(self) -> bytes | None:
        """Return what came since the last time, None after the end. To ask says that the last time's was passed on."""
        if self._passed >= WINDOW // 4:
            self._held -= self._passed
            self._tell({"op": "more", "id": self.number, "bytes": self._passed})
            self._passed = 0
        while not self._parts:
            if self._failure is not None:
                raise self._failure
            if self.last is not None:
                return None
            await self._wait()
        self._passed += sum(map(cost, self._parts))
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return data

    async def ended(self) -> None:
        """Wait until the worker is done with the call, or gone."""
        while self.last is None and self._failure is None:
            await self._wait()

    def _answered(self, answer: Answer) -> None:
        if not self.first.done():  # who waited for it may have left
            self.first.set_result(answer)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

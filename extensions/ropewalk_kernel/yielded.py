"""What a generator on the platform yields, in a notebook: each value as it comes, and no sooner than it is asked for.

Not here: how bytes come (``posts``), what a line is (``ropewalk_runtime.parts``).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ropewalk_core import sync
from ropewalk_core.errors import BadInput, Unavailable, from_problem
from ropewalk_kernel import values
from ropewalk_kernel.posts import Broken, Stream
from ropewalk_kernel.values import Received
from ropewalk_runtime.handler import CALL_TYPE
from ropewalk_runtime.packed import PACKED
from ropewalk_runtime.parts import BYTES, read

_END = object()


class Packed(bytes):
    """A value with data frames or arrays, which is opened in the thread of who wants it."""


class Lines:
    """The values in a stream, in the loop that it came in."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = bytearray()
        self._lines: deque[bytes] = deque()
        self._over = False

    async def next(self) -> Any:
        """Return the next value, or `_END`. Raises what the generator failed with, or `Unavailable`."""
        while not self._lines:
            if self._over:
                return _END
            await self._fill()
        try:
            what, value = read(self._lines.popleft())
        except ValueError as error:
            self.close()
            raise Unavailable("The function's answer cannot be read.", details={"wait": False}) from error
        if what == "value":
            return value
        if what == "packed":
            return Packed(value)
        self._over = True
        if what == "error":
            raise from_problem(value)
        return _END

    def close(self) -> None:
        """Take no more, which ends the generator."""
        self._over = True
        self._lines.clear()
        self._stream.close()

    async def _fill(self) -> None:
        try:
            data = await self._stream.next()
        except Broken as error:
            self._over = True
            raise _cut() from error
        if data is None:
            self._over = True
            raise _cut()
        self._rest += data
        if b"\n" in data:
            *whole, rest = bytes(self._rest).split(b"\n")
            self._lines.extend(whole)
            self._rest = bytearray(rest)


class Parts(Iterator[Any]):
    """What a generator yields; iterate over it once. Whoever stops before the end ends the generator."""

    def __init__(self, stream: Stream) -> None:
        self._lines, self._portal = Lines(stream), sync.portal()

    def __next__(self) -> Any:
        try:
            value = self._portal.wait(self._lines.next())
        except BaseException:  # also the stop button: nobody reads on
            self.close()
            raise
        if value is _END:
            raise StopIteration
        return _opened(value)

    def close(self) -> None:
        """Take no more, which ends the generator on the platform."""
        self._portal.tell(self._lines.close)

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<what the function yields: write `for part in ...`, or list(...)>"


class AsyncParts(AsyncIterator[Any]):
    """The same for ``async for``, in any event loop."""

    def __init__(self, stream: Stream) -> None:
        self._lines, self._portal = Lines(stream), sync.portal()

    async def __anext__(self) -> Any:
        try:
            value = await asyncio.wrap_future(self._portal.begin(self._lines.next()))
        except BaseException:
            self._portal.tell(self._lines.close)
            raise
        if value is _END:
            raise StopAsyncIteration
        return _opened(value)

    async def aclose(self) -> None:
        """Take no more, which ends the generator on the platform."""
        self._portal.tell(self._lines.close)

    def __del__(self) -> None:
        self._portal.tell(self._lines.close)

    def __repr__(self) -> str:
        return "<what the function yields: write `async for part in ...`>"


async def whole(stream: Stream) -> Received:
    """Return all that comes as one answer: bytes joined, anything else as a list in JSON."""
    lines, found = Lines(stream), []
    try:
        while (value := await lines.next()) is not _END:
            found.append(value)
    finally:
        lines.close()
    if any(isinstance(one, Packed) for one in found):
        raise BadInput(
            "It yields data frames or arrays, which make no list.", field="map", hint="Call it for each item: f(x)."
        )
    if found and all(isinstance(one, bytes) for one in found):
        return Received(b"".join(found), BYTES)
    if any(isinstance(one, bytes) for one in found):
        raise BadInput(
            "It yields bytes among other values, which make no list.", field="map", hint="Call it for each item: f(x)."
        )
    return Received(json.dumps(found).encode(), CALL_TYPE)


def _opened(value: Any) -> Any:
    return values.decode(value, PACKED) if isinstance(value, Packed) else value


def _cut() -> Unavailable:
    hint = "What came is good; call again if it may run twice."
    return Unavailable("The function's answer broke off.", hint=hint, details={"wait": False})

"""The client for code that cannot await: one daemon thread with an event loop, so it works inside IPython's own.

There is one body of each call, the async one; here it only runs elsewhere. Rejected: a second, blocking client.

    client = sync.client()
    service = sync.wait(client.services.get("board"))
    for line in sync.iterate(client.services.logs("board")):
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ropewalk_core.client import Client, connect
from ropewalk_core.client.wire import READING

T = TypeVar("T")
ANSWER = 15.0
"""Seconds that one answer is waited for, however soon the whole wait is over."""
_END = object()


class Portal:
    """A daemon thread that runs an event loop for the rest of the process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.client: Client | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ropewalk-client", daemon=True)
        self._thread.start()

    def begin(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Run the call in the loop and return at once; to cancel the future cancels the call."""
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def tell(self, do: Callable[[], object]) -> None:
        """Have the loop do something soon; what it returns is lost."""
        self._loop.call_soon_threadsafe(do)

    def wait(self, call: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run the call in the loop and return its result; an interrupt (Ctrl-C) cancels the call."""
        future = self.begin(call)
        try:
            return future.result(timeout)
        except BaseException:  # also KeyboardInterrupt: the call must not go on unseen; it is raised again
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield what the async iterator yields; leaving the loop early closes it."""
        turn = asyncio.Lock()  # what was interrupted must have let go of the items before they can be closed
        try:
            while (item := self.wait(_next(items, turn))) is not _END:
                yield item
        finally:
            with contextlib.suppress(TimeoutError):  # at the end of the process nothing runs the loop any more
                self.wait(_close(items, turn), timeout=2.0)


async def _all(items: AsyncIterator[T]) -> list[T]:
    return [one async for one in items]


async def _next(items: AsyncIterator[T], turn: asyncio.Lock) -> Any:
    async with turn:
        return await anext(items, _END)


async def _close(items: AsyncIterator[Any], turn: asyncio.Lock) -> None:
    if close := getattr(items, "aclose", None):
        async with turn:
            await close()


_portal: Portal | None = None
_guard = threading.Lock()


def portal() -> Portal:
    """Return the process's portal; a forked child gets its own, since threads do not survive a fork."""
    global _portal
    with _guard:
        if _portal is None or _portal.process != os.getpid():
            _portal = Portal()
        return _portal


def client() -> Client:
    """Return the process's client, connected to the platform around us. Use it only through this module."""
    here = portal()
    if here.client is None:

        async def _connect() -> Client:
            return connect(reading=READING)

        here.client = here.wait(_connect())
    return here.client


def wait(call: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run one of the client's calls and return its result."""
    return portal().wait(call, timeout)


async def elsewhere(call: Coroutine[Any, Any, T]) -> T:
    """Await one of the client's calls in any other event loop; to cancel who awaits cancels the call."""
    return await asyncio.wrap_future(portal().begin(call))


def before(end: float | None, call: Coroutine[Any, Any, T], otherwise: T) -> T:
    """Run one of the client's calls until a time of `time.monotonic`; return ``otherwise`` if nothing came by then."""
    try:
        return wait(call, None if end is None else max(ANSWER, end - time.monotonic()))
    except TimeoutError:
        return otherwise


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Yield the items of one of the client's streams."""
    return portal().iterate(items)


def every(items: AsyncIterator[T], timeout: float | None = None) -> list[T]:
    """Return all items of a stream that ends; for many small ones this is far quicker than `iterate`."""
    return portal().wait(_all(items), timeout)

"""Tasks that nobody awaits: kept alive while they run, and none fails unseen; and a wait for news with an end.

asyncio drops a task that nobody holds, and says of one that raised only, some time later, that nobody asked; whoever
waits for what it should have done then waits for ever. Not here: tasks that are to run again and again
(``ropewalk_hub.lasting``). Rejected: try blocks in each task, because one is always forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("ropewalk.tasks")


async def heard(news: asyncio.Event, seconds: float) -> None:
    """Wait for news, or for so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may swallow a cancellation
            await news.wait()


async def in_thread(act: Callable[..., T], *given: Any) -> T:
    """Return what is done in a thread. Who is cancelled waits for its end, as it may use what they would close."""
    doing = asyncio.ensure_future(asyncio.to_thread(act, *given))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        doing.exception()  # nobody asks any more
        raise


class Tasks:
    """The tasks of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(
        self, work: Coroutine[Any, Any, None], *, failed: Callable[[BaseException], object] | None = None
    ) -> asyncio.Task[None]:
        """Run it as a task.

        Parameters
        ----------
        work
            What to run.
        failed
            Called with whatever it raised, so that those who wait for it hear of it; not when it was cancelled.
        """
        task = asyncio.create_task(work)
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            error = _failure(task)
            if error is not None:
                log.error("%s failed", getattr(work, "__qualname__", work), exc_info=error)
                if failed is not None:
                    failed(error)

        task.add_done_callback(ended)
        return task

    def cancel(self) -> None:
        """Cancel what runs."""
        for task in self._running:
            task.cancel()

    async def end(self) -> None:
        """Cancel what runs, and wait for it."""
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    if not task.cancelled():
        return task.exception()
    # Nobody asked for its end: something that it awaited was cancelled under it.
    return None if task.cancelling() else asyncio.CancelledError()

"""Durable calls in a notebook: a handle whose result can be asked for tomorrow, from another notebook.

A handle holds an identifier and nothing else that matters, so it is found again as ``functions.spawned(id)``. Not here:
the wire to the gateway (``calls``), and what becomes of a call (``ropewalk_core.durable``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ropewalk_core import sync
from ropewalk_core.client import Client
from ropewalk_core.client.durable import WAIT, Shelf
from ropewalk_core.errors import BadInput, TimedOut
from ropewalk_core.model import DurableCall, State
from ropewalk_kernel import cards, look, values

_SHELVES = ("", "open", "failed", "ended")


class SpawnedCall(cards.Pictured):
    """One durable call. ``call.result()`` waits for it; keep ``call.id`` to find it again.

    Parameters
    ----------
    call
        The call as it was last seen.
    """

    def __init__(self, call: DurableCall) -> None:
        self._call = call

    @property
    def id(self) -> str:
        """The call's identifier: `functions.spawned` finds it again, in any notebook and on the command line."""
        return self._call.id

    @property
    def state(self) -> State:
        """The state now: waiting, running, done, failed or stopped."""
        return self.info().status.state

    def info(self) -> DurableCall:
        """Return the call as it is now: attempts, revision, why it waits or failed."""
        self._call = sync.wait(sync.client().durable.get(self.id))
        return self._call

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, and return what the function returned; the stop button leaves the call going.

        Raises
        ------
        TimedOut
            If it did not end within ``timeout`` seconds; it goes on.
        RopewalkError
            What its last attempt failed with; `Conflict` if it was canceled.
        """
        return sync.wait(self._result(sync.client(), timeout))

    async def aio_result(self, timeout: float | None = None) -> Any:
        """Do as `result` does, without blocking: ``await call.aio_result()``."""
        return await sync.elsewhere(self._result(sync.client(), timeout))

    def cancel(self) -> SpawnedCall:
        """Stop it: it is not begun, its workers' time is not spent, and what it still gives is dropped."""
        self._call = sync.wait(sync.client().durable.cancel(self.id))
        return self

    def replay(self) -> SpawnedCall:
        """Try it again after it failed, with the arguments that it kept and the revision that is live now."""
        self._call = sync.wait(sync.client().durable.replay(self.id))
        return self

    def forget(self) -> None:
        """Remove it with its result, once it has ended."""
        sync.wait(sync.client().durable.forget(self.id))

    async def _result(self, client: Client, timeout: float | None) -> Any:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT if end is None else max(0.0, min(WAIT, end - time.monotonic()))
            found = await client.durable.result(self.id, wait=left)
            self._call = found.call
            if found.body is not None:
                return values.decode(found.body, found.content_type)
            if end is not None and time.monotonic() >= end:
                raise TimedOut(f"{self.id} did not end within {timeout:g} s.", hint="Ask again: it goes on.")

    def _picture(self) -> cards.Picture:
        return Spawned((self.info(),), title=f"durable call of {self._call.function}")._picture()

    def __repr__(self) -> str:
        return f"<durable call {self.id}: {self._call.status.state.value}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (SpawnedCall, (self._call,))


class Spawned(cards.Pictured):
    """Durable calls, newest first, as a table that reads well in a notebook; iterate over it for handles."""

    def __init__(self, items: tuple[DurableCall, ...], title: str = "durable calls") -> None:
        self.items, self.title = items, title

    def __iter__(self) -> Iterator[SpawnedCall]:
        return iter([SpawnedCall(one) for one in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def _picture(self) -> cards.Picture:
        rows = [
            (
                one.id,
                look.word(one.status),
                str(one.attempt),
                look.duration(one.created, one.ended) if one.ended else "",
                one.status.why.cause if one.status.why else "",
            )
            for one in self.items
        ]
        empty = "No durable calls. Make one with f.spawn(...)."
        return cards.listing(self.title, ("call", "state", "attempts", "took", "why"), rows, empty=empty)


def listed(function: str, shelf: Shelf, limit: int) -> Spawned:
    """Return the latest durable calls of a function."""
    if shelf not in _SHELVES:
        raise BadInput(f"shelf is {shelf!r}.", field="shelf", hint='Write "open", "failed" or "ended".')
    page = sync.wait(sync.client().durable.list(function, shelf=shelf, limit=max(1, min(limit, 200))))
    return Spawned(page.items, title=f"durable calls of {function}")

"""``f.map``: the calls of many arguments, some at a time, their results in order as they are there.

Arguments are taken, encoded and decoded in the thread of who iterates, because they may be anything; calls run in the
loop of ``ropewalk_core.sync``, on as many lanes as the function takes calls at a time. Only a window of calls is begun
ahead of the results, so that an endless source works and memory stays. A call that was refused for lack of room (429)
never began and is sent again when the answer says; nothing else is repeated. Not here: one call (``calls``), how the
line of progress looks (``bar``). Rejected: a thread or a future for each call, which cost as much as the call.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk_core import sync
from ropewalk_core.errors import Limited, RopewalkError
from ropewalk_kernel import values
from ropewalk_kernel.bar import Bar
from ropewalk_kernel.values import NOTHING, Received

MOST = 256
"""Calls under way at the same time, each on a connection of its own."""
_SMALLEST, _AHEAD = 32, 4
"""Calls begun ahead of the results: so many for each lane, and so many at least, that one slow call stops no other."""
_HELD = 64 * 2**20
"""Bytes of arguments held at the same time, and as many of answers, but for one call that is larger by itself. What the
first calls answer is not known before: as many as there are lanes may be under way when the first large answer comes.
"""
_MOMENT = 0.01
"""Seconds for which a result that is there may be kept back to begin further calls."""
_GATHER = 0.005
"""Seconds for which a result may wait for the next ones while lanes have enough to do: to change threads for each of
them would cost as much as the calls."""
_PATIENCE = 600.0
"""Seconds in which a call must have found room."""
_TICK = 0.2
_END = object()


@dataclass(eq=False, slots=True)
class Item:
    """One call and what came of it."""

    at: int
    body: bytes = b""
    size: int = 0
    answer: Received = NOTHING
    failure: Exception | None = None
    done: bool = False
    from_source: bool = False


class Lanes:
    """Calls in the portal's loop, so many at a time, each begun in the order in which they were added.

    Parameters
    ----------
    send
        Sends the arguments of one call and returns its answer.
    count
        How many calls are under way at the same time.
    go_on
        Whether further calls are begun after one failed.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[Received]], count: int, *, go_on: bool) -> None:
        self.count, self.answered, self.failures, self.held_back = count, 0, 0, 0
        self._send, self._go_on, self._portal = send, go_on, sync.portal()
        self._waiting: deque[Item] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running, self._woken, self._closed = 0, False, False
        self._under_way = self._largest = 0
        self._came_in = self._handed_out = 0  # bytes of answers; each is added to by one thread only
        self._full = False
        self._wanted: Item | None = None
        self._came = threading.Event()

    # For the thread that iterates

    @property
    def waiting(self) -> int:
        """How many calls wait for a lane."""
        return len(self._waiting)

    @property
    def stopped(self) -> bool:
        """Whether no further calls are begun."""
        return self._closed or (self.failures > 0 and not self._go_on)

    def add(self, item: Item) -> None:
        """Begin a call as soon as a lane is free."""
        self._waiting.append(item)
        self._rouse()

    def hand_out(self, item: Item) -> None:
        """Count the answer of a call that is over as held no longer."""
        self._handed_out += len(item.answer)
        if self._full:
            self._rouse()

    def _rouse(self) -> None:
        if not self._woken:
            self._woken = True
            self._portal.tell(self._wake)

    def wait(self, item: Item, tick: Callable[[], None]) -> None:
        """Wait until a call is over; an interrupt (Ctrl-C) ends the wait."""
        self._wanted = item
        while True:
            self._came.clear()
            if item.done:
                return
            tick()
            self._came.wait(_TICK)

    def close(self) -> None:
        """Cancel what is under way. It waits for nothing, so that it can be called anywhere."""
        self._closed = True
        self._waiting.clear()
        self._portal.tell(self._cancel)

    # In the portal's loop

    def _wake(self) -> None:
        self._woken = self._full = False
        if self._closed:
            return
        for _ in range(min(self.count - self._running, len(self._waiting))):
            self._running += 1
            task = asyncio.get_running_loop().create_task(self._lane())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _lane(self) -> None:
        try:
            while self._waiting and not self.stopped and self._has_room():
                await self._serve(self._waiting.popleft())
        finally:  # nothing is awaited after the last look at what waits: `_wake` counts right
            self._running -= 1

    def _has_room(self) -> bool:
        """Say whether one more answer may be held; one that did not come yet counts as the largest so far.

        Calls begin in order, so that what waits first is the next result as soon as nothing is held or under way.
        """
        before, self._full = self._full, True  # before the look: who hands an answer out after it wakes the lanes
        held = self._came_in - self._handed_out
        if (held or self._under_way) and held + (self._under_way + 1) * self._largest > _HELD:
            return False
        self._full = before  # other lanes may have ended for lack of room
        return True

    async def _serve(self, item: Item) -> None:
        self._under_way += 1
        try:
            item.answer = await self._patiently(item.body)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this call and is raised there
            item.failure = error
            self.failures += 1
        self._under_way -= 1
        self._came_in += len(item.answer)
        self._largest = max(self._largest, len(item.answer))
        item.body, item.done = b"", True
        self.answered += 1
        if item is self._wanted:
            if self.waiting < 2 * self.count:
                self._came.set()
            else:
                asyncio.get_running_loop().call_later(_GATHER, self._came.set)

    async def _patiently(self, body: bytes) -> Received:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._send(body)
            except Limited as error:
                began = not error.details.get("wait", True)  # its answer had no room, but it has run
                if began or time.monotonic() + error.retry_after > end:
                    raise
                pause = error.retry_after
            self.held_back += 1
            try:
                await asyncio.sleep(pause)
            finally:
                self.held_back -= 1


class Window:
    """The calls that were begun and whose results were not handed out, in order.

    Parameters
    ----------
    lanes
        Where they run.
    source
        The arguments of each call.
    write
        Writes those of one call down.
    """

    def __init__(self, lanes: Lanes, source: Iterator[Sequence[Any]], write: Callable[[Sequence[Any]], bytes]) -> None:
        self.refused = 0
        self._lanes, self._source, self._write = lanes, source, write
        self._size = max(_SMALLEST, _AHEAD * lanes.count)
        self._items: deque[Item] = deque()
        self._begun, self._more = 0, True
        self._bytes = 0

    def take(self, tick: Callable[[], None]) -> Item | None:
        """Return the next call in order once it is over; nothing after the last."""
        self._fill()
        if not self._items:
            return None
        item = self._items[0]
        self._lanes.wait(item, tick)
        self._items.popleft()
        self._bytes -= item.size
        self._lanes.hand_out(item)
        return item

    def _fill(self) -> None:
        """Begin further calls: all that have room while the next result is not there, else what keeps lanes busy."""
        if self._ready() and self._lanes.waiting >= self._lanes.count:
            return
        begun = time.monotonic()
        while self._more and self._room() and not self._lanes.stopped:
            self._begin()
            busy = self._lanes.waiting >= 2 * self._lanes.count
            if self._ready() and (busy or time.monotonic() - begun > _MOMENT):
                return

    def _ready(self) -> bool:
        return bool(self._items) and self._items[0].done

    def _room(self) -> bool:
        """Say whether the arguments of one more fit; lanes see to it that the answers do."""
        return not self._items or (len(self._items) < self._size and self._bytes < _HELD)

    def _begin(self) -> None:
        item = Item(self._begun)
        try:
            args = next(self._source, _END)
        except Exception as error:  # noqa: BLE001 - whatever the source raises is raised after the results before it
            args, item.failure, item.done, item.from_source, self._more = (), error, True, True, False
        if args is _END:
            self._more = False
            return
        self._begun += 1
        self._items.append(item)
        if item.failure is None:
            self._add(item, args)

    def _add(self, item: Item, args: Any) -> None:
        try:
            item.body = self._write(args)
        except RopewalkError as error:
            item.failure, item.done = error, True
            self.refused += 1
            return
        item.size = len(item.body)
        self._bytes += item.size
        self._lanes.add(item)


def results(
    lanes: Lanes,
    source: Iterator[Sequence[Any]],
    bar: Bar,
    *,
    give_failures: bool,
    write: Callable[[Sequence[Any]], bytes] = lambda args: values.envelope(args, {}),
) -> Iterator[Any]:
    """Yield the answers in order; leaving early, also by an interrupt, cancels what is under way.

    Parameters
    ----------
    lanes
        Where the calls run.
    source
        The arguments of each call.
    bar
        Shows how far it is.
    give_failures
        Whether a failed call's error is yielded in its place instead of raised.
    write
        Writes the arguments of one call down.
    """
    window, over = Window(lanes, source, write), False

    def tick() -> None:
        done, failed = lanes.answered + window.refused, lanes.failures + window.refused
        bar.show(done, failed=failed, held_back=lanes.held_back)

    try:
        while (item := window.take(tick)) is not None:
            tick()
            if item.failure is None:
                yield values.decode(item.answer)
            elif give_failures and isinstance(item.failure, RopewalkError) and not item.from_source:
                yield item.failure
            else:
                raise _placed(item)
        over = True
    finally:
        lanes.close()
        done, failed = lanes.answered + window.refused, lanes.failures + window.refused
        bar.end(done, failed=failed, over=over)


def _placed(item: Item) -> Exception:
    """Return why a call failed, with its place among the arguments."""
    assert item.failure is not None
    if isinstance(item.failure, RopewalkError) and not item.from_source:
        item.failure.details["item"] = item.at
        item.failure.add_note(f"This was item {item.at} of map, counted from 0.")
    return item.failure

"""Journal: batches from every thread go through one writer, and each is acknowledged once, when it is on disk.

When a database goes away, the writer waits for it with growing pauses. A batch that was certainly not applied is
refused once its patience is over; one whose commit got no answer is looked up when the database is back, and only
applied again if it is not there. Not here: SQL (``statements.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from ropewalk_core.errors import BadInput, RopewalkError, Unavailable
from ropewalk_core.journal.records import Append, Forget, Operation, Record
from ropewalk_core.journal.sqlite import SqliteStore
from ropewalk_core.journal.statements import Lost, Result, Statements
from ropewalk_core.model import Event

HISTORY = 7 * 86400.0
"""Seconds for which superseded events are kept. A week: whoever watches has come back by then, or reads anew."""
PATIENCE = 20.0
"""Seconds that a batch waits for a database that is away, less than a browser or a client waits for its answer."""
_LONGEST_PAUSE = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Work:
    batch: tuple[Operation, ...]
    done: Future[int]
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, eq=False)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event
    without: str


class Journal:
    """An open journal.

    Parameters
    ----------
    where
        The file of a SQLite journal, whose folder must exist; or ``postgresql://...``.
    now
        Unix time in seconds; injectable for tests.
    patience
        Seconds that a batch waits for a database that is away.

    Raises
    ------
    Unavailable
        If another process writes this journal, its folder lies on a network file system, or its database is away.
    Internal
        If it is damaged, from a newer version, or not a journal; it is never replaced by an empty one.
    """

    def __init__(self, where: Path | str, *, now: Callable[[], float] = time.time, patience: float = PATIENCE) -> None:
        self._store = _store(where, now)
        self._now, self._patience = now, patience
        self._waiters: set[_Waiter] = set()
        self._guard = threading.Lock()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._closed, self._closing = False, threading.Event()
        try:
            self._cursor = self._store.last()
            self._newest = {"": self._cursor}
        except RopewalkError:
            self._store.close()
            raise
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    # Writing

    def submit(self, batch: Iterable[Operation]) -> Future[int]:
        """Queue a batch; the future gives the cursor once the batch is on disk, or the error."""
        done: Future[int] = Future()
        with self._guard:
            if self._closed:
                done.set_exception(Unavailable("The journal is closed."))
            else:
                self._queue.put(_Work(tuple(batch), done))
        return done

    async def write(self, *batch: Operation) -> int:
        """Apply a batch and return the cursor after it, once it is on disk.

        Raises
        ------
        Conflict
            If a record has not the expected version; nothing of the batch is applied.
        StorageFull
            If the disk is full; nothing of the batch is applied.
        Unavailable
            If the database is away for longer than patience lasts.
        """
        return await asyncio.wrap_future(self.submit(batch))

    async def write_all(self, batches: Iterable[Iterable[Operation]]) -> list[int | RopewalkError]:
        """Apply each batch by itself, as `write` does; return the cursor after each, or why it was refused.

        For many at a time: the loop is woken once for all of them.
        """
        works = [self.submit(batch) for batch in batches]
        if works:
            await asyncio.wrap_future(_all_of(works))
        return [_result_of(work) for work in works]

    def write_now(self, *batch: Operation) -> int:
        """Do as `write` does, from a thread that may block."""
        return self.submit(batch).result()

    # Reading

    def get(self, kind: str, owner: str, name: str) -> Record | None:
        """Return one record, or None if there is none or it has expired."""
        return self._store.get(kind, owner, name)

    def find(self, kind: str, name: str) -> list[Record]:
        """Return the records of this kind and name of every owner."""
        return self._store.find(kind, name)

    def page(
        self, kind: str, owner: str | None = None, *, after: str = "", limit: int = 1000, newest: bool = False
    ) -> list[Record]:
        """Return records by name after a name, or newest name first before it; all owners when ``owner`` is None."""
        return self._store.page(kind, owner, after=after, limit=limit, newest=newest)

    def events(
        self, *, after: int = 0, kind: str = "", owner: str | None = None, name: str = "", limit: int = 1000
    ) -> list[Event]:
        """Return events after a cursor, oldest first."""
        return self._store.events(after=after, kind=kind, owner=owner, name=name, limit=limit)

    def weigh(self, kind: str, owner: str | None = None) -> dict[str, tuple[int, int]]:
        """Return how many records of a kind each owner, or this one, has, and the characters of their bodies."""
        return {one: (count, size) for one, count, size in self._store.weigh(kind, owner)}

    @property
    def cursor(self) -> int:
        """The cursor of the newest event."""
        return self._cursor

    def newest(self, *, without: str = "") -> int:
        """Return the cursor of the newest event that is not of this kind; all there were when it was opened count."""
        return max(cursor for kind, cursor in list(self._newest.items()) if not kind or kind != without)

    async def follow(self, kind: str, *, after: int = 0, owner: str | None = None) -> AsyncIterator[Event]:
        """Yield the events of a kind after a cursor as they come, for ever, also across a database that is away."""
        while True:
            newest = self._cursor
            try:
                events = self.events(after=after, kind=kind, owner=owner)
            except Unavailable:
                if self._closed:
                    raise
                await asyncio.sleep(_LONGEST_PAUSE / 2)
                continue
            for event in events:
                after = event.cursor
                yield event
            if not events:
                await self.wait(newest)

    async def wait(self, after: int, *, timeout: float | None = None, without: str = "") -> int:
        """Return the newest cursor once there is an event past ``after``, or after ``timeout`` seconds as it is.

        Parameters
        ----------
        without
            A kind whose events do not count.
        """
        waiter = _Waiter(asyncio.get_running_loop(), asyncio.Event(), without)
        self._waiters.add(waiter)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):  # wait_for can swallow a cancellation in Python 3.11
                    while self.newest(without=without) <= after:
                        # Of an event that came just before, the writer may tell only now.
                        await waiter.event.wait()
                        waiter.event.clear()
        finally:
            self._waiters.discard(waiter)
        return self._cursor

    def sweep(self, *, history: float = HISTORY) -> Future[int]:
        """Forget expired records, and superseded events that are older than ``history`` seconds.

        A watch that resumes from before still sees the newest event of everything; events that hold only a part (a
        run's steps) must be read anew then.
        """
        return self.submit([*self._store.expired(5000), Forget(self._now() - history)])

    def close(self) -> None:
        """Write what is queued, then close. Closing twice is fine."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._closing.set()
            self._queue.put(None)
        self._thread.join()
        self._store.close()

    # The writer's thread

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            works, last = [first], False
            while not self._queue.empty():
                if (one := self._queue.get()) is None:
                    last = True
                    break
                works.append(one)
            self._commit(works)
            if last:
                return

    def _commit(self, works: list[_Work]) -> None:
        """Have the batches applied in one commit, however often the database goes away meanwhile."""
        mark, doubt, failures = secrets.token_hex(16), None, 0
        while works:
            try:
                if doubt is not None and self._store.has(mark):
                    self._settle(works, doubt)
                    return
                doubt = None
                self._settle(works, self._store.apply([work.batch for work in works], mark))
                return
            except Lost as lost:
                doubt = lost.results or doubt
                failures += 1
                if failures & (failures - 1) == 0:
                    _log.warning("the journal's database is away: %s (%d tries in a row)", lost, failures)
                closing = self._closing.wait(min(_LONGEST_PAUSE, 0.05 * 2.0 ** min(failures, 16)))
                works = self._give_up(works, doubt is not None, closing)
            except RopewalkError as error:
                self._settle(works, [error if doubt is None else _unknown() for _ in works])
                return

    def _give_up(self, works: list[_Work], doubted: bool, closing: bool) -> list[_Work]:
        """Refuse the batches that waited long enough and return the others; what may be there already waits on."""
        now = time.monotonic()
        over = [work for work in works if closing or (not doubted and now - work.since > self._patience)]
        self._settle(over, [_unknown() if doubted else _away() for _ in over])
        return [work for work in works if work not in over]

    def _settle(self, works: list[_Work], results: list[Result]) -> None:
        before = self._cursor
        self._cursor = max([before, *(result for result in results if isinstance(result, int))])
        for work, result in zip(works, results, strict=True):
            if isinstance(result, int) and result:
                self._newest |= {one.kind: result for one in work.batch if isinstance(one, Append)}
        for work, result in zip(works, results, strict=True):
            # A caller that was cancelled meanwhile has cancelled its future; its batch is durable all the same.
            if not work.done.set_running_or_notify_cancel():
                continue
            if isinstance(result, int):
                work.done.set_result(result or self._cursor)
            else:
                work.done.set_exception(result)
        for one in list(self._waiters):
            if self.newest(without=one.without) > before:
                with contextlib.suppress(RuntimeError):  # the loop of a watcher may have closed meanwhile
                    one.loop.call_soon_threadsafe(one.event.set)


def _all_of(works: list[Future[int]]) -> Future[None]:
    """Return what is over when all are, however each ended."""
    over: Future[None] = Future()
    left = iter(range(len(works) - 1, -1, -1))

    def ended(_: Future[int]) -> None:
        if next(left) == 0 and over.set_running_or_notify_cancel():
            over.set_result(None)

    for work in works:
        work.add_done_callback(ended)
    return over


def _result_of(work: Future[int]) -> int | RopewalkError:
    """Return what came of a batch that is settled."""
    error = work.exception()
    if error is None:
        return work.result()
    if isinstance(error, RopewalkError):
        return error
    raise error


def _store(where: Path | str, now: Callable[[], float]) -> Statements:
    if isinstance(where, Path):
        return SqliteStore(where, now)
    if where.startswith(("postgresql://", "postgres://")):
        from ropewalk_core.journal.postgres import PostgresStore  # its driver is large, and few need it

        return PostgresStore(where, now)
    raise BadInput(
        "The journal's address is none that Ropewalk knows.",
        field="journal",
        hint="Leave it empty for a file in the home, or write postgresql://user@host/database.",
    )


def _away() -> Unavailable:
    return Unavailable("The journal's database does not answer; nothing was changed.")


def _unknown() -> Unavailable:
    return Unavailable(
        "The journal's database went away before it answered, so it is not known whether this was written.",
        hint="Look at what is there before you do it again.",
    )

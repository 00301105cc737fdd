"""The journal: the only SQL, and the only durable truth of a home in embedded mode. One process writes it.

It keeps *records* (kind, owner, name -> JSON body, with a version) and *events* (an append-only history whose cursor
orders everything). A batch of operations is applied whole or not at all, and acknowledged when it is on disk: SQLite in
WAL mode with ``synchronous=FULL``; batches that wait at the same time share one commit. Accounts, sessions, clients and
tokens are records as well. It must not know what a record means. Rejected: one table per noun (every new noun would be
a migration, and the PostgreSQL twin a second schema), and an ORM (its unit of work hides when a commit happens).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ropewalk_core import mounts
from ropewalk_core.errors import BadInput, Conflict, Internal, RopewalkError, StorageFull, Unavailable
from ropewalk_core.model import Event

SCHEMA_VERSION = 1
HISTORY = 7 * 86400.0
"""Seconds for which superseded events are kept. A week: whoever watches has come back by then, or reads anew."""
_APPLICATION_ID = 0x526F7065
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
  kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
  version INTEGER NOT NULL, updated REAL NOT NULL, expires REAL,
  PRIMARY KEY (kind, owner, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_expire ON records (expires) WHERE expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_name ON records (kind, name);
CREATE TABLE IF NOT EXISTS events (
  cursor INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL,
  name TEXT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of ON events (kind, owner, name, cursor);
CREATE INDEX IF NOT EXISTS events_since ON events (kind, owner, cursor);
"""
_FORGET = """
DELETE FROM events WHERE cursor IN (
  SELECT cursor FROM events AS old WHERE at<? AND EXISTS (
    SELECT 1 FROM events AS new
    WHERE new.kind=old.kind AND new.owner=old.owner AND new.name=old.name AND new.cursor>old.cursor)
  ORDER BY cursor LIMIT ?)
"""


@dataclass(frozen=True)
class Record:
    """A stored body. ``version`` starts at 1 and grows by one at each write."""

    kind: str
    owner: str
    name: str
    body: dict[str, Any]
    version: int
    updated: float
    expires: float | None = None


@dataclass(frozen=True)
class Put:
    """Write a record. ``expect`` is the version it must have (0: must not exist, None: any)."""

    kind: str
    owner: str
    name: str
    body: dict[str, Any]
    expect: int | None = None
    expires: float | None = None


@dataclass(frozen=True)
class Remove:
    """Remove a record; removing what is not there is done already."""

    kind: str
    owner: str
    name: str
    expect: int | None = None


@dataclass(frozen=True)
class Append:
    """Add one event to the history."""

    kind: str
    owner: str
    name: str
    type: str
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Forget:
    """Forget events from before a time that a later event of the same thing supersedes; the newest one stays."""

    before: float
    limit: int = 5000


Operation: TypeAlias = Put | Remove | Append | Forget


@dataclass(frozen=True)
class _Work:
    batch: tuple[Operation, ...]
    done: Future[int]


class Journal:
    """An open journal.

    Parameters
    ----------
    path
        The database file; its folder must exist.
    now
        Unix time in seconds; injectable for tests.

    Raises
    ------
    Unavailable
        If another process writes this journal, or its folder lies on a network file system.
    Internal
        If the file is damaged, from a newer version, or not a journal; it is never replaced by an empty one.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now
        _refuse_network(path)
        self._lock = self._hold(path.with_name(path.name + ".lock"))
        self._readers = threading.local()
        self._open_connections: list[sqlite3.Connection] = []
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._guard = threading.Lock()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        try:
            self._writer = self._connect()
            self._prepare(self._writer)
        except RopewalkError:
            self._release()
            raise
        self._cursor = int(self._writer.execute("SELECT COALESCE(MAX(cursor), 0) FROM events").fetchone()[0])
        self._closed = False
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
        """
        return await asyncio.wrap_future(self.submit(batch))

    def write_now(self, *batch: Operation) -> int:
        """Do as `write` does, from a thread that may block."""
        return self.submit(batch).result()

    # Reading

    def get(self, kind: str, owner: str, name: str) -> Record | None:
        """Return one record, or None if there is none or it has expired."""
        rows = self._read(
            "SELECT * FROM records WHERE kind=? AND owner=? AND name=? AND (expires IS NULL OR expires>?)",
            (kind, owner, name, self._now()),
        )
        return _record(rows[0]) if rows else None

    def find(self, kind: str, name: str) -> list[Record]:
        """Return the records of this kind and name of every owner."""
        return [
            _record(row)
            for row in self._read(
                "SELECT * FROM records WHERE kind=? AND name=? AND (expires IS NULL OR expires>?)",
                (kind, name, self._now()),
            )
        ]

    def page(
        self, kind: str, owner: str | None = None, *, after: str = "", limit: int = 1000, newest: bool = False
    ) -> list[Record]:
        """Return records by name after a name, or newest name first before it; all owners when ``owner`` is None."""
        order, sign = ("DESC", "<") if newest else ("ASC", ">")
        where: list[str] = ["kind=?", "(expires IS NULL OR expires>?)"]
        values: list[Any] = [kind, self._now()]
        if owner is not None:
            where, values = [*where, "owner=?"], [*values, owner]
        if after:
            where, values = [*where, f"name{sign}?"], [*values, after]
        sql = f"SELECT * FROM records WHERE {' AND '.join(where)} ORDER BY name {order}, owner LIMIT ?"  # noqa: S608
        return [_record(row) for row in self._read(sql, (*values, limit))]

    def events(
        self, *, after: int = 0, kind: str = "", owner: str | None = None, name: str = "", limit: int = 1000
    ) -> list[Event]:
        """Return events after a cursor, oldest first."""
        where: list[str] = ["cursor>?"]
        values: list[Any] = [after]
        for column, value in (("kind", kind or None), ("owner", owner), ("name", name or None)):
            if value is not None:
                where, values = [*where, f"{column}=?"], [*values, value]
        sql = f"SELECT * FROM events WHERE {' AND '.join(where)} ORDER BY cursor LIMIT ?"  # noqa: S608
        return [
            Event(
                cursor=row["cursor"],
                at=row["at"],
                kind=row["kind"],
                owner=row["owner"],
                name=row["name"],
                type=row["type"],
                body=json.loads(row["body"]),
            )
            for row in self._read(sql, (*values, limit))
        ]

    @property
    def cursor(self) -> int:
        """The cursor of the newest event."""
        return self._cursor

    async def follow(self, kind: str, *, after: int = 0, owner: str | None = None) -> AsyncIterator[Event]:
        """Yield the events of a kind after a cursor as they come, for ever."""
        while True:
            newest = self._cursor
            events = self.events(after=after, kind=kind, owner=owner)
            for event in events:
                after = event.cursor
                yield event
            if not events:
                await self.wait(newest)

    async def wait(self, after: int, *, timeout: float | None = None) -> int:
        """Return the newest cursor once it is past ``after``, or after ``timeout`` seconds as it is."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        self._waiters.add(waiter)
        try:
            if self._cursor <= after:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):  # wait_for can swallow a cancellation in Python 3.11
                        await waiter[1].wait()
        finally:
            self._waiters.discard(waiter)
        return self._cursor

    def sweep(self, *, history: float = HISTORY) -> Future[int]:
        """Forget expired records, and superseded events that are older than ``history`` seconds.

        A watch that resumes from before still sees the newest event of everything; events that hold only a part (a
        run's steps) must be read anew then.
        """
        now = self._now()
        expired = self._read("SELECT kind, owner, name FROM records WHERE expires<=? LIMIT 5000", (now,))
        return self.submit(
            [*(Remove(row["kind"], row["owner"], row["name"]) for row in expired), Forget(now - history)]
        )

    def close(self) -> None:
        """Write what is queued, then close. Closing twice is fine."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._release()

    def _release(self) -> None:
        for connection in self._open_connections:
            connection.close()
        self._lock.close()

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
        """Apply the batches in one transaction; a batch that fails leaves the others untouched."""
        results: list[tuple[_Work, int | RopewalkError]] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            results = [(work, self._apply_batch(work.batch)) for work in works]
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            results = [(work, _translate(error)) for work in works]
        self._settle(results)

    def _apply_batch(self, batch: tuple[Operation, ...]) -> int | RopewalkError:
        self._writer.execute("SAVEPOINT batch")
        try:
            cursors = [self._apply(operation) for operation in batch]
        except (RopewalkError, ValueError, TypeError, OverflowError, RecursionError) as error:
            self._writer.execute("ROLLBACK TO batch")
            self._writer.execute("RELEASE batch")
            # What people sent may hold what no file can (half of a surrogate pair): it must not end this thread.
            return error if isinstance(error, RopewalkError) else _unstorable(error)
        self._writer.execute("RELEASE batch")
        return max([cursor for cursor in cursors if cursor], default=0)

    def _apply(self, operation: Operation) -> int:
        if isinstance(operation, Append):
            row = self._writer.execute(
                "INSERT INTO events (at, kind, owner, name, type, body) VALUES (?,?,?,?,?,?)",
                (self._now(), operation.kind, operation.owner, operation.name, operation.type, _dump(operation.body)),
            )
            return int(row.lastrowid or 0)
        if isinstance(operation, Forget):
            self._writer.execute(_FORGET, (operation.before, operation.limit))
            return 0
        key = (operation.kind, operation.owner, operation.name)
        have = self._version(key)
        if operation.expect is not None and operation.expect != have:
            raise Conflict(f"The {operation.kind} '{operation.name}' changed meanwhile.", field=operation.name)
        if isinstance(operation, Remove):
            self._writer.execute("DELETE FROM records WHERE kind=? AND owner=? AND name=?", key)
        else:
            self._writer.execute(
                "INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?)",
                (*key, _dump(operation.body), have + 1, self._now(), operation.expires),
            )
        return 0

    def _version(self, key: tuple[str, str, str]) -> int:
        row = self._writer.execute(
            "SELECT version FROM records WHERE kind=? AND owner=? AND name=? AND (expires IS NULL OR expires>?)",
            (*key, self._now()),
        ).fetchone()
        return int(row[0]) if row else 0

    def _settle(self, results: list[tuple[_Work, int | RopewalkError]]) -> None:
        self._cursor = max([self._cursor, *(result for _, result in results if isinstance(result, int))])
        for work, result in results:
            # A caller that was cancelled meanwhile has cancelled its future; its batch is durable all the same.
            if not work.done.set_running_or_notify_cancel():
                continue
            if isinstance(result, int):
                work.done.set_result(result or self._cursor)
            else:
                work.done.set_exception(result)
        for loop, event in list(self._waiters):
            with contextlib.suppress(RuntimeError):  # the loop of a watcher may have closed meanwhile
                loop.call_soon_threadsafe(event.set)

    # Connections

    def _connect(self) -> sqlite3.Connection:
        self.path.touch(mode=0o600)  # SQLite gives its other files the same mode
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._open_connections.append(connection)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            identity = connection.execute("PRAGMA application_id").fetchone()[0]
            if version > SCHEMA_VERSION or (tables and identity != _APPLICATION_ID):
                raise Internal(
                    f"{self.path} is from a newer Ropewalk or is not a journal.",
                    hint="Start the version that wrote it, or choose another --home.",
                )
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        self.path.chmod(0o600)

    def _damaged(self, error: sqlite3.Error) -> RopewalkError:
        translated = _translate(error)
        if not isinstance(translated, Internal):
            return translated
        return Internal(
            f"The journal {self.path} cannot be read: {error}.",
            hint="Restore the file from a backup; it was not changed.",
        )

    def _hold(self, path: Path) -> Any:
        try:
            path.touch(mode=0o600)
            lock = path.open("a+")
        except OSError as error:
            raise Internal(f"The journal {self.path} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise Unavailable(f"Another process writes the journal {self.path}.") from error
        return lock

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._readers.connection = self._connect()
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _translate(error) from error


def _refuse_network(path: Path) -> None:
    """Refuse a folder where locks and shared memory may be nobody's: two writers would ruin the journal unseen."""
    if mounts.is_network(kind := mounts.kind_of(path.parent)):
        raise Unavailable(
            f"The journal {path} would lie on a network file system ({kind}), where it can be damaged.",
            hint="Put the home on a disk of the machine, or the volume on a storage class of block devices.",
        )


def _dump(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def _record(row: sqlite3.Row) -> Record:
    return Record(
        row["kind"], row["owner"], row["name"], json.loads(row["body"]), row["version"], row["updated"], row["expires"]
    )


def _unstorable(error: Exception) -> BadInput:
    return BadInput(
        "This holds characters or values that cannot be stored; nothing was changed.",
        hint="Look for text that was cut inside a character, or for values nested very deeply.",
        details={"error": type(error).__name__},
    )


def _translate(error: sqlite3.Error) -> RopewalkError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if "FULL" in name or "full" in str(error) or name == "SQLITE_IOERR_WRITE":  # the latter: over a quota or a limit
        return StorageFull(
            "The disk that holds the platform's state is full; nothing was written.",
            hint="Free some space on that disk, then try again.",
        )
    if "BUSY" in name or "LOCKED" in name or "locked" in str(error):
        return Unavailable("The journal is busy.")
    return Internal(f"The journal failed: {error} ({name}).")

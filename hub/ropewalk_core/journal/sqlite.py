"""SqliteStore: a journal in one file of the home, in WAL mode with ``synchronous=FULL``.

A lock beside the file keeps a second process away. Each reader borrows a connection: one per thread was simpler, but
whoever closed the journal then closed a connection in use, which ends the whole process. Not here: the statements
(``statements.py``).
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ropewalk_core import mounts
from ropewalk_core.errors import Internal, RopewalkError, StorageFull, Unavailable
from ropewalk_core.journal.statements import SCHEMA_VERSION, Batch, Result, Row, Statements

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


class SqliteStore(Statements):
    """An open file.

    Parameters
    ----------
    path
        The database file; its folder must exist.
    now
        Unix time in seconds.

    Raises
    ------
    Unavailable
        If another process writes this journal, or its folder lies on a network file system.
    Internal
        If the file is damaged, from a newer version, or not a journal; it is never replaced by an empty one.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        super().__init__(now)
        self.path = path
        _refuse_network(path)
        self._lock = self._hold(path.with_name(path.name + ".lock"))
        self._guard = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            self._writer = self._connect()
        except RopewalkError:
            self._lock.close()
            raise
        try:
            self._prepare(self._writer)
        except RopewalkError:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection and let another process have the file; who reads at this moment ends in peace."""
        with self._guard:
            self._closed, idle = True, self._idle
            self._idle = []
        for connection in idle:
            connection.close()
        self._writer.close()
        self._lock.close()

    def apply(self, batches: Sequence[Batch], mark: str) -> list[Result]:
        """Apply batches in one commit; a batch that fails leaves the others untouched."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            results = [self._batch(batch) for batch in batches]
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise _translate(error) from error
        return results

    def has(self, mark: str) -> bool:
        """Say no: a file does not go away between a commit and its answer."""
        return False

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._writer.execute(sql, values).fetchall()

    def _append(self, values: Sequence[Any]) -> int:
        sql = "INSERT INTO events (at, kind, owner, name, type, body) VALUES (?,?,?,?,?,?)"
        return int(self._writer.execute(sql, values).lastrowid or 0)

    def _read(self, sql: str, values: Sequence[Any]) -> list[Row]:
        connection = self._borrow()
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _translate(error) from error
        finally:
            self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise Unavailable("The journal is closed.")
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        self.path.touch(mode=0o600)  # SQLite gives its other files the same mode
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error as error:
            connection.close()
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


def _refuse_network(path: Path) -> None:
    """Refuse a folder where locks and shared memory may be nobody's: two writers would ruin the journal unseen."""
    if mounts.is_network(kind := mounts.kind_of(path.parent)):
        raise Unavailable(
            f"The journal {path} would lie on a network file system ({kind}), where it can be damaged.",
            hint="Put the home on a disk of the machine, or the volume on a storage class of block devices.",
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

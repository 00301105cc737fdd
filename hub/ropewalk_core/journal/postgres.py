"""PostgresStore: a journal in a PostgreSQL database, in a schema of its own named ``ropewalk``.

One platform writes: it holds an advisory lock on the connection that it writes with, so that whoever lost the
connection cannot write any more. A second platform is refused and told who the first is. Each commit leaves a mark, by
which a platform that lost the answer finds out whether it was carried out. The address must lead to the database
itself, not to a pooler that shares connections between transactions. Not here: the statements (``statements.py``).
Rejected: sequences for cursors (they leave gaps, and a later number can be committed first), and LISTEN (nobody else
reads the journal).
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict

from ropewalk_core.errors import BadInput, Internal, RopewalkError, StorageFull, Unavailable
from ropewalk_core.journal.statements import SCHEMA_VERSION, Batch, Lost, Result, Row, Statements

_LOCK = 0x526F7065
_PATIENCE = 5.0  # for the lock of a platform that was killed a moment ago
_LONGEST_PAUSE = 2.0
_KEPT = 8  # connections for reading that are kept open
_LONGEST_READ = 10.0  # seconds for which the platform's pages may stand still; a healthy read takes milliseconds
_GRACE = 2.0  # a server that lives ends a read by itself before we give it up
_GOING = ("57P01", "57P02", "57P03", "57P05", "25006")  # shut down, crashed, starting, idle too long, read-only now
_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS ropewalk;
CREATE TABLE IF NOT EXISTS journal (
  one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, mark TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS records (
  kind TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL, name TEXT COLLATE "C" NOT NULL, body TEXT NOT NULL,
  version BIGINT NOT NULL, updated DOUBLE PRECISION NOT NULL, expires DOUBLE PRECISION,
  PRIMARY KEY (kind, owner, name));
CREATE INDEX IF NOT EXISTS records_expire ON records (expires) WHERE expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_name ON records (kind, name);
CREATE TABLE IF NOT EXISTS events (
  cursor BIGINT PRIMARY KEY, at DOUBLE PRECISION NOT NULL, kind TEXT COLLATE "C" NOT NULL,
  owner TEXT COLLATE "C" NOT NULL, name TEXT COLLATE "C" NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of ON events (kind, owner, name, cursor);
CREATE INDEX IF NOT EXISTS events_since ON events (kind, owner, cursor);
"""
_APPEND = """
INSERT INTO events (cursor, at, kind, owner, name, type, body)
VALUES ((SELECT COALESCE(MAX(cursor), 0) + 1 FROM events), %s, %s, %s, %s, %s, %s) RETURNING cursor
"""
_HOLDER = """
SELECT activity.pid, activity.application_name, activity.backend_start
FROM pg_locks AS locks JOIN pg_stat_activity AS activity ON activity.pid = locks.pid
WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 1
  AND locks.classid::bigint = 0 AND locks.objid::bigint = %s
  AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SESSION = {
    "search_path": "ropewalk",
    # A platform that vanished without a word must not hold the journal for the two hours of the usual keep-alive.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "synchronous_commit": "on",
}


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for an answer only so long.

    A server that is frozen, its machine paused or its disk stuck, has a kernel that goes on acknowledging what is sent:
    to every option of TCP it is alive.
    """

    patience: float | None = _LONGEST_READ + _GRACE

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer; the connection is of no use after it did not come."""
        return super().wait(gen, interval, self.patience if timeout is None else timeout)


class PostgresStore(Statements):
    """An open database.

    Parameters
    ----------
    address
        ``postgresql://user:password@host/database``, with whatever parameters libpq knows.
    now
        Unix time in seconds.

    Raises
    ------
    Unavailable
        If another platform writes this journal, or the database does not answer.
    Internal
        If what lies there is from a newer version.
    """

    refused = (*Statements.refused, psycopg.DataError, psycopg.errors.ProgramLimitExceeded)

    def __init__(self, address: str, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._name = f"ropewalk {socket.gethostname()[:40]} {secrets.token_hex(4)}"
        self._parameters = _parameters(address, self._name)
        self._where = f"{self._parameters.get('host', 'the local socket')}/{self._parameters.get('dbname', '')}"
        self._guard = threading.Lock()
        self._idle: list[Connection] = []
        self._away, self._closed = False, threading.Event()
        self._writer: Connection | None = None
        try:
            self._prepare(self._ready(_PATIENCE))
        except Lost as lost:
            raise Unavailable(f"The journal's database {self._where} does not answer: {lost}.") from lost
        except psycopg.Error as error:
            self.close()
            raise _translate(error) from error
        except RopewalkError:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection; the lock goes with its own."""
        self._closed.set()
        self._drop_idle()
        if self._writer is not None:
            self._writer.close()

    # Writing

    def apply(self, batches: Sequence[Batch], mark: str) -> list[Result]:
        """Apply batches in one commit, named by its mark; a batch that fails leaves the others untouched."""
        sent: list[Result] | None = None
        try:
            connection = self._ready()
            connection.execute("BEGIN")
            results = [self._batch(batch) for batch in batches]
            connection.execute("UPDATE journal SET mark=%s", (mark,))
            sent = results
            if (said := connection.execute("COMMIT").statusmessage) != "COMMIT":
                raise Internal(f"The journal's database answered {said} to a commit.")
        except psycopg.Error as error:
            raise self._failed(error, sent) from error
        return results

    def has(self, mark: str) -> bool:
        """Whether the last commit is the one of this mark: as we hold the lock, nobody wrote since."""
        try:
            return self._ready().execute("SELECT mark FROM journal").fetchone() == (mark,)
        except psycopg.Error as error:
            raise self._failed(error, None) from error

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        cursor = self._held().execute(_ours(sql), values)
        return list(cursor.fetchall()) if cursor.description else []

    def _append(self, values: Sequence[Any]) -> int:
        row = self._held().execute(_APPEND, values).fetchone()
        return int(row[0]) if row else 0

    def _held(self) -> Connection:
        if self._writer is None:
            raise Lost("the connection is closed")
        return self._writer

    def _ready(self, patience: float = 0.0) -> Connection:
        """Return the connection that holds the lock, made anew if it was lost."""
        if self._writer is None or self._writer.closed:
            connection = self._connect()
            try:
                self._hold(connection, patience)
            except (psycopg.Error, RopewalkError, Lost):
                connection.close()
                raise
            connection.patience = None  # it has a thread of its own, and what it sent is not given up lightly
            self._writer = connection
        return self._writer

    def _hold(self, connection: Connection, patience: float) -> None:
        """Take the lock, from our own lost connection too; refuse while another platform has it."""
        end = time.monotonic() + patience
        while connection.execute("SELECT pg_try_advisory_lock(%s::bigint)", (_LOCK,)).fetchone() != (True,):
            pid, name, since = connection.execute(_HOLDER, (_LOCK,)).fetchone() or (0, "", None)
            if name == self._name:
                connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            if time.monotonic() >= end:
                if name == self._name:
                    raise Lost("our own lost connection still holds the lock")
                raise Unavailable(
                    f"Another platform writes the journal {self._where}: {name or 'one of another role'}"
                    f"{f', since {since:%Y-%m-%d %H:%M:%S %Z}' if since else ''}.",
                    hint="Stop that one, or give this one a database of its own.",
                )
            time.sleep(0.1)

    def _failed(self, error: psycopg.Error, sent: list[Result] | None) -> Lost | RopewalkError:
        """Return what a failed commit means, and leave no open transaction."""
        connection, self._writer = self._writer, None
        if connection is None or _is_gone(error, connection):
            if connection is not None:
                connection.close()
            return Lost(_first_line(error), sent)
        try:
            connection.execute("ROLLBACK")
            self._writer = connection
        except psycopg.Error:
            connection.close()
        return _translate(error)

    # Reading

    def _read(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """Run a query on a connection of its own; once more on a fresh one if that connection was lost meanwhile."""
        while True:
            connection, fresh = self._borrow()
            try:
                rows: list[Row] = list(connection.execute(_ours(sql), values).fetchall())
            except psycopg.DataError:  # text that no database holds is not there
                rows = []
            except psycopg.Error as error:
                late, gone = _is_late(error, connection), _is_gone(error, connection)
                connection.close()
                if not late and not gone:
                    raise _translate(error) from error
                self._drop_idle()
                if late or fresh:
                    raise self._went_away(_first_line(error)) from error
                continue
            self._give_back(connection)
            return rows

    def _borrow(self) -> tuple[Connection, bool]:
        with self._guard:
            if self._closed.is_set():
                raise Unavailable("The journal is closed.")
            if self._away:
                raise _no_answer("asked a moment ago")
            if self._idle:
                return self._idle.pop(), False
        try:
            return self._reader(), True
        except Lost as lost:
            raise self._went_away(str(lost)) from lost

    def _give_back(self, connection: Connection) -> None:
        with self._guard:
            if not self._closed.is_set() and not connection.closed and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _went_away(self, why: str) -> Unavailable:
        """Let a thread of its own wait for the database, so that readers need not, and return what they are told."""
        with self._guard:
            if not self._away:
                self._away = True
                threading.Thread(target=self._wait_for_it, name="journal-away", daemon=True).start()
        return _no_answer(why)

    def _wait_for_it(self) -> None:
        pause = 0.1
        while not self._closed.wait(pause):
            pause = min(_LONGEST_PAUSE, 2 * pause)
            if self._answers():
                self._away = False
                return

    def _answers(self) -> bool:
        """Whether the database reads a record, which a connection that it accepts does not say of its disk."""
        try:
            connection = self._reader()
        except Lost:
            return False
        try:
            connection.execute("SELECT 1 FROM records LIMIT 1").fetchone()
        except psycopg.Error as error:
            late, gone = _is_late(error, connection), _is_gone(error, connection)
            connection.close()
            return not late and not gone
        self._give_back(connection)
        return True

    def _drop_idle(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # Connections

    def _reader(self) -> Connection:
        return self._connect(statement_timeout=f"{_LONGEST_READ:g}s")

    def _connect(self, **more: str) -> Connection:
        try:
            connection = Connection.connect(**self._parameters, autocommit=True)
        except psycopg.OperationalError as error:
            raise Lost(_first_line(error)) from error
        try:
            for name, value in (_SESSION | more).items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        except psycopg.Error as error:
            connection.close()
            raise Lost(_first_line(error)) from error
        return connection

    def _prepare(self, connection: Connection) -> None:
        """Make what lacks, and look at what is there."""
        ((encoding, journal, records),) = connection.execute(
            "SELECT current_setting('server_encoding'), to_regclass('ropewalk.journal')::text, "
            "to_regclass('ropewalk.records')::text"
        ).fetchall()
        if encoding != "UTF8" or (records and not journal):
            raise Internal(
                f"The database {self._where} cannot hold a journal: "
                f"{'what is in its schema ropewalk is none' if encoding == 'UTF8' else f'its encoding is {encoding}'}.",
                hint="Name another database, made with the encoding UTF8.",
            )
        with connection.transaction():
            if not journal:
                connection.execute(_SCHEMA)
                connection.execute("INSERT INTO journal VALUES (1, %s, '')", (SCHEMA_VERSION,))
            row = connection.execute("SELECT version FROM journal").fetchone()
            if row is None or row[0] > SCHEMA_VERSION:
                raise Internal(
                    f"The journal in {self._where} is from a newer Ropewalk.",
                    hint="Start the version that wrote it, or name another database.",
                )


def _parameters(address: str, name: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(address)
    except psycopg.ProgrammingError as error:
        raise BadInput(
            "The journal's address cannot be read.", field="journal", hint="Write postgresql://user@host/database."
        ) from error
    ours = {
        "connect_timeout": 3,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 5000,
        "target_session_attrs": "read-write",
    }
    return ours | given | {"application_name": name, "client_encoding": "UTF8"}


def _ours(sql: str) -> str:
    """Return a statement with the driver's placeholders; none of ours holds either sign otherwise."""
    return sql.replace("?", "%s")


def _is_gone(error: psycopg.Error, connection: Connection) -> bool:
    """Whether the database, or the right to write in it, went away, so that another connection may do."""
    state = error.sqlstate or ""
    if connection.closed or state[:2] == "08" or state in _GOING:
        return True
    return not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _is_late(error: psycopg.Error, connection: Connection) -> bool:
    """Whether a read was ended at its time, by the server or by us; to wait as long once more would not help."""
    return error.sqlstate == "57014" or (not error.sqlstate and not connection.closed)


def _translate(error: psycopg.Error) -> RopewalkError:
    state = error.sqlstate or ""
    if state == "53100":
        return StorageFull(
            "The disk of the journal's database is full; nothing was written.",
            hint="Free some space there, then try again.",
        )
    if state[:2] in ("40", "53", "55") or state == "57014":
        return Unavailable("The journal's database is busy.", details={"raw": _first_line(error)})
    if state == "42501":
        return Internal(
            f"The journal's database refuses its role: {_first_line(error)}.",
            hint="Let the role own its database, or a schema named ropewalk in it.",
        )
    return Internal(f"The journal failed: {_first_line(error)} ({state}).")


def _no_answer(why: str) -> Unavailable:
    return Unavailable("The journal's database does not answer.", details={"raw": why})


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

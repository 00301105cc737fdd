"""Statements: what a journal reads and writes, in the SQL that SQLite and PostgreSQL have in common.

A store of one database inherits from `Statements` and gives it connections. Not here: threads and acknowledgement
(``core.py``). Rejected: two sets of statements, which would drift apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

from ropewalk_core.errors import BadInput, Conflict, RopewalkError
from ropewalk_core.journal.records import Append, Forget, Operation, Record, Remove
from ropewalk_core.model import Event

SCHEMA_VERSION = 1
Batch: TypeAlias = tuple[Operation, ...]
Result: TypeAlias = int | RopewalkError
"""What became of a batch: its newest cursor (0 if it has no event), or why it was not applied."""
Row: TypeAlias = Sequence[Any]
_RECORD = "kind, owner, name, body, version, updated, expires"
_ALIVE = "(expires IS NULL OR expires>?)"
_PUT = """
INSERT INTO records (kind, owner, name, body, version, updated, expires) VALUES (?,?,?,?,?,?,?)
ON CONFLICT (kind, owner, name) DO UPDATE SET
  body=excluded.body, version=excluded.version, updated=excluded.updated, expires=excluded.expires
"""
_FORGET = """
DELETE FROM events WHERE cursor IN (
  SELECT cursor FROM events AS old WHERE at<? AND EXISTS (
    SELECT 1 FROM events AS new
    WHERE new.kind=old.kind AND new.owner=old.owner AND new.name=old.name AND new.cursor>old.cursor)
  ORDER BY cursor LIMIT ?)
"""


class Lost(Exception):
    """The database went away. ``results`` are those of a commit that it may or may not have carried out yet."""

    def __init__(self, message: str, results: list[Result] | None = None) -> None:
        super().__init__(message)
        self.results = results


class Statements:
    """A journal's store; the subclass speaks to the database."""

    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError, TypeError, OverflowError, RecursionError)
    """What a body that no database can hold raises."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    # What the subclass gives

    def apply(self, batches: Sequence[Batch], mark: str) -> list[Result]:
        """Apply batches in one commit, named by its mark; a batch that fails leaves the others untouched.

        Raises
        ------
        Lost
            If the database went away meanwhile.
        RopewalkError
            If nothing could be applied.
        """
        raise NotImplementedError

    def has(self, mark: str) -> bool:
        """Whether the last commit is the one of this mark; to be asked after `Lost`."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database."""
        raise NotImplementedError

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement inside the commit that is being made."""
        raise NotImplementedError

    def _append(self, values: Sequence[Any]) -> int:
        """Add an event (at, kind, owner, name, type, body) inside that commit and return its cursor."""
        raise NotImplementedError

    def _read(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """Run a query, from any thread."""
        raise NotImplementedError

    # Reading

    def last(self) -> int:
        """Return the cursor of the newest event."""
        return int(self._read("SELECT COALESCE(MAX(cursor), 0) FROM events", ())[0][0])

    def get(self, kind: str, owner: str, name: str) -> Record | None:
        """Return one record, or None if there is none or it has expired."""
        found = self._records("kind=? AND owner=? AND name=?", (kind, owner, name))
        return found[0] if found else None

    def find(self, kind: str, name: str) -> list[Record]:
        """Return the records of this kind and name of every owner."""
        return self._records("kind=? AND name=?", (kind, name), "ORDER BY owner")

    def page(self, kind: str, owner: str | None, *, after: str, limit: int, newest: bool) -> list[Record]:
        """Return records by name after a name, or newest name first before it; all owners when ``owner`` is None."""
        order, sign = ("DESC", "<") if newest else ("ASC", ">")
        where, values = ["kind=?"], [kind]
        if owner is not None:
            where, values = [*where, "owner=?"], [*values, owner]
        if after:
            where, values = [*where, f"name{sign}?"], [*values, after]
        return self._records(" AND ".join(where), values, f"ORDER BY name {order}, owner LIMIT ?", (limit,))

    def events(self, *, after: int, kind: str, owner: str | None, name: str, limit: int) -> list[Event]:
        """Return events after a cursor, oldest first."""
        where: list[str] = ["cursor>?"]
        values: list[Any] = [after]
        for column, value in (("kind", kind or None), ("owner", owner), ("name", name or None)):
            if value is not None:
                where, values = [*where, f"{column}=?"], [*values, value]
        sql = (
            "SELECT cursor, at, kind, owner, name, type, body FROM events "  # noqa: S608  # the parts are ours
            f"WHERE {' AND '.join(where)} ORDER BY cursor LIMIT ?"
        )
        return [
            Event(
                cursor=row[0], at=row[1], kind=row[2], owner=row[3], name=row[4], type=row[5], body=json.loads(row[6])
            )
            for row in self._read(sql, (*values, limit))
        ]

    def weigh(self, kind: str, owner: str | None) -> list[Row]:
        """Return each owner of records of this kind, or this one, with their number and their bodies' characters."""
        named = () if owner is None else (owner,)
        sql = (
            "SELECT owner, COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM records "  # noqa: S608  # the parts are ours
            f"WHERE kind=? {'AND owner=? ' if named else ''}AND {_ALIVE} GROUP BY owner"
        )
        return self._read(sql, (kind, *named, self._now()))

    def expired(self, limit: int) -> list[Remove]:
        """Return operations that remove records whose time is over."""
        rows = self._read("SELECT kind, owner, name FROM records WHERE expires<=? LIMIT ?", (self._now(), limit))
        return [Remove(row[0], row[1], row[2]) for row in rows]

    def _records(self, where: str, values: Sequence[Any], order: str = "", more: Sequence[Any] = ()) -> list[Record]:
        sql = f"SELECT {_RECORD} FROM records WHERE {where} AND {_ALIVE} {order}"  # noqa: S608  # the parts are ours
        rows = self._read(sql, (*values, self._now(), *more))
        return [Record(row[0], row[1], row[2], json.loads(row[3]), row[4], row[5], row[6]) for row in rows]

    # Writing

    def _batch(self, batch: Batch) -> Result:
        """Apply one batch inside the commit that is being made, or nothing of it."""
        refusals: tuple[type[Exception], ...] = (RopewalkError, *self.refused)
        self._run("SAVEPOINT batch")
        try:
            cursors = [self._apply(operation) for operation in batch]
        except refusals as error:
            self._run("ROLLBACK TO SAVEPOINT batch")
            self._run("RELEASE SAVEPOINT batch")
            # What people sent may hold what no database can (half of a surrogate pair): it must not end this thread.
            return error if isinstance(error, RopewalkError) else _unstorable(error)
        self._run("RELEASE SAVEPOINT batch")
        return max([cursor for cursor in cursors if cursor], default=0)

    def _apply(self, operation: Operation) -> int:
        if isinstance(operation, Append):
            what = (operation.kind, operation.owner, operation.name, operation.type)
            return self._append((self._now(), *what, _dump(operation.body)))
        if isinstance(operation, Forget):
            self._run(_FORGET, (operation.before, operation.limit))
            return 0
        key = (operation.kind, operation.owner, operation.name)
        have = self._version(key)
        if operation.expect is not None and operation.expect != have:
            raise Conflict(f"The {operation.kind} '{operation.name}' changed meanwhile.", field=operation.name)
        if isinstance(operation, Remove):
            self._run("DELETE FROM records WHERE kind=? AND owner=? AND name=?", key)
        else:
            self._run(_PUT, (*key, _dump(operation.body), have + 1, self._now(), operation.expires))
        return 0

    def _version(self, key: tuple[str, str, str]) -> int:
        sql = f"SELECT version FROM records WHERE kind=? AND owner=? AND name=? AND {_ALIVE}"  # noqa: S608
        rows = self._run(sql, (*key, self._now()))
        return int(rows[0][0]) if rows else 0


def _dump(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def _unstorable(error: Exception) -> BadInput:
    return BadInput(
        "This holds characters or values that cannot be stored; nothing was changed.",
        hint="Look for text that was cut inside a character, or for values nested very deeply.",
        details={"error": type(error).__name__},
    )

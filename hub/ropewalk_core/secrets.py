"""Secrets that people store once and functions use by name: their names in the journal, their values in a safe.

A value goes in and never comes out again, except as a variable of a worker. Not here: where values lie, which is the
backend's (``local.safe``, ``kube.safe``), and who hands them to a worker (the zygote host, the cluster). Rejected: the
values in the journal, encrypted (the key would lie beside it), and files in the account's own folder (whatever the
person runs could read all of them).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ropewalk_core.errors import BadInput, NotFound, TooLarge
from ropewalk_core.journal import Append, Journal, Put, Remove
from ropewalk_core.model import Actor, FunctionSpec, Page, StoredSecret
from ropewalk_core.ports import Clock
from ropewalk_core.variables import check_name

KIND = "secret"
MOST, LARGEST = 100, 8 * 2**10
"""Secrets of one account, and bytes of each."""


class Safe(Protocol):
    """Where values lie."""

    async def put(self, owner: str, name: str, value: str) -> None:
        """Keep a value in the place of the one before."""

    async def drop(self, owner: str, name: str) -> None:
        """Forget a value; one that is not there is forgotten already."""


class SecretBook:
    """The `Secrets` port.

    Parameters
    ----------
    journal, clock
        Names, and time.
    safe
        Where values lie.
    """

    def __init__(self, journal: Journal, clock: Clock, safe: Safe) -> None:
        self._journal, self._clock, self._safe = journal, clock, safe

    async def list(self, actor: Actor, owner: str) -> Page[StoredSecret]:
        """See `Secrets.list`."""
        records = self._journal.page(KIND, owner, limit=MOST + 1)
        return Page(items=tuple(StoredSecret.model_validate(one.body) for one in records))

    async def set(self, actor: Actor, owner: str, name: str, value: str) -> StoredSecret:
        """See `Secrets.set`."""
        check_name(name, field="name")
        check_value(value)
        record = self._journal.get(KIND, owner, name)
        if record is None and len(self._journal.page(KIND, owner, limit=MOST)) >= MOST:
            raise BadInput(f"There are {MOST} secrets already.", field="name", hint="Remove one that is not used.")
        await self._safe.put(owner, name, value)  # before the name, which says that it is there
        stored = StoredSecret(owner=owner, name=name, stored=self._clock.wall())
        body = stored.model_dump(mode="json")
        await self._journal.write(Put(KIND, owner, name, body), Append(KIND, owner, name, "stored", body))
        return stored

    async def remove(self, actor: Actor, owner: str, name: str) -> StoredSecret:
        """See `Secrets.remove`."""
        record = self._journal.get(KIND, owner, name)
        if record is None:
            raise missing(name, field="name")
        await self._safe.drop(owner, name)  # before the name, without which nobody could have it dropped
        await self._journal.write(Remove(KIND, owner, name), Append(KIND, owner, name, "removed", record.body))
        return StoredSecret.model_validate(record.body)


def check_value(value: str) -> None:
    """Refuse a value that cannot be a variable's; its error does not repeat it."""
    size = len(value.encode(errors="replace"))
    if not value or "\0" in value or value != value.encode(errors="replace").decode():
        what = "holds what is no text" if value else "is empty"
        raise BadInput(f"The value {what}.", field="value", hint="A secret is a text, such as a password or a token.")
    if size > LARGEST:
        raise TooLarge(f"A secret has {LARGEST // 1024} KiB at most.", field="value", hint="Store a key, not a file.")


def check(journal: Journal, owner: str, spec: FunctionSpec) -> None:
    """Refuse a function that names a secret which its owner has not stored. Raises `NotFound`."""
    check_names(journal, owner, spec.secrets, field="secrets")


def check_names(journal: Journal, owner: str, names: Iterable[str], *, field: str) -> None:
    """Refuse names of secrets that the account has not stored. Raises `NotFound`."""
    for name in names:
        if journal.get(KIND, owner, name) is None:
            raise missing(name, field=field)


def missing(name: str, *, field: str) -> NotFound:
    """Return the error for a secret that is not there."""
    command, call = f"`ropewalk secrets set {name[:64]}`", f"ropewalk.secrets.set({name[:64]!r})"
    hint = f"Store it first: {command}, {call} in a notebook, or on the dashboard under Secrets."
    return NotFound(f"There is no secret {name[:64]}.", field=field, hint=hint)

"""Sharing: who may call each function, and its keys, as one record beside the function's own.

It is a record of its own so that nothing which is written about revisions, and no deploy that is still under way, can
bring back what its owner took away. It goes in the batch that removes the function, and in the one that begins another
of the same name, so that what begins is private whatever was chosen at the same moment. Not here: what can be chosen
(``access.py``, ``callkeys.py``), and whom it lets in (``policy``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from ropewalk_core import callkeys, names
from ropewalk_core.access import checked
from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.journal import Journal, Put, Remove
from ropewalk_core.model import Access, CallKey, Function, NewKey, StoredKey

SHARING = "function-sharing"


@dataclass(frozen=True)
class Sharing:
    """What the record of a function says."""

    access: Access = field(default_factory=Access)
    keys: tuple[StoredKey, ...] = ()
    version: int = 0


def of(journal: Journal, owner: str, name: str) -> Sharing:
    """Return who may call a function; private, without keys, if nothing was chosen."""
    record = journal.get(SHARING, owner, name)
    if record is None:
        return Sharing()
    keys = tuple(StoredKey.model_validate(one) for one in record.body["keys"])
    return Sharing(Access.model_validate(record.body["access"]), keys, record.version)


def shown(journal: Journal, function: Function) -> Function:
    """Return a function with who may call it, which its own record does not hold."""
    return function.model_copy(update={"access": of(journal, function.owner, function.name).access})


def choosing(journal: Journal, owner: str, name: str, access: Access) -> tuple[Access, Put]:
    """Return an access as it is kept, and what keeps it."""
    have, access = of(journal, owner, name), checked(access, owner)
    return access, _kept(owner, name, Sharing(access, have.keys, have.version))


def adding(
    journal: Journal, owner: str, name: str, *, label: str, calls: int, seconds: int, key: str, now: float
) -> tuple[NewKey, Put]:
    """Return a new key, and what keeps it; the same idempotency key makes the same identifier, with another secret."""
    have = of(journal, owner, name)
    facts = f"{owner}/{name}/{key}"
    identifier = hashlib.sha256(facts.encode()).hexdigest()[:10] if key else names.new_id("k").partition("-")[2]
    kept, told = callkeys.make(identifier, label, calls, seconds, now)
    others = tuple(one for one in have.keys if one.id != identifier)
    if len(others) >= callkeys.MOST:
        raise BadInput(f"'{name}' has {callkeys.MOST} keys already.", field="keys", hint="Revoke one that is not used.")
    return told, _kept(owner, name, Sharing(have.access, (*others, kept), have.version))


def revoking(journal: Journal, owner: str, name: str, identifier: str) -> tuple[CallKey, Put]:
    """Return the key that ends, and what ends it."""
    have = of(journal, owner, name)
    ended = next((one for one in have.keys if one.id == identifier), None)
    if ended is None:
        hint = f"`ropewalk functions keys {name}` lists them."
        raise NotFound(f"'{name}' has no such key.", field="key", hint=hint)
    keys = tuple(one for one in have.keys if one.id != identifier)
    return ended.listed(), _kept(owner, name, Sharing(have.access, keys, have.version))


def forgetting(owner: str, name: str) -> Remove:
    """Return what removes all of it."""
    return Remove(SHARING, owner, name)


def _kept(owner: str, name: str, sharing: Sharing) -> Put:
    body = {
        "access": sharing.access.model_dump(mode="json"),
        "keys": [one.model_dump(mode="json") for one in sharing.keys],
    }
    return Put(SHARING, owner, name, body, expect=sharing.version)

"""Where durable calls lie in the journal, and the batches that move them. Pure but for reading.

A call's record lies on one of three shelves, by what can still become of it: a start reads the open ones alone, and
dead letters are listed without looking through all that went well. Arguments, results and keys are records of their
own, so that a list reads none of them. Identifiers begin with the function's name and then sort by time, which makes a
page of one function's calls one range of names. Not here: when anything moves (``desk``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any, Literal, TypeAlias

from ropewalk_core.errors import BadInput
from ropewalk_core.journal import Journal, Operation, Put, Record, Remove
from ropewalk_core.model import DurableCall, Page, State
from ropewalk_core.names import is_name

Shelf: TypeAlias = Literal["", "open", "failed", "ended"]
SHELVES = {"open": "durable-open", "failed": "durable-failed", "ended": "durable-ended"}
INPUT, OUTPUT, KEY = "durable-input", "durable-output", "durable-key"
CHARGE = 2**10
"""Bytes that a call is charged besides its arguments and result."""
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def kind_of(call: DurableCall) -> str:
    """Return the shelf of a call."""
    state = call.status.state
    return SHELVES["failed" if state is State.FAILED else "ended" if state.terminal else "open"]


def new_call_id(function: str, now: float) -> str:
    """Return an identifier: the function's name, milliseconds in ten digits that sort, and 40 random bits."""
    number = int(now * 1000) << 40 | int.from_bytes(secrets.token_bytes(5), "big")
    return f"{function}.{''.join(_CROCKFORD[number >> shift & 31] for shift in range(85, -1, -5))}"


def function_of(identifier: str) -> str:
    """Return the function that an identifier names; empty if it is none."""
    name, dot, rest = identifier.partition(".")
    return name if dot and is_name(name) and len(rest) == 18 and all(one in _CROCKFORD for one in rest) else ""


def key_of(function: str, key: str, *, trigger: str = "", caller: str | None = None) -> str:
    """Return the name of the record of an idempotency key; empty without a key.

    A trigger's keys are its own, and so are those of a ``caller`` (an account, a key, or nothing for anybody): nobody
    who guesses one takes the place of another's call, or is given it. None is the owner, whose keys have the name that
    all had once.
    """
    of = f"{function}\0{key}\0{trigger}" if trigger else f"{function}\0{key}"
    of = of if trigger or caller is None else json.dumps([of, caller])
    return hashlib.sha256(of.encode(errors="replace")).hexdigest() if key else ""


def packed(kind: str, payload: bytes, **facts: str) -> dict[str, Any]:
    """Return the body of a record that holds arguments or a result."""
    try:
        content = {"text": payload.decode()}
        if "\0" in content["text"]:  # which PostgreSQL cannot hold
            raise ValueError
    except ValueError:
        content = {"base64": base64.b64encode(payload).decode()}
    return {"type": kind, **facts, **content}


def unpacked(body: dict[str, Any]) -> bytes:
    """Return the bytes of such a body."""
    return str(body["text"]).encode() if "text" in body else base64.b64decode(body["base64"])


def accepting(call: DurableCall, body: dict[str, Any]) -> list[Operation]:
    """Return what writes an accepted call down; a key that is taken is a `Conflict`."""
    owner = call.owner
    key = [Put(KEY, owner, call.key, {"call": call.id}, expect=0)] if call.key else []
    return [
        *key,
        Put(kind_of(call), owner, call.id, _body(call), expect=0),
        Put(INPUT, owner, call.id, body, expect=0),
    ]


def moving(
    journal: Journal, before: Record, call: DurableCall, after: DurableCall, output: dict[str, Any] | None
) -> list[Operation]:
    """Return what writes down what became of a call, if its record is still the one that was read."""
    owner, old, new = call.owner, kind_of(call), kind_of(after)
    expires = after.expires
    put = Put(new, owner, after.id, _body(after), expect=before.version if new == old else 0, expires=expires)
    operations: list[Operation] = [put]
    if new == old:
        return operations
    operations.insert(0, Remove(old, owner, call.id, expect=before.version))
    if after.key:
        operations.append(Put(KEY, owner, after.key, {"call": after.id}, expires=expires))
    if after.status.state in (State.DONE, State.STOPPED):
        operations.append(Remove(INPUT, owner, after.id))
    elif (given := journal.get(INPUT, owner, after.id)) is not None:  # a dead letter's lives as long as it
        operations.append(Put(INPUT, owner, after.id, given.body, expires=expires))
    if output is not None:
        operations.append(Put(OUTPUT, owner, after.id, output, expires=expires))
    return operations


def forgetting(record: Record, call: DurableCall) -> list[Operation]:
    """Return what removes all that is kept of a call, if its record is still the one that was read."""
    key = [Remove(KEY, call.owner, call.key)] if call.key else []
    first = Remove(record.kind, call.owner, call.id, expect=record.version)
    return [first, *(Remove(kind, call.owner, call.id) for kind in (INPUT, OUTPUT)), *key]


def read(journal: Journal, owner: str, identifier: str) -> tuple[Record, DurableCall] | None:
    """Return a call and its record, wherever it lies."""
    for kind in (*SHELVES.values(), SHELVES["open"]):  # the open ones again: it may have been replayed meanwhile
        if (record := journal.get(kind, owner, identifier)) is not None:
            return record, DurableCall.model_validate(record.body)
    return None


def page(journal: Journal, owner: str, function: str, shelf: Shelf, after: str, limit: int) -> Page[DurableCall]:
    """Return a function's calls before one of them, newest first."""
    if after and function_of(after) != function:
        raise BadInput("There is no such page of calls.", field="after")
    limit = max(1, min(limit, 200))
    found: dict[str, Record] = {}
    for kind in [SHELVES[shelf]] if shelf else SHELVES.values():  # one that moves meanwhile is seen on its later shelf
        # A slash comes right after the dot; what else the page holds are other functions' calls.
        for one in journal.page(kind, owner, after=after or f"{function}/", limit=limit + 1, newest=True):
            if one.name.startswith(f"{function}."):
                found[one.name] = one
    names = sorted(found, reverse=True)
    items = tuple(DurableCall.model_validate(found[name].body).summary() for name in names[:limit])
    return Page(items=items, next=items[-1].id if len(names) > limit else "")


def beyond(problem: dict[str, Any]) -> int:
    """Return the characters of a failure that are more than every call is charged for."""
    details = problem.get("details") or {}
    return max(0, sum(len(str(one)) for one in details.values()) - CHARGE)


def used(journal: Journal, owner: str) -> int:
    """Return the bytes that an account's calls take."""
    taken = 0
    for kind in SHELVES.values():
        for count, size in journal.weigh(kind, owner).values():
            taken += max(size, CHARGE * count)
    for kind in (INPUT, OUTPUT):
        taken += sum(size for _, size in journal.weigh(kind, owner).values())
    return taken


def _body(call: DurableCall) -> dict[str, Any]:
    return call.model_dump(mode="json", exclude_defaults=True)

"""Where triggers lie in the journal, and the batches that change them. Pure but for reading.

Each is a record of its own beside what it calls, so that no deploy writes back what was taken away. All of them go in
the batch that removes the function, and in the one that begins another of the same name. The files that one has seen,
and ends that wait for their triggers, are records beside. Not here: what is decided about them (``occasions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk_core.journal import Journal, Operation, Put, Record, Remove
from ropewalk_core.model import State, Trigger
from ropewalk_core.triggers.occasions import End, known_as

TRIGGER, SEEN, END, PLACE = "trigger", "trigger-seen", "trigger-end", "trigger-place"
_COMPUTED = {"next", "outcome"}


def key_of(kind: str, name: str, identifier: str) -> str:
    """Return the name of a trigger's record: those of one function are a range of names."""
    return f"{kind}/{name}/{identifier}"


def name_of(trigger: Trigger) -> str:
    """Return the name of its record."""
    return key_of(trigger.kind, trigger.name, trigger.id)


def trigger_of(record: Record) -> Trigger:
    """Return the trigger of a record."""
    return Trigger.model_validate(record.body)


def body_of(trigger: Trigger) -> dict[str, Any]:
    """Return what is kept of a trigger."""
    return trigger.model_dump(mode="json", exclude=_COMPUTED, exclude_defaults=True)


def of(journal: Journal, owner: str, kind: str, name: str) -> list[Record]:
    """Return the records of the triggers of one function, by their identifiers."""
    start = f"{kind}/{name}/"
    found = journal.page(TRIGGER, owner, after=start, limit=1000)
    return [one for one in found if one.name.startswith(start)]


def forgetting(journal: Journal, owner: str, kind: str, name: str) -> list[Operation]:
    """Return what removes all triggers of a function."""
    return [one for record in of(journal, owner, kind, name) for one in removing(owner, record.name)]


def removing(owner: str, key: str) -> list[Operation]:
    """Return what removes one trigger."""
    return [Remove(TRIGGER, owner, key), Remove(SEEN, owner, key)]


def seen(journal: Journal, owner: str, key: str) -> tuple[dict[str, str], int]:
    """Return the stamps of the files that a trigger has seen, by `known_as`, and the version of this record."""
    record = journal.get(SEEN, owner, key)
    return (dict(record.body["files"]), record.version) if record is not None else ({}, 0)


def seeing(owner: str, key: str, files: Mapping[str, str], expect: int | None = None) -> Put:
    """Return what writes down which files a trigger has seen; whoever adds to what was there names its version."""
    return Put(SEEN, owner, key, {"files": dict(files)}, expect=expect)


def there(owner: str, key: str, files: Mapping[str, str]) -> Put:
    """Return what writes down that a trigger has seen all files that are there, by name."""
    return seeing(owner, key, {known_as(name): stamp for name, stamp in files.items()})


def noting(end: End) -> Put:
    """Return what writes down an end, until its triggers have fired."""
    body = {
        "source": end.source,
        "id": end.id,
        "state": end.state.value,
        "at": end.at,
        "chain": end.chain,
        "durable": end.durable,
    }
    return Put(END, end.owner, end.key, body)


def end_of(record: Record) -> End:
    """Return the end of a record."""
    facts = dict(record.body) | {"state": State(record.body["state"])}
    return End(owner=record.owner, key=record.name, **facts)

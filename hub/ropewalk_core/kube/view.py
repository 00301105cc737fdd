"""View: a list and the changes after it, merged into one history that is true however often the stream is cut. Pure.

`View` holds what was seen. `relist` takes a whole list and says what changed since, also what vanished meanwhile;
`feed` takes one line of a watch. Whatever is lost, repeated or out of order, after the next list the view equals it.
Not here: connections and waiting (``api.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ropewalk_core.kube.kinds import Object

Key = tuple[str, str]


class Happened(StrEnum):
    """What a change is. ``SYNCED`` follows each whole list: everything that is there has been said."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    SYNCED = "synced"


@dataclass(frozen=True)
class Change:
    """One change, with the object as it is now, or as it was last when it is gone; ``SYNCED`` has none."""

    happened: Happened
    object: Object = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Return the namespace and the name."""
        return key_of(self.object)


class Broken(Exception):
    """The stream cannot be believed from here on. ``relist`` says whether reading on from the last version will not do.

    ``status`` holds the ``Status`` object that the server sent as its last word, if it did.
    """

    def __init__(self, message: str, *, relist: bool = False, status: Object | None = None) -> None:
        super().__init__(message)
        self.relist, self.status = relist, status


class View:
    """Everything that is known of one list."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.version = ""

    def relist(self, items: Iterable[Object], version: str) -> list[Change]:
        """Take a whole list as the truth and return what changed since the last one."""
        now = {key_of(one): _slim(one) for one in items}
        changes: list[Change] = []
        for key, old in self.objects.items():
            if key not in now or _uid(now[key]) != _uid(old):
                changes.append(Change(Happened.REMOVED, old))
        for key, one in now.items():
            known = self.objects.get(key)
            if known is None or _uid(known) != _uid(one):
                changes.append(Change(Happened.ADDED, one))
            elif _version(known) != _version(one):
                changes.append(Change(Happened.CHANGED, one))
        self.objects, self.version = now, version
        return [*changes, Change(Happened.SYNCED)]

    def feed(self, line: bytes) -> list[Change]:
        """Take one line of a watch and return what it changes.

        Raises
        ------
        Broken
            If the line is no event, is the server's last word, or does not follow from what was seen.
        """
        event = _event(line)
        kind, one = event["type"], event["object"]
        if kind == "ERROR":
            gone = one.get("code") == 410 or one.get("reason") in ("Expired", "Gone")
            raise Broken(str(one.get("message") or "the watch failed"), relist=gone, status=one)
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            return []
        version = _version(one)
        if not version:
            raise Broken("an event without a version")
        if kind == "BOOKMARK":
            self.version = version
            return []
        key, known = key_of(one), self.objects.get(key_of(one))
        if known is not None and _version(known) == version and kind != "DELETED":
            return []
        if _before(version, self.version):
            raise Broken("events are out of order", relist=True)
        self.version = version
        return self._removed(key, known, one) if kind == "DELETED" else self._seen(key, known, one)

    def _removed(self, key: Key, known: Object | None, one: Object) -> list[Change]:
        if known is None:
            return []
        del self.objects[key]
        return [Change(Happened.REMOVED, _slim(one))]

    def _seen(self, key: Key, known: Object | None, one: Object) -> list[Change]:
        slim = self.objects[key] = _slim(one)
        if known is not None and _uid(known) != _uid(one):
            return [Change(Happened.REMOVED, known), Change(Happened.ADDED, slim)]
        return [Change(Happened.ADDED if known is None else Happened.CHANGED, slim)]


def key_of(one: Object) -> Key:
    """Return the namespace and the name of an object."""
    metadata = one.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _event(line: bytes) -> Object:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise Broken(f"a line is no JSON: {line[:80]!r}") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str) or not _is_object(event.get("object")):
        raise Broken(f"a line is no event: {line[:80]!r}")
    return event


def _is_object(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("metadata", {}), dict)


def _slim(one: Object) -> Object:
    """Return the object without ``managedFields``, half of its size, which nobody reads here."""
    metadata = {name: value for name, value in (one.get("metadata") or {}).items() if name != "managedFields"}
    return {**one, "metadata": metadata}


def _uid(one: Object) -> str:
    return str((one.get("metadata") or {}).get("uid") or "")


def _version(one: Object) -> str:
    return str((one.get("metadata") or {}).get("resourceVersion") or "")


def _before(version: str, last: str) -> bool:
    """Whether a version is not later than the last one; versions of Kubernetes' own kinds are numbers."""
    return version.isdigit() and last.isdigit() and int(version) <= int(last)

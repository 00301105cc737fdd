"""Records, and the operations that a batch is made of. Pure data; not here: how they are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias


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

"""What makes a trigger fire, and whose turn it is: decisions about times, ends and files. Pure.

An *occasion* is one moment of a schedule, one end, or one file as it came. Its key names it once and for all, so that
however often it is decided upon, before and after a kill, one call comes of it. Not here: where triggers lie
(``records``), and making calls (``desk``). Rejected: remembering what fired by itself; the durable call is that memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from ropewalk_core.model import State, Trigger, Why
from ropewalk_core.triggers import cron

T = TypeVar("T")

CATCH_UP = 86400.0
"""Seconds for which a moment of a schedule that was missed may still fire: a machine that was off for the night."""
_LATEST = 253_000_000_000.0
"""A moment that calendars still have; a file's owner can give it any date."""
_ENDS = {"success": (State.DONE,), "failure": (State.FAILED,), "always": (State.DONE, State.FAILED, State.STOPPED)}


@dataclass(frozen=True)
class Occasion:
    """Something for which a trigger fires once.

    Parameters
    ----------
    key
        Names it among the trigger's occasions.
    at
        When it was, in Unix seconds.
    facts
        What its call is told besides.
    chain
        How many ends fired one another up to here.
    mark
        What is written down once it is over: the key of an end, or by what a file is known, and its stamp.
    """

    key: str
    at: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    chain: int = 0
    mark: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Firing:
    """A trigger and its occasion: a call that is to be made."""

    trigger: Trigger
    occasion: Occasion

    @property
    def key(self) -> str:
        """The idempotency key of its call; one length, whatever a file is called."""
        digest = hashlib.sha256(self.occasion.key.encode(errors="replace")).hexdigest()[:40]
        return f"trigger:{self.trigger.id}:{digest}"

    def told(self) -> dict[str, Any]:
        """Return what its call is told, the same however often it is asked."""
        spec = self.trigger.spec
        zone = cron.zone_of(spec.zone) if spec.every else UTC
        at = datetime.fromtimestamp(min(max(self.occasion.at, 0.0), _LATEST), zone).isoformat()
        return {"trigger": self.trigger.id, "kind": spec.word, "at": at, **self.occasion.facts}


@dataclass(frozen=True)
class End:
    """The end of a call or of a run.

    Parameters
    ----------
    owner, source
        Whose it was, and of what, as ``function:NAME`` or ``workflow:NAME``.
    key
        Names this end: a run that is tried again ends twice.
    id, state, at
        Of the call or run.
    chain
        How many ends had fired one another up to it.
    durable
        Whether its result can be asked for.
    """

    owner: str
    source: str
    key: str
    id: str
    state: State
    at: float
    chain: int = 0
    durable: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what a call is told of it."""
        kind, _, name = self.source.partition(":")
        return {"ended": {"kind": kind, "name": name, "id": self.id, "state": self.state.value}}


def came_due(trigger: Trigger, now: float) -> Occasion | None:
    """Return the moment of a schedule for which it fires now: the latest that is neither over nor too long ago.

    Of several that were missed the latest alone fires, so that nobody who was away is met by a flood.
    """
    if trigger.paused or not trigger.spec.every:
        return None
    schedule, zone = _read(trigger)
    moment = cron.latest(schedule, zone, max(trigger.settled, now - CATCH_UP), now)
    return None if moment is None else Occasion(f"at {moment}", float(moment))


def comes_next(trigger: Trigger, now: float) -> float | None:
    """Return when a schedule comes due after now and after all that is over; None if nothing does."""
    if trigger.paused or not trigger.spec.every:
        return None
    schedule, zone = _read(trigger)
    return cron.after(schedule, zone, max(trigger.settled, now))


def followed(trigger: Trigger, end: End) -> Occasion | None:
    """Return the occasion that an end is for a trigger; None if it is none."""
    if trigger.paused or trigger.spec.after != end.source or end.at < trigger.created:
        return None
    if end.state not in _ENDS[trigger.spec.when]:
        return None
    return Occasion(f"end {end.key}", end.at, end.facts(), end.chain + 1, (end.key, ""))


def too_long(chain: int, most: int) -> Why | None:
    """Return why a chain of ends goes no further; None if it may."""
    if chain <= most:
        return None
    return Why(
        cause=f"{most} ends had fired one another up to this one, so it fired nothing.",
        next="Look whether triggers follow one another in a circle, and take one of them out.",
        code="RW-LIMITED",
    )


def too_many(most: int) -> Why:
    """Return why an end fires nothing that came when too many waited already."""
    return Why(
        cause=f"{most} ends waited for their triggers already, so further ones fired nothing.",
        next="Give the function that is called more workers, or follow what ends less often.",
        code="RW-LIMITED",
    )


def arrived(path: str, stamp: str) -> Occasion:
    """Return the occasion that a file is, as it came: another stamp is another one."""
    size, _, modified = stamp.partition(":")
    facts = {"file": {"path": path, "size": int(size)}}
    return Occasion(f"file {path} {stamp}", float(modified), facts, mark=(known_as(path.rpartition("/")[2]), stamp))


def stamped(size: int, modified: float) -> str:
    """Return how a file is known again: its size in bytes and when it was changed."""
    return f"{size}:{modified:.6f}"


def known_as(name: str) -> str:
    """Return by what a file of a folder is remembered: of one length, so that long names fill no journal."""
    return hashlib.sha256(name.encode(errors="replace")).hexdigest()[:16]


def unseen(seen: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the files that are not seen as they are, with their stamps.

    Parameters
    ----------
    seen
        The stamps for which it fired, or that were there when it was made, by `known_as`.
    now
        What the last look found.
    """
    return {name: stamp for name, stamp in now.items() if seen.get(known_as(name)) != stamp}


def fresh(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the files that came: not seen as they are at two looks, and the same at both."""
    return [name for name, stamp in now.items() if before.get(name) == stamp]


def turn(waiting: Mapping[str, Sequence[T]], share: int, room: int) -> list[T]:
    """Return what is done in one turn: of each account at most ``share``, one after the other, ``room`` in all.

    A long list of one account is thereby no wait for others; the caller serves first who was served last the longest.
    """
    chosen: list[T] = []
    for place in range(share):
        for things in waiting.values():
            if len(chosen) == room:
                return chosen
            if place < len(things):
                chosen.append(things[place])
    return chosen


def by_hand(trigger: Trigger, key: str, now: float, facts: Mapping[str, Any]) -> Occasion:
    """Return the occasion that a person makes: the same key is the same occasion."""
    return Occasion(f"hand {key}", now, {**facts, "by_hand": True})


def sample(trigger: Trigger) -> dict[str, Any]:
    """Return what a call after an end is told where there was none."""
    if not trigger.spec.after:
        return {}
    return End(trigger.owner, trigger.spec.after, "", "", State.DONE, 0.0).facts()


@lru_cache(maxsize=4096)
def _schedule(text: str, zone: str) -> tuple[cron.Schedule, ZoneInfo]:
    return cron.parse(text), cron.zone_of(zone)


def _read(trigger: Trigger) -> tuple[cron.Schedule, ZoneInfo]:
    return _schedule(trigger.spec.every, trigger.spec.zone)

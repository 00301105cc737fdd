"""Triggers in words, the same on every surface: when one fires, when next, and how it stands. Pure.

Not here: what a trigger may be (``wishes``).
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ropewalk_core.model import Trigger, TriggerSpec

_WHEN = {"success": "", "failure": ", on failure", "always": ", always"}


def said(spec: TriggerSpec) -> str:
    """Return when a trigger fires, to be read after "It fires"."""
    if spec.every:
        return f"every {spec.every}, {spec.zone}"
    if spec.after:
        return f"after {spec.after.removeprefix('function:')}{_WHEN[spec.when]}"
    return f"on file {spec.on_file}"


def coming(trigger: Trigger) -> str:
    """Return when its schedule comes due next, in its own time zone; empty if it has none, or is paused."""
    if trigger.next is None:
        return ""
    zone = _zone(trigger.spec.zone)
    at = datetime.fromtimestamp(trigger.next, zone)
    return f"{at:%a %d %b %Y, %H:%M} {trigger.spec.zone if zone is not UTC else 'UTC'}"


def standing(trigger: Trigger) -> str:
    """Return how it stands: paused, what came of its last call, or that it waits for its first occasion."""
    if trigger.paused:
        return "paused"
    if trigger.outcome is not None:
        return f"last call {trigger.outcome.value}"
    return "waits" if trigger.fired is None else "last call not kept"


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # this machine knows fewer than the platform
        return UTC

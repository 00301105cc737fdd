"""Accelerators of this machine, each lent to one piece of work at a time: who gets which, and how it is said. Pure.

A piece of work names accelerators in order of preference, ``cpu`` meaning "else without". First come, first served:
nobody gets what somebody wants who waits for longer. Not here: finding devices (``ropewalk_devices``), holding them
(``local/leases.py``), and a cluster, where device plugins lend them. Rejected: a part of a device for each account (how
large a part is, only its driver knows), and taking a device away from who has it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ropewalk_core.errors import Limited, RopewalkError, Unsatisfiable
from ropewalk_core.placement import WITHOUT

NOTHING = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void", "ROPEWALK_ACCELERATOR": WITHOUT}
"""Variables of what has no accelerator. Libraries ask the first two before they look for devices."""


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Parameters
    ----------
    id
        Tells it from the others of this machine, such as ``nvidia0``; names a file.
    name
        What people ask for, such as ``nvidia-h100``.
    nodes
        Paths that whoever has it may open: its own, and those that all of its kind share.
    reads
        Paths that its library reads, where a sandbox does not show them anyway.
    environment
        Variables that tell libraries which one it is.
    """

    id: str
    name: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of what has it."""
        return {**NOTHING, **self.environment, "ROPEWALK_ACCELERATOR": self.name}


@dataclass(frozen=True)
class Holder:
    """Who has a device: an account, and ``what`` of it, such as ``function 'digits'``; both empty if unknown."""

    device: str
    name: str
    account: str = ""
    what: str = ""

    def said(self, reader: str) -> str:
        """Return who has it, in the words that this account may read."""
        return f"your {self.what}" if self.account and self.account == reader else "somebody else"


@dataclass(frozen=True)
class Wish:
    """What waits for a device, and the names that will do, in order of preference."""

    id: Hashable
    wanted: tuple[str, ...]


def grants(waiting: Iterable[Wish], free: Iterable[Device]) -> dict[Hashable, Device | None]:
    """Return what each wish gets, None meaning that it runs without; wishes that must wait are left out.

    Parameters
    ----------
    waiting
        Wishes; who came first comes first.
    free
        Devices that nobody has.
    """
    left, found = list(free), {}
    for wish in waiting:
        for name in wish.wanted or (WITHOUT,):
            device = next((one for one in left if one.name == name), None)
            if device is not None:
                left.remove(device)
            if device is not None or name == WITHOUT:
                found[wish.id] = device
                break
    return found


def check(wanted: Sequence[str], devices: Iterable[Device]) -> None:
    """Refuse a wish that no device of this machine fits, so that nobody waits for it. Raises `Unsatisfiable`."""
    if wanted and WITHOUT not in wanted and not {one.name for one in devices}.intersection(wanted):
        raise Unsatisfiable(
            f"This machine has no accelerator {' or '.join(wanted)} any more.", field="placement.accelerator"
        )


def taken(wanted: Sequence[str], holders: Iterable[Holder], reader: str) -> Limited:
    """Return the error of whoever waited in vain, which says who has what, as far as its reader may know.

    Its details hold what `reworded` needs.
    """
    those = [one for one in holders if one.name in wanted]
    has = ", ".join(f"{one.name} by {one.said(reader)}" for one in those)
    facts = [[one.device, one.name, one.account, one.what] for one in those]
    return Limited(
        f"Every accelerator that would do is taken: {has}." if has else "No accelerator became free in time.",
        field="placement.accelerator",
        hint="Try again when one is given back: an idle worker does that after its idle time, a notebook or service "
        f"when it is stopped. Or let it run without too: add `{WITHOUT}` as the last accelerator.",
        retry_after=5.0,
        details={"wanted": list(wanted), "taken": facts},
    )


def reworded(error: RopewalkError, reader: str) -> RopewalkError:
    """Return the error of `taken` for somebody else to read, without its details; any other as it is."""
    if not isinstance(error, Limited) or "taken" not in error.details:
        return error
    holders = [Holder(*map(str, one)) for one in error.details["taken"]]
    again = taken(tuple(map(str, error.details["wanted"])), holders, reader)
    again.details = {"retry_after": again.retry_after}
    return again

"""How many workers functions keep warm, and which of a function's limits go together. Pure.

Kept workers take memory while nobody calls, so all of a machine's have half of it, and accounts get their part of that
in turns: whoever has least gets the next one. Each worker counts with what its placement asks for. Not here: keeping
them (the gateway's pools), and a cluster, where the account's quota and the scheduler give room. Rejected: refusing a
deploy because others' workers take the room now (they may be gone in a minute), and the limit of a worker that asks for
no memory as its part (it is far above what one takes that waits).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ropewalk_core.errors import BadInput, Unsatisfiable
from ropewalk_core.model import FunctionSpec
from ropewalk_core.placement import WITHOUT, Inventory, format_size

USUAL = 512 * 2**20
"""Bytes that a kept worker counts with which asks for no memory."""
Key = tuple[str, str, str]
"""Owner, function and revision."""


@dataclass(frozen=True)
class Wish:
    """A revision that wants workers kept: how many, and the bytes that each counts with."""

    key: Key
    workers: int
    size: int


def check(spec: FunctionSpec) -> None:
    """Refuse limits that do not go together. Raises `BadInput`."""
    if spec.min_workers > spec.max_workers:
        raise BadInput(
            f"{spec.min_workers} workers cannot be kept where there are {spec.max_workers} at most.",
            field="min_workers",
            hint=f"Ask for `max_workers={spec.min_workers}` too.",
        )
    if spec.cpu_time and spec.concurrency > 1:
        raise BadInput(
            "The processor time of calls that share a worker cannot be told apart.",
            field="cpu_time",
            hint="Leave out `concurrency`, or limit the time of a call with `timeout`.",
        )
    if spec.cpu_time and spec.bundle.form == "server":
        raise BadInput(
            "The processor time of a call to a program that listens cannot be told from others'.",
            field="cpu_time",
            hint="Limit the time of a call with `timeout`.",
        )


def check_room(spec: FunctionSpec, room: int) -> None:
    """Refuse what this machine cannot keep even when nobody else keeps any. Raises `Unsatisfiable`."""
    if spec.min_workers * size_of(spec) > room:
        raise Unsatisfiable(
            f"This machine keeps workers in {format_size(room >> 20 << 20)} of its memory, and {spec.min_workers} "
            f"of {format_size(size_of(spec))} are more.",
            field="min_workers",
            hint=f"Keep {room // size_of(spec)} at most, or ask for less memory.",
        )


def check_devices(spec: FunctionSpec, inventory: Inventory) -> None:
    """Refuse more kept workers than there are accelerators for them, each of which has one. Raises `Unsatisfiable`."""
    wanted = spec.placement.accelerator
    if not wanted or WITHOUT in wanted:
        return
    there = sum(node.accelerators.get(name, 0) for node in inventory.nodes for name in wanted)
    if spec.min_workers > there:
        raise Unsatisfiable(
            f"{spec.min_workers} workers cannot be kept with {' or '.join(wanted)} each: there are {there} here.",
            field="min_workers",
            hint=f"Keep {there} at most, or allow others to do without: end the list with `{WITHOUT}`.",
        )


def size_of(spec: FunctionSpec) -> int:
    """Return the bytes that a kept worker counts with."""
    return spec.placement.memory or USUAL


def room_of(memory: int) -> int:
    """Return the bytes for all kept workers of a machine with so much memory."""
    return memory // 2


def allot(wishes: Iterable[Wish], room: int) -> dict[Key, int]:
    """Return how many workers each revision keeps; those that get none are left out.

    The owner with the least bytes gets the next worker, and their functions take turns too; what does not fit any more
    is passed over.
    """
    waiting = _by_owner(wishes)
    turns = [(0, owner) for owner in sorted(waiting)]
    kept: dict[Key, int] = {}
    while turns:
        has, owner = heapq.heappop(turns)
        while (queue := waiting[owner]) and queue[0].size > room:
            queue.popleft()
        if queue:
            one = queue.popleft()
            room -= one.size
            kept[one.key] = kept.get(one.key, 0) + 1
            heapq.heappush(turns, (has + one.size, owner))
    return kept


def _by_owner(wishes: Iterable[Wish]) -> dict[str, deque[Wish]]:
    """Return each owner's wishes as one for each worker, functions in turn."""
    single = [(at, one) for one in wishes for at in range(one.workers)]
    found: dict[str, deque[Wish]] = {}
    for _, one in sorted(single, key=lambda pair: (pair[0], pair[1].key)):
        found.setdefault(one.key[0], deque()).append(one)
    return found


def said(spec: FunctionSpec) -> str:
    """Return in words what a function is limited to and finds around it, beside its placement; empty if nothing."""
    parts = [f"{spec.cpu_time} s of processor time per call"] if spec.cpu_time else []
    parts += [f"{spec.min_workers} kept worker{'s' * (spec.min_workers > 1)}"] if spec.min_workers else []
    parts += ["files read-only"] if spec.files == "read" else []
    parts += [f"variables {' '.join(sorted(spec.environment))}"] if spec.environment else []
    parts += [f"secrets {' '.join(sorted(spec.secrets))}"] if spec.secrets else []
    return ", ".join(parts)

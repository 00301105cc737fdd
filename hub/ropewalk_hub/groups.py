"""Control groups of one account's workers: each has its own, which mostly was made, and joined, before it is ordered.

The kernel takes ten milliseconds or more to move a process into a group, whatever the process: longer than all else of
a cold call. So a zygote gets the group of its next spare when it has started a worker, and the spare joins while nobody
waits. A worker that is in no group yet, or in another, joins the one of its order itself, however long that takes.
Not here: files of the kernel (``cgroups``), forking (``zygote``). Rejected: giving zygotes leave to make or limit
groups (they run what people install).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ropewalk_core.local import cgroups
from ropewalk_core.names import new_id
from ropewalk_core.settings import Settings

TO_EMPTY = 5.0
"""Seconds after which a group is empty that was not when the process that it was for had ended."""
Kind = tuple[str, str, frozenset[str]]


class Groups:
    """The groups of the workers of one keeper.

    Parameters
    ----------
    settings, account
        Whose they are.
    """

    def __init__(self, settings: Settings, account: str) -> None:
        self._settings, self._account = settings, account
        self._ahead: dict[int, cgroups.WorkerGroup] = {}
        self._served: dict[Kind, int] = {}

    def take(self, kind: Kind | None, memory: int) -> cgroups.WorkerGroup | None:
        """Return a group for a worker; None where groups cannot be made.

        Parameters
        ----------
        kind
            What it needs of its zygote; as a rule the same one starts all of a kind, and their groups were made for it.
        memory
            Bytes for everything in the group together, scratch included.
        """
        zygote = self._served.get(kind) if kind else None
        group = (self._ahead.pop(zygote, None) if zygote else None) or self._made()
        if group is None:
            return None
        try:
            group.limit(memory)
        except OSError:  # somebody removed it, or the kernel has no room for more
            end(group)
            return None
        return group

    def next(self, kind: Kind, zygote: int) -> cgroups.WorkerGroup | None:
        """Take note of who has started a worker, and return the group of its next spare if that has none yet."""
        self._served[kind] = zygote
        if zygote in self._ahead or (group := self._made()) is None:
            return None
        self._ahead[zygote] = group
        return group

    def retired(self, zygote: int) -> None:
        """Take note that a zygote has ended, and with it its spare."""
        if (group := self._ahead.pop(zygote, None)) is not None:
            end(group)

    def close(self) -> None:
        """Take note that the keeper has ended, and with it all that is in groups made ahead."""
        for zygote in list(self._ahead):
            self.retired(zygote)

    def _made(self) -> cgroups.WorkerGroup | None:
        return cgroups.worker_group(self._settings, self._account, new_id("group"))


def end(group: cgroups.WorkerGroup) -> None:
    """Remove a group; later if something is in it still, until it is empty: a machine has only so many."""
    if not group.remove():
        asyncio.get_running_loop().call_later(TO_EMPTY, end, group)


def kind_of(order: Mapping[str, Any]) -> Kind | None:
    """Return what an order needs of the zygote that starts it; None where no spare can be given it."""
    if order.get("read_only") or not order.get("network", True):
        return None
    return str(order["python"]), str(order["fingerprint"]), frozenset(order.get("preload") or ())

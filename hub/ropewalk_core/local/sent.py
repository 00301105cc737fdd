"""Files that went to functions of this machine as arguments: one store for each account that owns functions and caller.

A file lies there by its content, under who sent it, so that nobody can name another's; the owner's sandbox shows it
read-only. Its time is that of its last use. Not here: HTTP (the gateway), what is in it (``ropewalk_runtime.formats``).
Rejected: the owner's own artifacts (their code could change what a caller sends), and one store for all callers (who
knows a digest would have the file).
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ropewalk_core import beneath
from ropewalk_core.artifacts import ArtifactStore
from ropewalk_core.durable import shelves
from ropewalk_core.errors import NotFound
from ropewalk_core.journal import Journal
from ropewalk_core.local.layout import SENT, AccountPaths
from ropewalk_core.names import check_name
from ropewalk_core.settings import Settings
from ropewalk_runtime import packed
from ropewalk_runtime.packed import PACKED

LEAST = 64 * 2**10
"""Bytes that a file counts with at least: small ones take an entry of the disk each, and time to be looked at."""
_PAGE, _OFTEN = 16, 600.0
"""Arguments of durable calls that are in memory at a time, each as large as they may be, and seconds between sweeps."""


def store_of(settings: Settings, owner: str, caller: str) -> ArtifactStore:
    """Return the store of what one account sent to functions of another, or of its own."""
    check_name(caller, what="account")
    return ArtifactStore(AccountPaths(settings.home, owner).sent / caller, limit=settings.limits.value)


def used(store: ArtifactStore, digest: str) -> Path:
    """Return where a file lies that is used now.

    Raises
    ------
    NotFound
        If it is not there.
    """
    path = store.path(digest)
    try:
        os.utime(path)
    except FileNotFoundError as error:
        hint = "Call again; it is sent anew then."
        raise NotFound("A file of the arguments is not here any more.", field="arguments", hint=hint) from error
    return path


def show(store: ArtifactStore, digest: str) -> None:
    """Let the owner's sandbox read a file, and nobody list what there is."""
    path = store.path(digest)
    path.chmod(0o444)
    for folder in (path.parent, store.folder, store.folder.parent):
        folder.chmod(0o711)


def charge(size: int) -> int:
    """Return the bytes that a file of so many counts with."""
    return max(size, LEAST)


def weight(settings: Settings, caller: str) -> int:
    """Return the bytes that all files of an account count with."""
    stores = (settings.home / SENT).glob(f"*/{caller}")
    return sum(charge(size) for one in stores if one.is_dir() for size in beneath.sizes(one))


async def clean(settings: Settings, journal: Journal) -> None:
    """Sweep now and then, for ever."""
    while True:
        await asyncio.sleep(_OFTEN)
        await asyncio.to_thread(sweep, settings, journal)


def sweep(settings: Settings, journal: Journal) -> int:
    """Remove what was not used for long and belongs to no durable call, and return how many files that were."""
    before, removed = time.time() - settings.limits.values_kept, 0
    for folder in (settings.home / SENT).glob("*/*"):
        owner, caller = folder.parent.name, folder.name
        old = [one for one in folder.glob("*/*") if _last(one) < before]
        held = set(_held(journal, owner)) if old and owner == caller else set[str]()
        for one in old:
            if one.name not in held and _last(one) < before:  # it may have been used meanwhile
                one.unlink(missing_ok=True)
                removed += 1
        ArtifactStore(folder).sweep()
    return removed


def _last(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _held(journal: Journal, owner: str) -> Iterator[str]:
    """Yield the digests that durable calls of an account name: open ones, and failed ones that can be replayed."""
    after = ""
    while records := journal.page(shelves.INPUT, owner, after=after, limit=_PAGE):
        for record in records:
            if record.body.get("type") == PACKED:
                yield from packed.files(shelves.unpacked(record.body))
        after = records[-1].name

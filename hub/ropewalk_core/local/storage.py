"""Files on this machine: a folder per account, with a quota, addressed by a normalised relative path.

The first administrator's files are the folder of ``ropewalk up FOLDER``, if one was named; the disk is its quota.

All access goes through ``beneath``, because the folder's owner can change anything in it while we look. Not here: who
may ask (``guard``) and how a file travels (REST). Rejected: trusting the sandbox to have checked the path; the
platform's own process is outside of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ropewalk_core import beneath
from ropewalk_core.errors import BadInput, NotFound, StorageFull, TooLarge
from ropewalk_core.local import accounts
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import Actor, FileEntry, Page, Usage
from ropewalk_core.names import is_name
from ropewalk_core.placement import format_size
from ropewalk_core.settings import Settings
from ropewalk_core.signed import sign
from ropewalk_core.tasks import in_thread

_COUNT_AGAIN = 60.0  # seconds after which a person's own writes may have made our count wrong
Place: TypeAlias = tuple[Path, tuple[str, ...]]


class LocalStorage:
    """The `Storage` port over ``<home>/accounts/<account>/files``.

    Parameters
    ----------
    settings
        For the home, the quota and the platform's address.
    key
        Secret that signed addresses are made with.
    wall
        Unix time in seconds; injectable for tests.
    volume
        A folder that holds the files of one account and nothing else, instead of the folders in the home.
    """

    def __init__(
        self, settings: Settings, *, key: bytes, wall: Callable[[], float] = time.time, volume: Path | None = None
    ) -> None:
        self._settings, self._key, self._wall, self._volume = settings, key, wall, volume
        self._counts: dict[str, tuple[float, int]] = {}

    async def list(
        self, actor: Actor, owner: str, path: str = "", *, after: str = "", limit: int = 200
    ) -> Page[FileEntry]:
        """Return the entries of a folder by name; links and special files are left out."""
        parts = beneath.split(path)
        entries = await asyncio.to_thread(self._entries, await self._place(actor, owner), parts)
        names = [name for name in sorted(entries) if name > after]
        chosen = names[: max(1, min(limit, 1000))]
        more = chosen[-1] if len(names) > len(chosen) else ""
        return Page(items=tuple(_entry((*parts, name), entries[name]) for name in chosen), next=more)

    async def open(self, actor: Actor, owner: str, path: str) -> BinaryIO:
        """Return a regular file opened for reading."""
        anchor, inside = await self._place(actor, owner)
        return await asyncio.to_thread(beneath.read, anchor, (*inside, *self._file(path)))

    async def write(self, actor: Actor, owner: str, path: str, content: AsyncIterator[bytes]) -> FileEntry:
        """Write a file whole or not at all; folders on the way are made."""
        parts, (anchor, inside) = self._file(path), await self._place(actor, owner)
        usage = await self.usage(actor, owner)
        size = 0
        with beneath.replacing(anchor, (*inside, *parts)) as file:
            async for chunk in content:
                size += len(chunk)
                if usage.used + size > usage.limit:
                    raise self._full(usage)
                await in_thread(file.write, chunk)
            seen = await in_thread(file.settle)
        if have := self._counts.get(owner):
            self._counts[owner] = (have[0], have[1] + size)
        return _entry(parts, seen)

    async def remove(self, actor: Actor, owner: str, path: str) -> None:
        """Remove a file, or a folder with all in it."""
        anchor, inside = await self._place(actor, owner)
        await asyncio.to_thread(beneath.remove, anchor, (*inside, *self._file(path)))
        self._counts.pop(owner, None)

    async def usage(self, actor: Actor, owner: str) -> Usage:
        """Return what the files use, counted at most a minute ago, and may use."""
        anchor, inside = await self._place(actor, owner)
        if not inside and self._volume is None:
            disk = shutil.disk_usage(anchor)
            return Usage(used=disk.total - disk.free, limit=disk.total)
        now, have = time.monotonic(), self._counts.get(owner)
        if have is None or now - have[0] > _COUNT_AGAIN:
            have = self._counts[owner] = (now, await asyncio.to_thread(beneath.usage, anchor, inside))
        return Usage(used=have[1], limit=self._settings.limits.files)

    async def sign(self, actor: Actor, owner: str, path: str, *, seconds: float = 300) -> str:
        """Return an address that opens the file for a while, at most an hour, without sign-in."""
        (await self.open(actor, owner, path)).close()
        token = sign(self._key, owner, "/".join(beneath.split(path)), now=self._wall(), seconds=seconds)
        return f"{self._settings.door.origin}/api/v1/signed/{token}"

    async def look(self, owner: str, folder: str, pattern: str, most: int) -> Sequence[FileEntry]:
        """Return the files in a folder whose names fit a pattern, in no order; hidden ones if the pattern has the dot.

        Raises
        ------
        TooLarge
            If the folder has more than ``most`` entries; it is not looked through then.
        """
        parts = beneath.split(folder)
        place = await self._place(Actor(account=owner), owner)
        return await asyncio.to_thread(_fitting, place, parts, pattern, most)

    def _entries(self, place: Place, parts: tuple[str, ...]) -> dict[str, os.stat_result]:
        entries = {}
        with beneath.folder(place[0], (*place[1], *parts)) as descriptor, os.scandir(descriptor) as found:
            for one in found:
                with contextlib.suppress(OSError):  # it vanished while we looked
                    seen = one.stat(follow_symlinks=False)
                    if (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode)) and _shown(one.name):
                        entries[one.name] = seen
        return entries

    async def _place(self, actor: Actor, owner: str) -> Place:
        """Return the innermost folder that the person cannot replace by a link, and where their files lie in it."""
        if not is_name(owner):
            raise NotFound("There is no such account.", field="owner")
        if self._volume is not None:
            return self._volume, ()
        if chosen := accounts.folder_of(self._settings, owner):
            return chosen, ()
        root = AccountPaths(self._settings.home, owner).root
        if not root.is_dir():
            if actor.account != owner:
                raise NotFound("There is no such account.", field="owner")
            await asyncio.to_thread(accounts.prepare, self._settings, owner)  # nothing of theirs has run yet
        return root, ("files",)

    def _file(self, path: str) -> tuple[str, ...]:
        parts = beneath.split(path)
        if not parts or parts[-1].startswith(beneath.PARTIAL):
            raise BadInput("Name a file in your files.", field="path")
        return parts

    def _full(self, usage: Usage) -> StorageFull:
        return StorageFull(
            f"Your files would be over their limit of {format_size(usage.limit)}; nothing was written.",
            field="limits.files",
            details={"limit": usage.limit, "used": usage.used},
        )


def _fitting(place: Place, parts: tuple[str, ...], pattern: str, most: int) -> list[FileEntry]:
    """Return the regular files that a pattern fits, of a folder that is not too full: all beside the event loop."""
    entries: list[FileEntry] = []
    with beneath.folder(place[0], (*place[1], *parts)) as descriptor, os.scandir(descriptor) as found:
        for count, one in enumerate(found):
            if count >= most:
                raise TooLarge(
                    f"The folder '{'/'.join(parts)}' has more than {most} entries, so it is not looked through.",
                    field="limits.trigger_entries",
                    hint="Move what is done with to another folder.",
                )
            hidden = one.name.startswith(".") and not pattern.startswith(".")
            if hidden or not _shown(one.name) or not fnmatch.fnmatchcase(one.name, pattern):
                continue
            with contextlib.suppress(OSError):  # it vanished while we looked
                if stat.S_ISREG((seen := one.stat(follow_symlinks=False)).st_mode):
                    entries.append(_entry((*parts, one.name), seen))
    return entries


def _shown(name: str) -> bool:
    """Say whether the entry is ours to show: not half-written, and of a name that text can carry."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not name.startswith(beneath.PARTIAL)


def _entry(parts: tuple[str, ...], seen: os.stat_result) -> FileEntry:
    is_folder = stat.S_ISDIR(seen.st_mode)
    return FileEntry(
        path="/".join(parts),
        kind="folder" if is_folder else "file",
        size=0 if is_folder else seen.st_size,
        modified=seen.st_mtime,
    )

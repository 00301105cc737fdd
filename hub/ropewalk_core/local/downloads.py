"""The cache of downloads that builds of wheels share: who uses it now, and how it is emptied.

Whatever is asked for, it holds no more than its limit and what two builds bring at a time: one that is over its limit
is emptied when nobody uses it, and until then further builds have a cache of their own, which goes with them. Not
here: what is downloaded (``building``). Rejected: emptying it once in a while only (an account could fill the disk
between two looks, and put the look off for ever by building without a break), and `uv cache prune`, which knows no
limit.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ropewalk_core.local import building


class Downloads:
    """The cache of one home.

    Parameters
    ----------
    folder
        Where it lies.
    aside
        How the path of what is to be removed begins.
    limit
        Its bytes.
    """

    def __init__(self, folder: Path, aside: Path, limit: int) -> None:
        self._folder, self._aside, self._limit = folder, aside, limit
        self._looking, self._users = asyncio.Lock(), 0

    @asynccontextmanager
    async def used(self, own: Path) -> AsyncIterator[Path]:
        """Give the cache that a build is to use: this one, or ``own`` while this one is over its limit and in use."""
        async with self._looking:
            shared = await self._within()
            self._users += shared
        try:
            yield self._folder if shared else own
        finally:
            self._users -= shared

    async def trim(self) -> None:
        """Empty it if it is over its limit and nobody uses it."""
        async with self._looking:
            await self._within()

    async def _within(self) -> bool:
        """Say whether it is within its limit, emptied for that where nobody uses it."""
        if await asyncio.to_thread(building.size, self._folder) <= self._limit:
            return True
        if self._users:
            return False
        gone = self._aside.with_name(f"{self._aside.name}{secrets.token_hex(8)}")
        self._folder.rename(gone)
        await asyncio.to_thread(building.discard, gone)
        return True

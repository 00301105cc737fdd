"""KubeStorage: the `Storage` port on a cluster. Each account's files are a volume, reached through its file server.

Paths are checked here, so that nothing that leaves the files is even sent, and again by the server, which alone sees
links. A volume's ``usage`` is what the server counts in it, and its limit the claim's size. Not here: policy
(``guard``), and how a server comes up (``file_servers.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO, TypeVar

from ropewalk_core import beneath
from ropewalk_core.errors import BadInput, NotFound, Unavailable
from ropewalk_core.journal import Journal
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.file_client import FileClient, Server, broke, unreached
from ropewalk_core.kube.file_servers import IDLE, PATIENCE, Address, FileServers, by_name
from ropewalk_core.model import Actor, FileEntry, Page, Usage
from ropewalk_core.names import is_name
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.signed import sign

T = TypeVar("T")


class KubeStorage:
    """The `Storage` port over one claim per account.

    Parameters
    ----------
    settings, journal, clock, api
        What every part of this backend has.
    space
        Returns an account's namespace, made and checked to be its own.
    key
        Secret that signed addresses and the file servers' own secrets are made with.
    address
        Returns the address of a service of the cluster; for tests, which are outside of it.
    idle, patience
        Seconds without use after which a file server is ended, and for which one request waits for its start.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        journal: Journal,
        clock: Clock,
        api: Api,
        space: Callable[[str], Awaitable[str]],
        key: bytes,
        address: Address = by_name,
        idle: float = IDLE,
        patience: float = PATIENCE,
    ) -> None:
        self._settings, self._clock, self._key = settings, clock, key
        self._client = FileClient()
        self._servers = FileServers(
            settings=settings,
            journal=journal,
            clock=clock,
            api=api,
            space=space,
            key=key,
            client=self._client,
            address=address,
            idle=idle,
            patience=patience,
        )

    async def run(self) -> None:
        """End file servers that nobody uses, for ever."""
        await self._servers.run()

    async def close(self) -> None:
        """End every connection to file servers."""
        await self._client.close()

    async def list(
        self, actor: Actor, owner: str, path: str = "", *, after: str = "", limit: int = 200
    ) -> Page[FileEntry]:
        """Return the entries of a folder by name; links and special files are left out."""
        inside = "/".join(beneath.split(path))
        return await self._ask(owner, lambda one: self._client.list(one, inside, after=after, limit=limit))

    async def open(self, actor: Actor, owner: str, path: str) -> BinaryIO:
        """Return a regular file opened for reading; its content comes as it is read."""
        inside = _file(path)
        release = await self._servers.take(_known(owner))
        try:
            return await self._again(
                owner, lambda one: asyncio.to_thread(self._client.open, one, inside, release), True
            )
        except BaseException:
            release()
            raise

    async def write(self, actor: Actor, owner: str, path: str, content: AsyncIterator[bytes]) -> FileEntry:
        """Write a file whole or not at all; folders on the way are made."""
        inside = _file(path)
        return await self._ask(owner, lambda one: self._client.write(one, inside, content), reads=False)

    async def remove(self, actor: Actor, owner: str, path: str) -> None:
        """Remove a file, or a folder with all in it."""
        inside = _file(path)
        await self._ask(owner, lambda one: self._client.remove(one, inside), reads=False)

    async def usage(self, actor: Actor, owner: str) -> Usage:
        """Return what the files use, counted at most a minute ago, and the size of their claim."""
        return await self._ask(owner, self._client.usage)

    async def sign(self, actor: Actor, owner: str, path: str, *, seconds: float = 300) -> str:
        """Return an address that opens the file for a while, at most an hour, without sign-in."""
        file = await self.open(actor, owner, path)
        await asyncio.to_thread(file.close)
        token = sign(self._key, owner, _file(path), now=self._clock.wall(), seconds=seconds)
        return f"{self._settings.door.origin}/api/v1/signed/{token}"

    async def _ask(self, owner: str, act: Callable[[Server], Awaitable[T]], *, reads: bool = True) -> T:
        release = await self._servers.take(_known(owner))
        try:
            return await self._again(owner, act, reads)
        finally:
            release()

    async def _again(self, owner: str, act: Callable[[Server], Awaitable[T]], reads: bool) -> T:
        """Ask the account's server; once more if it fell silent and doing it twice is the same as once."""
        try:
            return await act(await self._servers.up(owner))
        except Unavailable as error:
            if not (unreached(error) or (reads and broke(error))):
                raise
            return await act(await self._servers.up(owner, again=True))


def _known(owner: str) -> str:
    if not is_name(owner):
        raise NotFound("There is no such account.", field="owner")
    return owner


def _file(path: str) -> str:
    parts = beneath.split(path)
    if not parts or parts[-1].startswith(beneath.PARTIAL):
        raise BadInput("Name a file in your files.", field="path")
    return "/".join(parts)

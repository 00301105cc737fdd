"""Carries out what the end of an account's sign-ins means elsewhere: browsers' notebook tokens, servers, all work.

The wish is a record (kind ``closing``), written in the same batch as the deactivation or the new password, so it
survives a platform that dies and waits for a hub that is away. Not here: our own tokens; they are dead at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ropewalk_core.errors import Conflict, RopewalkError, Unavailable
from ropewalk_core.journal import Journal, Remove
from ropewalk_core.ports import Clock
from ropewalk_hub.hub_client import HubClient
from ropewalk_hub.issuer.accounts import Accounts

_AGAIN = 5.0
_PATIENCE = 20.0
log = logging.getLogger("ropewalk.closing")


async def _nothing(account: str) -> None:
    """End nothing more."""


class Closing:
    """Ends at the hub, and at the backends, what has ended here.

    Parameters
    ----------
    hub, journal, accounts, clock
        Where notebooks and wishes are, who is deactivated, time.
    end_work
        Ends everything that runs for an account besides its notebook server: services, runs, workers.
    """

    def __init__(
        self,
        hub: HubClient,
        journal: Journal,
        accounts: Accounts,
        clock: Clock,
        *,
        end_work: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        self._end_work = end_work
        self._hub = hub
        self._journal = journal
        self._accounts = accounts
        self._clock = clock

    async def run(self) -> None:
        """Carry out wishes as they come; try again after a while what did not succeed."""
        while True:
            seen = self._journal.cursor
            if await self.look():
                await self._journal.wait(seen, timeout=30.0)
            else:
                await self._clock.sleep(_AGAIN)

    async def look(self) -> bool:
        """Carry out the wishes that are there; return whether none is left."""
        done = True
        for record in self._journal.page("closing", ""):
            try:
                await self._close(record.name)
                await self._journal.write(Remove("closing", "", record.name, expect=record.version))
            except Conflict:
                done = False  # asked for again meanwhile
            except RopewalkError as error:
                log.warning("The notebooks of %s are not closed yet: %s", record.name, error.message)
                done = False
        return done

    async def _close(self, name: str) -> None:
        account = self._accounts.get(name)
        acts = [self._hub.end_browser_tokens(name)]
        if account is not None and account.state == "deactivated":
            acts += [self._end_server(name), self._end_all_work(name)]
        # Side by side: a hub that is away must not keep services running, nor the other way round.
        for result in await asyncio.gather(*acts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _end_server(self, name: str) -> None:
        if not await self._has_server(name):
            return
        await self._hub.stop(name)
        if await self._has_server(name):  # the hub stops nothing that still starts: ask again until it is gone
            raise Unavailable("The notebook server has not ended yet.")

    async def _has_server(self, name: str) -> bool:
        return bool((await self._hub.user(name) or {}).get("servers"))

    async def _end_all_work(self, name: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._end_work(name)
        except TimeoutError as error:
            raise Unavailable("What the account runs does not end.") from error

"""Makes the folders and the environment of an account as soon as it may sign in, so its first notebook need not wait.

Only ahead of time: whoever needs them makes them too, so nothing is lost when this fails or the platform dies. Not
here: what they are (``ropewalk_core.local.accounts``, ``ropewalk_core.environments``).
"""

from __future__ import annotations

import asyncio
import logging

from ropewalk_core.errors import RopewalkError
from ropewalk_core.journal import Journal
from ropewalk_core.local import accounts
from ropewalk_core.settings import Settings

log = logging.getLogger("ropewalk.preparing")


class Preparing:
    """Follows the journal for accounts that were approved.

    Parameters
    ----------
    journal, settings
        Where accounts are told of, and the home.
    """

    def __init__(self, journal: Journal, settings: Settings) -> None:
        self._journal = journal
        self._settings = settings

    async def run(self) -> None:
        """Prepare each account that is approved from now on."""
        async for event in self._journal.follow("account", after=self._journal.cursor):
            if event.type == "approved":
                await asyncio.to_thread(self._prepare, event.name)

    def _prepare(self, account: str) -> None:
        try:
            accounts.equip(self._settings, account)
        except RopewalkError as error:
            log.warning("The environment of %s is not made yet: %s", account, error.message)

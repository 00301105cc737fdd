"""The person's secrets in a notebook: stored once, named by functions, never read back.

Not here: how a function gets them (``functions``, ``secrets=[...]``).
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator

from ropewalk_core import sync
from ropewalk_core.cli.output import age
from ropewalk_core.model import StoredSecret
from ropewalk_kernel import cards


class Listed(cards.Pictured):
    """The names of one's secrets."""

    def __init__(self, items: tuple[StoredSecret, ...]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[StoredSecret]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def _picture(self) -> cards.Picture:
        rows = [(one.name, f"{age(one.stored)} ago") for one in self.items]
        empty = 'No secrets yet. Store one: ropewalk.secrets.set("NAME").'
        return cards.listing("secrets", ("name", "stored"), rows, empty=empty)


class Secrets:
    """The person's secrets: ``set(name)``, ``list()``, ``remove(name)``."""

    def set(self, name: str, value: str | None = None) -> StoredSecret:
        """Store a secret, or another value in its place.

        Parameters
        ----------
        name
            Also the name of the variable that a function with ``secrets=[name]`` finds it in.
        value
            Its text. Left out, it is asked for without an echo, and so stands in no cell and no history.

        Examples
        --------
        >>> import ropewalk
        >>> ropewalk.secrets.set("DB_PASSWORD", "open sesame").name
        'DB_PASSWORD'
        """
        given = getpass.getpass(f"{name}: ") if value is None else value
        return sync.wait(sync.client().secrets.set(name, given))

    def list(self) -> Listed:
        """Return the names of the secrets, and when each was stored."""
        return Listed(sync.wait(sync.client().secrets.list()).items)

    def remove(self, name: str) -> None:
        """Remove a secret; functions that name it cannot start workers any more."""
        sync.wait(sync.client().secrets.remove(name))


secrets = Secrets()

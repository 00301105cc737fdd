"""Quotas: how many calls each key has taken in its window, in this process's memory.

A restart of the gateway begins new windows. Not here: the arithmetic (``callkeys.take``). Rejected: counting in the
journal, which is on no call's path.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ropewalk_core import callkeys
from ropewalk_core.errors import Limited
from ropewalk_core.model import StoredKey
from ropewalk_hub.gateway.directory import Directory


class Quotas:
    """The windows of all keys.

    Parameters
    ----------
    directory
        Says which keys there are; windows of others are forgotten.
    now
        Seconds of a clock that never steps.
    """

    def __init__(self, directory: Directory, now: Callable[[], float] = time.monotonic) -> None:
        self._directory, self._now = directory, now
        self._windows: dict[tuple[str, str, str], callkeys.Window] = {}
        directory.on_change(self._follow)

    def take(self, owner: str, name: str, key: StoredKey) -> None:
        """Count one call of a key.

        Raises
        ------
        Limited
            If its window is full; it says when the next one begins.
        """
        place = (owner, name, key.id)
        self._windows[place], wait = callkeys.take(self._windows.get(place), key, self._now())
        if wait:
            raise Limited(
                f"This key is good for {key.calls} calls in {key.seconds} seconds, and they are used up.",
                field="key",
                hint="Call again when the time in Retry-After is over.",
                retry_after=wait,
            )

    def _follow(self) -> None:
        known = {(*place, key.id) for place, route in self._directory.functions().items() for key in route.keys}
        self._windows = {place: window for place, window in self._windows.items() if place in known}

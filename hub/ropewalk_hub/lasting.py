"""Tasks that a process must never be without: one that fails is logged and started again.

A task that nobody awaits dies unseen; a gateway that no longer followed the platform would never hear of a sign-out.
Not here: what the tasks do, and failures that they expect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_PAUSE = 1.0
log = logging.getLogger("ropewalk.tasks")


async def lasting(work: Callable[[], Coroutine[Any, Any, None]], *, pause: float = _PAUSE) -> None:
    """Run it again and again, whatever it raises, until it returns or is cancelled."""
    while True:
        try:
            await work()
        except Exception:  # whatever it is, doing without the task is worse
            log.exception("%s failed; starting it again", getattr(work, "__qualname__", work))
            await asyncio.sleep(pause)
        else:
            return

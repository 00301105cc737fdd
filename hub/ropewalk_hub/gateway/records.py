"""Records of calls on their way to the platform: in batches, and lost without regret when it is away for long.

Not here: the calls. Rejected: one request per call (the path of a call must not wait for anybody).
"""

from __future__ import annotations

import asyncio
from collections import deque

from ropewalk_core.errors import RopewalkError
from ropewalk_core.model import Call
from ropewalk_hub.gateway.directory import Directory

_MOST = 1000
_BATCH = 50
_PAUSE = 0.1


class Records:
    """A short buffer of records.

    Parameters
    ----------
    directory
        Reaches the platform.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._buffer: deque[Call] = deque(maxlen=_MOST)
        self._filled = asyncio.Event()

    def add(self, call: Call) -> None:
        """Keep a record until the next batch."""
        self._buffer.append(call)
        self._filled.set()

    async def send(self) -> None:
        """Send batches for ever: the first record at once, those that come meanwhile together."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            await self.flush()
            await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Send what there is; keep it when the platform is away."""
        while self._buffer:
            batch = [self._buffer.popleft() for _ in range(min(_BATCH, len(self._buffer)))]
            try:
                await self._directory.ask("POST", "/internal/calls", [one.model_dump(mode="json") for one in batch])
            except RopewalkError:
                self._buffer.extendleft(reversed(batch))
                self._filled.set()
                return

"""The engine's process: ``python -m ropewalk_workflows.engine``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

import uvloop

from ropewalk_core import settings as knobs
from ropewalk_core.local.host_client import HostClient
from ropewalk_workflows.engine.shell import Engine
from ropewalk_workflows.engine.wire import PlatformFeed


def _crash_at(wanted: str) -> None:
    """Die at once at the point that a test names in ROPEWALK_CRASH_AT: ``point``, or ``point:2`` for the second."""
    point, _, count = wanted.partition(":")
    _left[point] = int(count or 1)


_left: dict[str, int] = {}


def _crash(point: str) -> None:
    if point in _left:
        _left[point] -= 1
        if _left[point] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def serve() -> None:
    """Run until a signal ends it."""
    settings = knobs.load()
    feed = PlatformFeed(settings.run / "platform.sock")
    host = HostClient(settings.run / "host.sock")
    engine = asyncio.create_task(Engine(settings, feed, host, crash=_crash).run())
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, engine.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await engine
    finally:
        await host.close()
        await feed.close()


def main() -> None:
    """Start the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if wanted := knobs.read_environment("ROPEWALK_CRASH_AT"):
        _crash_at(wanted)
    uvloop.run(serve())


if __name__ == "__main__":
    main()

"""The engine's process: ``python -m ropewalk_workflows.engine``."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import uvloop

from ropewalk_core import settings as knobs
from ropewalk_core.local.host_client import HostClient
from ropewalk_core.settings import Settings
from ropewalk_workflows.engine.points import VARIABLE, Crash, killer
from ropewalk_workflows.engine.shell import Engine
from ropewalk_workflows.engine.wire import PlatformFeed


async def serve(settings: Settings, crash: Crash) -> None:
    """Run until a signal ends it."""
    feed = PlatformFeed(settings.run / "platform.sock")
    host = HostClient(settings.run / "host.sock")
    engine = asyncio.create_task(Engine(settings, feed, host, crash=crash).run())
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, engine.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await engine
    finally:
        await host.close()
        await feed.close()


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock at a path, once no other engine of this home does: two could run the same attempt at once.

    The kernel gives it back however a process ends. Which engine's reports count is the desk's to say.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.warning("another engine of this home runs; this one waits for its end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    """Start the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings, crash = knobs.load(), killer(knobs.read_environment(VARIABLE))
    with alone(settings.run / "engine.lock"):
        uvloop.run(serve(settings, crash))


if __name__ == "__main__":
    main()

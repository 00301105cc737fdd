"""An approved account finds its folders and its environment made."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ropewalk_core.journal import Append, Journal
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.settings import Settings, load
from ropewalk_hub.preparing import Preparing


async def approved(home: Path, settings: Settings, *names: str) -> None:
    journal = Journal(home / "journal.db")
    task = asyncio.create_task(Preparing(journal, settings).run())
    await asyncio.sleep(0)
    try:
        await journal.write(Append("account", "waits", "waits", "asked", {}))
        for name in names:
            await journal.write(Append("account", name, name, "approved", {}))
        last = AccountPaths(settings.home, names[-1])
        async with asyncio.timeout(20):
            wanted = last.python if settings.environments.base.exists() else last.files
            while not wanted.exists():  # noqa: ASYNC110 - it is made in a thread
                await asyncio.sleep(0.01)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        journal.close()


async def test_who_is_approved_has_an_environment_and_who_waits_has_none(tmp_path: Path) -> None:
    settings = load(tmp_path, environ={})
    await approved(tmp_path, settings, "ann", "bob")
    assert AccountPaths(tmp_path, "ann").python.exists()
    assert AccountPaths(tmp_path, "bob").python.exists()
    assert not AccountPaths(tmp_path, "waits").root.exists()


async def test_no_base_stops_nothing(tmp_path: Path) -> None:
    settings = load(tmp_path, environ={}, environments_base=tmp_path / "none")
    await approved(tmp_path, settings, "ann", "bob")
    assert AccountPaths(tmp_path, "bob").files.exists()

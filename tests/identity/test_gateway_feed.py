"""When the gateway hears of news: at once of what it must know, and never for the steps of somebody's run."""

from __future__ import annotations

import asyncio

from ropewalk_core.journal import Append
from tests.identity.stage import Stage


async def test_a_snapshot_waits_for_news_which_runs_are_not(stage: Stage) -> None:
    feed, journal = stage.platform.feed, stage.platform.journal
    first = await feed.snapshot(None)
    waiting = asyncio.create_task(feed.snapshot(first.cursor))
    await journal.write(Append("run", "bob", "run-1", "progress"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    newest = await journal.write(Append("account", "bob", "bob", "changed"))
    assert (await waiting).cursor == newest
    behind = asyncio.create_task(feed.snapshot(first.cursor))
    assert (await behind).cursor == newest, "what came while nobody asked is told at once"

"""A task that fails is started again; one that is cancelled is not."""

from __future__ import annotations

import asyncio

import pytest

from ropewalk_hub.lasting import lasting


async def test_it_starts_again_until_it_is_cancelled() -> None:
    starts = 0
    stays = asyncio.Event()

    async def work() -> None:
        nonlocal starts
        starts += 1
        if starts < 3:
            raise KeyError("unforeseen")
        stays.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting(work, pause=0))
    await asyncio.wait_for(stays.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert starts == 3

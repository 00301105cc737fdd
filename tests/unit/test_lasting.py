"""Tasks that nobody awaits: none fails unseen, and those that must last are started again."""

from __future__ import annotations

import asyncio

import pytest

from ropewalk_core.tasks import Tasks
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


async def test_whoever_waits_for_a_task_hears_of_its_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    heard: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        raise KeyError("unforeseen")

    tasks.start(work(), failed=heard.set_result)
    assert isinstance(await asyncio.wait_for(heard, 5), KeyError)
    assert "unforeseen" in caplog.text


async def test_a_future_cancelled_under_a_task_is_a_failure_and_its_own_end_is_none() -> None:
    tasks = Tasks()
    heard: list[BaseException] = []
    inner: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await inner

    first = tasks.start(work(), failed=heard.append)
    await asyncio.sleep(0)
    inner.cancel()
    await asyncio.wait([first])
    await asyncio.sleep(0)
    assert [type(one) for one in heard] == [asyncio.CancelledError]

    async def lasts() -> None:
        await asyncio.Event().wait()

    second = tasks.start(lasts(), failed=heard.append)
    await asyncio.sleep(0)
    await tasks.end()
    assert second.cancelled()
    assert len(heard) == 1

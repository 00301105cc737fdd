"""The client for code that cannot await: inside a running loop, interrupted, left early, and after a fork."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator

import pytest

from ropewalk_core import sync
from ropewalk_core.client.wire import READING
from ropewalk_core.errors import NotFound


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def fails() -> None:
    raise NotFound("There is no such thing.")


async def test_it_works_inside_a_running_loop() -> None:
    assert sync.wait(double(21)) == 42  # as in IPython, where this thread's loop is busy with us


def test_errors_come_out() -> None:
    with pytest.raises(NotFound):
        sync.wait(fails())


def test_a_stream_that_is_left_early_is_closed() -> None:
    closed = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
        finally:
            closed.set()

    for number in sync.iterate(numbers()):
        if number == 3:
            break
    assert closed.wait(2)
    assert list(sync.iterate(numbers())) == list(range(100))


def test_a_stream_whose_next_item_is_awaited_is_closed_by_the_stop_button() -> None:
    closed, begun = threading.Event(), threading.Event()

    async def silence() -> AsyncIterator[int]:
        try:
            begun.set()
            await asyncio.sleep(60)
            yield 1
        finally:
            await asyncio.sleep(0.1)  # as who leaves a connection does
            closed.set()

    def stop() -> None:
        begun.wait(5)
        time.sleep(0.2)  # until who asked waits for it
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        next(sync.iterate(silence()))
    assert closed.wait(2)


def test_a_call_that_takes_too_long_is_cancelled() -> None:
    cancelled = threading.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        sync.wait(slow(), timeout=0.05)
    assert cancelled.wait(2)


def test_the_last_answer_stands_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sync.before(None, double(2), 0) == sync.before(time.monotonic() - 5, double(2), 0) == 4
    monkeypatch.setattr(sync, "ANSWER", 0.05)
    assert sync.before(time.monotonic(), asyncio.sleep(60, 1), 7) == 7


def test_it_waits_for_answers_as_long_as_a_cluster_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_API", "http://platform.test")
    monkeypatch.setattr(sync.portal(), "client", None)
    client = sync.client()
    assert client._wire.reading == READING >= 60 > client._wire.patience
    sync.wait(client.close())


def test_a_forked_child_has_its_own_thread() -> None:
    sync.wait(double(1))
    child = os.fork()
    if child == 0:
        os._exit(0 if sync.wait(double(4), timeout=5) == 8 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_share_one() -> None:
    found: list[sync.Portal] = []
    threads = [threading.Thread(target=lambda: found.append(sync.portal())) for _ in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(map(id, found))) == 1

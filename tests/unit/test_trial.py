"""A deploy's trial ends with its worker, whoever else holds that worker's socket, and whatever was written into it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from ropewalk_core.errors import BadCode, StorageFull, Unavailable
from ropewalk_core.local.functions import _hello, _refused
from ropewalk_core.local.host_client import StepExit, Worker
from ropewalk_runtime.frames import pack


def started() -> tuple[Worker, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ended, begun = (asyncio.get_running_loop().create_future() for _ in range(2))
    return Worker("try", ours, ended, begun), theirs


async def hello(worker: Worker) -> dict[str, Any]:
    try:
        return await asyncio.wait_for(_hello(worker), 5)
    finally:
        worker.socket.close()


async def test_an_end_that_the_host_tells_is_one_though_the_socket_is_open() -> None:
    worker, theirs = started()
    waiting = asyncio.create_task(hello(worker))
    await asyncio.sleep(0.05)
    worker.exit.set_result(StepExit(-9, 9, "lost"))
    with theirs, pytest.raises(Unavailable, match="ended while"):
        await waiting


async def test_what_was_said_before_the_end_counts() -> None:
    worker, theirs = started()
    with theirs:
        theirs.sendall(pack({"op": "failed", "error": {"message": "why"}}))
        worker.exit.set_result(StepExit(1))
        assert (await hello(worker))["error"]["message"] == "why"


async def test_an_end_of_the_socket_waits_for_how_it_ended() -> None:
    worker, theirs = started()
    waiting = asyncio.create_task(hello(worker))
    theirs.close()
    await asyncio.sleep(0.05)
    assert not waiting.done()
    worker.exit.set_result(StepExit(7))
    with pytest.raises(BadCode, match="exit code 7"):
        await waiting


async def test_an_order_that_failed_is_told() -> None:
    worker, theirs = started()
    worker.exit.set_exception(Unavailable("The sandbox ended."))
    with theirs, pytest.raises(Unavailable, match="The sandbox ended"):
        await hello(worker)


@pytest.mark.parametrize("said", [b"\xff" * 100, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\2\0\xff\0\0{}"])
async def test_who_writes_into_the_socket_is_told_so_at_once(said: bytes) -> None:
    worker, theirs = started()
    with theirs:
        theirs.sendall(said)
        with pytest.raises(BadCode, match="wrote into the connection"):
            await hello(worker)


async def test_who_leaves_a_trial_leaves_no_reader_behind() -> None:
    worker, theirs = started()
    waiting = asyncio.create_task(_hello(worker))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    loop = asyncio.get_running_loop()
    assert loop.remove_reader(worker.socket.fileno()) is False
    worker.socket.close()
    theirs.close()


@pytest.mark.parametrize(
    "said",
    [None, 7, [1], {"message": {"a": 1}, "field": [1], "hint": 3, "details": [1]}, {"message": "\ud800" * 9_000}],
)
def test_a_refusal_is_plain_text_whatever_the_worker_said(said: object) -> None:
    error = _refused(said)
    assert isinstance(error, BadCode) and isinstance(error.message, str) and len(error.message) <= 2000
    error.problem(origin="http://here")["message"].encode()


def test_a_refusal_keeps_what_the_person_needs() -> None:
    error = _refused(
        {"message": "no", "field": "cell line 2", "hint": "do", "details": {"traceback": "line 1", "x": []}}
    )
    assert (error.message, error.field, error.hint, error.details) == (
        "no",
        "cell line 2",
        "do",
        {"traceback": "line 1"},
    )
    assert isinstance(_refused({"code": StorageFull.code}), StorageFull)

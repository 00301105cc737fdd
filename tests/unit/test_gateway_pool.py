"""A pool and workers that are played: a call ends with its worker, whoever else holds that worker's socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from ropewalk_core.errors import RopewalkError, Unavailable, UserCodeFailed
from ropewalk_core.local.host_client import HostClient, StepExit, Worker, WorkerOrder
from ropewalk_core.model import Bundle, FunctionRoute, FunctionSpec
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway.pool import Outcome, Pool
from ropewalk_hub.gateway.records import Note
from ropewalk_hub.gateway.room import Room
from ropewalk_runtime.frames import pack, read_frame

SETTINGS = Settings(home=Path("/home"))
ROUTE = FunctionRoute(
    owner="ada", name="f", revision="r", spec=FunctionSpec(name="f", bundle=Bundle(files={}, entry="c:h"))
)


class PlayedHost:
    """Starts workers that are sockets."""

    def __init__(self) -> None:
        self.started: list[tuple[Worker, socket.socket]] = []

    async def start_worker(self, order: WorkerOrder) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(pack({"op": "ready"}))
        worker = Worker(order.id, ours, asyncio.get_running_loop().create_future())
        self.started.append((worker, theirs))
        return worker

    async def end(self, identifier: str) -> None: ...


@asynccontextmanager
async def begun() -> AsyncIterator[tuple[asyncio.Task[Outcome], Worker, socket.socket]]:
    """Give a call that a worker has read, with that worker and the worker's end of the socket."""
    host = PlayedHost()
    pool, room = Pool(ROUTE, SETTINGS, cast(HostClient, host)), Room(SETTINGS)
    with room.call("ada", 0) as place:
        call = asyncio.create_task(pool.call({}, b"", place, lambda *_: None, Note("call", ROUTE, "ada", 0.0, 0)))
        async with asyncio.timeout(5):
            while not host.started:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        worker, theirs = host.started[0]
        with theirs:
            assert await asyncio.to_thread(read_frame, theirs) == ({"id": 1}, b"")
            yield call, worker, theirs
    pool.close()


@pytest.mark.parametrize(
    ("ended", "kind"),
    [(StepExit(-9, 9, "lost"), Unavailable), (StepExit(3), UserCodeFailed)],
    ids=["lost", "by itself"],
)
async def test_a_call_ends_with_its_worker_though_the_socket_stays_open(
    ended: StepExit, kind: type[RopewalkError]
) -> None:
    async with begun() as (call, worker, _):
        worker.exit.set_result(ended)
        with pytest.raises(kind):
            await asyncio.wait_for(call, 5)


async def test_an_answer_that_was_written_before_the_end_counts() -> None:
    async with begun() as (call, worker, theirs):
        worker.exit.set_result(StepExit(0))
        await asyncio.sleep(0.1)
        theirs.sendall(pack({"id": 1, "status": 200}, b"42"))
        assert (await asyncio.wait_for(call, 5)).body == b"42"

"""A pool and workers that are played: a call ends with its worker, whoever else holds that worker's socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from ropewalk_core import workers
from ropewalk_core.errors import RopewalkError, Unavailable, UserCodeFailed
from ropewalk_core.local.host_client import HostClient, StepExit, Worker, WorkerOrder
from ropewalk_core.model import AccountRule, Bundle, FunctionRoute, FunctionSpec, Snapshot
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.pool import Outcome, Pool, Pools
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
        call = asyncio.create_task(pool.call({}, b"", place, lambda *_: None, Note("call-1", ROUTE, "ada", 0.0, 0)))
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


async def test_a_worker_that_ended_unseen_takes_no_others_place() -> None:
    host = PlayedHost()
    route = ROUTE.model_copy(update={"spec": ROUTE.spec.model_copy(update={"max_workers": 1})})
    pool, room = Pool(route, SETTINGS, cast(HostClient, host)), Room(SETTINGS)
    for number in (1, 2):  # nobody looks between the two which workers are left
        with room.call("ada", 0) as place:
            call = asyncio.create_task(pool.call({}, b"", place, lambda *_: None, Note("c", route, "ada", 0.0, 0)))
            async with asyncio.timeout(5):
                while len(host.started) < number:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
                with host.started[-1][1] as theirs:
                    await asyncio.to_thread(read_frame, theirs)
                    theirs.sendall(pack({"id": 1, "status": 200}, b"42"))
                    assert (await call).body == b"42"
                    (member,) = pool._living
                await member.link.closed.wait()
    pool.close()


# Kept workers


class Kept:
    """A gateway's pools over a played host, and the routes that they follow."""

    def __init__(self) -> None:
        self.host, self.directory, self.cursor = PlayedHost(), Directory(SETTINGS), 0
        self.pools = Pools(SETTINGS, self.directory, cast(HostClient, self.host))

    def put(self, *routes: FunctionRoute, active: tuple[str, ...] = ("ada", "bob")) -> None:
        """Put a snapshot in force."""
        self.cursor += 1
        rules = {one: AccountRule(subject=one, active=one in active) for one in ("ada", "bob")}
        self.directory.take(Snapshot(cursor=self.cursor, keys={}, accounts=rules, functions=routes))

    async def lives(self, count: int) -> None:
        """Wait until so many workers of what was started have not been ended."""
        async with asyncio.timeout(5):
            while sum(not _ended(theirs) for _, theirs in self.host.started) != count:
                self._sweep()
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)  # no more come either
        assert self.pools.state()["workers"] == count

    def _sweep(self) -> None:
        for pool in self.pools._pools.values():
            pool.sweep()
            pool.keep()


def _ended(theirs: socket.socket) -> bool:
    try:
        return theirs.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def keeping(count: int, owner: str = "ada", revision: str = "r", **changes: Any) -> FunctionRoute:
    spec = ROUTE.spec.model_copy(update={"min_workers": count, "max_workers": 4, "idle": 0.0, **changes})
    return ROUTE.model_copy(update={"owner": owner, "revision": revision, "spec": spec})


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    rig = Kept()
    yield rig
    rig.pools.close()
    for worker, theirs in rig.host.started:
        worker.socket.close()
        theirs.close()


async def test_workers_are_kept_though_nobody_calls_and_end_when_none_are_asked_for(kept: Kept) -> None:
    kept.put(keeping(2))
    await kept.lives(2)
    kept.put(keeping(0))
    await kept.lives(0)


async def test_a_kept_worker_that_ends_is_started_again_and_not_at_once_each_time(kept: Kept) -> None:
    kept.put(keeping(1))
    await kept.lives(1)
    kept.host.started[0][1].close()
    await kept.lives(1)
    assert len(kept.host.started) == 2
    pool = kept.pools.get(keeping(1))
    assert pool._pause > 1.0


async def test_a_call_is_answered_by_a_kept_worker(kept: Kept) -> None:
    kept.put(keeping(1))
    await kept.lives(1)
    pool = kept.pools.get(keeping(1))
    member = pool.take()
    assert member is not None
    pool.done(member, None)
    await kept.lives(1)


async def test_a_new_revision_keeps_its_own_and_the_one_before_none(kept: Kept) -> None:
    kept.put(keeping(2))
    await kept.lives(2)
    kept.put(keeping(2, revision="s"))
    await kept.lives(2)
    assert len(kept.host.started) == 4


async def test_nothing_is_kept_for_who_may_not_run_anything(kept: Kept) -> None:
    kept.put(keeping(1), keeping(1, owner="bob"))
    await kept.lives(2)
    kept.put(keeping(1), keeping(1, owner="bob"), active=("ada",))
    await kept.lives(1)


async def test_a_pinned_revision_that_takes_no_calls_keeps_none(kept: Kept) -> None:
    pinned = keeping(2, revision="p").model_copy(update={"number": 1, "weight": 0})
    kept.put(keeping(1).model_copy(update={"others": (pinned,)}))
    await kept.lives(1)


async def test_accounts_share_the_room_of_the_machine(kept: Kept) -> None:
    kept.pools._room = 3 * workers.USUAL
    kept.put(keeping(4), keeping(2, owner="bob"))
    await kept.lives(3)
    assert kept.pools.get(keeping(4)).size == 2 and kept.pools.get(keeping(2, owner="bob")).size == 1

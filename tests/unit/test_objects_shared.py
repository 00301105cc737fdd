"""The artifact store is for all: however many files one account reads, and however slowly, others are answered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from ropewalk_core.kube.buckets import Bucket, Buckets
from ropewalk_core.objects import PIECE, Keys, Objects
from ropewalk_hub.platform import SystemClock
from ropewalk_workflows.argo.step_logs import Place, StepLogs
from ropewalk_workflows.argo.stores import measured, verified

MANY = 70
"""More readers than the platform has connections."""
ADA, BOB = (Bucket(name, Keys(name, "secret")) for name in ("ada", "bob"))
CONTENT = b"".join(b"%07d\n" % number for number in range(3 * PIECE // 8))


class Store(Buckets):
    """An S3 server with the same object under every key, which stops in the middle of it when told."""

    def __init__(self) -> None:
        self.stuck, self.asked, self.open = False, 0, 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return web.Response(headers={"Content-Length": str(len(CONTENT))} if request.method == "HEAD" else None)
        part = request.http_range
        content = CONTENT[part.start or 0 : part.stop]
        self.asked += 1
        self.open += 1
        try:
            if not content:
                return web.Response(status=416)
            answer = web.StreamResponse(headers={"Content-Length": str(len(content))})
            await answer.prepare(request)
            if self.stuck:
                await asyncio.sleep(3600)
            await answer.write(content)
            return answer
        finally:
            self.open -= 1

    def of(self, space: str) -> Bucket:
        return ADA


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    one, application = Store(), web.Application()
    application.router.add_route("*", "/{path:.*}", one.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.objects = Objects(f"http://127.0.0.1:{runner.addresses[0][1]}", SystemClock())
    yield one
    await one.objects.close()
    await runner.cleanup()


async def answers_bob(store: Store) -> None:
    async with asyncio.timeout(5):
        await store.objects.put(BOB.keys, BOB.name, "values/one", b"his")
        assert (await measured(store, BOB, "one"))["size"] == len(CONTENT)


async def test_downloads_that_nobody_reads_leave_the_store_to_others(store: Store) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    downloads = [await verified(store, ADA, "large", digest, len(CONTENT)) for _ in range(MANY)]
    parts = [await anext(one) for one in downloads]
    await answers_bob(store)
    for one, part in zip(downloads, parts, strict=True):
        assert part + b"".join([piece async for piece in one]) == CONTENT


async def test_logs_that_nobody_reads_leave_the_store_to_others(store: Store) -> None:
    logs = StepLogs(None, SystemClock(), store, "ada")  # type: ignore[arg-type]  # its pods are gone
    readers = [logs.read("run", lambda: Place(1, "node", "main.log", True)) for _ in range(MANY)]
    for one in readers:
        assert (await anext(one)).text == "0000000"
    await answers_bob(store)
    lines = [line async for line in readers[0]]
    assert [int(line.text) for line in lines] == list(range(1, len(CONTENT) // 8))
    assert lines[-1].offset == len(CONTENT)


async def test_files_that_the_store_is_slow_with_leave_it_to_others(store: Store) -> None:
    store.stuck = True
    reading = [asyncio.create_task(measured(store, ADA, "large")) for _ in range(MANY)]
    while not store.open:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    store.stuck = False
    await answers_bob(store)
    for one in reading:
        one.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    await asyncio.wait_for(measured(store, ADA, "large"), 5)


async def test_content_that_ends_with_a_piece_and_none_at_all_are_read_whole(store: Store) -> None:
    objects = store.objects
    sizes = [len(one) async for one in objects.pieces(ADA.keys, "ada", "x", start=PIECE + 8)]
    assert sizes == [PIECE, PIECE - 8]
    store.asked = 0
    assert [len(one) async for one in objects.pieces(ADA.keys, "ada", "x")] == [PIECE] * 3 and store.asked == 4
    assert [one async for one in objects.pieces(ADA.keys, "ada", "x", start=len(CONTENT))] == []
    assert await objects.read(ADA.keys, "ada", "x", most=7) == b"0000000"

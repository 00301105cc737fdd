"""A kernel's calls through a real gateway to real workers: awaited in any loop, and many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ropewalk_core import sync
from ropewalk_core.client import Client, FixedToken
from ropewalk_core.client.wire import Wire
from ropewalk_core.errors import Limited, UserCodeFailed
from ropewalk_core.model import Bundle, Function, FunctionSpec
from ropewalk_core.testing import ADA
from ropewalk_kernel import calls
from ropewalk_kernel.functions import FunctionHandle
from tests.function_rig import Rig, running

ECHO = """
import time
def handler(value, pause=0.0):
    time.sleep(pause)
    if value == "bad":
        raise ValueError("no such thing")
    return value
"""


class Deployed(FunctionHandle):
    """A handle of a function on the rig, which has no REST to ask for it."""

    def info(self) -> Function:
        assert self._seen is not None
        return self._seen


async def deploy(rig: Rig, **options: int) -> FunctionHandle:
    function = await rig.functions.deploy(ADA, "ada", rig.spec(ECHO, **options))
    await rig.settled()
    handle = Deployed("double")
    handle._seen = function
    return handle


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:

        async def connect() -> Client:
            return Client(Wire("http://nobody", FixedToken(rig.token()), account="ada"))

        async def close() -> None:
            calls.posts().close()

        portal = sync.portal()
        portal.client = await asyncio.wrap_future(portal.begin(connect()))
        yield rig
        await asyncio.wrap_future(portal.begin(portal.client.close()))
        await asyncio.wrap_future(portal.begin(close()))
        portal.client = None


async def test_a_call_is_awaited_in_any_loop_and_beside_others(rig: Rig) -> None:
    echo = await deploy(rig, max_workers=2, concurrency=4)
    assert await echo.aio(1) == 1
    assert await asyncio.gather(*(echo.aio(number) for number in range(40))) == list(range(40))

    def elsewhere(number: int) -> list[int]:
        async def several() -> list[int]:
            return await asyncio.gather(*(echo.aio(number + one) for one in range(5)))

        return asyncio.run(several())

    found = await asyncio.gather(*(asyncio.to_thread(elsewhere, number) for number in (10, 20, 30)))
    assert found == [list(range(start, start + 5)) for start in (10, 20, 30)]
    assert await asyncio.to_thread(echo, 7) == 7
    with pytest.raises(UserCodeFailed) as caught:
        await echo.aio("bad")
    assert "no such thing" in caught.value.details["traceback"]


async def test_who_is_cancelled_waits_no_more_and_the_next_call_works(rig: Rig) -> None:
    echo = await deploy(rig, max_workers=2)
    assert await echo.aio(1) == 1
    task = asyncio.create_task(echo.aio(2, pause=20))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await echo.aio(2, pause=0.6)
    assert await asyncio.wait_for(echo.aio(3), 10) == 3


async def test_many_items_in_order_by_real_workers(rig: Rig) -> None:
    echo = await deploy(rig, max_workers=3, concurrency=2)

    def spread() -> list[int]:
        pauses = (0.02 if number % 17 == 0 else 0.0 for number in range(300))
        return list(echo.map(range(300), pauses, progress=False))

    assert await asyncio.to_thread(spread) == list(range(300))

    def failing() -> list[str]:
        found = echo.map(["a", "bad", "b"], progress=False, on_error="return")
        return [one if isinstance(one, str) else type(one).__name__ for one in found]

    assert await asyncio.to_thread(failing) == ["a", "UserCodeFailed", "b"]

    def raising() -> None:
        list(echo.map(["a", "bad", "b"], progress=False))

    with pytest.raises(UserCodeFailed, match="ValueError") as caught:
        await asyncio.to_thread(raising)
    assert caught.value.details["item"] == 1


async def test_more_at_a_time_than_the_gateway_lets_wait(rig: Rig) -> None:
    echo = await deploy(rig, max_workers=1)
    refused = 0
    sent = calls.send

    async def counting(client: Client, address: str, body: bytes) -> bytes:
        nonlocal refused
        try:
            return await sent(client, address, body)
        except Limited:
            refused += 1
            raise

    def spread() -> list[int]:
        return list(echo.map(range(200), [0.005] * 200, workers=180, progress=False))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "send", counting)
        assert await asyncio.to_thread(spread) == list(range(200))
    assert refused > 0


async def handle_of(rig: Rig, source: str, **options: Any) -> FunctionHandle:
    bundle = Bundle(files={"cell.py": source}, entry="cell:handler", form=options.pop("form", "python"))
    function = await rig.functions.deploy(ADA, "ada", FunctionSpec(name="double", bundle=bundle, **options))
    await rig.settled()
    handle = Deployed("double")
    handle._seen = function
    return handle


YIELDING = """
def handler(count, bad=-1):
    try:
        for number in range(count):
            if number == bad:
                raise ValueError("no such thing")
            yield [number, b"x" * 100_000 if number % 2 else None][number % 2]
    finally:
        open("closed", "a").write("closed ")
"""


async def test_what_is_yielded_comes_as_it_is_and_ends_with_who_reads(rig: Rig) -> None:
    count = await handle_of(rig, YIELDING, concurrency=2)
    closed = rig.settings.home / "accounts/ada/files/closed"

    def reads() -> None:
        assert list(count(4)) == [0, b"x" * 100_000, 2, b"x" * 100_000]
        found = []
        with pytest.raises(UserCodeFailed) as caught:
            for one in count(4, bad=2):
                found.append(one)
        assert len(found) == 2 and "no such thing" in caught.value.details["traceback"]
        closed.unlink()
        for one in count(1_000_000):
            assert one == 0
            break

    await asyncio.to_thread(reads)
    async with asyncio.timeout(10):
        while not closed.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
    assert [one async for one in await count.aio(1)] == [0]
    assert await asyncio.to_thread(lambda: list(count.map([1, 1], progress=False))) == [[0], [0]]


async def test_an_app_is_asked_with_a_token_of_the_persons(rig: Rig) -> None:
    source = """
async def handler(scope, receive, send):
    await send({"type": "http.response.start", "status": 203, "headers": [(b"content-type", b"text/plain")]})
    said = f"{scope['method']} {scope['path']} {scope['query_string'].decode()}".encode()
    await send({"type": "http.response.body", "body": said + (await receive())["body"]})
"""
    app = await handle_of(rig, source, form="asgi")
    answer = await asyncio.to_thread(app.request, "PUT", "/a/b", json={"x": 1}, params={"q": "1"})
    assert (answer.status_code, answer.text) == (203, 'PUT /a/b q=1{"x":1}')

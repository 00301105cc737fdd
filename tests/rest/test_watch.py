"""The stream of changes, over a real server: order, resuming, outlines, strangers, and the end of a sign-in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn
from fastapi import FastAPI

from ropewalk_core.client import Client, FixedToken
from ropewalk_core.client.wire import Wire
from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.journal import Append
from ropewalk_core.testing import take
from ropewalk_hub.api import watch
from ropewalk_hub.platform import Platform
from tests.rest.conftest import bearer


@pytest.fixture
async def address(app: FastAPI) -> AsyncIterator[str]:
    """A real server: ASGI in memory cannot stream."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn says it in no other way
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


@pytest.fixture
async def client(address: str, platform: Platform) -> AsyncIterator[Client]:
    async with Client(Wire(address, FixedToken(bearer(platform, "ada"), "ada"), host="localhost:8000")) as one:
        yield one


def change(kind: str, name: str, owner: str = "ada") -> Append:
    return Append(kind, owner, name, "asked", {"name": name})


async def test_changes_come_in_order_and_resume(client: Client, platform: Platform) -> None:
    start = platform.journal.cursor
    await platform.journal.write(change("service", "a"), change("session", "secret"), change("run", "b"))
    seen = await take(client.watch(after=start), 2)
    assert [(one.kind, one.name) for one in seen] == [("service", "a"), ("run", "b")]
    assert [one.name for one in await take(client.watch(after=seen[0].cursor), 1)] == ["b"]
    assert [one.name for one in await take(client.watch(["run"], after=start), 1)] == ["b"]


async def test_a_watch_starts_now_and_sees_only_ones_own(client: Client, platform: Platform) -> None:
    waiting = asyncio.create_task(take(client.watch(), 1))
    await asyncio.sleep(0.3)
    await platform.journal.write(change("run", "his", "bob"))
    await platform.journal.write(change("run", "hers"))
    assert [one.name for one in await waiting] == ["hers"]


async def test_strangers_and_unknown_kinds_are_refused(client: Client) -> None:
    with pytest.raises(NotFound):
        await take(client.watch(owner="bob"), 1)
    with pytest.raises(BadInput):
        await take(client.watch(["session"]), 1)


async def test_an_administrator_sees_outlines(address: str, platform: Platform) -> None:
    start = platform.journal.cursor
    await platform.journal.write(change("function", "f"))
    async with Client(Wire(address, FixedToken(bearer(platform, "eve"), "eve"), host="localhost:8000")) as eve:
        [event] = await take(eve.watch(owner="ada", after=start), 1)
    assert event.name == "f" and event.body == {}


async def test_the_end_of_a_sign_in_ends_the_stream(
    address: str, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BEAT", 0.1)
    wire = Wire(address, FixedToken(bearer(platform, "bob"), "bob"), host="localhost:8000")
    async with wire.stream("watch/bob") as response:
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith(": from")
        platform.issuer.accounts.set_state("bob", "deactivated")
        rest = [line async for line in lines]
    assert all(line in ("", ": beat") for line in rest)
    platform.issuer.accounts.set_state("bob", "active")
    await wire.close()

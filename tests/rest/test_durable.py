"""Durable calls through REST, the client and the command line, over the real desk; a test plays the gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from ropewalk_core.client import Client
from ropewalk_core.durable import Report
from ropewalk_core.errors import Conflict, NotFound, Unavailable, UserCodeFailed
from ropewalk_core.model import Bundle, FunctionSpec, State
from ropewalk_core.testing import ADA
from ropewalk_hub.platform import Platform
from tests.rest.test_cli import Shell, shell

__all__ = ["shell"]


@pytest.fixture
async def deployed(platform: Platform) -> None:
    spec = FunctionSpec(
        name="digits",
        bundle=Bundle(files={"cell.py": "x = 1\n"}, entry="cell:x", digest="a"),
        max_workers=64,
        retries=0,
    )
    await platform.functions.deploy(ADA, "ada", spec)


async def carry(platform: Platform, body: bytes = b"7", problem: dict[str, Any] | None = None) -> list[str]:
    """Do what the gateway does, once."""
    work = (await platform.desk.take("life", [], 64)).work
    reports = [
        Report(id=one.id, attempt=one.attempt, owner=one.owner, body=body, content_type="text/plain", problem=problem)
        for one in work
    ]
    await platform.desk.report(reports)
    return [one.id for one in work]


async def test_rest_from_202_to_the_result(platform: Platform, http: httpx.AsyncClient, deployed: None) -> None:
    headers = {"Idempotency-Key": "monday", "Content-Type": "application/json"}
    accepted = await http.post("/api/v1/durable/ada?function=digits", content=b"1", headers=headers)
    assert accepted.status_code == 202 and accepted.json()["status"]["state"] == "waiting"
    where = accepted.headers["location"]
    assert where == f"/api/v1/durable/ada/{accepted.json()['id']}"
    waiting = await http.get(f"{where}/result")
    assert waiting.status_code == 202 and waiting.headers["retry-after"] == "1"
    assert (await http.delete(where)).status_code == 409
    await carry(platform, b"<script>alert(1)</script>")
    done = await http.get(f"{where}/result")
    assert (done.status_code, done.content) == (200, b"<script>alert(1)</script>")
    assert (
        done.headers["content-type"] == "application/octet-stream" and done.headers["x-ropewalk-type"] == "text/plain"
    )
    assert "attachment" in done.headers["content-disposition"] and "sandbox" in done.headers["content-security-policy"]
    again = await http.post("/api/v1/durable/ada?function=digits", content=b"1", headers=headers)
    assert again.headers["location"] == where and again.json()["status"]["state"] == "done"
    assert (await http.post(f"{where}/replay")).status_code == 409
    assert (await http.delete(where)).status_code == 200 and (await http.get(where)).status_code == 404
    assert (await http.get("/api/v1/durable/ada?function=digits&shelf=nonsense")).status_code == 422
    assert (await http.post("/api/v1/durable/ada?function=nothing", content=b"1")).status_code == 404
    assert (await http.get(f"{where}/result?wait=21")).status_code == 422


async def test_a_dead_letter_is_told_at_once_and_replayed(platform: Platform, client_of: Any, deployed: None) -> None:
    client: Client = client_of()
    call = await client.durable.spawn("digits", b"1")
    failed = UserCodeFailed("The function raised ValueError.", details={"traceback": "line 3"}).problem()
    await carry(platform, problem=failed)
    with pytest.raises(UserCodeFailed) as caught:
        await client.durable.result(call.id)
    assert caught.value.details["traceback"] == "line 3"
    assert [one.id async for one in client.durable.all("digits", shelf="failed")] == [call.id]
    assert (await client.durable.replay(call.id)).status.state is State.WAITING
    await carry(platform, problem=Unavailable("The worker that ran this call was ended.").problem())
    with pytest.raises(Unavailable, match="worker"):  # at once: it is no platform that is away
        await asyncio.wait_for(client.durable.result(call.id), 5)
    await client.durable.replay(call.id)
    await carry(platform, b"7")
    found = await client.durable.result(call.id)
    assert (found.body, found.content_type, found.call.attempt) == (b"7", "text/plain", 3)
    await client.durable.forget(call.id)


async def test_cancel(platform: Platform, client_of: Any, deployed: None) -> None:
    client: Client = client_of()
    call = await client.durable.spawn("digits", b"1")
    assert (await client.durable.cancel(call.id)).status.state is State.STOPPED
    assert await carry(platform) == []
    with pytest.raises(Conflict):
        await client.durable.result(call.id)
    assert (await client.durable.result((await client.durable.spawn("digits", b"1")).id, wait=0)).body is None
    await carry(platform)


async def test_a_stranger_finds_no_call(client_of: Any, platform: Platform, deployed: None) -> None:
    call = await client_of().durable.spawn("digits", b"1")
    stranger: Client = client_of("bob")
    for owner in ("", "ada"):
        for act in (stranger.durable.get, stranger.durable.cancel, stranger.durable.replay, stranger.durable.forget):
            with pytest.raises(NotFound):
                await act(call.id, owner=owner)
        with pytest.raises(NotFound):
            await stranger.durable.result(call.id, owner=owner)
    await carry(platform)


def test_the_command_line(shell: Shell, platform: Platform, deployed: None) -> None:
    call = shell("durable", "spawn", "digits", "[1]", "--key", "tuesday").strip()
    assert shell("durable", "spawn", "digits", "[1]", "--key", "tuesday").strip() == call
    shell("durable", "spawn", "digits", "[2]", "--key", "tuesday", code=1)
    shell("durable", "spawn", "digits", "{", code=2)
    shell("durable", "spawn", "nothing", code=4)
    assert call in shell("durable", "list", "digits", "--shelf", "open")
    assert "waiting" in shell("durable", "get", call)
    asyncio.run(carry(platform, problem=UserCodeFailed("\x1b[31mno", details={"traceback": "line 3"}).problem()))
    assert "line 3" in shell("durable", "get", call, code=1) and "\x1b" not in shell.out
    shell("durable", "result", call, code=1)
    assert "RW-USER-CODE" in shell.err and "line 3" in shell.err
    assert shell("durable", "replay", call) == f"{call} is waiting.\n"
    assert shell("durable", "cancel", call) == f"{call} is stopped.\n"
    assert shell("durable", "forget", call) == f"{call} is forgotten.\n"
    shell("durable", "get", call, code=4)
    second = shell.json("durable", "spawn", "digits")["id"]
    asyncio.run(carry(platform))
    platform.journal.write_now()
    assert shell.json("durable", "get", second)["result"] == 1
    assert json.loads(shell("durable", "list", "digits", "--json"))[0]["id"] == second
    shell("durable", "list", "digits", "--limit", "1")
    assert f"--after {second}" in shell.err

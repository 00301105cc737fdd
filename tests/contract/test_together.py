"""Forms of functions, traffic, who may call, and durable calls, each beside the others and through a real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import BadInput
from ropewalk_core.model import Access, Bundle, DurableResult, FunctionSpec
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

PAGE, OTHER = "https://example.org", "https://evil.example"
ONE = "def handler(value):\n    return 1\n"
TWO = "def handler(value):\n    return 2\n"
COUNT = """
def handler(count: int = 3, bad: int = -1):
    for number in range(count):
        if number == bad:
            raise ValueError("no good")
        yield {"n": number}
"""
APP = """
import json
async def app(scope, receive, send):
    heard = {name.decode(): value.decode() for name, value in scope["headers"]}
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"access-control-allow-origin", b"*"), (b"vary", b"Accept")]})
    body = json.dumps(heard).encode()
    await send({"type": "http.response.body", "body": body[:5], "more_body": True})
    await send({"type": "http.response.body", "body": body[5:]})
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


def brought(form: Any, text: str) -> FunctionSpec:
    return FunctionSpec(name="double", bundle=Bundle(files={"program": text}, entry="program:main", form=form))


def app() -> FunctionSpec:
    return FunctionSpec(name="double", bundle=Bundle(files={"cell.py": APP}, entry="cell:app", form="asgi"))


async def spawned(rig: Rig, payload: bytes) -> DurableResult:
    call = await rig.desk.spawn(ADA, "ada", "double", payload)
    return await rig.desk.result(ADA, "ada", call.id, wait=20)


async def ask(
    rig: Rig, headers: dict[str, str], label: str = "double--fn--ada", content: bytes = b"{}"
) -> httpx.Response:
    known = {"Content-Type": "application/json"} | headers
    return await rig.request("POST", label, headers=known, content=content)


def bearer(rig: Rig, account: str = "ada") -> dict[str, str]:
    return {"Authorization": f"Bearer {rig.token(account)}"}


async def test_a_spawned_generator_gives_the_list_of_its_values(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(COUNT))
    found = await spawned(rig, b'{"count": 2}')
    assert (found.body, found.content_type) == (b'[{"n":0},{"n":1}]', "application/json")
    assert (await spawned(rig, b'{"count": 0}')).body == b"[]"
    with pytest.raises(Exception, match="raised ValueError") as failed:
        await spawned(rig, b'{"count": 3, "bad": 2}')
    assert "no good" in failed.value.details["traceback"]  # type: ignore[attr-defined]


async def test_bytes_that_a_spawned_generator_yields_are_joined(rig: Rig) -> None:
    source = "def handler(mixed: bool = False):\n    yield b'a' * 40000\n    yield 'b' if mixed else b'b'\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(source))
    found = await spawned(rig, b"{}")
    assert (found.body, found.content_type) == (b"a" * 40000 + b"b", "application/octet-stream")
    with pytest.raises(Exception, match="make no list"):
        await spawned(rig, b'{"mixed": true}')


async def test_what_a_spawned_generator_yields_has_a_limit(rig: Rig) -> None:
    source = "def handler(count: int = 1):\n    while True:\n        yield 'x' * 100_000\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(source))
    with pytest.raises(Exception, match="that a durable call may give") as failed:
        await spawned(rig, b"{}")
    assert failed.value.field == "limits.durable_payload"  # type: ignore[attr-defined]


async def test_programs_can_be_spawned_and_apps_are_refused_by_name(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", brought("program", "#!/bin/sh\ntr a-z A-Z\n"))
    assert (await spawned(rig, b'"x"')).body == b'"X"'
    await rig.functions.deploy(ADA, "ada", app())
    with pytest.raises(BadInput, match="is an ASGI app"):
        await spawned(rig, b"{}")
    await rig.settled()
    answer = await ask(rig, bearer(rig) | {"Prefer": "respond-async"})
    assert answer.status_code == 422 and "is an ASGI app" in answer.json()["message"]


async def test_attempts_go_where_calls_go(rig: Rig) -> None:
    for source in (ONE, TWO):
        await rig.functions.deploy(ADA, "ada", rig.spec(source))
    split = await rig.functions.traffic(ADA, "ada", "double", {1: 100})
    found = await spawned(rig, b"0")
    assert (found.body, found.call.revision) == (b"1", split.traffic.shares[0].revision)
    refused = await ask(rig, bearer(rig) | {"Prefer": "respond-async"}, "r1--double--fn--ada")
    assert refused.status_code == 422 and "no revision's own" in refused.json()["message"]
    await rig.functions.traffic(ADA, "ada", "double", {0: 100})
    assert (await spawned(rig, b"0")).body == b"2"


async def test_only_the_owner_has_calls_carried_out_later(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(ONE))
    await rig.functions.access(ADA, "ada", "double", Access(who="public"))
    made = await rig.functions.add_key(ADA, "ada", "double", calls=100, seconds=60)
    await rig.settled()
    mine = await ask(rig, bearer(rig) | {"Prefer": "respond-async"}, content=b"0")
    assert mine.status_code == 202
    for headers in ({}, bearer(rig, "bob"), {"X-Ropewalk-Key": made.secret}):
        assert (await ask(rig, headers, content=b"0")).json() == 1
        assert (await ask(rig, headers | {"Prefer": "respond-async"}, content=b"0")).status_code == 403
        where = await rig.request("GET", "double--fn--ada", mine.headers["location"], headers=headers)
        assert where.status_code == (404 if "Authorization" in headers else 401)


async def test_pages_on_the_list_read_streams_and_apps_and_places_of_durable_calls(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(COUNT))
    await rig.functions.access(ADA, "ada", "double", Access(origins=(PAGE,)))
    made = await rig.functions.add_key(ADA, "ada", "double", calls=2, seconds=60)
    await rig.settled()
    for headers in ({"X-Ropewalk-Key": made.secret, "Origin": PAGE}, bearer(rig) | {"Origin": PAGE}):
        answer = await ask(rig, headers)
        assert answer.status_code == 200 and len(answer.text.splitlines()) == 3
        assert answer.headers["access-control-allow-origin"] == PAGE
    assert (await ask(rig, bearer(rig) | {"Origin": OTHER})).status_code == 403
    place = await ask(rig, bearer(rig) | {"Origin": PAGE, "Prefer": "respond-async"})
    assert place.status_code == 202 and place.headers["access-control-allow-origin"] == PAGE
    asked = {**bearer(rig), "Origin": PAGE}
    where = await rig.request("GET", "double--fn--ada", place.headers["location"], headers=asked)
    assert where.status_code == 200 and where.headers["access-control-allow-origin"] == PAGE
    asked["Origin"] = OTHER
    assert (await rig.request("GET", "double--fn--ada", place.headers["location"], headers=asked)).status_code == 403
    assert (await ask(rig, {"X-Ropewalk-Key": made.secret})).status_code == 200
    assert (await ask(rig, {"X-Ropewalk-Key": made.secret})).status_code == 429


async def test_an_app_hears_no_key_and_cannot_let_pages_in(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", app())
    made = await rig.functions.add_key(ADA, "ada", "double", calls=10, seconds=60)
    await rig.settled()
    private = {
        "X-Ropewalk-Key": made.secret,
        "Proxy-Authorization": "Basic x",
        "Origin": PAGE,
        "X-Ropewalk-Account": "eve",
    }
    answer = await ask(rig, private)
    heard = answer.json()
    assert not {"x-ropewalk-key", "authorization", "proxy-authorization", "x-forwarded-user"} & set(heard)
    assert heard["x-ropewalk-account"] == f"key:{made.key.id}" and heard["origin"] == PAGE
    assert "access-control-allow-origin" not in answer.headers
    assert "x-ropewalk-key" not in (await ask(rig, bearer(rig))).json()
    await rig.functions.access(ADA, "ada", "double", Access(who="public", origins=(PAGE,)))
    await rig.settled()
    answer = await ask(rig, {"Origin": PAGE})
    assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
    assert answer.headers.get_list("vary") == ["Accept", "Origin"] or "Origin" in answer.headers["vary"]
    assert not {"x-ropewalk-account", "x-forwarded-user"} & set(answer.json())

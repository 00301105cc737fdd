"""Functions on this machine pass the contract, with a real sandbox, zygote and gateway; and what HTTP callers get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ropewalk_core import sharing
from ropewalk_core.errors import BadCode, TooLarge
from ropewalk_core.journal import Append, Put, Remove
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.local.host_client import HostClient, StepExit
from ropewalk_core.model import Access
from ropewalk_core.testing import ADA, FunctionsContract
from tests.function_rig import Rig, running


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


class TestLocalFunctions(FunctionsContract):
    @pytest.fixture
    async def port(self, rig: Rig) -> LocalFunctions:  # type: ignore[override]
        return rig.functions


DOUBLE = "def handler(value: int, factor: int = 2):\n    print('doubling', value)\n    return value * factor\n"


async def test_http_callers_get_clear_answers(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    answer = await rig.call(b"21")
    assert (answer.status_code, answer.json(), answer.headers["x-ropewalk-start"]) == (200, 42, "cold")
    answer = await rig.call(b'{"value": 5, "factor": 3}')
    assert (answer.json(), answer.headers["x-ropewalk-start"]) == (15, "warm")

    anonymous = await rig.request("POST", "double--fn--ada", content=b"1")
    assert anonymous.status_code == 401 and anonymous.headers["www-authenticate"].startswith("Bearer")
    assert anonymous.json()["code"] == "RW-SIGN-IN"
    assert (await rig.call(account="bob")).status_code == 404
    missing = await rig.call(function="nothing")
    assert missing.status_code == 404 and "`ropewalk functions list`" in missing.json()["hint"]
    for refused in (missing, await rig.call(account="bob")):
        assert refused.json()["type"] == f"{rig.settings.door.origin}/help/errors#RW-NOT-FOUND"

    wrong = await rig.call(b'{"value": "x"}')
    assert (wrong.status_code, wrong.json()["field"]) == (422, "value")
    assert (await rig.call(b"{")).status_code == 422
    for _ in range(200):  # records follow the answers, some at a time
        records = (await rig.functions.calls(ADA, "ada", "double")).items
        if any(one.status == 422 for one in records):
            break
        await asyncio.sleep(0.05)
    assert any(one.status == 422 for one in records)
    assert any("doubling 21" in one.logs and one.cold for one in records)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "api"},
        {"exp": 1},
        {"iss": "http://elsewhere"},
        {"epoch": -1},
        {"sub": "subject-bob"},
        {"sid": "ses-over"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_tokens_that_do_not_count(rig: Rig, changes: dict[str, Any]) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    rig.ended = ("ses-over",)
    rig.cursor += 1
    await rig.settled()
    headers = {"Authorization": f"Bearer {rig.token(**changes)}"}
    assert (await rig.request("POST", "double--fn--ada", headers=headers, content=b"1")).status_code == 401


async def test_a_sign_out_ends_a_token_that_was_good(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    assert (await rig.call()).status_code == 200
    rig.ended = ("ses-ada",)
    rig.cursor += 1
    await rig.settled()
    assert (await rig.call()).status_code == 401


async def test_limits_have_names(rig: Rig) -> None:
    slow = rig.spec("import time\ndef handler(value):\n    time.sleep(value)\n    return value\n", timeout=0.5)
    await rig.functions.deploy(ADA, "ada", slow)
    answer = await rig.call(b"30")
    assert (answer.status_code, answer.json()["code"]) == (504, "RW-TIMED-OUT")
    assert (await rig.call(b"0")).status_code == 200  # a fresh worker
    big = await rig.call(b'"' + b"x" * (33 * 2**20) + b'"')
    assert (big.status_code, big.json()["field"]) == (413, "limits.payload")
    with pytest.raises(TooLarge):
        await rig.functions.deploy(ADA, "ada", rig.spec("x = '" + "x" * (9 * 2**20) + "'\n" + DOUBLE))


async def test_out_of_memory_names_the_placement(rig: Rig) -> None:
    source = "def handler(value):\n    return len(bytearray(value))\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(source, placement={"memory": "300Mi"}))
    answer = await rig.call(str(2**30).encode())
    assert (answer.status_code, answer.json()["code"]) == (500, "RW-OUT-OF-MEMORY")
    assert "its limit of 300Mi" in answer.json()["message"] and answer.json()["field"] == "placement.memory"
    assert 'Placement(memory="600Mi")' in answer.json()["hint"]
    assert (await rig.call(b"10")).json() == 10


async def test_many_calls_at_once_use_several_workers_and_a_queue(rig: Rig) -> None:
    source = "import os, time\ndef handler(value):\n    time.sleep(0.05)\n    return value\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(source, max_workers=3))
    answers = await asyncio.gather(*(rig.call(str(number).encode()) for number in range(30)))
    assert [one.json() for one in answers] == list(range(30))


async def test_async_handlers_run_side_by_side(rig: Rig) -> None:
    source = (
        "import asyncio\nwaiting, all_here = 0, asyncio.Event()\n"
        "async def handler(value):\n    global waiting\n    waiting += 1\n"
        "    if waiting == 8:\n        all_here.set()\n    await all_here.wait()\n    return value\n"
    )  # none answers before all eight are inside
    await rig.functions.deploy(ADA, "ada", rig.spec(source, max_workers=1, concurrency=8))
    answers = await asyncio.gather(*(rig.call(str(number).encode()) for number in range(8)))
    assert sorted(one.json() for one in answers) == list(range(8))


RAISING = """
import asyncio, os
class Silent(Exception):
    def __str__(self):
        raise RuntimeError
class Long:
    def tolist(self):
        raise TypeError("y" * 5_000_000)
{word} handler(kind):
    if kind == "cancelled":
        raise asyncio.CancelledError
    if kind == "cancels itself":
        asyncio.current_task().cancel()
        await asyncio.sleep(60)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "silent":
        raise Silent
    if kind == "long":
        return Long()
    if kind == "long key":
        return {{"k" * 5_000_000: float("nan")}}
    return os.getpid()
"""
SYNC = RAISING.format(word="def").replace("        await asyncio.sleep(60)\n", "")


@pytest.mark.parametrize(
    ("source", "concurrency"),
    [(SYNC, 1), (SYNC, 2), (RAISING.format(word="async def"), 1)],
    ids=["one", "two", "async"],
)
async def test_whatever_a_handler_does_is_answered_and_its_worker_lives(
    rig: Rig, source: str, concurrency: int
) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(source, timeout=20, max_workers=1, concurrency=concurrency))
    worker = (await rig.call(b'"ok"')).json()
    for kind in ("cancelled", "cancels itself", "interrupt", "silent", "long", "long key"):
        answer = await rig.call(f'"{kind}"'.encode())
        assert (answer.status_code, answer.json()["code"]) == (500, "RW-USER-CODE"), kind
    assert (await rig.call(b'"ok"')).json() == worker


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("def handler(:\n", "cell line 1"),
        ("import no_such_module\ndef handler(): ...\n", "cell line 1"),
        ("x = 1\ny = x / 0\ndef handler(): ...\n", "cell line 2"),
    ],
    ids=["syntax", "import", "raises"],
)
async def test_code_that_does_not_load_names_its_line(rig: Rig, source: str, field: str) -> None:
    with pytest.raises(BadCode) as caught:
        await rig.functions.deploy(ADA, "ada", rig.spec(source))
    assert caught.value.field == field and caught.value.details["traceback"]


async def test_the_gateway_answers_on_while_the_platform_is_away() -> None:
    async with running() as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
        (rig.settings.run / "gateway" / "platform.sock").rename(rig.settings.run / "gone.sock")
        await asyncio.sleep(0.2)
        assert (await rig.call()).json() == 42


async def test_a_browser_is_sent_to_the_door_and_comes_back(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec("def handler(name: str = 'you'):\n    return f'hello {name}'\n"))
    page = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
    away = await rig.request("GET", "double--fn--ada", "/?name=ada", headers=page)
    assert away.status_code == 302 and away.headers["location"].startswith(
        f"{rig.settings.door.origin}/door/open?host="
    )
    state = away.cookies["ropewalk-door-state"]
    rig.doors["code"] = {"account": "ada", "sid": "ses-ada", "state": state}
    back = await rig.request(
        "GET",
        "double--fn--ada",
        "/_ropewalk/door?code=code&next=/?name=ada",
        headers={"Cookie": f"ropewalk-door-state={state}"},
    )
    assert back.status_code == 302 and back.headers["location"] == "/?name=ada"
    assert "Domain" not in back.headers["set-cookie"] and "HttpOnly" in back.headers["set-cookie"]
    cookie = {"Cookie": f"ropewalk-door={back.cookies['ropewalk-door']}"}
    answer = await rig.request("GET", "double--fn--ada", "/?name=ada", headers=page | cookie)
    assert json.loads(answer.content) == "hello ada"
    # a link on another page, and anything that writes, is not enough
    elsewhere = await rig.request("GET", "double--fn--ada", headers=page | cookie | {"Sec-Fetch-Site": "cross-site"})
    assert "Call double?" in elsewhere.text
    assert (await rig.request("POST", "double--fn--ada", headers=cookie, content=b"1")).status_code == 403
    # the session belongs to this host and ends with the sign-in
    assert (await rig.request("GET", "other--fn--ada", headers=page | cookie)).status_code == 302
    rig.ended = ("ses-ada",)
    rig.cursor += 1
    await rig.settled()
    assert (await rig.request("GET", "double--fn--ada", headers=page | cookie)).status_code == 302


async def test_a_door_code_of_another_browser_is_refused(rig: Rig) -> None:
    rig.doors["code"] = {"account": "ada", "sid": "ses-ada", "state": "right"}
    for headers in ({}, {"Cookie": "ropewalk-door-state=wrong"}):
        answer = await rig.request("GET", "web--ada", "/_ropewalk/door?code=code", headers=headers)
        assert answer.status_code == 401 and "set-cookie" not in answer.headers


async def test_routes_are_what_the_journal_says_at_once(rig: Rig) -> None:
    function = await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    body = function.model_dump(mode="json")
    body["name"] = "twin"
    await rig.journal.write(Put("function", "ada", "twin", body), Append("function", "ada", "twin", "running", {}))
    assert {route.name for route in rig.functions.routes()} == {function.name, "twin"}
    await rig.journal.write(Remove("function", "ada", "twin"), Append("function", "ada", "twin", "removed", {}))
    assert {route.name for route in rig.functions.routes()} == {function.name}


class _SlowSteps(HostClient):
    """A host that takes its time to begin a step."""

    async def run_step(self, *given: Any, **named: Any) -> StepExit:
        await asyncio.sleep(1)
        return await super().run_step(*given, **named)


async def test_what_is_deployed_right_after_a_removal_keeps_its_code(rig: Rig) -> None:
    host = _SlowSteps(rig.settings.run / "host.sock")
    rig.functions._host = host
    try:
        await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
        await rig.functions.remove(ADA, "ada", "double")
        await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
        await asyncio.sleep(2)
        assert (await rig.call(b"21")).json() == 42
    finally:
        rig.functions._host = rig.client
        await host.close()


async def test_what_was_chosen_as_a_function_was_removed_opens_no_later_one(rig: Rig) -> None:
    await rig.journal.write(sharing.choosing(rig.journal, "ada", "double", Access(who="public"))[1])
    assert (await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))).access == Access()
    assert rig.functions.routes()[0].access == Access()

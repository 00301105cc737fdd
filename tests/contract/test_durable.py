"""Durable calls on this machine pass the contract, with a real sandbox and gateway; and what HTTP callers get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core.durable import DurableDesk
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.testing import ADA, DurableContract
from tests.function_rig import Rig, running

DOUBLE = "def handler(value):\n    return 2 * value\n"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


class TestLocalDurable(DurableContract):
    @pytest.fixture
    async def ports(self, rig: Rig) -> tuple[LocalFunctions, DurableDesk]:  # type: ignore[override]
        return rig.functions, rig.desk


async def ask(rig: Rig, method: str, path: str = "/", account: str = "ada", **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {rig.token(account)}", **more.pop("headers", {})}
    return await rig.request(method, "double--fn--ada", path, headers=headers, **more)


async def spawn(rig: Rig, content: bytes = b"21", key: str = "", **headers: str) -> httpx.Response:
    headers |= {"Prefer": "respond-async", "Content-Type": "application/json"}
    return await ask(rig, "POST", content=content, headers=headers | ({"Idempotency-Key": key} if key else {}))


async def test_http_callers_get_a_place_to_ask_at(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    accepted = await spawn(rig, key="monday")
    assert accepted.status_code == 202 and accepted.headers["preference-applied"] == "respond-async"
    where = accepted.headers["location"]
    assert where == f"/_ropewalk/calls/{accepted.json()['id']}"
    result = await ask(rig, "GET", f"{where}/result?wait=20")
    assert (result.status_code, result.json(), result.headers["content-type"]) == (200, 42, "application/json")
    assert (await ask(rig, "GET", where)).json()["status"]["state"] == "done"
    assert (await spawn(rig, key="monday")).headers["location"] == where
    assert (await spawn(rig, b"22", key="monday")).status_code == 409

    for path in (where, f"{where}/result"):
        assert (await rig.request("GET", "double--fn--ada", path)).status_code == 401
        assert (await ask(rig, "GET", path, account="bob")).status_code == 404
    assert (await ask(rig, "GET", f"{where}/result?wait=nan")).status_code == 422
    assert (await ask(rig, "GET", "/_ropewalk/calls/other.0000000000zzzzzzzz")).status_code == 404
    assert (await ask(rig, "POST", f"{where}/result")).status_code == 404
    assert (await ask(rig, "POST", f"{where}/replay")).status_code == 409
    assert (await ask(rig, "POST", f"{where}/cancel")).json()["status"]["state"] == "done"


async def test_an_answer_that_is_not_there_yet_says_where_it_stands(rig: Rig) -> None:
    slow = "import time\ndef handler(value):\n    time.sleep(value)\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(slow))
    where = (await spawn(rig, b"30")).headers["location"]
    waiting = await ask(rig, "GET", f"{where}/result")
    assert waiting.status_code == 202 and waiting.headers["retry-after"] and waiting.headers["location"] == where
    assert (await ask(rig, "POST", f"{where}/cancel")).json()["status"]["state"] == "stopped"
    assert (await ask(rig, "GET", f"{where}/result")).status_code == 409


async def test_a_failed_call_answers_with_its_own_problem(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec("def handler(value):\n    raise ValueError('no good')\n"))
    where = (await spawn(rig)).headers["location"]
    failed = await ask(rig, "GET", f"{where}/result?wait=20")
    assert (failed.status_code, failed.json()["code"]) == (500, "RW-USER-CODE")
    assert "no good" in failed.json()["details"]["traceback"]


async def test_a_message_that_cannot_be_stored_ends_its_call_all_the_same(rig: Rig) -> None:
    source = "def handler(value):\n    raise ValueError('half \\ud800 and \\0')\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(source))
    where = (await spawn(rig)).headers["location"]
    failed = await ask(rig, "GET", f"{where}/result?wait=20")
    assert (failed.status_code, failed.json()["code"]) == (500, "RW-USER-CODE")


async def test_what_is_too_large_is_refused_by_name(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    answer = await spawn(rig, b'"' + b"x" * 2**20 + b'"')
    assert (answer.status_code, answer.json()["field"]) == (413, "limits.durable_payload")
    assert (await spawn(rig, key="x" * 201)).json()["field"] == "Idempotency-Key"


async def test_without_a_platform_nothing_is_accepted_and_nothing_is_lost(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE))
    calls = [(await spawn(rig, str(one).encode())).headers["location"] for one in range(30)]
    await rig.restart_platform()
    for number, where in enumerate(calls):
        assert (await ask(rig, "GET", f"{where}/result?wait=20")).json() == 2 * number


async def test_many_callers_at_once_share_commits(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE, max_workers=1))
    answers = await asyncio.gather(*(spawn(rig, str(one).encode()) for one in range(64)))
    assert {one.status_code for one in answers} == {202} and len({one.json()["id"] for one in answers}) == 64


texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.strip)


async def test_no_input_breaks_it(rig: Rig) -> None:
    """Every answer is one of ours, whatever headers, paths and bodies say, and good calls are still accepted."""
    await rig.functions.deploy(ADA, "ada", rig.spec(DOUBLE, max_workers=1))
    loop = asyncio.get_running_loop()

    async def send(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        answer = await ask(rig, method, path, headers=headers, content=body)
        assert answer.status_code in (200, 202, 400, 404, 409, 413, 422, 429, 500), answer.text
        if answer.status_code >= 500:
            assert answer.json()["code"] == "RW-USER-CODE", answer.text
        elif answer.status_code > 400:
            assert answer.json()["code"].startswith("RW-"), answer.text

    parts = st.sampled_from(["/", "/_ropewalk/calls/", "/_ropewalk/calls/double.", "/_ropewalk/calls/double.0/result"])
    tails = st.sampled_from(["", "/", "%00", "%ff", "..%2f..", "0" * 18, "0" * 18 + "/result?wait=", "?wait=1e999"])
    names = st.sampled_from(["Prefer", "Idempotency-Key", "Content-Type", "X-Else"])
    values = texts | st.sampled_from(["respond-async", "respond-async; wait=1", "RESPOND-ASYNC, x", ",;=,"])

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
        st.tuples(parts, tails).map("".join),
        st.dictionaries(names, values, max_size=4),
        st.binary(max_size=40) | st.sampled_from([b"1", b"{", b'"\\ud800"', b"\xff", json.dumps("x" * 999).encode()]),
    )
    def fuzz(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        asyncio.run_coroutine_threadsafe(send(method, path, headers, body), loop).result(30)

    await asyncio.to_thread(fuzz)
    where = (await spawn(rig)).headers["location"]
    assert (await ask(rig, "GET", f"{where}/result?wait=20")).json() == 42

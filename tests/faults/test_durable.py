"""Durable calls under kill -9 of whatever carries them: every accepted call gives one result, however often it ran."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.local import sandbox
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import DurableCall, State
from ropewalk_core.testing import ADA
from tests.faults.test_functions import zygotes_and_workers
from tests.function_rig import Rig, running
from tests.platform_rig import OWN, House, ended, until

pytestmark = pytest.mark.slow
SLOW = """
import time

def handler(value):
    with open("attempts", "a") as file:
        file.write(f"{value}\\n")
    time.sleep(0.7)
    return 2 * value
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(apart=True) as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(SLOW, retry_wait=0.1, max_workers=2))
        yield rig


def attempts(rig: Rig) -> Counter[str]:
    file = AccountPaths(rig.settings.home, "ada").files / "attempts"
    return Counter(file.read_text().split()) if file.exists() else Counter()


async def spawned(rig: Rig, count: int) -> list[DurableCall]:
    """Accept some calls, and return when the first of them runs."""
    calls = [await rig.desk.spawn(ADA, "ada", "double", str(number).encode()) for number in range(count)]
    async with asyncio.timeout(15):
        while not attempts(rig):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.05)
    return calls


async def all_gave_their_results(rig: Rig, calls: list[DurableCall], seconds: float = 40.0) -> list[DurableCall]:
    found = []
    for number, call in enumerate(calls):
        result = await rig.desk.result(ADA, "ada", call.id, wait=seconds)
        assert result.body == str(2 * number).encode(), (call.id, result.call.status)
        found.append(result.call)
    assert set(attempts(rig)) == {str(number) for number in range(len(calls))}
    return found


async def test_a_killed_worker(rig: Rig) -> None:
    calls = await spawned(rig, 5)
    zygote = min(zygotes_and_workers(rig))
    for pid in zygotes_and_workers(rig):
        if pid != zygote:
            os.kill(pid, signal.SIGKILL)
    found = await all_gave_their_results(rig, calls)
    assert max(one.attempt for one in found) == 2


async def test_a_killed_gateway(rig: Rig) -> None:
    calls = await spawned(rig, 5)
    await rig.kill("ropewalk_hub.gateway")
    await asyncio.sleep(0.3)
    await rig.start_gateway(apart=True)
    found = await all_gave_their_results(rig, calls)
    assert max(one.attempt for one in found) == 2 and any(one.attempt == 1 for one in found)


async def test_a_killed_host(rig: Rig) -> None:
    calls = await spawned(rig, 5)
    await rig.kill("ropewalk_hub.host")
    await rig.start_host(apart=True)
    await all_gave_their_results(rig, calls)


async def test_a_killed_platform_costs_no_attempt(rig: Rig) -> None:
    calls = await spawned(rig, 5)
    await rig.restart_platform()
    found = await all_gave_their_results(rig, calls)
    assert {one.spent for one in found} == {1}, "one that was never handed out has a number and costs nothing"
    assert set(attempts(rig).values()) == {1}


async def test_what_kills_its_gateway_each_time_is_a_dead_letter(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(SLOW.replace("0.7", "30"), retries=1, retry_wait=0.1))
    [call] = await spawned(rig, 1)
    for count in (1, 2):
        async with asyncio.timeout(15):
            while attempts(rig)["0"] < count:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.05)
        await rig.kill("ropewalk_hub.gateway")
        await rig.start_gateway(apart=True)
    async with asyncio.timeout(15):
        while not (found := await rig.desk.get(ADA, "ada", call.id)).status.state.terminal:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (found.status.state, found.attempt) == (State.FAILED, 2) and attempts(rig)["0"] == 2


@pytest.mark.timeout(240)
@pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}")
def test_the_whole_platform_is_killed_again_and_again() -> None:
    """Callers with keys, kills of each process and of all at once: each key has one call and one result."""
    with ended(House()) as house:
        house.sign_up(house.up()["first"])
        spec = {"name": "double", "bundle": {"files": {"cell.py": SLOW}, "entry": "cell:handler"}}
        spec |= {"max_workers": 8, "retries": 10, "retry_wait": 0.1}
        until(lambda: house.api("PUT", "functions/ann/double", json=spec))
        accepted: dict[int, set[str]] = {number: set() for number in range(1, 41)}
        with ThreadPoolExecutor(4) as callers:
            asking = [callers.submit(_spawn, house, number, accepted[number]) for number in accepted]
            for names in (("platform",), ("gateway",), ("host",), ("platform", "gateway"), (*OWN, "supervisor")):
                time.sleep(1.5)
                _kill(house, names)
            for one in asking:
                one.result(120)
        for number, calls in accepted.items():
            assert len(calls) == 1, (number, calls)
            assert until(lambda calls=calls: _result(house, *calls), patience=120) == 2 * number  # type: ignore[misc]
        ran = Counter((Path(house.home) / "accounts" / "ann" / "files" / "attempts").read_text().split())
        assert set(ran) == {str(number) for number in accepted}
        page = house.api("GET", "durable/ann?function=double&limit=200")
        assert {one["id"] for one in page["items"]} == {one for calls in accepted.values() for one in calls}


def _spawn(house: House, number: int, accepted: set[str]) -> None:
    """Ask until somebody answers, and then once more, with the same key."""
    for _ in range(2):
        headers = {"Idempotency-Key": f"key-{number}"}
        path = "durable/ann?function=double"
        call = until(lambda: house.api("POST", path, content=str(number), headers=headers), patience=100)  # noqa: B023
        accepted.add(call["id"])


def _result(house: House, call: str) -> Any:
    answer = house.ask("GET", f"durable/ann/{call}/result?wait=5")
    return answer.json() if answer.status_code == 200 else None


def _kill(house: House, names: tuple[str, ...]) -> None:
    pids = [house.ropewalk("status")["pid"]] if "supervisor" in names else []
    for pid in [*pids, *(house.pid(one) for one in names if one != "supervisor")]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or 2**22, signal.SIGKILL)
    if pids:
        house.up()

"""Kill any part of functions at any moment: the call gets a clear answer, and the next one works."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from ropewalk_core.errors import Unavailable
from ropewalk_core.local.host_client import HostClient, StepOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

SLEEPER = "import os, time\ndef handler(value):\n    time.sleep(value)\n    return os.getppid()\n"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(apart=True) as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(SLEEPER))
        yield rig


def processes(rig: Rig, match: Callable[[str], bool]) -> list[int]:
    """Return the processes of the rig's home whose command line matches."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = Path(f"/proc/{name}/environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if match(line) and (str(rig.settings.home) in line or str(rig.settings.home) in environment):
            found.append(int(name))
    return found


def zygotes_and_workers(rig: Rig) -> list[int]:
    return processes(rig, lambda line: "ropewalk_runtime.zygote" in line)


async def answers_again(rig: Rig, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                answer = await rig.call(b"0")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 200:
                return
            assert answer.status_code == 503 and answer.json()["hint"], answer.text
            await asyncio.sleep(0.1)


async def in_flight(rig: Rig) -> asyncio.Task[httpx.Response]:
    assert (await rig.call(b"0")).status_code == 200
    call = asyncio.create_task(rig.call(b"20"))
    await asyncio.sleep(0.3)
    return call


async def test_a_killed_worker(rig: Rig) -> None:
    call = await in_flight(rig)
    zygote = min(zygotes_and_workers(rig))
    for pid in zygotes_and_workers(rig):
        if pid != zygote:
            os.kill(pid, signal.SIGKILL)
    answer = await asyncio.wait_for(call, 5)
    assert answer.status_code == 503 and answer.json()["code"] == "RW-UNAVAILABLE" and answer.headers["retry-after"]
    await answers_again(rig)


async def test_a_crash_of_python_is_told_as_one(rig: Rig) -> None:
    await rig.functions.deploy(
        ADA, "ada", rig.spec("import ctypes\ndef handler():\n    ctypes.string_at(0)\n", "crash")
    )
    answer = await rig.call(b"", function="crash")
    assert (answer.status_code, answer.json()["code"]) == (500, "RW-USER-CODE") and "SIGSEGV" in answer.json()[
        "message"
    ]
    await rig.functions.deploy(ADA, "ada", rig.spec("import os\ndef handler():\n    os._exit(3)\n", "leave"))
    assert "exit code 3" in (await rig.call(b"", function="leave")).json()["message"]


async def test_a_killed_zygote_leaves_its_workers(rig: Rig) -> None:
    call = asyncio.create_task(rig.call(b"1"))
    await asyncio.sleep(0.5)
    os.kill(min(zygotes_and_workers(rig)), signal.SIGKILL)
    assert (await asyncio.wait_for(call, 10)).status_code == 200
    await answers_again(rig)


async def test_a_killed_keeper(rig: Rig) -> None:
    call = await in_flight(rig)
    for pid in processes(rig, lambda line: "ropewalk_runtime.keeper" in line and "bwrap" not in line):
        os.kill(pid, signal.SIGKILL)
    assert (await asyncio.wait_for(call, 5)).status_code == 503
    await answers_again(rig)


async def test_a_killed_host_leaves_nothing_and_comes_back(rig: Rig) -> None:
    call = await in_flight(rig)
    assert zygotes_and_workers(rig)
    await rig.kill("ropewalk_hub.host")
    assert (await asyncio.wait_for(call, 5)).status_code == 503
    async with asyncio.timeout(5):
        while zygotes_and_workers(rig):  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.05)
    await rig.start_host(apart=True)
    await answers_again(rig)


async def test_a_call_waits_for_a_host_that_is_being_restarted(rig: Rig) -> None:
    await rig.kill("ropewalk_hub.host")
    call = asyncio.create_task(rig.call(b"0"))
    await asyncio.sleep(0.5)
    await rig.start_host(apart=True)
    assert (await asyncio.wait_for(call, 20)).status_code == 200


async def test_a_killed_gateway_takes_its_workers_along(rig: Rig) -> None:
    call = await in_flight(rig)
    await rig.kill("ropewalk_hub.gateway")
    with pytest.raises(httpx.TransportError):
        await call
    async with asyncio.timeout(5):
        while len(zygotes_and_workers(rig)) > 2:  # noqa: ASYNC110 - zygotes stay, the busy worker does not
            await asyncio.sleep(0.05)
    await rig.start_gateway(apart=True)
    await answers_again(rig)


async def test_a_step_of_a_killed_host_is_told_as_lost(rig: Rig) -> None:
    started = asyncio.Event()
    order = StepOrder("long", "ada", kind="command", argv=("sleep", "30"))
    step = asyncio.create_task(rig.client.run_step(order, started.set))
    await asyncio.wait_for(started.wait(), 10)
    await rig.kill("ropewalk_hub.host")
    with pytest.raises(Unavailable):
        await asyncio.wait_for(step, 5)
    await rig.start_host(apart=True)
    again = StepOrder("again", "ada", kind="command", argv=("sh", "-c", "exit 4"))
    assert (await rig.client.run_step(again)).code == 4


async def test_steps_end_in_time_on_request_and_with_their_client(rig: Rig) -> None:
    folder = AccountPaths(rig.settings.home, "ada").files / "attempt"
    tree = ("sh", "-c", "echo begun; (setsid sleep 977 &) ; sleep 977")
    late = await rig.client.run_step(
        StepOrder("late", "ada", folder=str(folder), kind="command", argv=tree, timeout=0.5)
    )
    assert (late.reason, late.signal) == ("time", 9) and "begun" in (folder / "log").read_text()

    started = asyncio.Event()
    step = asyncio.create_task(rig.client.run_step(StepOrder("x", "ada", kind="command", argv=tree), started.set))
    await started.wait()
    await rig.client.end("x")
    assert (await asyncio.wait_for(step, 5)).reason == "ended"

    other, started = HostClient(rig.settings.run / "host.sock"), asyncio.Event()
    step = asyncio.create_task(other.run_step(StepOrder("y", "ada", kind="command", argv=tree), started.set))
    await started.wait()
    await other.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(step, 5)
    async with asyncio.timeout(5):
        while _running("sleep 977"):  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.05)


async def test_a_log_is_cut_at_its_limit() -> None:
    async with running(limits_log=10_000) as rig:
        folder = AccountPaths(rig.settings.home, "ada").files / "attempt"
        loud = ("sh", "-c", "yes line | head -c 1000000; exit 5")
        ended = await rig.client.run_step(StepOrder("loud", "ada", folder=str(folder), kind="command", argv=loud))
        assert ended.code == 5
        text = (folder / "log").read_text()
        assert 10_000 < len(text) < 10_200 and "longer than its limit" in text


async def test_accounts_end_whole(rig: Rig) -> None:
    call = await in_flight(rig)
    started = time.monotonic()
    await rig.client.end_account("ada")
    assert not zygotes_and_workers(rig) and time.monotonic() - started < 5
    assert (await asyncio.wait_for(call, 5)).status_code == 503
    await answers_again(rig)


def _running(words: str) -> bool:
    for name in os.listdir("/proc"):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if name.isdigit() and line.strip() == words:
            return True
    return False

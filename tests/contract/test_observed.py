"""What is known of calls afterwards, through a real gateway and real workers: records, figures, traces, costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import UserCodeFailed
from ropewalk_core.figures import ERROR
from ropewalk_core.model import Bundle, Call, FunctionSpec, State
from ropewalk_core.testing import ADA
from ropewalk_runtime.trace import Trace
from tests.function_rig import Rig, running

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
WORK = """
import time
import ropewalk

def handler(seconds: float = 0.0, burn: float = 0.0, bad: bool = False):
    until = time.process_time() + burn
    while time.process_time() < until:
        pass
    time.sleep(seconds)
    if bad:
        raise ValueError("no good")
    call = ropewalk.current_call()
    return {"id": call.id, "caller": call.caller, **call.carrier()}
"""
APP = """
async def handler(scope, receive, send):
    body = dict(scope["headers"]).get(b"traceparent", b"none")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


async def deploy(rig: Rig, source: str = WORK, **options: Any) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(source, **options))
    await rig.settled()


async def ask(rig: Rig, value: Any = None, account: str = "ada", **headers: str) -> httpx.Response:
    known = {"Authorization": f"Bearer {rig.token(account)}", "Content-Type": "application/json", **headers}
    return await rig.request("POST", "double--fn--ada", headers=known, content=json.dumps(value or {}).encode())


async def recorded(rig: Rig, count: int) -> list[Call]:
    """Return the latest calls that are over, oldest first, once there are so many."""
    async with asyncio.timeout(15):
        while True:
            found = [one for one in await _calls(rig) if one.ended is not None]
            if len(found) >= count:
                return found[::-1]
            await asyncio.sleep(0.05)


async def test_a_record_says_when_where_how_and_what_it_cost(rig: Rig) -> None:
    await deploy(rig)
    answers = [await ask(rig, {"burn": 0.1}), await ask(rig), await ask(rig, {"bad": True})]
    cold, warm, failed = await recorded(rig, 3)
    for call, answer in zip((cold, warm), answers, strict=False):
        assert call.id == answer.headers["x-ropewalk-call"] == answer.json()["id"]
        assert (call.state, call.status, call.code, call.caller) == (State.DONE, 200, "", "ada")
        assert call.sent == len(answer.content)
    assert (cold.cold, warm.cold) == (True, False) and cold.worker == warm.worker == failed.worker != ""
    assert cold.received == len(b'{"burn": 0.1}') and warm.received == 2
    for call in (cold, warm, failed):
        assert call.queued is not None and call.ended is not None
        assert call.queued <= call.started <= call.ended and call.gb_seconds > 0
    assert cold.waited > warm.waited == 0.0
    assert 0.1 <= cold.cpu < 5.0 and warm.cpu < 0.1
    assert (failed.state, failed.status, failed.code) == (State.FAILED, 500, "RW-USER-CODE")
    assert "no good" in failed.traceback and "ropewalk_runtime" not in failed.traceback


async def test_a_call_that_waits_for_a_worker_says_so(rig: Rig) -> None:
    await deploy(rig, max_workers=1)
    await ask(rig)
    await asyncio.gather(*(ask(rig, {"seconds": 1.0}) for _ in range(3)))
    calls = (await recorded(rig, 4))[1:]
    assert max(one.waited for one in calls) > 0.5 and len({one.worker for one in calls}) == 1
    assert all((one.took or 0.0) >= one.waited + 1.0 for one in calls)


async def test_a_call_that_no_worker_had_is_on_record_and_costs_nothing(rig: Rig) -> None:
    await deploy(rig, "import os\nif os.path.exists('broken'):\n    raise ValueError\ndef handler(): ...")
    (rig.settings.home / "accounts/ada/files/broken").touch()
    assert (await ask(rig)).status_code >= 400
    [call] = await recorded(rig, 1)
    assert (call.state, call.worker, call.cpu, call.gb_seconds) == (State.FAILED, "", 0.0, 0.0) and call.code
    found = await rig.functions.figures(ADA, "ada", "double")
    assert (found.total.calls, found.total.errors, found.total.p99) == (1, 1, None)


async def test_figures_are_those_of_the_calls(rig: Rig) -> None:
    await deploy(rig, max_workers=2, concurrency=2)
    await asyncio.gather(*(ask(rig, {"seconds": 0.05 * (number % 4)}) for number in range(20)), ask(rig, {"bad": True}))
    calls = await recorded(rig, 21)
    for window in ("hour", "day"):
        found = (await rig.functions.figures(ADA, "ada", "double", window=window)).total  # type: ignore[arg-type]
        assert (found.calls, found.errors, found.unkept) == (21, 1, 0)
        assert found.cold == sum(one.cold for one in calls)
        times = sorted(one.took or 0.0 for one in calls)
        assert found.p99 == pytest.approx(times[-1], rel=ERROR + 1e-6)
        assert found.p50 == pytest.approx(times[10], rel=ERROR + 1e-6)
        assert found.gb_seconds == pytest.approx(sum(one.gb_seconds for one in calls), rel=1e-3)
    for name in ("double", ""):
        [day] = (await rig.functions.costs(ADA, "ada", name)).days
        assert day.calls == 21 and day.cpu == pytest.approx(sum(one.cpu for one in calls), abs=1e-3)


async def test_figures_outlive_the_platform_and_go_with_their_function(rig: Rig) -> None:
    await deploy(rig)
    await ask(rig)
    await recorded(rig, 1)
    rig.functions.called.keep_now()
    await rig.restart_platform()
    assert (await rig.functions.figures(ADA, "ada", "double")).total.calls == 1
    await rig.functions.remove(ADA, "ada", "double")
    await deploy(rig)
    assert (await rig.functions.figures(ADA, "ada", "double")).total.calls == 0
    assert (await rig.functions.costs(ADA, "ada")).days[0].calls == 1


async def test_what_a_worker_makes_up_is_held(rig: Rig) -> None:
    source = """
import json, struct, gc, socket
def handler(x: int = 0):
    [sock] = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0][:1]
    head = json.dumps({"id": x, "status": 200, "type": "application/json", "cpu": float("nan"), "took": -1e308,
        "worker": "x" * 5000, "logs": ["\\ud800"], "owner": "bob"}).encode()
    sock.sendall(struct.pack("!II", len(head), 1) + head + b"1")
"""
    await deploy(rig, source)
    assert (await ask(rig, {"x": 1})).status_code == 200
    [call] = await recorded(rig, 1)
    assert call.owner == "ada" and call.worker.startswith("worker") and 0 <= call.cpu < 100
    assert call.queued is not None and call.queued <= call.started
    assert (await rig.functions.figures(ADA, "ada", "double")).total.calls >= 1


@pytest.mark.parametrize("extra", [{}, {"X-Other": "so that aiohttp reads it"}], ids=["plain", "aiohttp"])
async def test_a_trace_reaches_the_handler_and_the_record(extra: dict[str, str], rig: Rig) -> None:
    await deploy(rig)
    traced = await ask(rig, traceparent=PARENT, tracestate="a=1", **extra)
    assert traced.json()["traceparent"] == PARENT and traced.json()["tracestate"] == "a=1"
    bare, wrong = await ask(rig, **extra), await ask(rig, traceparent=PARENT.upper(), tracestate="a=1", **extra)
    assert not {"traceparent", "tracestate"} & (bare.json().keys() | wrong.json().keys())
    assert [one.traceparent for one in await recorded(rig, 3)] == [PARENT, "", ""]


async def test_a_trace_goes_through_rest_and_to_apps_and_programs(rig: Rig) -> None:
    await deploy(rig)
    body = await rig.functions.call(ADA, "ada", "double", b"{}", trace=Trace(PARENT))
    assert json.loads(body)["traceparent"] == PARENT
    forms = (
        ("asgi", {"cell.py": APP}, "cell:handler"),
        ("program", {"program": 'printf "$TRACEPARENT"'}, "program:main"),
    )
    for form, files, entry in forms:
        spec = FunctionSpec(name="double", bundle=Bundle(files=files, entry=entry, form=form))  # type: ignore[arg-type]
        await rig.functions.deploy(ADA, "ada", spec)
        await rig.settled()
        assert (await ask(rig, traceparent=PARENT)).text == PARENT


async def test_a_durable_call_keeps_the_trace_of_who_spawned_it(rig: Rig) -> None:
    await deploy(rig)
    accepted = await ask(rig, Prefer="respond-async", traceparent=PARENT, tracestate="a=1")
    assert accepted.status_code == 202
    identifier = accepted.json()["id"]
    found = await rig.desk.result(ADA, "ada", identifier, wait=15)
    assert found.body is not None and json.loads(found.body)["traceparent"] == PARENT
    assert json.loads(found.body)["tracestate"] == "a=1"
    [call] = await recorded(rig, 1)
    assert (call.durable, call.traceparent) == (identifier, PARENT)


FAILING = {
    "plain": "def handler(x: int = 0):\n    return inner(x)\n",
    "async": "async def handler(x: int = 0):\n    return inner(x)\n",
    "generator": "def handler(x: int = 0):\n    yield inner(x)\n",
    "class": "class handler:\n    def call(self, x: int = 0):\n        return inner(x)\n",
}


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("kind", FAILING)
async def test_a_failed_call_shows_the_persons_lines_alone(kind: str, concurrency: int, rig: Rig) -> None:
    source = "def inner(x):\n    return 1 / x\n\n" + FAILING[kind]
    origin = {"cell.py:1": "cell [7]:1", "cell.py:4": "cell [9]:2"}
    bundle = Bundle(files={"cell.py": source}, entry="cell:handler", origin=origin)
    spec = FunctionSpec(name="double", bundle=bundle, concurrency=concurrency)
    await rig.functions.deploy(ADA, "ada", spec)
    await rig.settled()
    with pytest.raises(UserCodeFailed) as caught:
        await rig.functions.call(ADA, "ada", "double", b'{"x": 0}')
    trace = caught.value.details["traceback"]
    files = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    assert len(files) == 2 and "cell [9]" in files[0] and "cell [7]" in files[1] and "line 2" in files[1], trace
    assert "return 1 / x" in trace and "ZeroDivisionError" in trace
    [call] = await recorded(rig, 1)
    assert call.traceback == trace


TALK = """
import time
def handler(seconds: float = 0.0, count: int = 3, bad: bool = False):
    for number in range(count):
        print("line", number)
        time.sleep(seconds)
    if bad:
        raise ValueError("no good")
"""


@pytest.mark.parametrize("options", [{}, {"concurrency": 2}], ids=["alone", "threads"])
async def test_what_a_call_prints_is_seen_while_it_runs(options: dict[str, int], rig: Rig) -> None:
    await deploy(rig, TALK, **options)
    asking = asyncio.create_task(ask(rig, {"seconds": 1.5}, **{"User-Agent": "somebody/1"}))
    running: tuple[Call, ...] = ()
    async with asyncio.timeout(20):
        while not (running and "line 0" in running[0].logs):
            running = tuple(one for one in await _calls(rig) if one.state is State.RUNNING)
            assert not asking.done(), "it was told only afterwards"
            await asyncio.sleep(0.1)
    [one] = running
    assert (one.ended, one.agent, one.cold) == (None, "somebody/1", True) and one.worker and one.queued
    followed = rig.functions.logs(ADA, "ada", "double", call=one.id, follow=True)
    first = await anext(followed)
    assert (first.text, asking.done()) == ("line 0", False)
    assert [line.text async for line in followed] == ["line 1", "line 2"]
    assert (await asking).status_code == 200
    [done] = await _calls(rig)
    assert (done.id, done.state, done.logs) == (one.id, State.DONE, "line 0\nline 1\nline 2\n")
    assert [line.text async for line in rig.functions.logs(ADA, "ada", "double", call=one.id, after=first.offset)] == [
        "line 1",
        "line 2",
    ]


async def test_all_calls_are_followed_from_now_on(rig: Rig) -> None:
    await deploy(rig, TALK)
    await ask(rig)
    await recorded(rig, 1)
    following = rig.functions.logs(ADA, "ada", "double", follow=True)
    asking = asyncio.create_task(anext(following))
    await asyncio.sleep(0.1)
    answers = [await ask(rig, {"count": 1}), await ask(rig, {"count": 1, "bad": True})]
    ids = [answers[0].headers["x-ropewalk-call"], answers[1].json()["details"]["call"]]
    async with asyncio.timeout(15):
        found = [(await asking).text, (await anext(following)).text]
    assert found == [f"{one} line 0" for one in ids]
    await following.aclose()  # type: ignore[attr-defined]
    everything = [line.text async for line in rig.functions.logs(ADA, "ada", "double")]
    assert len(everything) == 5 and everything[-2:] == found


async def test_nobody_asks_a_worker_where_nobody_looks(rig: Rig) -> None:
    await deploy(rig, TALK)
    asking = asyncio.create_task(ask(rig, {"seconds": 1.2}))
    async with asyncio.timeout(15):
        while not rig.functions.called._running:  # noqa: ASYNC110 - the gateway tells
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    [one] = rig.functions.called._running.values()
    assert (one.state, one.logs) == (State.RUNNING, "")
    await asking
    [done] = await recorded(rig, 1)
    assert done.logs.count("line") == 3


async def test_a_call_that_waits_is_seen_waiting(rig: Rig) -> None:
    await deploy(rig, max_workers=1)
    asking = [asyncio.create_task(ask(rig, {"seconds": 3.0})) for _ in range(2)]
    seen: set[State] = set()
    async with asyncio.timeout(15):
        while seen != {State.RUNNING, State.WAITING}:
            seen = {one.state for one in await _calls(rig)}
            await asyncio.sleep(0.1)
    await asyncio.gather(*asking)
    assert [one.state for one in await recorded(rig, 2)] == [State.DONE, State.DONE]
    assert rig.functions.called._running == {}


async def _calls(rig: Rig) -> tuple[Call, ...]:
    return (await rig.functions.calls(ADA, "ada", "double")).items

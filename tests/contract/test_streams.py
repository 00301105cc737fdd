"""Generators, callers that leave, and the other forms of handlers through a real gateway to real workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import UserCodeFailed
from ropewalk_core.model import Bundle, Call, FunctionSpec, State
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running
from tests.unit.test_forms import SERVER

COUNT = """
import time
def handler(count: int = 3, pause: float = 0.0, bad: int = -1, each: int = 0):
    try:
        for number in range(count):
            if number == bad:
                raise ValueError("no good")
            yield {"n": number} if not each else "x" * each
            time.sleep(pause)
    finally:
        with open("closed", "a") as file:
            file.write("closed\\n")
        print("closed")
"""
SLEEP = """
import time
def handler(seconds: float = 0.0):
    try:
        time.sleep(seconds)
        return "slept"
    finally:
        print("closed")
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


async def deploy(rig: Rig, source: str, **options: Any) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(source, **options))
    await rig.settled()


@asynccontextmanager
async def asking(rig: Rig, value: Any, path: str = "/", **headers: str) -> AsyncIterator[httpx.Response]:
    known = {"Host": rig.host_of("double--fn--ada"), "Authorization": f"Bearer {rig.token()}"}
    known |= {"Content-Type": "application/json", **headers}
    address = f"http://127.0.0.1:{rig.settings.door.people_port}{path}"
    async with (
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
        client.stream("POST", address, content=json.dumps(value).encode(), headers=known) as answer,
    ):
        yield answer


async def recorded(rig: Rig, count: int) -> list[Call]:
    """Return the latest calls that are over, once there are so many."""
    async with asyncio.timeout(15):
        while True:
            calls = (await rig.functions.calls(ADA, "ada", "double")).items
            if len(found := [one for one in calls if one.ended is not None]) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_parts_come_as_they_are_yielded(rig: Rig) -> None:
    await deploy(rig, COUNT)
    loop = asyncio.get_running_loop()
    async with asking(rig, {"count": 3, "pause": 0.5}) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["x-ropewalk-call"].startswith("call-")
        times, found = [], []
        async for line in answer.aiter_lines():
            times.append(loop.time())
            found.append(json.loads(line))
    assert found == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert times[1] - times[0] > 0.3 and times[2] - times[1] > 0.3
    [call] = await recorded(rig, 1)
    assert (call.state, call.status, call.logs) == (State.DONE, 200, "closed\n")


async def test_events_are_sent_to_who_asks_for_them(rig: Rig) -> None:
    await deploy(rig, COUNT)
    async with asking(rig, {"count": 1}, Accept="text/event-stream") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert await answer.aread() == b'data: {"n":0}\n\nevent: end\ndata: {}\n\n'
    async with asking(rig, {"bad": 1}, Accept="text/event-stream") as answer:
        first, second, _ = (await answer.aread()).decode().split("\n\n")
    assert first == 'data: {"n":0}' and second.startswith('event: error\ndata: {"code":"RW-USER-CODE"')


async def test_a_failure_in_the_middle_is_told_and_the_answer_is_not_whole(rig: Rig) -> None:
    await deploy(rig, COUNT)
    lines: list[str] = []
    with pytest.raises(httpx.RemoteProtocolError):
        async with asking(rig, {"bad": 1}) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
    assert json.loads(lines[0]) == {"n": 0}
    error = json.loads(lines[1])["error"]
    assert error["code"] == "RW-USER-CODE" and "no good" in error["details"]["traceback"]
    [call] = await recorded(rig, 1)
    assert call.state is State.FAILED and "no good" in call.traceback and call.logs == "closed\n"
    async with asking(rig, {"bad": 0}) as answer:  # before the first value it is a failure like any other
        assert answer.status_code == 500


async def test_the_port_gives_all_parts_at_once_or_the_failure(rig: Rig) -> None:
    await deploy(rig, COUNT)
    assert await rig.functions.call(ADA, "ada", "double", b'{"count": 2}') == b'{"n":0}\n{"n":1}\n'
    with pytest.raises(UserCodeFailed) as caught:
        await rig.functions.call(ADA, "ada", "double", b'{"bad": 1}')
    assert "no good" in caught.value.details["traceback"]


async def test_who_reads_slowly_holds_back_the_generator_and_nobody_else(rig: Rig) -> None:
    source = COUNT.replace('yield {"n"', 'open("made", "w").write(str(number)); yield {"n"')
    await deploy(rig, source, concurrency=2, max_workers=1)
    async with asking(rig, {"count": 100_000, "each": 10_000}) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        made, before, file = 0, -1, rig.settings.home / "accounts/ada/files/made"
        async with asyncio.timeout(15):
            while made != before:  # up to what the kernel's own buffers hold
                await asyncio.sleep(1)
                made, before = int(file.read_text() or made + 1), made  # empty: it is being written
        assert 0 < made < 5_000
        async with asking(rig, {"count": 1}) as other:
            assert json.loads(await other.aread()) == {"n": 0}
    [left] = [one for one in await recorded(rig, 2) if one.state is State.STOPPED]
    assert left.status == 499 and "caller left" in left.error and left.logs == "closed\n"


@pytest.mark.parametrize("pause", [0.01, 60.0], ids=["while it yields", "while it waits"])
async def test_a_caller_that_leaves_ends_the_generator(rig: Rig, pause: float) -> None:
    await deploy(rig, COUNT)
    async with asking(rig, {"count": 1000, "pause": pause}) as answer:
        await anext(answer.aiter_lines())
    [call] = await recorded(rig, 1)
    assert (call.state, call.status, call.logs) == (State.STOPPED, 499, "closed\n")
    async with asking(rig, {"count": 1}) as answer:
        await answer.aread()
        assert answer.headers["x-ropewalk-start"] == "warm"


async def test_a_caller_that_leaves_ends_its_call_and_the_worker_takes_the_next(rig: Rig) -> None:
    await deploy(rig, SLEEP, max_workers=1)
    assert (await rig.call(b"0")).json() == "slept"
    for _ in range(2):
        with pytest.raises(httpx.ReadTimeout):
            async with httpx.AsyncClient(trust_env=False, timeout=0.5) as client:
                headers = {"Host": rig.host_of("double--fn--ada"), "Authorization": f"Bearer {rig.token()}"}
                url = f"http://127.0.0.1:{rig.settings.door.people_port}/"
                await client.post(url, content=b"60", headers=headers | {"Content-Type": "application/json"})
        answer = await rig.call(b"0")
        assert answer.json() == "slept" and answer.headers["x-ropewalk-start"] == "warm"
    left = [one for one in await recorded(rig, 5) if one.state is State.STOPPED]
    assert [(one.status, one.logs) for one in left] == [(499, "closed\n")] * 2


async def test_a_call_that_does_not_end_ends_with_its_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk_hub.gateway.pool.GRACE", 0.5)
    await deploy(
        rig,
        "import time\ndef handler(stay: bool = False):\n    while stay:\n        try:\n            time.sleep(1)\n"
        "        except BaseException:\n            pass\n    return 1\n",
        max_workers=1,
    )
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await rig.call(b"true")
    assert (await rig.call(b"false")).json() == 1
    assert any("its worker was ended" in one.error for one in await recorded(rig, 2))


async def test_a_caller_that_leaves_the_queue_leaves_no_trace_in_it(rig: Rig) -> None:
    await deploy(rig, SLEEP, max_workers=1)
    assert (await rig.call(b"0")).json() == "slept"
    first = asyncio.create_task(rig.call(b"3"))
    await asyncio.sleep(1)
    head = f"POST / HTTP/1.1\r\nHost: {rig.host_of('double--fn--ada')}\r\nAuthorization: Bearer {rig.token()}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: 1\r\n\r\n0".encode()
    waiting = [await asyncio.open_connection("127.0.0.1", rig.settings.door.people_port) for _ in range(20)]
    for _, writer in waiting:
        writer.write(request)
    await asyncio.sleep(0.5)
    for _, writer in waiting[:19]:
        writer.close()
    assert (await first).json() == "slept" and (await waiting[19][0].readline()).startswith(b"HTTP/1.1 200")
    waiting[19][1].close()
    left = [one for one in await recorded(rig, 22) if one.state is State.STOPPED]
    assert len(left) == 19 and {one.error for one in left} == {"The caller left before the call began."}


async def test_a_stream_over_its_time_says_so(rig: Rig) -> None:
    await deploy(rig, COUNT, timeout=1.0)
    lines: list[str] = []
    with pytest.raises(httpx.RemoteProtocolError):
        async with asking(rig, {"count": 100, "pause": 0.3}) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
    assert json.loads(lines[-1])["error"]["code"] == "RW-TIMED-OUT" and len(lines) >= 3
    [call] = await recorded(rig, 1)
    assert (call.state, call.status) == (State.FAILED, 504)
    async with asking(rig, {"count": 1}) as answer:
        await answer.aread()
        assert answer.headers["x-ropewalk-start"] == "warm"


async def test_a_worker_that_dies_in_the_middle_is_told(rig: Rig) -> None:
    await deploy(rig, "import os\ndef handler():\n    yield 1\n    os._exit(3)\n")
    lines: list[str] = []
    with pytest.raises(httpx.RemoteProtocolError):
        async with asking(rig, {}) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
    assert "exit code 3" in json.loads(lines[-1])["error"]["message"]


async def test_a_class_is_started_once_for_each_worker(rig: Rig) -> None:
    source = "import os\nclass Model:\n    def start(self):\n        self.n = 0\n    def __call__(self):\n"
    source += "        self.n += 1\n        return self.n\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(source, entry="Model", max_workers=1))
    await rig.settled()
    assert [(await rig.call(b"")).json() for _ in range(3)] == [1, 2, 3]


def brought(form: Any, text: str, **options: Any) -> FunctionSpec:
    bundle = Bundle(files={"program": text}, entry="program:main", form=form)
    return FunctionSpec(name="double", bundle=bundle, **options)


async def test_a_program_runs_inside_the_walls(rig: Rig) -> None:
    text = "#!/bin/sh\ncat; pwd; ls -d /proc/[0-9]* | wc -l; ulimit -d; echo told >&2\n"
    await rig.functions.deploy(ADA, "ada", brought("program", text, folder=""))
    await rig.settled()
    answer = await rig.call(b'"x"')
    assert answer.text.startswith('"x"')
    folder, processes, memory = answer.text[3:].split()
    assert folder == str(rig.settings.home / "accounts/ada/files") and int(processes) < 8
    assert int(memory) == rig.settings.limits.memory // 1024
    [call] = await recorded(rig, 1)
    assert call.logs == "told\n"


async def test_a_program_that_listens_has_a_network_of_its_own(rig: Rig) -> None:
    seen = '"path": self.path, "routes": open("/proc/net/route").read().count("\\n")'
    text = SERVER.replace('"path": self.path', seen)
    text = text.replace('self.headers["X-A"]', '"mine"')
    await rig.functions.deploy(ADA, "ada", brought("server", text))
    await rig.settled()
    async with asking(rig, {"payload": [1]}, "/invoke?a=b") as answer:
        assert answer.status_code == 202 and answer.headers["x-mine"] == "mine"
        assert json.loads(await answer.aread()) == {
            "path": "/invoke?a=b",
            "routes": 1,
            "got": {"payload": [1]},
            "duration_ns": 1,
        }


APP = """
async def app(scope, receive, send):
    body = (await receive())["body"]
    headers = {key.decode(): value.decode() for key, value in scope["headers"]}
    hidden = [name for name in ("authorization", "cookie") if name in headers]
    said = f"{scope['method']} {scope['path']} {headers['x-ropewalk-account']} {hidden} {len(body)}"
    answer = [(b"content-type", b"text/html"), (b"x-mine", b"1"), (b"set-cookie", b"ropewalk-door=stolen")]
    answer += [(b"x-bad", b"a\\r\\nb: c"), (b"content-length", b"99999"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 418, "headers": answer})
    await send({"type": "http.response.body", "body": said.encode()})
"""


async def test_an_app_gets_requests_and_no_credentials(rig: Rig) -> None:
    bundle = Bundle(files={"cell.py": APP}, entry="cell:app", form="asgi")
    await rig.functions.deploy(ADA, "ada", FunctionSpec(name="double", bundle=bundle))
    await rig.settled()
    headers = {"Authorization": f"Bearer {rig.token()}"}
    answer = await rig.request("PUT", "double--fn--ada", "/a/b?c=d", headers=headers, content=b"12345")
    assert answer.status_code == 418 and answer.text == "PUT /a/b ada [] 5"
    assert answer.headers["content-type"] == "text/html" and answer.headers["x-mine"] == "1"
    assert not {"x-bad", "b", "set-cookie"} & set(answer.headers) and answer.headers["content-length"] == "17"
    with pytest.raises(UserCodeFailed, match="own answer has status 418: POST / ada") as caught:
        await rig.functions.call(ADA, "ada", "double", b"1")
    assert caught.value.details["call"] == (await rig.functions.calls(ADA, "ada", "double")).items[0].id

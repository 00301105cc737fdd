"""One account's calls, however many and large, leave room for everybody else's; what has no room gets 429."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from ropewalk_core.errors import Limited
from ropewalk_core.model import AccountRule, Bundle, FunctionRoute, FunctionSpec, Snapshot
from ropewalk_core.settings import Limits, Settings
from ropewalk_hub.gateway.app import Gateway
from ropewalk_hub.gateway.room import FLOOR, SMALL, Place, Room
from ropewalk_runtime.frames import MAX_HEADER, pack
from ropewalk_runtime.served import FRAME

PAYLOAD = 2 * 2**20
LARGEST = PAYLOAD + MAX_HEADER
PEOPLE = ("ada", "bob", "cleo")


class Stage:
    """A gateway whose functions answer when they are let."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, limits=Limits(payload=PAYLOAD))
        self.gateway = Gateway(self.settings)
        self.key = ECKey.generate_key("P-256", parameters={"kid": "test"})
        self.let, self.arrived = asyncio.Event(), 0
        self.port = 0

    async def function(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.arrived += 1
        await self.let.wait()
        return web.Response(body=pack({"status": 200}, str(len(body)).encode()), content_type=FRAME)

    def know(self, there: int) -> None:
        spec = FunctionSpec(name="f", bundle=Bundle(files={}, entry="c:h"))
        url = f"http://127.0.0.1:{there}"
        self.gateway.directory.take(
            Snapshot(
                cursor=1,
                keys=KeySet([self.key]).as_dict(private=False),
                accounts={name: AccountRule(subject=name, active=True) for name in PEOPLE},
                functions=tuple(
                    FunctionRoute(owner=name, name="f", revision="r", spec=spec, url=url) for name in PEOPLE
                ),
            )
        )

    def token(self, account: str) -> str:
        claims: dict[str, str | int] = {
            "iss": self.settings.door.origin,
            "sub": account,
            "aud": "functions",
            "account": account,
        }
        return jwt.encode(
            {"alg": "ES256", "kid": "test"}, claims | {"exp": int(time.time()) + 600}, self.key, ["ES256"]
        )

    async def call(
        self, account: str, payload: int | bytes | AsyncIterator[bytes], http: aiohttp.ClientSession, **more: str
    ) -> tuple[int, str, str]:
        headers = {
            "Host": f"f--fn--{account}.{self.settings.door.people}:{self.settings.door.people_port}",
            "Authorization": f"Bearer {self.token(account)}",
            **more,
        }
        data = bytes(payload) if isinstance(payload, int) else payload
        async with http.post(f"http://127.0.0.1:{self.port}/", data=data, headers=headers) as answer:
            return answer.status, answer.headers.get("Retry-After", ""), await answer.text()


async def served(application: web.Application) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, int(runner.addresses[0][1])


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    (tmp_path / "run").mkdir()
    one = Stage(tmp_path)
    behind = web.Application(client_max_size=2**30)
    behind.router.add_route("*", "/{path:.*}", one.function)
    function, there = await served(behind)
    gateway, one.port = await served(one.gateway.application())
    one.know(there)
    yield one
    one.let.set()
    await gateway.cleanup()
    await function.cleanup()


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
async def test_many_slow_large_calls_of_one_account_are_refused_and_others_answered(stage: Stage) -> None:
    fit = 3 * LARGEST // PAYLOAD
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        calls = [asyncio.create_task(stage.call("ada", PAYLOAD, http)) for _ in range(40)]
        async with asyncio.timeout(20):
            while sum(one.done() for one in calls) < 40 - fit or stage.arrived < fit:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        small = [asyncio.create_task(stage.call("ada", 1, http)) for _ in range(FLOOR + 1)]
        other = asyncio.create_task(stage.call("bob", PAYLOAD, http))
        async with asyncio.timeout(20):
            while stage.arrived < fit + FLOOR + 1 or not any(one.done() for one in small):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        stage.let.set()
        assert Counter([(await one)[0] for one in small]) == {200: FLOOR, 429: 1}, "a few small ones always have room"
        told = [await one for one in calls]
        assert Counter(status for status, _, _ in told) == {200: fit, 429: 40 - fit}
        assert all(wait == "1" and "RW-LIMITED" in text for status, wait, text in told if status == 429)
        assert all(text == str(PAYLOAD) for status, _, text in told if status == 200)
        assert (await other)[::2] == (200, str(PAYLOAD))
        assert (await stage.call("ada", PAYLOAD, http))[0] == 200, "the room is given back"


async def test_a_payload_that_does_not_say_its_size_is_taken_for_the_largest(stage: Stage) -> None:
    stage.let.set()
    enough = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await enough.wait()

    fit = 3 * LARGEST // PAYLOAD
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        calls = [asyncio.create_task(stage.call("ada", slow(), http)) for _ in range(fit + 5)]
        async with asyncio.timeout(10):
            while sum(one.done() for one in calls) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        enough.set()
        assert Counter([(await one)[0] for one in calls]) == {200: fit, 429: 5}


async def test_a_compressed_payload_is_taken_for_the_largest(stage: Stage) -> None:
    small = gzip.compress(bytes(PAYLOAD - 1))
    fit = 3 * LARGEST // PAYLOAD
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        more = {"Content-Encoding": "gzip"}
        calls = [asyncio.create_task(stage.call("ada", small, http, **more)) for _ in range(40)]
        async with asyncio.timeout(20):
            while sum(one.done() for one in calls) + stage.arrived < 40:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        stage.let.set()
        assert Counter([(await one)[::2] for one in calls if (await one)[0] == 200]) == {(200, str(PAYLOAD - 1)): fit}


async def test_a_third_account_is_answered_while_two_hold_all_the_room(stage: Stage) -> None:
    enough = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await enough.wait()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        calls = [asyncio.create_task(stage.call(name, slow(), http)) for name in ("ada", "bob") for _ in range(12)]
        small = [asyncio.create_task(stage.call(name, 1, http)) for name in ("ada", "bob") for _ in range(200)]
        async with asyncio.timeout(20):
            while not any(one.done() for one in small):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        stage.let.set()
        for _ in range(2 * FLOOR):
            assert (await stage.call("cleo", SMALL, http))[0] == 200
        enough.set()
        assert {status for status, _, _ in await asyncio.gather(*calls, *small)} == {200, 429}


def rooms() -> Room:
    return Room(Settings(home=Path("/home"), limits=Limits(payload=PAYLOAD)))


async def test_large_answers_wait_for_each_other() -> None:
    room = rooms()
    with room.call("ada", 0) as first, room.call("ada", 0) as second, room.call("bob", 0) as other:
        for _ in range(3):
            await first.answer(LARGEST)
        await second.answer(SMALL)  # it is paid for
        waiting = [asyncio.create_task(second.answer(LARGEST))]
        for _ in range(2):  # what is one's own is full, and what is for all is not
            await asyncio.wait_for(other.answer(LARGEST), 1)
        waiting.append(asyncio.create_task(other.answer(LARGEST)))
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in waiting)
        first.leave()
        async with asyncio.timeout(1):
            await asyncio.gather(*waiting)


async def test_answers_have_room_in_turn_and_who_holds_least_comes_first() -> None:
    room, order, little = rooms(), list[str](), 2 * SMALL

    async def answer(place: Place, size: int, name: str) -> None:
        await place.answer(size)
        order.append(name)

    with ExitStack() as stack:
        held = [(one, stack.enter_context(room.call("ada", 0))) for one in (LARGEST, LARGEST, LARGEST - little, little)]
        for size, place in held:
            await place.answer(size)
        bob, cleo, gone = (stack.enter_context(room.call(name, 0)) for name in ("bob", "cleo", "cleo"))
        await bob.answer(2 * LARGEST)
        asked = ((gone, LARGEST, "gone"), (cleo, LARGEST, "large"), (bob, little, "bob's"), (cleo, little, "cleo's"))
        waiting = [asyncio.create_task(answer(*one)) for one in asked]
        await asyncio.sleep(0.05)
        waiting.pop(0).cancel()
        held[3][1].leave()
        await asyncio.sleep(0.05)
        assert order == [], "a little one does not overtake the large one before it"
        held[0][1].leave()
        held[1][1].leave()
        async with asyncio.timeout(1):
            await asyncio.gather(*waiting)
        assert order == ["large", "cleo's", "bob's"]


def test_a_call_that_ends_however_gives_its_room_back() -> None:
    room = rooms()
    for _ in range(100):
        with pytest.raises(ZeroDivisionError), room.call("ada", 3 * LARGEST):
            raise ZeroDivisionError
    with room.call("ada", 3 * LARGEST), pytest.raises(Limited), room.call("ada", SMALL + 1):
        pass

"""Calls that the gateway sends into the cluster: what goes along, what comes back, and what is never sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from ropewalk_core.errors import (
    Limited,
    OutOfMemory,
    RopewalkError,
    TimedOut,
    TooLarge,
    Unavailable,
    UserCodeFailed,
)
from ropewalk_core.model import Bundle, FunctionRoute, FunctionSpec
from ropewalk_core.settings import Limits, Settings
from ropewalk_hub.gateway.link import worker_error
from ropewalk_hub.gateway.remote import Remote
from ropewalk_hub.gateway.room import Room
from ropewalk_runtime import served, wire
from ropewalk_runtime.frames import MAX_HEADER, pack
from ropewalk_runtime.served import FRAME, FRAMES

HEADER = {"type": "application/json", "query": "a=%26&b=1", "caller": "ada", "call": "call-1"}
Handle = Callable[[web.Request], Awaitable[web.Response]]
NOTE: Any = SimpleNamespace(began=lambda *_: None, exchange=None, sent=0)


class There(AbstractResolver):
    """Leads every name to this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=6, flags=0)]

    async def close(self) -> None: ...


class Stage:
    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.peers: list[object] = []
        self.answer: Handle = framed({"status": 200, "type": "application/json", "age": 100.0}, b"42")
        self.port = 0
        settings = Settings(home=Path("/home"), limits=Limits(payload=1000))
        self.remote, self.room = Remote(settings, There()), Room(settings)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.peers.append(request.transport and request.transport.get_extra_info("peername"))
        self.bodies.append(await request.read())
        return await self.answer(request)

    async def call(self, body: bytes = b"21", more: dict[str, str] | None = None, **changes: Any) -> Any:
        spec = FunctionSpec(name="f", bundle=Bundle(files={}, entry="c:h"), **changes)
        url = f"http://fn--f.space.svc:{self.port}"
        route = FunctionRoute(owner="ada", name="f", revision="r", spec=spec, url=url)
        with self.room.call("ada", len(body)) as place:
            return await self.remote.call(route, HEADER | (more or {}), body, place, lambda *_: None, NOTE)


def framed(header: dict[str, Any], body: bytes = b"") -> Handle:
    return plain(200, pack(header, body), FRAME)


def plain(status: int, body: bytes = b"", kind: str = "text/plain") -> Handle:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, content_type=kind)

    return answer


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    one = Stage()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.port = runner.addresses[0][1]
    yield one
    await one.remote.close()
    await runner.cleanup()


async def test_a_call_goes_with_its_headers_and_nobodys_credentials(stage: Stage) -> None:
    outcome = await stage.call()
    [request] = stage.seen
    assert (outcome.body, outcome.cold, stage.bodies) == (b"42", False, [b"21"])
    assert (request.method, request.raw_path) == ("POST", "/?a=%26&b=1")
    known = {"Host", "Accept", "Content-Type", "Content-Length", "X-Ropewalk-Account", "X-Ropewalk-Call"}
    assert set(request.headers) <= known | {"Accept-Encoding"}
    assert (request.headers["X-Ropewalk-Account"], request.headers["X-Ropewalk-Call"]) == ("ada", "call-1")


async def test_a_server_younger_than_the_call_was_started_for_it(stage: Stage) -> None:
    stage.answer = framed({"status": 200, "age": 0.0}, b"1")
    assert (await stage.call()).cold


async def test_a_handlers_failure_comes_with_its_lines(stage: Stage) -> None:
    facts = {"code": "RW-USER-CODE", "message": "The function raised ValueError.", "details": {"traceback": "line 1"}}
    stage.answer = framed({"error": facts, "logs": "x"})
    outcome = await stage.call()
    error = worker_error(outcome.header, 0, 0)
    assert isinstance(error, UserCodeFailed) and error.details["traceback"] == "line 1"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (framed({"error": {"code": "RW-LIMITED", "message": "100 calls wait already."}}), Limited),
        (framed({"error": {"code": "RW-UNAVAILABLE", "message": "gone"}}), Unavailable),
        (plain(503, b"pending request queue full"), Limited),
        (plain(503, b"upstream connect error"), Unavailable),
        (plain(504), TimedOut),
        (plain(502), Unavailable),
        (plain(404), Unavailable),
        (plain(413), TooLarge),
        (plain(431), TooLarge),
        (plain(200, b"not a frame", FRAME), UserCodeFailed),
        (plain(200, pack({}, b"x" * 1001), FRAME), UserCodeFailed),
        (plain(200, b"x" * (5 * 2**20), FRAME), TooLarge),
    ],
)
async def test_what_comes_from_between_is_told_in_our_words(
    stage: Stage, answer: Handle, kind: type[RopewalkError]
) -> None:
    stage.answer = answer
    with pytest.raises(kind) as caught:
        await stage.call()
    assert not isinstance(caught.value, OutOfMemory) and len(stage.seen) == 1


async def test_only_what_was_not_sent_is_sent_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    stage.answer = broken
    with pytest.raises(Unavailable) as caught:
        await stage.call()
    assert "may have run" in caught.value.hint and len(stage.seen) == 1

    monkeypatch.setattr("ropewalk_hub.gateway.remote._BETWEEN", 0.05)
    stage.port = 1  # nobody listens there
    with pytest.raises(Unavailable, match="cannot be reached"):
        await stage.call()


async def test_a_function_that_never_answers_times_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    monkeypatch.setattr("ropewalk_hub.gateway.remote._START_PATIENCE", 0.1)
    stage.answer = silent
    with pytest.raises(TimedOut):
        await stage.call(timeout=0.2)


async def test_an_answer_that_waits_for_room_is_not_lost_when_its_time_is_over(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ropewalk_hub.gateway.remote._START_PATIENCE", 0.2)
    stage.answer = framed({"status": 200}, b"42")
    monkeypatch.setattr("ropewalk_hub.gateway.room.SMALL", 1)
    with stage.room.call("ada", 0) as other:
        for _ in range(3):
            await other.answer(1000 + MAX_HEADER)
        call = asyncio.create_task(stage.call(timeout=0.3))
        await asyncio.sleep(1.0)
        assert not call.done()
        other.leave()
        assert (await call).body == b"42"


def chunked(*frames: bytes, whole: bool = True) -> Handle:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": FRAMES})
        await response.prepare(request)
        for one in frames:
            await response.write(one)
        if not whole and request.transport is not None:
            request.transport.abort()
        return response

    return answer  # type: ignore[return-value]


HEAD = pack({"op": "head", "status": 200, "type": "application/x-ndjson", "values": True, "age": 100.0})


async def parts_of(outcome: Any) -> bytes:
    found = b""
    while (data := await outcome.flow.next()) is not None:
        found += data
    return found


async def test_parts_come_through_however_they_are_cut(stage: Stage) -> None:
    data = HEAD + pack({"op": "part"}, b"1\n") + pack({"op": "part"}, b"2\n") + pack({"op": "end", "logs": "x"})
    for size in (3, 50, 1000):
        stage.answer = chunked(*(data[start : start + size] for start in range(0, len(data), size)))
        outcome = await stage.call()
        assert outcome.header["type"] == "application/x-ndjson"
        assert await parts_of(outcome) == b"1\n2\n" and outcome.flow.last["logs"] == "x"


@pytest.mark.parametrize(
    ("frames", "whole", "kind"),
    [
        ((HEAD, pack({"op": "part"}, b"1")), True, Unavailable),
        ((HEAD, pack({"op": "part"}, b"1")), False, Unavailable),
        ((HEAD, b"not a frame"), True, UserCodeFailed),
        ((HEAD, pack({"op": "part"}, b"x" * 100_000)), True, UserCodeFailed),
    ],
    ids=["no end", "cut", "nonsense", "too large a part"],
)
async def test_parts_that_do_not_end_are_a_failure(
    stage: Stage, frames: tuple[bytes, ...], whole: bool, kind: type[RopewalkError]
) -> None:
    stage.answer = chunked(*frames, whole=whole)
    with pytest.raises(kind):
        await parts_of(await stage.call())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "RW-UNAVAILABLE", "message": "The worker that ran this call was ended."}, Unavailable),
        ({"code": "RW-OUT-OF-MEMORY", "message": "more"}, OutOfMemory),
        ({"code": "RW-LIMITED", "message": "no"}, UserCodeFailed),
    ],
    ids=["ended", "memory", "nothing that can come in the middle"],
)
async def test_how_parts_ended_means_what_it_means_on_one_machine(
    stage: Stage, error: dict[str, Any], kind: type[RopewalkError]
) -> None:
    stage.answer = chunked(HEAD, pack({"op": "part"}, b"1"), pack({"op": "end", "error": error}))
    outcome = await stage.call()
    assert await parts_of(outcome) == b"1"
    spec = FunctionSpec(name="f", bundle=Bundle(files={}, entry="c:h"))
    route = FunctionRoute(owner="ada", name="f", revision="r", spec=spec, url="http://there")
    assert type(stage.remote.reported(route, outcome.flow.last)) is kind
    assert stage.remote.reported(route, {}) is None


@pytest.mark.parametrize("after", [b"", b"more", None], ids=["an end", "more", "no end"])
async def test_an_answer_in_parts_is_read_to_its_end_so_that_its_connection_is_used_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, after: bytes | None
) -> None:
    monkeypatch.setattr("ropewalk_hub.gateway.remote._TO_END", 0.5)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": FRAMES})
        await response.prepare(request)
        await response.write(HEAD + pack({"op": "part"}, b"1") + pack({"op": "end"}))
        await asyncio.sleep(0.1 if after is not None else 5)
        if after:
            await response.write(after)
            await asyncio.sleep(5)
        return response

    stage.answer = answer  # type: ignore[assignment]
    for _ in range(3):
        assert await parts_of(await stage.call()) == b"1"
    assert len(set(stage.peers)) == (1 if after == b"" else 3)


async def test_who_leaves_closes_the_connection_and_says_so(stage: Stage) -> None:
    gone = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": FRAMES})
        await response.prepare(request)
        await response.write(HEAD)
        try:
            while True:
                await response.write(pack({"op": "part"}, b"x"))
                await asyncio.sleep(0.01)
        except ConnectionError:
            gone.set()
        return response

    stage.answer = answer  # type: ignore[assignment]
    outcome, told = await stage.call(), list[str]()
    assert await outcome.flow.next()
    outcome.flow.leave(lambda said, _last: told.append(said))
    await asyncio.wait_for(gone.wait(), 5)
    assert len(told) == 1


async def test_a_trace_goes_on_to_the_functions_server(stage: Stage) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await stage.call(more={"traceparent": parent, "tracestate": "a=1"})
    await stage.call()
    assert [one.headers.get("traceparent") for one in stage.seen] == [parent, None]
    told = served.told(wire.Request("POST", "/", {"traceparent": parent, "tracestate": "a=1"}, b"", True), "", True)
    assert (told["traceparent"], told["tracestate"]) == (parent, "a=1")
    assert "traceparent" not in served.told(wire.Request("POST", "/", {"traceparent": "x"}, b"", True), "", True)

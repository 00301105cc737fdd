"""The gateway's side of durable calls against a played platform: what is carried, reported, kept and let go of."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from pydantic import TypeAdapter

from ropewalk_core.durable import Report, Wish, Work, WorkPage
from ropewalk_core.errors import Limited, RopewalkError, TooLarge, Unavailable, UserCodeFailed
from ropewalk_core.model import Bundle, Call, FunctionRoute, FunctionSpec
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway import durable
from ropewalk_hub.gateway.callers import Asking
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.durable import Durables
from ropewalk_hub.gateway.flow import Streamed
from ropewalk_hub.gateway.functions import Asked, Functions, Reply
from ropewalk_hub.gateway.gathered import gathered
from ropewalk_hub.gateway.pool import Outcome
from ropewalk_hub.gateway.records import Note
from ropewalk_hub.gateway.room import Room
from ropewalk_hub.gateway.sent import Sent
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime.handler import CALL_TYPE
from ropewalk_runtime.parts import PARTS_TYPE

ID = "double.1jxk3v0a9zqm4t7rcd"
SPEC = FunctionSpec(name="double", bundle=Bundle(files={}, entry="c:h"))
ROUTE = FunctionRoute(owner="ada", name="double", revision="r1", spec=SPEC)
Answer = Callable[[], Awaitable[bytes]]


class Played:
    """The platform, which hands out the pages it is given and may keep its thanks back; and a function."""

    def __init__(self, home: Path, longest: int = 100) -> None:
        self.pages: asyncio.Queue[WorkPage] = asyncio.Queue()
        self.asked: list[dict[str, Any]] = []
        self.reports: list[Report] = []
        self.thanks, self.away = asyncio.Event(), False
        self.thanks.set()
        self.answers: list[Answer] = []
        self.begun = self.canceled = 0
        me = cast(Any, self)
        self.durables = Durables(me, me, Room(Settings(home=home)), longest)

    def function(self, owner: str, name: str) -> FunctionRoute:
        return ROUTE

    def admit(self, owner: str, name: str, asking: Asking) -> tuple[FunctionRoute, Caller]:
        assert asking.caller is not None
        return ROUTE, asking.caller

    async def call(self, *_: Any) -> Reply:
        answer = self.answers[self.begun]
        self.begun += 1
        try:
            return Reply(await answer(), CALL_TYPE, "call-1", "r1", False)
        except asyncio.CancelledError:
            self.canceled += 1
            raise

    async def exchange(self, method: str, path: str, content: bytes = b"", *, wait: float = 0.0) -> bytes:
        if path.endswith("/take"):
            self.asked.append(json.loads(content))
            return (await self.pages.get()).model_dump_json().encode()
        self.reports += TypeAdapter(list[Report]).validate_json(content)
        if self.away:
            raise Unavailable("killed after it wrote that down")
        await self.thanks.wait()
        return b""

    def hand_out(self, attempt: int) -> None:
        work = Work(id=ID, attempt=attempt, owner="ada", function="double", caller="ada", payload=b"21")
        self.pages.put_nowait(WorkPage(work=(work,)))

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not met():  # noqa: ASYNC110 - several parts move at once
                await asyncio.sleep(0.001)


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[Played]:
    one = Played(tmp_path)
    tasks = [asyncio.create_task(one.durables.carry()), asyncio.create_task(one.durables.report())]
    yield one
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await one.durables.close()


def failing(error: RopewalkError) -> Answer:
    async def answer() -> bytes:
        raise error

    return answer


def held(event: asyncio.Event, body: bytes = b"42") -> Answer:
    async def answer() -> bytes:
        await event.wait()
        return body

    return answer


@pytest.mark.parametrize("away", [False, True], ids=["late", "killed"])
async def test_a_retry_that_comes_before_the_thanks_for_a_report_is_held_until_its_own(
    played: Played, away: bool
) -> None:
    end = asyncio.Event()
    played.answers = [failing(Unavailable("lost")), held(end)]
    played.away = away
    if not away:
        played.thanks.clear()
    played.hand_out(1)
    await played.until(lambda: len(played.reports) >= 1)
    played.hand_out(2)  # it was tried again at once, and this answer came first
    await played.until(lambda: played.begun == 2)
    played.away = False
    played.thanks.set()
    await asyncio.sleep(0.2)
    played.pages.put_nowait(WorkPage())
    await played.until(lambda: len(played.asked) == 4)
    assert played.asked[3]["holding"] == [ID]  # else it would be taken for one that never came, and run twice
    end.set()
    await played.until(lambda: played.reports[-1].attempt == 2)
    assert played.reports[-1].body == b"42" and not played.canceled
    played.pages.put_nowait(WorkPage())
    await played.until(lambda: len(played.asked) == 5)
    assert played.asked[4]["holding"] == []


async def test_a_result_that_is_too_large_is_not_kept(played: Played) -> None:
    async def answer() -> bytes:
        return b"x" * 101

    played.answers = [answer]
    played.hand_out(1)
    await played.until(lambda: len(played.reports) == 1)
    [report] = played.reports
    assert report.body == b"" and report.problem is not None and report.problem["code"] == "RW-TOO-LARGE"
    assert report.call == "call-1" and report.revision == "r1"


async def test_a_cancel_is_heard_also_while_there_is_room_for_no_more(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "ROOM", 1)
    end = asyncio.Event()
    played.answers = [held(end), held(end)]
    played.hand_out(1)
    await played.until(lambda: len(played.asked) == 2)
    assert played.asked[1]["room"] == 0
    played.pages.put_nowait(WorkPage(stop=(ID,)))
    await played.until(lambda: played.canceled == 1 and len(played.asked) == 3)
    assert (played.asked[2]["holding"], played.asked[2]["room"]) == ([], 1)
    played.hand_out(2)
    await played.until(lambda: len(played.asked) == 4)
    end.set()  # a place that comes free is told at once
    await played.until(lambda: len(played.asked) == 5)
    assert played.asked[4]["room"] == 1


async def test_arguments_that_are_too_large_do_not_travel(played: Played) -> None:
    with pytest.raises(TooLarge) as caught:
        await played.durables.accept(Wish(owner="ada", function="double", caller="ada", payload=b"x" * 101))
    assert caught.value.field == "limits.durable_payload" and not played.durables._asked


async def test_who_waits_for_results_takes_nothing_from_snapshots() -> None:
    end, all_taken, waiting = asyncio.Event(), asyncio.Event(), 0

    async def platform(request: web.Request) -> web.Response:
        nonlocal waiting
        if request.path == "/slow":
            waiting += 1
            if waiting == 100:  # as many as connections: the others wait for one
                all_taken.set()
            await end.wait()
        return web.Response(text="1")

    application = web.Application()
    application.router.add_get("/{path:.*}", platform)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:  # short: a socket's path has at most 107 bytes
        settings = Settings(home=Path(folder))
        (settings.run / "gateway").mkdir(parents=True)
        directory = Directory(settings)
        try:
            await web.UnixSite(runner, str(settings.run / "gateway" / "platform.sock")).start()
            slow = [asyncio.create_task(directory.exchange("GET", "/slow", wait=9, apart=True)) for _ in range(150)]
            async with asyncio.timeout(10):
                await all_taken.wait()
                assert await directory.exchange("GET", "/quick") == b"1"
            end.set()
            await asyncio.gather(*slow)
        finally:
            await directory.close()
            await runner.cleanup()


async def test_one_account_has_so_many_who_ask(played: Played) -> None:
    with ExitStack() as asking:
        for _ in range(durable.ASKERS):
            asking.enter_context(played.durables.asking("ada"))
        with pytest.raises(Limited), played.durables.asking("ada"):
            pass
        with played.durables.asking("bob"):
            pass
    with played.durables.asking("ada"):
        pass
    assert not played.durables._askers


# Answers in parts


class Parts:
    """Parts that came already."""

    until, last = 0.0, None

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)

    async def next(self) -> bytes | None:
        return self.parts.pop(0) if self.parts else None

    def leave(self, left: Any) -> None: ...


def streamed(*parts: bytes, failure: RopewalkError | None = None) -> Streamed:
    said = None if failure is None else failure.problem()
    return Streamed(Parts(*parts), PARTS_TYPE, True, lambda _last, _error: said, lambda _said, _last: None)


async def test_what_it_failed_with_is_what_we_say_and_not_what_its_parts_say() -> None:
    assert await gathered(streamed(b'{"value":1}\n', b'{"value":2}\n'), PARTS_TYPE, "", 100) == (
        b"[1,2]",
        "application/json",
    )
    for failure in (Unavailable("lost"), Limited("full")):
        with pytest.raises(type(failure)):
            await gathered(streamed(b'{"value":1}\n', failure=failure), PARTS_TYPE, "", 100)
    for forged in (b'{"error":{"code":"RW-LIMITED","details":{"retry_after":NaN}}}\n', b'{"error":{}}\n'):
        with pytest.raises(UserCodeFailed, match="cannot be read"):
            await gathered(streamed(b'{"value":1}\n', forged), PARTS_TYPE, "", 100)


class Pooled:
    """What is around `Functions`: a pool whose worker gives one outcome, and the records."""

    def __init__(self, home: Path, header: dict[str, Any], flow: Parts | None = None) -> None:
        self.outcome, self.kept = Outcome(header, b"", False, flow), list[Note]()
        me = cast(Any, self)
        self.functions = Functions(Directory(Settings(home=home)), me, me, me, Sent(Settings(home=home)))

    def get(self, route: FunctionRoute) -> Pooled:
        return self

    def memory(self, route: FunctionRoute) -> int:
        return 0

    def open(self, note: Note) -> None: ...

    def add(self, note: Note) -> None:
        self.kept.append(note)

    async def call(self, *_: Any) -> Outcome:
        return self.outcome

    async def ask(self, **said: Any) -> Reply:
        caller = Caller("ada", "", "", 0, 0.0)
        return await self.functions.call(ROUTE, caller, b"", Asked(**said), cast(Any, None))


async def test_an_answer_that_begins_with_its_failure_gives_its_worker_back(tmp_path: Path) -> None:
    """No worker of ours says that, but code can write into its socket."""
    gone: list[str] = []

    class Flow(Parts):
        def leave(self, left: Any) -> None:
            gone.append("left")

    said = {"code": "RW-USER-CODE", "message": "no"}
    with pytest.raises(UserCodeFailed):
        await Pooled(tmp_path, {"op": "head", "error": said}, Flow()).ask()
    assert gone == ["left"]


@pytest.mark.parametrize("half", ["\ud800", "\udfff" * 3])
async def test_no_text_of_a_worker_keeps_records_from_the_platform(half: str, tmp_path: Path) -> None:
    done = Pooled(tmp_path, {"status": 200, "logs": half})
    await done.ask()
    said = {"code": "RW-USER-CODE", "message": half, "hint": half, "field": half, "details": {"traceback": half}}
    failed = Pooled(tmp_path, {"error": said, "logs": half})
    with pytest.raises(UserCodeFailed) as caught:
        await failed.ask()
    caught.value.message.encode()
    for note in (*done.kept, *failed.kept):
        assert Call.model_validate_json(json.dumps(note.record())).function == ROUTE.name


async def test_the_record_of_an_app_has_the_status_that_it_answered(tmp_path: Path) -> None:
    one = Pooled(tmp_path, {"status": 404, "type": "text/plain"})
    assert (await one.ask(http={})).status == 404 and one.kept[0].status == 404
    one = Pooled(tmp_path, {"status": 503}, Parts())
    reply = await one.ask(http={})
    assert reply.parts is not None and await reply.parts.next() is None
    assert one.kept[0].status == 503

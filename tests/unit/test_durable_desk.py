"""The desk of durable calls over a real journal: kills at any moment, twice the same word, limits, pages, time."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ropewalk_core import settings as settings_module
from ropewalk_core.durable import DurableDesk, Report, Wish, Work, desk, shelves
from ropewalk_core.errors import (
    BadInput,
    Conflict,
    Limited,
    NotFound,
    RopewalkError,
    StorageFull,
    TooLarge,
    Unavailable,
    UserCodeFailed,
)
from ropewalk_core.journal import Journal, Remove
from ropewalk_core.model import Bundle, DurableCall, FunctionRoute, FunctionSpec, State
from ropewalk_core.settings import Settings
from ropewalk_core.testing import ADA
from tests.clock import Hands


def spec_of(name: str = "double", **changes: Any) -> FunctionSpec:
    return FunctionSpec(name=name, bundle=Bundle(files={}, entry="cell:handler"), **changes)


class Desks:
    """A desk, and the next one on the same journal after a kill."""

    def __init__(self, home: Path, clock: Hands, **limits: Any) -> None:
        base = settings_module.load(home, environ={})
        self.settings: Settings = replace(base, limits=replace(base.limits, **limits))
        self.clock, self.home = clock, home
        self.routes = {name: spec_of(name, max_workers=2) for name in ("double", "double-x", "triple")}
        self.active = True
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.home / "journal.db", now=self.clock.wall)
        self.desk = DurableDesk(
            self.settings, self.journal, self.clock, route=self.route, active=lambda account: self.active
        )

    def route(self, owner: str, name: str) -> FunctionRoute | None:
        spec = self.routes.get(name)
        return FunctionRoute(owner=owner, name=name, revision="r", spec=spec) if spec else None

    def kill(self) -> None:
        self.journal.close()
        self.open()

    async def spawn(self, function: str = "double", payload: bytes = b"21", key: str = "") -> DurableCall:
        return await self.desk.spawn(ADA, "ada", function, payload, key=key)

    async def take(self, life: str = "life", holding: tuple[str, ...] = (), room: int = 9) -> tuple[Work, ...]:
        return (await self.page(life, holding, room)).work

    async def page(self, life: str = "life", holding: tuple[str, ...] = (), room: int = 9) -> Any:
        """Take without waiting: time stands still, so what does not come at once does not come."""
        taking = asyncio.ensure_future(self.desk.take(life, holding, room))
        for _ in range(30):
            if taking.done():
                return taking.result()
            await asyncio.sleep(0.001)
        self.clock.now += desk.PATIENCE + 1
        self.desk._tell()
        return await taking

    async def answer(self, work: Work, body: bytes = b"42") -> None:
        await self.desk.report([Report(id=work.id, attempt=work.attempt, owner=work.owner, body=body)])

    async def fail(self, work: Work, error: RopewalkError) -> None:
        report = Report(id=work.id, attempt=work.attempt, owner=work.owner, problem=error.problem())
        await self.desk.report([report])

    async def state(self, call: DurableCall) -> State:
        return (await self.desk.get(ADA, "ada", call.id)).status.state


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Desks]:
    made = Desks(tmp_path, Hands())
    yield made
    made.journal.close()


async def test_a_call_from_its_acceptance_to_its_result(desks: Desks) -> None:
    call = await desks.spawn()
    desks.kill()
    assert await desks.state(call) is State.WAITING
    [work] = await desks.take()
    assert (work.payload, work.attempt, work.caller, work.content_type) == (b"21", 1, "ada", "application/json")
    assert await desks.state(call) is State.RUNNING and (await desks.desk.result(ADA, "ada", call.id)).body is None
    await desks.answer(work)
    desks.kill()
    found = await desks.desk.result(ADA, "ada", call.id)
    assert (found.body, found.call.status.state) == (b"42", State.DONE)
    assert desks.journal.get(shelves.INPUT, "ada", call.id) is None  # nobody needs it any more
    await desks.answer(work, b"43")
    await desks.fail(work, Unavailable("late"))
    assert (await desks.desk.result(ADA, "ada", call.id)).body == b"42"


async def test_who_waits_hears_of_the_end(desks: Desks) -> None:
    call = await desks.spawn()
    waiting = asyncio.ensure_future(desks.desk.result(ADA, "ada", call.id, wait=5.0))
    [work] = await desks.take()
    await desks.answer(work)
    assert (await asyncio.wait_for(waiting, 1.0)).body == b"42"


async def test_a_killed_gateway_costs_an_attempt_and_a_killed_platform_none(desks: Desks) -> None:
    call = await desks.spawn()
    [work] = await desks.take("first")
    desks.kill()
    assert await desks.take("first", (call.id,)) == ()  # it carries it still
    await desks.answer(work)
    assert (await desks.desk.result(ADA, "ada", call.id)).body == b"42"

    desks.routes["double"] = spec_of(retry_wait=60.0)
    call = await desks.spawn()
    await desks.take("first")
    assert await desks.take("second") == ()
    seen = await desks.desk.get(ADA, "ada", call.id)
    assert seen.status.state is State.WAITING and seen.status.why and seen.due > desks.clock.now
    desks.clock.now += 90
    [again] = await desks.take("second")
    assert (again.id, again.attempt) == (call.id, 2)


async def test_what_the_gateway_never_heard_of_is_handed_out_again_and_does_not_count(desks: Desks) -> None:
    desks.routes["double"] = spec_of(retries=0)
    call = await desks.spawn()
    await desks.take("life")  # the answer was lost on its way
    [work] = await desks.take("life")
    assert (work.id, work.attempt) == (call.id, 2)
    await desks.answer(work)
    assert await desks.state(call) is State.DONE


async def test_nothing_is_begun_for_a_gateway_that_is_gone(desks: Desks) -> None:
    async def gone() -> bool:
        return True

    call = await desks.spawn()
    assert (await desks.desk.take("killed", [], 9, gone)).work == ()
    older = asyncio.ensure_future(desks.desk.take("older", [], 0))
    await asyncio.sleep(0.01)
    [work] = (await desks.desk.take("newer", [], 9)).work
    assert (work.id, work.attempt) == (call.id, 1) and (await older).work == ()


async def test_the_same_key_is_the_same_call(desks: Desks) -> None:
    first, *others = await asyncio.gather(*(desks.spawn(key="monday") for _ in range(5)))
    assert {one.id for one in others} == {first.id}
    desks.kill()
    assert (await desks.spawn(key="monday")).id == first.id
    assert (await desks.spawn("triple", key="monday")).id != first.id
    with pytest.raises(Conflict) as caught:
        await desks.spawn(payload=b"22", key="monday")
    assert caught.value.field == "Idempotency-Key"
    [work] = [one for one in await desks.take() if one.id == first.id]
    await desks.answer(work)
    assert (await desks.spawn(key="monday")).status.state is State.DONE
    desks.clock.now += desks.settings.limits.durable_kept + 1
    assert (await desks.spawn(key="monday")).id != first.id  # it is kept as long as the call


async def test_a_key_belongs_to_who_calls(desks: Desks) -> None:
    async def made(caller: str, trigger: str = "") -> str:
        given = {
            "owner": "ada",
            "function": "double",
            "payload": b"21",
            "key": "monday",
            "content_type": "application/json",
        }
        [one] = await desks.desk.accept([Wish(**given, caller=caller, trigger=trigger)])
        assert isinstance(one, DurableCall), one
        return one.id

    callers = [("ada", ""), ("bob", ""), ("key:one", ""), ("key:two", ""), ("", ""), ("ada", "bob"), ("ada", "nightly")]
    calls = [await made(*one) for one in callers]
    assert len(set(calls)) == len(callers)
    desks.kill()
    assert [await made(*one) for one in callers] == calls
    assert (await desks.spawn(key="monday")).id == calls[0]


def test_keys_of_owners_and_triggers_have_the_names_that_are_in_journals() -> None:
    old = {"double\0monday": shelves.key_of("double", "monday")}
    old |= {"double\0monday\0nightly": shelves.key_of("double", "monday", trigger="nightly")}
    assert {hashlib.sha256(of.encode()).hexdigest(): name for of, name in old.items()} == {
        one: one for one in old.values()
    }
    assert shelves.key_of("double", "", caller="bob") == ""


async def test_a_dead_letter_keeps_its_arguments_and_can_be_replayed(desks: Desks) -> None:
    call = await desks.spawn(payload=b"\xff\x00")
    [work] = await desks.take()
    await desks.fail(work, UserCodeFailed("The function raised ValueError.", details={"traceback": "line 3"}))
    with pytest.raises(UserCodeFailed) as caught:
        await desks.desk.result(ADA, "ada", call.id)
    assert caught.value.details["traceback"] == "line 3" and caught.value.details["wait"] is False
    [dead] = (await desks.desk.list(ADA, "ada", "double", shelf="failed")).items
    assert dead.id == call.id and dead.problem["details"] == {}
    desks.kill()
    assert (await desks.desk.replay(ADA, "ada", call.id)).status.state is State.WAITING
    [work] = await desks.take()
    assert work.payload == b"\xff\x00"
    await desks.answer(work, b"\xfe\x00")
    assert (await desks.desk.result(ADA, "ada", call.id)).body == b"\xfe\x00"
    with pytest.raises(Conflict):
        await desks.desk.replay(ADA, "ada", call.id)


async def test_cancel_and_forget(desks: Desks) -> None:
    waiting, running = await desks.spawn("double"), await desks.spawn("triple")
    await desks.desk.cancel(ADA, "ada", waiting.id)
    [work] = await desks.take()
    assert work.id == running.id
    with pytest.raises(Conflict):
        await desks.desk.forget(ADA, "ada", running.id)
    await desks.desk.cancel(ADA, "ada", running.id)
    page = await desks.page(holding=(running.id,))
    assert page.stop == (running.id,) and page.work == ()
    await desks.answer(work)
    for call in (waiting, running):
        with pytest.raises(Conflict):
            await desks.desk.result(ADA, "ada", call.id)
        await desks.desk.forget(ADA, "ada", call.id)
        with pytest.raises(NotFound):
            await desks.desk.get(ADA, "ada", call.id)
    assert shelves.used(desks.journal, "ada") == 0 and desks.desk._space.used == {"ada": 0}


async def test_a_removed_function_leaves_dead_letters(desks: Desks) -> None:
    call = await desks.spawn()
    del desks.routes["double"]
    assert await desks.take() == ()
    with pytest.raises(NotFound):
        await desks.desk.result(ADA, "ada", call.id)
    with pytest.raises(NotFound):
        await desks.spawn()
    desks.routes["double"] = spec_of()
    await desks.desk.replay(ADA, "ada", call.id)
    assert [one.id for one in await desks.take()] == [call.id]


async def test_nothing_runs_for_an_account_that_is_not_active(desks: Desks) -> None:
    call = await desks.spawn()
    desks.active = False
    assert await desks.take() == ()
    desks.active = True
    assert [one.id for one in await desks.take()] == [call.id]


async def test_a_function_runs_as_many_as_its_workers_take(desks: Desks) -> None:
    calls = [await desks.spawn() for _ in range(5)]
    work = await desks.take()
    assert [one.id for one in work] == [one.id for one in calls[:2]]
    held = tuple(one.id for one in work)
    assert await desks.take(holding=held) == ()
    await desks.answer(work[0])
    assert [one.id for one in await desks.take(holding=held[1:])] == [calls[2].id]


async def test_limits_are_named_and_come_free_again(tmp_path: Path) -> None:
    desks = Desks(tmp_path, Hands(), durable_waiting=2, durable_payload=100, durable_bytes=3 * 1124)
    try:
        with pytest.raises(TooLarge) as caught:
            await desks.spawn(payload=bytes(101))
        assert caught.value.field == "limits.durable_payload"
        *_, refused = await asyncio.gather(*(desks.spawn() for _ in range(3)), return_exceptions=True)
        assert isinstance(refused, Limited)
        with pytest.raises(Limited) as full:
            await desks.spawn()
        assert full.value.field == "limits.durable_waiting"
        work = await desks.take()
        await desks.answer(work[0], b"x" * 101)
        with pytest.raises(TooLarge):
            await desks.desk.result(ADA, "ada", work[0].id)
        await desks.answer(work[1], b"x" * 100)
        third = await desks.spawn(payload=b"x" * 90)
        with pytest.raises(StorageFull) as stored:
            await desks.spawn(payload=b"x" * 90)
        assert stored.value.field == "limits.durable_bytes"
        await desks.desk.cancel(ADA, "ada", third.id)
        desks.clock.now += desks.settings.limits.durable_kept + 60
        await desks.spawn(payload=b"x" * 90)  # the old ones have expired
    finally:
        desks.journal.close()


async def test_results_and_tracebacks_take_of_the_accounts_space(tmp_path: Path) -> None:
    desks = Desks(tmp_path, Hands(), durable_bytes=2 * 1026 + 50)
    try:
        calls = [await desks.spawn() for _ in range(2)]
        work = await desks.take()
        await desks.answer(work[0], b"x" * 100)
        with pytest.raises(StorageFull) as caught:
            await desks.desk.result(ADA, "ada", calls[0].id)
        assert caught.value.field == "limits.durable_bytes"
        assert desks.journal.get(shelves.INPUT, "ada", calls[0].id)  # a dead letter, for when there is space
        await desks.answer(work[1], b"x" * 50)
        assert await desks.state(calls[1]) is State.DONE
        await desks.desk.forget(ADA, "ada", calls[1].id)
        await desks.desk.replay(ADA, "ada", calls[0].id)
        [again] = await desks.take()
        await desks.answer(again, b"x" * 100)
        assert await desks.state(calls[0]) is State.DONE
    finally:
        desks.journal.close()


async def test_what_a_call_takes_is_counted_wherever_it_lies(desks: Desks) -> None:
    call = await desks.desk.spawn(ADA, "ada", "double", b"21", query="q=" + "x" * 998)
    assert call.size == 1002
    [work] = await desks.take()
    await desks.fail(work, UserCodeFailed("It raised.", details={"traceback": "x" * 50_000}))
    for used in (shelves.used(desks.journal, "ada"), desks.desk._space.used["ada"]):
        assert 51_000 < used < 53_000
    await desks.desk.forget(ADA, "ada", call.id)
    assert desks.desk._space.used == {"ada": 0}


async def test_a_start_counts_what_is_there_already(tmp_path: Path) -> None:
    desks = Desks(tmp_path, Hands(), durable_bytes=2200)
    try:
        await desks.spawn()
        desks.kill()
        assert desks.desk._space.used == {}
        for _ in range(2):
            with pytest.raises(StorageFull):
                await desks.spawn(payload=b"x" * 100)
        await desks.spawn()
    finally:
        desks.journal.close()


async def test_arguments_are_handed_out_as_many_as_make_one_message(
    desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PAGE", 15_000)
    desks.routes["double"] = spec_of(max_workers=4)
    calls = [await desks.spawn(payload=b"x" * size) for size in (20_000, 7_000, 7_000, 7_000)]
    held: tuple[str, ...] = ()
    for expected in ([calls[0]], [calls[1], calls[2]], [calls[3]]):
        work = await desks.take(holding=held)
        assert [one.id for one in work] == [one.id for one in expected]
        held += tuple(one.id for one in work)
    await desks.desk.cancel(ADA, "ada", calls[0].id)
    assert len(desks.desk._large) == 3


async def test_a_call_without_its_arguments_does_not_run(desks: Desks) -> None:
    call = await desks.spawn()
    await desks.journal.write(Remove(shelves.INPUT, "ada", call.id))
    assert await desks.take() == () and await desks.state(call) is State.FAILED


async def test_what_cannot_be_kept_holds_up_no_other_report(desks: Desks) -> None:
    calls = [await desks.spawn() for _ in range(2)]
    bad, good = (Report(id=one.id, attempt=one.attempt, owner="ada", body=b"42") for one in await desks.take())
    await desks.desk.report([bad.model_copy(update={"content_type": "\ud800"}), good])
    assert [await desks.state(one) for one in calls] == [State.FAILED, State.DONE]


async def test_pages_follow_each_other(desks: Desks) -> None:
    calls = []
    for number in range(7):
        desks.clock.now += 1
        calls.append(await desks.spawn(payload=str(number).encode()))
        await desks.spawn("double-x")
    for one in await desks.take(room=4):
        await (desks.answer(one) if one.attempt % 2 else desks.fail(one, BadInput("no")))
    seen: list[str] = []
    after = ""
    while True:
        page = await desks.desk.list(ADA, "ada", "double", after=after, limit=3)
        seen += [one.id for one in page.items]
        if not (after := page.next):
            break
    assert seen == [one.id for one in reversed(calls)]
    assert all(one.function == "double" for one in (await desks.desk.list(ADA, "ada", "double")).items)
    assert len((await desks.desk.list(ADA, "ada", "double", shelf="open")).items) == 5
    with pytest.raises(BadInput):
        await desks.desk.list(ADA, "ada", "double", after="double-x.0000000000zzzzzzzz")
    for nonsense in ("", "double", "double.", "../x", "double.0000000000zzzzzzz/", "a" * 5000, "double.\0"):
        with pytest.raises(NotFound):
            await desks.desk.get(ADA, "ada", nonsense)


async def test_wishes_of_a_batch_have_answers_of_their_own(desks: Desks) -> None:
    wishes = [Wish(owner="ada", function=name, caller="ada", payload=b"1") for name in ("double", "nothing", "triple")]
    one, two, three = await desks.desk.accept(wishes)
    assert isinstance(one, DurableCall) and isinstance(two, NotFound) and isinstance(three, DurableCall)


async def test_a_wish_of_someone_who_left_is_carried_all_the_same(desks: Desks) -> None:
    asking = asyncio.ensure_future(desks.spawn())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    for _ in range(100):
        if work := await desks.take():
            break
    assert len(work) == 1


class Life(RuleBasedStateMachine):
    """Anything at any time, against what everybody was told: an accepted call ends once, and with one result."""

    @initialize(retries=st.integers(0, 2))
    def begin(self, retries: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.clock = Hands()
        self.desks = Desks(Path(self.folder.name), self.clock, durable_kept=1e9)
        self.retries = retries
        self.desks.routes = {"double": spec_of(retries=retries, max_workers=3)}
        self.life, self.lives = "life-0", 0
        self.held: dict[str, Work] = {}
        self.old: list[Work] = []
        self.accepted: dict[str, bytes] = {}
        self.keys: dict[str, str] = {}
        self.results: dict[str, bytes] = {}
        self.canceled: set[str] = set()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if hasattr(self, "desks"):
            self.everything_ends()
            self.desks.journal.close()
            self.loop.close()
            self.folder.cleanup()

    @rule(key=st.sampled_from(["", "", "a", "b"]))
    def spawn(self, key: str) -> None:
        payload = key.encode() or str(len(self.accepted)).encode()
        self.clock.now += 0.01
        call = self.run(self.desks.spawn(payload=payload, key=key))
        if key:
            assert self.keys.setdefault(key, call.id) == call.id
        self.accepted[call.id] = payload

    @rule(room=st.integers(0, 5), lost=st.booleans())
    def take(self, room: int, lost: bool) -> None:
        page = self.run(self.desks.page(self.life, tuple(self.held), room))
        for one in page.stop:
            self.old.append(self.held.pop(one))
        for work in page.work:
            assert work.id not in self.results and work.id not in self.canceled, "what has ended runs again"
            assert work.payload == self.accepted[work.id] and work.id not in self.held
            if lost:
                self.old.append(work)
            else:
                self.held[work.id] = work

    @precondition(lambda self: self.held)
    @rule(data=st.data(), body=st.binary(max_size=3), twice=st.booleans())
    def answer(self, data: st.DataObject, body: bytes, twice: bool) -> None:
        work = data.draw(st.sampled_from(sorted(self.held.values(), key=lambda one: one.id)))
        self.run(self.desks.answer(work, body))
        if work.id not in self.canceled:
            self.results.setdefault(work.id, body)
        if not twice:
            del self.held[work.id]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), own=st.booleans())
    def fail(self, data: st.DataObject, own: bool) -> None:
        work = data.draw(st.sampled_from(sorted(self.held.values(), key=lambda one: one.id)))
        self.run(self.desks.fail(work, UserCodeFailed("own") if own else Unavailable("lost")))
        del self.held[work.id]

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def say_something_old(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.old))
        known = self.run(self.desks.desk.get(ADA, "ada", work.id))
        if known.attempt != work.attempt or known.status.state is not State.RUNNING:
            self.run(self.desks.answer(work, b"old"))
            after = self.run(self.desks.desk.get(ADA, "ada", work.id))
            assert after.model_copy(update={"status": known.status}) == known

    @rule()
    def kill_the_platform(self) -> None:
        self.desks.kill()

    @rule()
    def kill_the_gateway(self) -> None:
        self.lives += 1
        self.life = f"life-{self.lives}"
        self.old += self.held.values()
        self.held = {}

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.accepted)))
        if self.run(self.desks.desk.cancel(ADA, "ada", call)).status.state is State.STOPPED:
            self.canceled.add(call)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.accepted)))
        found = self.run(self.desks.desk.get(ADA, "ada", call)).status.state
        if found is State.FAILED:
            assert self.run(self.desks.desk.replay(ADA, "ada", call)).status.state is State.WAITING

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def memory_agrees_with_the_journal(self) -> None:
        if not hasattr(self, "desks"):
            return
        for call in self.accepted:
            found = self.run(self.desks.desk.get(ADA, "ada", call))
            state = found.status.state
            assert (call in self.desks.desk._lanes) == (not state.terminal)
            assert (call in self.desks.desk._lanes.running) == (state is State.RUNNING)
            assert found.spent <= self.retries + 1
            assert (state is State.DONE) == (call in self.results) and (state is State.STOPPED) == (
                call in self.canceled
            )
            if state is State.DONE:
                assert self.run(self.desks.desk.result(ADA, "ada", call)).body == self.results[call]
            kept = self.desks.journal.get(shelves.INPUT, "ada", call)
            assert (kept is not None) == (state not in (State.DONE, State.STOPPED))
        used = shelves.used(self.desks.journal, "ada")
        # What is counted as it comes and goes knows no wrapping; a count anew does.
        assert abs(used - self.desks.desk._space.used.get("ada", used)) <= 200 * len(self.accepted)

    def everything_ends(self) -> None:
        """Whatever happened, a gateway that works brings all of it to an end."""
        self.kill_the_gateway()
        for _ in range(1000):
            self.clock.now += 1000
            self.take(9, False)
            if not self.held and not any(one in self.desks.desk._lanes for one in self.accepted):
                break
            for work in list(self.held.values()):
                self.run(self.desks.answer(work, b"end"))
                self.results.setdefault(work.id, b"end")
                del self.held[work.id]
        self.memory_agrees_with_the_journal()
        assert not any(one in self.desks.desk._lanes for one in self.accepted)


TestLife = Life.TestCase
TestLife.settings = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)

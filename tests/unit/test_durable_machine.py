"""What becomes of one durable call: any order of events, also repeated and late ones, leads to one result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.durable.lanes import Lanes
from ropewalk_core.durable.machine import (
    LONGEST_PAUSE,
    Answered,
    Begun,
    Canceled,
    Event,
    Failed,
    Policy,
    Replayed,
    Returned,
    lost,
    step,
)
from ropewalk_core.errors import (
    BadInput,
    Internal,
    Limited,
    NotFound,
    OutOfMemory,
    RopewalkError,
    StorageFull,
    TimedOut,
    TooLarge,
    Unavailable,
    UserCodeFailed,
    from_problem,
)
from ropewalk_core.model import DurableCall, State, Status

NEW = DurableCall(id="f.x", owner="ada", function="f", status=Status(state=State.WAITING, since=0.0), created=0.0)
PASSING = [Unavailable("x"), TimedOut("x"), Internal("x")]
OWN = [UserCodeFailed("x"), OutOfMemory("x")]
FINAL = [BadInput("x"), NotFound("x"), TooLarge("x"), StorageFull("x")]


def after(call: DurableCall, *events: Event, policy: Policy | None = None, now: float = 1.0) -> DurableCall:
    for event in events:
        call = step(call, event, policy or Policy(), now, kept=10.0)
    return call


def test_the_way_to_a_result() -> None:
    running = after(NEW, Begun("life"))
    assert (running.status.state, running.attempt, running.holder) == (State.RUNNING, 1, "life")
    done = after(running, Answered(1, 7, "call-1", "rev"))
    assert (done.status.state, done.result, done.call, done.revision) == (State.DONE, 7, "call-1", "rev")
    assert (done.ended, done.expires, done.holder) == (1.0, 11.0, "")
    for late in (Answered(1, 8), Failed(1, lost()), Returned(1), Canceled(), Replayed(), Begun("other")):
        assert after(done, late) is done


@pytest.mark.parametrize("error", PASSING, ids=lambda one: one.code)
def test_what_may_pass_is_tried_again_and_then_is_a_dead_letter(error: RopewalkError) -> None:
    policy, call = Policy(retries=2, wait=4.0), NEW
    for attempt, pause in ((1, 4.0), (2, 8.0)):
        call = after(call, Begun("x"), Failed(attempt, error.problem()), policy=policy)
        assert call.status.state is State.WAITING and call.due == 1.0 + pause and call.status.why
    dead = after(call, Begun("x"), Failed(3, error.problem()), policy=policy)
    assert (dead.status.state, dead.attempt, dead.expires) == (State.FAILED, 3, 11.0)
    assert isinstance(from_problem(dead.problem), type(error))
    again = after(dead, Replayed(), policy=policy)
    assert (again.status.state, again.spent, again.expires, again.problem) == (State.WAITING, 0, None, {})
    assert after(again, Begun("x"), Answered(4, 1), policy=policy).status.state is State.DONE


@pytest.mark.parametrize("error", OWN, ids=lambda one: one.code)
def test_the_persons_own_exception_is_tried_again_only_when_asked(error: RopewalkError) -> None:
    failed = Failed(1, error.problem())
    assert after(NEW, Begun("x"), failed, policy=Policy(retries=9)).status.state is State.FAILED
    assert after(NEW, Begun("x"), failed, policy=Policy(retries=9, errors=True)).status.state is State.WAITING


@pytest.mark.parametrize("error", FINAL, ids=lambda one: one.code)
def test_what_cannot_get_better_is_never_tried_again(error: RopewalkError) -> None:
    policy = Policy(retries=9, errors=True)
    assert after(NEW, Begun("x"), Failed(1, error.problem()), policy=policy).status.state is State.FAILED


def test_what_no_journal_holds_is_left_out() -> None:
    error = UserCodeFailed("a\ud800b\0" + "c" * 9000, details={"traceback": "\udfff", "error": 3, "other": ["x"]})
    dead = after(NEW, Begun("x"), Failed(1, error.problem()))
    assert dead.status.why and dead.status.why.cause == dead.problem["message"]
    assert len(dead.problem["message"]) == 2000 and dead.problem["message"].startswith("a?b?c")
    assert dead.problem["details"] == {"traceback": "?", "error": 3}
    dead.model_dump_json().encode()


def test_no_room_is_no_attempt_but_an_answer_without_room_is_one() -> None:
    full = Limited("100 calls wait already.", retry_after=3.0)
    back = after(NEW, Begun("x"), Failed(1, full.problem()))
    assert (back.status.state, back.spent, back.attempt, back.due) == (State.WAITING, 0, 1, 4.0)
    ran = Limited("It has run.", details={"wait": False})
    assert after(NEW, Begun("x"), Failed(1, ran.problem())).status.state is State.FAILED
    assert after(NEW, Begun("x"), Failed(1, ran.problem()), policy=Policy(1)).spent == 1


def test_what_never_began_does_not_count() -> None:
    back = after(NEW, Begun("x"), Returned(1))
    assert (back.status.state, back.spent, back.attempt) == (State.WAITING, 0, 1)


def test_cancel_wins_over_what_comes_later() -> None:
    for call in (NEW, after(NEW, Begun("x"))):
        stopped = after(call, Canceled())
        assert stopped.status.state is State.STOPPED and stopped.expires == 11.0
        assert after(stopped, Answered(call.attempt, 1), Replayed(), Begun("y")) is stopped


@given(st.integers(1, 100), st.floats(0.01, 3600), st.floats(0, 1))
def test_pauses_grow_and_have_an_end(spent: int, wait: float, chance: float) -> None:
    policy = Policy(9, wait=wait)
    assert wait <= policy.pause(spent, chance) <= 1.2 * max(LONGEST_PAUSE, wait)
    assert policy.pause(spent, 0) <= policy.pause(spent + 1, 0)


problems = st.sampled_from([one.problem() for one in (*PASSING, *OWN, *FINAL, Limited("x"))]) | st.dictionaries(
    st.sampled_from(["code", "message", "hint", "details", "field"]),
    st.none() | st.text(max_size=5) | st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)),
)
numbers = st.integers(0, 6)
events = st.one_of(
    st.builds(Begun, st.sampled_from(["a", "b"])),
    st.builds(Answered, numbers, st.integers(0, 9)),
    st.builds(Failed, numbers, problems),
    st.builds(Returned, numbers),
    st.just(Canceled()),
    st.just(Replayed()),
)


@given(st.lists(events, max_size=40), st.integers(0, 3), st.booleans())
def test_any_history_has_at_most_one_result(history: list[Event], retries: int, errors: bool) -> None:
    policy, call = Policy(retries, errors), NEW
    results: list[Any] = []
    for now, event in enumerate(history):
        before = call
        call = step(call, event, policy, float(now), kept=5.0)
        state, was = call.status.state, before.status.state
        if call is before:
            continue
        if was in (State.DONE, State.STOPPED):
            raise AssertionError("what has ended changed")
        if was is State.FAILED:
            assert isinstance(event, Replayed)
        if state is State.DONE:
            assert isinstance(event, Answered) and event.attempt == before.attempt and was is State.RUNNING
            results.append(event.size)
        assert before.attempt <= call.attempt <= before.attempt + 1
        assert 0 <= call.spent <= retries + 1
        assert (call.expires is not None) == state.terminal == (call.ended is not None)
        assert (call.holder != "") == (state is State.RUNNING)
    assert len(results) <= 1
    assert DurableCall.model_validate_json(call.model_dump_json(exclude_defaults=True)) == call


# Whose turn it is


def test_functions_take_turns_and_an_account_has_a_share() -> None:
    lanes = Lanes(share=3)
    for number in range(100):
        lanes.wait(f"long.{number:03}", ("ada", "long"), 0.0, 1.0)
    lanes.wait("short.0", ("ada", "short"), 0.0, 1.0)
    lanes.wait("other.0", ("bob", "other"), 0.0, 1.0)
    picked = lanes.pick(10, lambda key: 5, 1.0)
    assert [one for one, _ in picked] == ["long.000", "short.0", "other.0", "long.001"]
    for call, key in picked:
        lanes.run(call, key, "life")
    assert lanes.pick(10, lambda key: 5, 1.0) == []  # ada has her share, bob has no more
    lanes.drop("long.000")
    assert [one for one, _ in lanes.pick(10, lambda key: 5, 1.0)] == ["long.002"]
    assert lanes.open_of("ada") == 100 and lanes.open_of("bob") == 1


def test_who_was_served_waits_for_the_others() -> None:
    lanes = Lanes(share=9)
    for owner in ("ada", "bob", "eve"):
        for number in range(3):
            lanes.wait(f"f.{owner}{number}", (owner, "f"), 0.0, 1.0)
    order = []
    for _ in range(6):
        [(call, key)] = lanes.pick(1, lambda key: 9, 1.0)
        lanes.run(call, key, "life")
        order.append(key[0])
    assert order == ["ada", "bob", "eve"] * 2


def test_retries_come_when_they_are_due() -> None:
    lanes = Lanes(share=9)
    lanes.wait("f.1", ("ada", "f"), 5.0, 1.0)
    lanes.wait("f.2", ("ada", "f"), 3.0, 1.0)
    assert lanes.next_due() == 3.0 and lanes.pick(9, lambda key: 9, 2.0) == []
    lanes.drop("f.2")
    assert lanes.next_due() == 5.0
    assert [one for one, _ in lanes.pick(9, lambda key: 9, 5.0)] == ["f.1"] and lanes.next_due() is None
    lanes.drop("f.1")
    assert lanes.pick(9, lambda key: 9, 9.0) == [] and "f.1" not in lanes and lanes.open_of("ada") == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["wait", "run", "drop", "pick"]),
        st.integers(0, 5),
        st.sampled_from([("ada", "f"), ("ada", "g"), ("bob", "f")]),
        st.integers(0, 4),
    ),
    max_size=60,
)


@given(steps)
def test_a_call_is_in_one_place(moves: list[tuple[str, int, tuple[str, str], int]]) -> None:
    lanes, now = Lanes(share=2), 0.0
    where: dict[str, tuple[str, tuple[str, str], float]] = {}
    for what, number, key, ahead in moves:
        call, now = f"{key[0]}.{key[1]}.{number}", now + 1
        if what == "wait":
            lanes.wait(call, key, now + ahead, now)
            where[call] = ("waits", key, now + ahead)
        elif what == "run":
            lanes.run(call, key, "life")
            where[call] = ("runs", key, 0.0)
        elif what == "drop":
            lanes.drop(call)
            where.pop(call, None)
        else:
            busy = {one: sum(place[:2] == ("runs", one) for place in where.values()) for one in [("ada", "f")]}
            picked = lanes.pick(number, lambda key: 1, now)
            assert len(picked) <= number and len({one for one, _ in picked}) == len(picked)
            assert all(where[one][0] == "waits" and where[one][2] <= now and where[one][1] == of for one, of in picked)
            assert sum(of == ("ada", "f") for _, of in picked) + busy["ada", "f"] <= max(1, busy["ada", "f"])
        assert set(lanes.running) == {one for one, place in where.items() if place[0] == "runs"}
        for owner in ("ada", "bob"):
            assert lanes.open_of(owner) == sum(place[1][0] == owner for place in where.values())


def test_whose_turn_it_is_does_not_take_longer_with_a_long_queue() -> None:
    looked: list[str] = []

    class Queue(dict[str, None]):
        def __iter__(self) -> Iterator[str]:
            for one in list(super().__iter__()):
                looked.append(one)
                yield one

    lanes, key = Lanes(share=9), ("ada", "f")
    for number in range(100):
        lanes.wait(str(number), key, 0.0, 1.0)
    lanes._ready[key] = Queue(lanes._ready[key])
    assert lanes.pick(50, lambda _: 0, 1.0) == [] and looked == []
    assert lanes.pick(50, lambda _: 3, 1.0) == [(str(number), key) for number in range(3)] and len(looked) == 3

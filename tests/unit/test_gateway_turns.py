"""Calls that wait for a worker: callers take turns, and who floods leaves room for others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_hub.gateway.turns import FLOOR, QUEUE, Turns

Future = asyncio.Future[int]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    one = asyncio.new_event_loop()
    yield one
    one.close()


def test_callers_take_turns_and_each_has_its_own_order(loop: asyncio.AbstractEventLoop) -> None:
    turns: Turns[int] = Turns()
    calls: dict[Future, str] = {}
    for caller in ["eve"] * 5 + ["ann"] * 2 + ["bob"]:
        calls[future := loop.create_future()] = caller
        assert turns.add(caller, future)
    order = [turns.next() for _ in range(8)]
    assert [calls[one] for one in order if one] == ["eve", "ann", "bob", "eve", "ann", "eve", "eve", "eve"]
    mine = [one for one in order if one and calls[one] == "eve"]
    assert mine == [one for one, caller in calls.items() if caller == "eve"]
    assert turns.next() is None and not turns


def test_who_floods_leaves_room_for_others(loop: asyncio.AbstractEventLoop) -> None:
    turns: Turns[int] = Turns()
    taken = [turns.add("eve", loop.create_future()) for _ in range(QUEUE + 50)]
    assert taken == [True] * QUEUE + [False] * 50
    assert [turns.add("ann", loop.create_future()) for _ in range(FLOOR + 1)] == [True] * FLOOR + [False]
    assert len(turns) == QUEUE + FLOOR


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "add", "next", "remove", "end"])), max_size=60)
)
def test_nobody_is_lost_and_nobody_comes_twice_while_another_waits(
    acts: list[tuple[str, str]],
) -> None:
    loop = asyncio.new_event_loop()
    turns: Turns[int] = Turns()
    waiting: dict[Future, str] = {}  # who waits, in the order in which they came
    passed: Counter[str] = Counter()  # how often others came since a caller has waited
    for caller, act in acts:
        mine = next((one for one, whose in waiting.items() if whose == caller), None)
        if act == "add":
            future = loop.create_future()
            assert turns.add(caller, future)
            if caller not in waiting.values():
                del passed[caller]
            waiting[future] = caller
        elif act == "remove" and mine is not None:
            assert turns.remove(caller, mine) and not turns.remove(caller, mine)
            del waiting[mine]
        elif act == "end" and mine is not None:  # its caller left, and has not said so yet
            mine.cancel()
            del waiting[mine]
        elif act == "next":
            found = turns.next()
            if found is None:
                assert not waiting
                continue
            whose = waiting[found]
            assert found is next(one for one, caller in waiting.items() if caller == whose)
            del waiting[found]
            others = set(waiting.values()) - {whose}
            passed = Counter({one: passed[one] + 1 for one in others})
            assert all(count <= 2 for count in passed.values())  # of three callers, two are before one at most
    assert sum(not one.done() for one in turns) == len(waiting)
    loop.close()

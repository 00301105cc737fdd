"""Many calls at a time: order, a bounded window, early stop, interrupt, failures, and calls refused for now."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput, Limited, RopewalkError, Unavailable, UserCodeFailed
from ropewalk_kernel import mapping, values
from ropewalk_kernel.bar import Bar

Send = Callable[[bytes], Awaitable[bytes]]


class Platform:
    """Answers with the first argument, or does what it was told for it."""

    def __init__(self, told: dict[int, Any] | None = None, delays: list[float] | None = None) -> None:
        self.told, self.delays = told or {}, delays or [0.0]
        self.begun: list[int] = []
        self.under_way = self.most = self.cancelled = 0

    async def send(self, body: bytes) -> bytes:
        number = values.decode(body)["args"][0]
        self.begun.append(number)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.delays[number % len(self.delays)])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        told = self.told.get(number)
        if isinstance(told, list):
            told = told.pop(0) if told else None
        if isinstance(told, Exception):
            raise told
        return values.encode(number if told is None else told)


def mapped(
    send: Send, source: Any, count: int = 4, *, give_failures: bool = False, bar: Bar | None = None
) -> Iterator[Any]:
    lanes = mapping.Lanes(send, count, go_on=give_failures)
    bar = bar or Bar("double", None, shown=False)
    return mapping.results(lanes, zip(source, strict=False), bar, give_failures=give_failures)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@options(max_examples=25, deadline=None)
@given(
    amount=st.integers(0, 120),
    count=st.integers(1, 9),
    delays=st.lists(st.floats(0, 0.004), min_size=1, max_size=7),
    slow=st.sampled_from([0, 0, 0.003]),
)
def test_results_come_in_order_whatever_takes_how_long(
    amount: int, count: int, delays: list[float], slow: float
) -> None:
    def source() -> Iterator[int]:
        for number in range(amount):
            if number % 10 == 0:
                time.sleep(slow)
            yield number

    platform = Platform(delays=delays)
    assert list(mapped(platform.send, source(), count)) == list(range(amount))
    assert sorted(platform.begun) == list(range(amount))
    assert platform.most <= count


def test_a_slow_call_does_not_stop_those_behind_it() -> None:
    platform = Platform(delays=[0.3] + [0.0] * 99)
    found = mapped(platform.send, range(20), 2)
    assert next(found) == 0
    assert len(platform.begun) == 20
    assert list(found) == list(range(1, 20))


def test_a_result_does_not_wait_for_the_end_of_the_source() -> None:
    asked = threading.Event()

    def source() -> Iterator[int]:
        yield from (1, 2)
        assert asked.wait(20)  # nothing more comes before the first result was used
        yield 3

    platform = Platform()
    found = mapped(platform.send, source())
    until_first = threading.Timer(0.2, asked.set)
    until_first.start()
    assert list(found) == [1, 2, 3]
    until_first.join()


def test_an_endless_source_is_taken_as_it_is_needed_and_leaving_early_cancels() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    platform = Platform(delays=[0.0] * 6 + [30.0] * 994)
    for answer in mapped(platform.send, source()):
        if answer == 5:
            until(lambda: platform.under_way == 4)
            break
    until(lambda: platform.under_way == 0)
    assert len(taken) <= 6 + mapping._SMALLEST + 1
    assert platform.cancelled == 4 and len(platform.begun) == 10


def test_held_bytes_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "_HELD", 100_000)
    taken: list[int] = []

    def source() -> Iterator[str]:
        for number in range(60):
            taken.append(number)
            yield "x" * 30_000

    async def send(body: bytes) -> bytes:
        return b"1"

    for at, _ in enumerate(mapped(send, source())):
        assert len(taken) - at <= 5


@pytest.mark.parametrize("delays", [[0.0], [0.2] + [0.0] * 99])
def test_held_answers_have_a_bound_from_the_first_on(monkeypatch: pytest.MonkeyPatch, delays: list[float]) -> None:
    monkeypatch.setattr(mapping, "_HELD", 100_000)
    platform = Platform(dict.fromkeys(range(60), "x" * 40_000), delays)
    ahead = [len(platform.begun) - at for at, _ in enumerate(mapped(platform.send, range(60)))]
    assert len(ahead) == 60
    assert max(ahead) <= 4  # one for each lane: how large they are is not known before
    assert max(ahead[2:]) <= 3  # what is in hand, and two that fit


@options(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3_000), max_size=80),
    count=st.integers(1, 9),
    delays=st.lists(st.floats(0, 0.004), min_size=1, max_size=7),
)
def test_a_bound_on_answers_stops_nothing_for_good(sizes: list[int], count: int, delays: list[float]) -> None:
    platform = Platform({at: "x" * size for at, size in enumerate(sizes)}, delays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "_HELD", 2_000)
        assert [len(one) for one in mapped(platform.send, range(len(sizes)), count)] == sizes


def test_one_item_larger_than_the_bound_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "_HELD", 10)
    assert list(mapped(Platform().send, range(12))) == list(range(12))


def test_an_interrupt_ends_it_and_cancels_what_is_under_way() -> None:
    platform = Platform(delays=[30.0])
    press = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    press.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(mapped(platform.send, itertools.count()))
    press.join()
    assert time.monotonic() - began < 10
    until(lambda: platform.cancelled == 4)
    time.sleep(0.05)
    assert len(platform.begun) == 4


def test_a_failure_is_raised_in_its_place_and_begins_no_more() -> None:
    platform = Platform({7: UserCodeFailed("The function raised ValueError.")}, delays=[0.005])
    found = mapped(platform.send, itertools.count())
    got = []
    with pytest.raises(UserCodeFailed) as caught:
        for answer in found:
            got.append(answer)
    assert got == list(range(7))
    assert caught.value.details["item"] == 7
    assert caught.value.__notes__ == ["This was item 7 of map, counted from 0."]
    assert len(platform.begun) <= 7 + 4 + 1


def test_failures_are_given_in_their_place_and_none_is_repeated() -> None:
    platform = Platform({3: Unavailable("Away."), 5: UserCodeFailed("It raised.")})
    found = list(mapped(platform.send, [0, 1, 2, 3, 4, 5, 1j, 7], give_failures=True))
    kinds = [type(one).__name__ if isinstance(one, RopewalkError) else one for one in found]
    assert kinds == [0, 1, 2, "Unavailable", 4, "UserCodeFailed", "BadInput", 7]
    assert sorted(platform.begun) == [0, 1, 2, 3, 4, 5, 7]


def test_an_argument_that_cannot_travel_is_raised_in_its_place() -> None:
    found = mapped(Platform(delays=[0.01]).send, [0, 1, 1j, 3])
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(BadInput, match="type complex") as caught:
        next(found)
    assert caught.value.details["item"] == 2


@pytest.mark.parametrize("give_failures", [False, True])
def test_what_the_source_raises_comes_after_the_results_before_it(give_failures: bool) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise Unavailable("The file is away.")

    got = []
    with pytest.raises(Unavailable, match="file is away") as caught:
        for one in mapped(Platform(delays=[0.01]).send, source(), give_failures=give_failures):
            got.append(one)
    assert got == list(range(5))
    assert "item" not in caught.value.details


def test_a_call_refused_for_lack_of_room_is_sent_again_when_the_answer_says() -> None:
    full = [Limited("100 calls wait already.", retry_after=0.02) for _ in range(3)]
    platform = Platform({2: full, 4: [Limited("Too many.", retry_after=0.01)]})
    assert list(mapped(platform.send, range(6))) == list(range(6))
    assert platform.begun.count(2) == 4 and platform.begun.count(4) == 2


def test_a_call_that_has_run_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Limited("Too many large answers.", details={"wait": False})
    platform = Platform({1: run})
    with pytest.raises(Limited, match="large answers"):
        list(mapped(platform.send, range(3)))
    assert platform.begun.count(1) == 1
    monkeypatch.setattr(mapping, "_PATIENCE", 0.1)
    platform = Platform({1: Limited("100 calls wait already.", retry_after=0.04)})
    with pytest.raises(Limited, match="wait already"):
        list(mapped(platform.send, range(3)))
    assert 2 <= platform.begun.count(1) <= 3


def test_whatever_breaks_is_raised_and_nothing_hangs() -> None:
    with pytest.raises(ZeroDivisionError):
        list(mapped(Platform({1: ZeroDivisionError()}).send, range(9), give_failures=True))


def test_nothing_begins_before_the_first_result_is_asked_for() -> None:
    platform = Platform()
    found = mapped(platform.send, range(3))
    time.sleep(0.05)
    assert platform.begun == []
    assert list(found) == [0, 1, 2]
    assert list(mapped(platform.send, [])) == []

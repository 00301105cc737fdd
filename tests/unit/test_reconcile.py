"""Plans, and the queue that carries them out. Time is simulated; what a handler really does is the backends' tests."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.reconcile import LATEST_AGAIN, Act, KeyedQueue, plan, wait_after
from ropewalk_core.testing import SimulatedClock

things = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2))


@given(want=things, have=things)
def test_carrying_out_a_plan_gives_what_is_wanted(want: dict[str, int], have: dict[str, int]) -> None:
    steps = plan(want, have, same=lambda one, other: one == other)
    state = dict(have)
    for step in steps:
        if step.act is Act.REMOVE:
            del state[step.key]
        else:
            assert step.want is not None
            assert (step.act is Act.CHANGE) == (step.key in state)
            state[step.key] = step.want
    assert state == want
    assert plan(want, state, same=lambda one, other: one == other) == []


def test_waits_grow_from_5_ms_to_300_s() -> None:
    waits = [wait_after(failures) for failures in range(1, 40)]
    assert waits[0] == 0.005 and waits[-1] == 300.0
    assert waits == sorted(waits)


async def test_duplicates_are_merged() -> None:
    seen: list[str] = []

    async def handle(key: str) -> None:
        seen.append(key)

    queue = KeyedQueue[str](handle, SimulatedClock())
    for _ in range(5):
        queue.add("a")
    async with running(queue):
        await queue.idle()
    assert seen == ["a"]


async def test_one_key_never_runs_twice_at_once_and_a_late_ask_is_not_lost() -> None:
    started, finish = asyncio.Event(), asyncio.Event()
    active, most, times = 0, 0, 0

    async def handle(_key: str) -> None:
        nonlocal active, most, times
        active, times = active + 1, times + 1
        most = max(most, active)
        started.set()
        await finish.wait()
        active -= 1

    queue = KeyedQueue[str](handle, SimulatedClock())
    queue.add("a")
    async with running(queue):
        await started.wait()
        queue.add("a")
        queue.add("a")
        finish.set()
        await queue.idle()
    assert (most, times) == (1, 2)


async def test_a_failing_key_waits_longer_each_time_and_others_go_on() -> None:
    clock = SimulatedClock()
    at: list[float] = []
    good: list[str] = []

    async def handle(key: str) -> None:
        if key == "good":
            good.append(key)
            return
        at.append(clock.steady())
        if len(at) < 6:
            raise OSError("not yet")

    queue = KeyedQueue[str](handle, clock)
    queue.add("bad")
    queue.add("good")
    async with running(queue):
        await queue.idle()
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert [round(pause, 4) for pause in pauses] == [0.005, 0.01, 0.02, 0.04, 0.08]
    assert good == ["good"]
    assert queue.failures("bad") == (0, "")


async def test_what_was_asked_for_while_it_failed_is_not_left_to_a_long_wait() -> None:
    clock = SimulatedClock()
    at: list[float] = []

    async def handle(key: str) -> None:
        at.append(clock.steady())
        if len(at) < 20:
            raise OSError("not yet")
        if len(at) == 20:
            queue.add(key)  # what it waited for came, and this try had looked before
            raise OSError("not yet")

    queue = KeyedQueue[str](handle, clock)
    queue.add("a")
    async with running(queue):
        await queue.idle()
    assert at[-2] - at[-3] > 60.0
    assert at[-1] - at[-2] == LATEST_AGAIN


async def test_a_handler_may_ask_to_look_again() -> None:
    clock = SimulatedClock()
    at: list[float] = []

    async def handle(_key: str) -> float | None:
        at.append(clock.steady())
        return 30.0 if len(at) < 3 else None

    queue = KeyedQueue[str](handle, clock)
    queue.add("a", after=5.0)
    async with running(queue):
        await queue.idle()
    assert at == [5.0, 35.0, 65.0]


async def test_the_end_of_the_queue_ends_what_runs() -> None:
    ended = asyncio.Event()
    started = asyncio.Event()

    async def handle(_key: str) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    queue = KeyedQueue[str](handle, SimulatedClock())
    queue.add("a")
    async with running(queue):
        await started.wait()
    assert ended.is_set()


class running:
    """The queue runs inside the block."""

    def __init__(self, queue: KeyedQueue[str]) -> None:
        self.queue = queue

    async def __aenter__(self) -> None:
        self.task = asyncio.create_task(self.queue.run())

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

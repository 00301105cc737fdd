"""Leases of accelerators: who gets which (pure), and locks that end with whoever holds them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import Limited, Unavailable, Unsatisfiable, from_problem
from ropewalk_core.leases import Device, Holder, Wish, check, grants, reworded, taken
from ropewalk_core.local.leases import Lease, Leases, Line
from ropewalk_core.placement import WITHOUT
from ropewalk_core.settings import Settings

NAMES = ("big", "small", "npu")
WANTED = st.lists(st.sampled_from([*NAMES, WITHOUT]), min_size=1, max_size=4).map(tuple)


def device(number: int, name: str = "big") -> Device:
    return Device(f"{name}-{number}", name, (f"/dev/{name}{number}",))


@given(st.lists(st.sampled_from(NAMES), max_size=5), st.lists(WANTED, max_size=8))
def test_nobody_shares_and_nobody_is_passed_over(names: list[str], wanted: list[tuple[str, ...]]) -> None:
    free = [device(number, name) for number, name in enumerate(names)]
    wishes = [Wish(number, one) for number, one in enumerate(wanted)]
    found = grants(wishes, free)
    given_out = [one for one in found.values() if one is not None]
    assert len({one.id for one in given_out}) == len(given_out)
    left = list(free)
    for wish in wishes:  # in the order in which they came, each has the first of its names that was left to it
        names_left = [one.name for one in left]
        best = next((name for name in wish.wanted if name == WITHOUT or name in names_left), None)
        if wish.id not in found:
            assert best is None
            continue
        got = found[wish.id]
        assert best == (got.name if got else WITHOUT)
        if got:
            left.remove(got)


@given(st.lists(st.tuples(st.sampled_from(["come", "give back"]), WANTED), max_size=40))
def test_each_gets_its_turn(steps: list[tuple[str, tuple[str, ...]]]) -> None:
    """A line over time: one device has one holder, and who only wants what comes free is served in order."""
    devices = [device(0, "big"), device(1, "small"), device(2, "npu")]
    waiting: list[Wish] = []
    held: dict[int, Device] = {}
    count = 0
    for act, wanted in [*steps, *([("give back", ())] * (len(steps) + 3))]:
        if act == "come":
            waiting.append(Wish(count, wanted))
            count += 1
        elif held:
            del held[min(held)]
        busy = {one.id for one in held.values()}
        for wish, got in grants(waiting, [one for one in devices if one.id not in busy]).items():
            waiting = [one for one in waiting if one.id != wish]
            if got is not None:
                held[int(str(wish))] = got
        assert len({one.id for one in held.values()}) == len(held)
        for one in waiting:  # whoever waits does so because all that would do is taken
            assert set(one.wanted) <= {has.name for has in held.values()}
    assert not waiting


def test_what_is_said_of_holders() -> None:
    holders = [
        Holder("a", "big", "ada", "function 'digits'"),
        Holder("b", "big", "bob", "notebook"),
        Holder("c", "small", "ada", "notebook"),
    ]
    error = from_problem(taken(("big", "npu"), holders, "ada").problem())
    assert "big by your function 'digits', big by somebody else" in error.message and "notebook" not in error.message
    assert "add `cpu`" in error.hint and isinstance(error, Limited)
    other = reworded(error, "bob")
    assert "digits" not in str(other.problem()) and "big by somebody else, big by your notebook" in other.message
    assert "ada" not in str(other.problem())
    away = Unavailable("It is away.")
    assert reworded(away, "bob") is away


def test_what_there_is_no_more_is_not_waited_for() -> None:
    check(("npu", "big"), [device(0)])
    check(("npu", WITHOUT), [])
    with pytest.raises(Unsatisfiable, match="npu"):
        check(("npu",), [device(0)])


# Locks


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(Settings(home=tmp_path), [device(0), device(1), device(0, "small")])


def holder_apart(leases: Leases, lease: Lease) -> subprocess.Popen[bytes]:
    """Start a process that has the lease's descriptor, as a sandbox does, and give up our own."""
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = subprocess.Popen(sleeping, pass_fds=[lease.descriptor])
    lease.close()
    return child


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for one in found:
        one.kill()
        one.wait()


def test_one_holder_whoever_asks(leases: Leases, tmp_path: Path) -> None:
    other = Leases(Settings(home=tmp_path), leases.devices)  # another process has an object of its own too
    first = leases.take(("big",), "ada", "notebook")
    second = other.take(("npu", "big", "small"), "bob", "service 'x'")
    assert first and second and first.device.id != second.device.id
    assert (
        leases.held()
        == other.held()
        == [
            Holder("big-0", "big", "ada", "notebook"),
            Holder("big-1", "big", "bob", "service 'x'"),
        ]
    )
    assert leases.lock(first.device, "eve", "x") is None
    with pytest.raises(Limited, match="your notebook"):
        leases.take(("big",), "ada", "function 'f'")
    assert leases.take(("big", WITHOUT), "ada", "function 'f'") is None
    assert leases.take((), "ada", "function 'f'") is None
    first.close()
    assert [one.device for one in leases.held()] == ["big-1"]


def test_a_lease_ends_with_its_holder_and_not_with_who_started_it(
    leases: Leases, children: list[subprocess.Popen[bytes]]
) -> None:
    lease = leases.take(("small",), "ada", "notebook")
    assert lease
    children.append(holder_apart(leases, lease))
    assert [one.device for one in leases.held()] == ["small-0"]
    os.kill(children[0].pid, signal.SIGKILL)
    children[0].wait()
    assert leases.held() == []


def test_a_folder_that_was_never_there_or_says_nonsense(leases: Leases, tmp_path: Path) -> None:
    assert leases.held() == []
    lease = leases.take(("small",), "ada", "notebook")
    assert lease
    (tmp_path / "run/leases/small-0.json").write_text("[1")
    assert leases.held() == [Holder("small-0", "small")]
    assert leases.held()[0].said("") == leases.held()[0].said("ada") == "somebody else"
    lease.close()


# The line


async def test_first_come_first_served(leases: Leases) -> None:
    line = Line(leases)
    held = [leases.take(("big",), "ada", "a"), leases.take(("big",), "ada", "b")]
    order: list[str] = []

    async def wait(name: str) -> None:
        lease = await line.take(("big",), "bob", name, None)
        order.append(name)
        assert lease
        lease.close()

    waiting = [asyncio.create_task(wait("first")), asyncio.create_task(wait("second"))]
    await asyncio.sleep(0.05)
    assert await line.take(("big", WITHOUT), "ada", "else", None) is None  # it need not wait
    small = await line.take(("big", "small"), "ada", "small", None)  # takes nothing from those who wait
    assert small and small.device.name == "small" and order == []
    small.close()
    assert held[0]
    held[0].close()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert order == ["first", "second"]


async def test_who_waits_in_vain_and_who_leaves_hold_nothing(leases: Leases) -> None:
    line = Line(leases)
    held = leases.take(("small",), "ada", "function 'digits'")
    with pytest.raises(Limited, match="small by somebody else"):
        await line.take(("small",), "bob", "x", 0.0)
    with pytest.raises(Unsatisfiable):
        await line.take(("npu",), "bob", "x", None)
    leaving = asyncio.create_task(line.take(("small",), "bob", "x", None))
    await asyncio.sleep(0.05)
    assert held
    held.close()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    got = await line.take(("small",), "bob", "y", 5.0)
    assert got and [one.what for one in leases.held()] == ["y"]
    got.close()


async def test_what_is_given_to_who_just_left_is_free_again(leases: Leases) -> None:
    line = Line(leases)
    held = leases.take(("small",), "ada", "x")
    leaving = asyncio.create_task(line.take(("small",), "bob", "x", None))
    await asyncio.sleep(0.05)
    assert held
    held.close()
    line._look()  # it has it, and has had no turn yet
    assert [one.account for one in leases.held()] == ["bob"]
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert leases.held() == []

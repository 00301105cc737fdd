"""How many workers functions keep: within the room, nobody before others, and only limits that go together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import workers
from ropewalk_core.errors import BadInput, Unsatisfiable
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.placement import Inventory, Node, Placement
from ropewalk_core.workers import Wish, allot

SOME = st.lists(
    st.builds(
        Wish,
        key=st.tuples(st.sampled_from("abc"), st.sampled_from("fgh"), st.just("r")),
        workers=st.integers(1, 6),
        size=st.integers(1, 50),
    ),
    unique_by=lambda one: one.key,
    max_size=9,
)


def spec(**changes: Any) -> FunctionSpec:
    return FunctionSpec(name="f", bundle=Bundle(files={"cell.py": ""}, entry="cell:handler"), **changes)


@given(SOME, st.integers(0, 400))
def test_what_is_kept_fits_and_is_no_more_than_was_asked_for(wishes: list[Wish], room: int) -> None:
    kept, by_key = allot(wishes, room), {one.key: one for one in wishes}
    assert sum(by_key[key].size * count for key, count in kept.items()) <= room
    assert all(1 <= count <= by_key[key].workers for key, count in kept.items())
    assert kept == allot(wishes[::-1], room)


@given(SOME, st.integers(0, 400))
def test_who_lacks_a_worker_has_no_room_for_it(wishes: list[Wish], room: int) -> None:
    kept = allot(wishes, room)
    left = room - sum(one.size * kept.get(one.key, 0) for one in wishes)
    assert all(one.size > left for one in wishes if kept.get(one.key, 0) < one.workers)


@given(SOME, st.integers(0, 400))
def test_nobody_has_more_than_one_worker_more_than_who_lacks_one(wishes: list[Wish], room: int) -> None:
    alike = [Wish(one.key, one.workers, 10) for one in wishes]
    kept = allot(alike, room)
    has = {owner: sum(count for key, count in kept.items() if key[0] == owner) for owner in "abc"}
    for one in alike:
        if kept.get(one.key, 0) < one.workers:
            assert max(has.values()) <= has[one.key[0]] + 1


def test_no_more_workers_are_kept_than_there_are_devices_for_them() -> None:
    node = Node(name="here", arch="amd64", cpu=2, memory=2**30, accelerators={"fpga": 2, "npu": 1})
    here = Inventory(nodes=(node,))
    for accelerator, most in ((("fpga",), 2), (("fpga", "npu"), 3), (("fpga", "cpu"), 64), ((), 64)):
        placement = Placement(accelerator=accelerator)
        workers.check_devices(spec(min_workers=most, max_workers=64, placement=placement), here)
        if most < 64:
            with pytest.raises(Unsatisfiable, match=f"there are {most} here") as error:
                workers.check_devices(spec(min_workers=most + 1, max_workers=64, placement=placement), here)
            assert error.value.field == "min_workers" and f"Keep {most} at most" in error.value.hint


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"min_workers": 5}, "min_workers"),
        ({"cpu_time": 3, "concurrency": 2}, "cpu_time"),
        ({"cpu_time": 3, "bundle": Bundle(files={"p": ""}, entry="p:main", form="server")}, "cpu_time"),
    ],
)
def test_limits_that_do_not_go_together_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        workers.check(spec().model_copy(update=changes))
    assert caught.value.field == field and caught.value.hint
    workers.check(spec(min_workers=4, cpu_time=3))


def test_more_than_the_machine_keeps_is_refused_with_what_it_keeps() -> None:
    workers.check_room(spec(min_workers=2), 2**30)
    with pytest.raises(Unsatisfiable) as caught:
        workers.check_room(spec(min_workers=3), 2**30)
    assert caught.value.field == "min_workers" and caught.value.hint == "Keep 2 at most, or ask for less memory."
    assert "1Gi of its memory" in caught.value.message


def test_all_of_it_is_said_in_a_line_and_nothing_of_nothing() -> None:
    assert workers.said(spec()) == ""
    full = spec(cpu_time=3, min_workers=2, files="read", environment={"B": "x", "A": "y"}, secrets=("TOKEN",))
    words = "3 s of processor time per call, 2 kept workers, files read-only, variables A B, secrets TOKEN"
    assert workers.said(full) == words

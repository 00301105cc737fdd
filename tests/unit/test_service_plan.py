"""What to do about a service: the table of cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.local.service_plan import MOST_FAILURES, Do, Have, pause_after, plan
from ropewalk_core.model import State

ALIVE = Have(alive=True, age=1.0)
READY = Have(alive=True, ready=True, age=1.0)


@pytest.mark.parametrize(
    ("state", "have", "do"),
    [
        (None, Have(), Do.FORGET),
        (None, ALIVE, Do.END),
        (State.STOPPING, READY, Do.END),
        (State.STOPPING, Have(), Do.FORGET),
        (State.FAILED, Have(), Do.REST),
        (State.FAILED, ALIVE, Do.END),
        (State.STOPPED, Have(), Do.REST),
        (State.STOPPED, ALIVE, Do.END),
        (State.ASKED, Have(), Do.START),
        (State.ASKED, READY, Do.KEEP),
        (State.ASKED, Have(alive=True, current=False, ready=True), Do.END),
        (State.STARTING, ALIVE, Do.PROBE),
        (State.STARTING, READY, Do.KEEP),
        (State.STARTING, Have(alive=True, age=31.0), Do.END),
        (State.STARTING, Have(alive=True, ready=True, age=31.0), Do.KEEP),
        (State.RUNNING, Have(), Do.START),
        (State.RUNNING, Have(failures=1, pause=0.5), Do.PAUSE),
        (State.WAITING, Have(failures=1, pause=0.0), Do.START),
        (State.WAITING, Have(failures=MOST_FAILURES, pause=9.0), Do.GIVE_UP),
        (State.RUNNING, ALIVE, Do.PROBE),
    ],
)
def test_the_table(state: State | None, have: Have, do: Do) -> None:
    assert plan(state, have, patience=30.0) is do


@given(
    st.sampled_from([None, *State]),
    st.builds(Have, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 99), st.integers(0, 9), st.floats(-9, 9)),
)
def test_two_processes_never_run_at_once(state: State | None, have: Have) -> None:
    do = plan(state, have, 30.0)
    assert not (have.alive and do in (Do.START, Do.FORGET, Do.PAUSE, Do.GIVE_UP))
    assert not (not have.alive and do in (Do.END, Do.PROBE, Do.KEEP))


def test_pauses_grow_to_a_minute() -> None:
    assert [pause_after(number) for number in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]

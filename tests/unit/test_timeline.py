"""Where rows, bars and marks of a run's timeline lie."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from ropewalk_core import timeline
from ropewalk_core.flows import Run, Step
from ropewalk_core.model import State, Status
from ropewalk_core.timeline import LEFT, WIDE


def step(name: str, *needs: str, at: float | None = None, to: float | None = None, template: str = "") -> Step:
    state = State.WAITING if at is None else State.RUNNING if to is None else State.DONE
    return Step(id=name, name=name, status=Status(state=state), needs=needs, started=at, ended=to, template=template)


def run(*steps: Step, ended: float | None = None) -> Run:
    state = State.RUNNING if ended is None else State.DONE
    return Run(id="run-0", owner="ada", name="a", status=Status(state=state), steps=steps, created=100.0, ended=ended)


def test_a_bar_lies_where_its_step_ran_and_a_thin_one_where_it_waited() -> None:
    laid = timeline.lay(run(step("a", at=100, to=105), step("b", "a", at=107, to=110), ended=110), 500.0)
    first, second = laid.rows
    assert [one.waited for one in first.bars] == [False] and [one.waited for one in second.bars] == [True, False]
    (ran,), (waits, runs) = first.bars, second.bars
    assert ran.x == LEFT and waits.x == ran.x + ran.width and runs.x == waits.x + waits.width
    assert abs(ran.width / runs.width - 5 / 3) < 0.01 and waits.height < runs.height
    assert laid.seconds == 10 and (first.words, second.words) == ("done, 5 s", "done, 3 s")


def test_what_goes_on_reaches_to_now_and_what_waits_for_others_has_no_bar() -> None:
    laid = timeline.lay(run(step("a", at=100), step("b", "a")), 160.0)
    assert [len(row.bars) for row in laid.rows] == [1, 0]
    assert laid.rows[0].bars[0].state is State.RUNNING and laid.rows[0].words == "running, 1 min"


def test_a_wide_fan_out_is_one_row_with_a_gap_where_none_of_it_ran() -> None:
    early = [step(f"t-{n}", at=100, to=102 + n / 10, template="t") for n in range(6)]
    late = [step(f"t-{n}", at=108, to=110, template="t") for n in range(6, 12)]
    laid = timeline.lay(run(*early, *late, ended=110), 110.0)
    assert [(row.label, row.count, len(row.bars), row.words) for row in laid.rows] == [
        ("t \u00d7 12", 12, 2, "12 done")
    ]


def test_many_rows_are_counted_and_not_drawn() -> None:
    laid = timeline.lay(
        run(*(step(f"s{n}", at=100 + n, to=101 + n, template=f"s{n}") for n in range(99)), ended=200), 200
    )
    assert (len(laid.rows), laid.left_out) == (40, 59) and laid.rows[0].label == "s0"


def test_marks_are_round_and_few() -> None:
    for seconds in (0.004, 0.3, 7, 61, 4000, 90_000):
        laid = timeline.lay(run(step("a", at=100, to=100 + seconds), ended=100 + seconds), 0.0)
        assert laid.marks[0].words == "0" and 2 <= len(laid.marks) <= 8, seconds
    assert [one.words for one in timeline.lay(run(ended=170), 0.0).marks] == ["0", "20 s", "40 s", "1 min"]


@example([(2.0, 1.0, [])], None, 0.0)
@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(0, 1e6), st.none() | st.floats(0, 1e6), st.lists(st.integers(0, 30), max_size=3)
        ),
        max_size=30,
    ),
    st.none() | st.floats(0, 1e6),
    st.floats(0, 2e6),
)
def test_whatever_clocks_say_all_of_it_lies_inside(
    times: list[tuple[float | None, float | None, list[int]]], ended: float | None, now: float
) -> None:
    steps = [
        step(f"s-{n}", *(f"s-{one}" for one in needs), at=at, to=to, template="s" if n % 2 else f"t{n}")
        for n, (at, to, needs) in enumerate(times)
    ]
    laid = timeline.lay(run(*steps, ended=ended), now)
    assert sum(row.count for row in laid.rows) == len(steps)
    for row in laid.rows:
        for bar in row.bars:
            assert bar.x >= LEFT and bar.x + bar.width <= WIDE and bar.width >= 0
            assert row.y <= bar.y and bar.y + bar.height <= laid.height

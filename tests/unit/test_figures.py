"""Figures: quantiles within their stated error, cells that add up in any order, and space that does not grow."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import figures
from ropewalk_core.figures import BUCKETS, DAYS, ERROR, LEAST, WINDOWS, Cell, Series, bucket, middle, quantile, total

TIMES = st.lists(st.floats(LEAST, 6000.0), min_size=1, max_size=300)
NOW = 1_800_000_000.0


def counted(times: list[float]) -> Cell:
    cell = Cell(calls=len(times))
    for one in times:
        cell.took(one)
    return cell


@given(TIMES, st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_its_error_of_the_exact_one(times: list[float], share: float) -> None:
    exact = sorted(times)[max(1, math.ceil(share * len(times))) - 1]
    found = quantile(counted(times).times, share)
    assert found is not None and abs(found - exact) <= exact * (ERROR + 1e-9)


def test_the_stated_error_is_what_the_documents_say() -> None:
    assert 0.044 < ERROR < 0.045


@given(st.floats(LEAST, 6000.0), st.floats(LEAST, 6000.0))
def test_buckets_are_in_the_order_of_times(one: float, other: float) -> None:
    least, most = sorted((one, other))
    assert bucket(least) <= bucket(most) <= BUCKETS
    assert middle(bucket(least)) <= middle(bucket(most))
    assert least <= figures.upper(bucket(least)) * (1 + 1e-9)


@pytest.mark.parametrize("odd", [0.0, -1.0, math.nan, -math.inf, 1e-9])
def test_nonsense_counts_as_the_shortest(odd: float) -> None:
    assert bucket(odd) == 0


@pytest.mark.parametrize("long", [1e5, 1e300, math.inf])
def test_what_is_longer_than_any_call_has_the_last_bucket(long: float) -> None:
    assert bucket(long) == BUCKETS


def test_nothing_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None


@given(st.lists(TIMES, max_size=5), st.randoms())
def test_cells_add_up_in_any_order(several: list[list[float]], chance: Any) -> None:
    cells = [counted(one) for one in several]
    shuffled = cells[:]
    chance.shuffle(shuffled)
    together = counted([one for times in several for one in times])
    for found in (total(cells), total(shuffled), Cell.unpacked(json.loads(json.dumps(together.packed())))):
        assert (found.calls, found.times) == (together.calls, together.times)
        assert found.seconds == pytest.approx(together.seconds, abs=1e-5)


NONE = (
    *(None, [], [1], "nonsense", [1, 0, 0, 0, 0, 0.0, 0.0, 0.0, [1]], [-1, 0, 0, 0, 0, 0, 0, 0, []]),
    *([True, 0, 0, 0, 0, 0, 0, 0, []], [0, 0, 0, 0, 0, math.nan, 0, 0, []], [0, 0, 0, 0, 0, 0, 10**400, 0, []]),
    *([0, 0, 0, 0, 0, 0, 0, 0, [1, "x"]], [0, 0, 0, 0, 0, 0, 0, 0, [1, 10**30]], [0, 0, 0, 0, 0, 0, 0, 0, {"a": 1}]),
    *([0, 0, 0, 0, 0, 0, 0, 0, 0, []], [0, 0, 0, 0, 0, 0, 0, "x", []]),
)


@pytest.mark.parametrize("told", NONE)
def test_what_is_no_cell_is_refused(told: Any) -> None:
    with pytest.raises(ValueError, match="no figures"):
        Cell.unpacked(told)


@given(st.lists(st.tuples(st.floats(-3e6, 3e6), TIMES), max_size=30))
def test_a_series_shows_what_is_young_enough_and_no_more(given_: list[tuple[float, list[float]]]) -> None:
    series = Series()
    for offset, times in given_:
        series.add(NOW + offset, counted(times), NOW)
    for window, (step, bars) in WINDOWS.items():
        shown = series.figures(window, NOW, owner="ada", function="f")
        oldest = (int(NOW // step) - bars + 1) * step
        young = [len(times) for offset, times in given_ if min(NOW + offset, NOW) >= oldest]
        assert len(shown.bars) == bars and shown.total.calls == sum(one.calls for one in shown.bars) == sum(young)
        assert shown.bars[0].at == oldest and shown.bars[-1].at <= NOW
    days = series.days(NOW)
    assert len(days) <= DAYS and sum(one.calls for one in days) >= shown.total.calls
    assert [one.day for one in days] == sorted({one.day for one in days}, reverse=True)
    again = Series.unpacked(json.loads(json.dumps(series.packed())))
    assert again.packed() == series.packed()


def test_a_series_takes_no_more_space_however_long_it_is_counted() -> None:
    series, sizes = Series(), []
    for minute in range(0, 5 * 24 * 60, 7):
        now = NOW + minute * 60
        series.add(now, counted([0.001 * 1.3 ** (minute % 40)]), now)
        sizes.append(len(json.dumps(series.packed())))
    assert max(sizes[len(sizes) // 2 :]) < 1.2 * max(sizes[len(sizes) // 3 : len(sizes) // 2])


def test_days_hold_no_times() -> None:
    series = Series()
    series.add(NOW, counted([0.1, 0.2]), NOW)
    assert all(cell[-1] == [] for cell in series.packed()["days"].values())


def test_what_was_counted_before_the_clock_was_set_back_is_neither_hidden_nor_tomorrows() -> None:
    series = Series()
    series.add(NOW + 90_000.0, counted([0.1, 0.1]), NOW + 90_000.0)
    series.add(NOW, counted([0.1]), NOW)
    for window in WINDOWS:
        assert series.figures(window, NOW, owner="ada", function="f").total.calls == 3
    [today] = series.days(NOW)
    assert (today.day, today.calls) == (figures.spent(int(NOW // 86400), Cell()).day, 3)

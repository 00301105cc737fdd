"""Figures are reported with an interval that their own order gives."""

from __future__ import annotations

import itertools
import random

import pytest

from bench.report import alone, in_turn, interval, middle, paired


@pytest.mark.parametrize(("count", "low"), [(6, 0), (10, 1), (20, 5), (100, 39)])
def test_an_interval_is_made_of_the_samples_order(count: int, low: int) -> None:
    samples = list(range(count))
    random.Random(1).shuffle(samples)
    assert interval(samples) == (low, count - 1 - low)


def test_each_begins_every_other_pair() -> None:
    count = itertools.count()
    taken = in_turn(lambda: float(next(count)), lambda: float(next(count)), 4)
    assert taken == [(0, 1), (3, 2), (4, 5), (7, 6)]


def test_too_few_samples_have_no_interval() -> None:
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert alone("one", "s", [1.0]).as_json()["interval"] is None


def test_an_interval_holds_the_median_as_often_as_it_says() -> None:
    chance, held = random.Random(2), 0
    for _ in range(400):
        low, high = interval([chance.random() for _ in range(10)]) or (1.0, 0.0)
        held += low <= 0.5 <= high
    assert held >= 0.95 * 400


def test_pairs_become_a_ratio_of_medians_and_an_interval_of_ratios() -> None:
    row = paired("call", "s", "peer", [(2.0, 1.0), (3.0, 1.5), (4.0, 2.0)] * 4, "<= 1.5")
    assert (row.ours, row.against, row.ratio, row.met) == (middle([2, 3, 4]), ("peer", 1.5), 2.0, False)
    assert row.as_json()["interval"] == [2.0, 2.0]
    assert row.samples == 12

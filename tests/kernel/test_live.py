"""The card that follows its object: it moves, it survives a platform that is away, and it stays."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ropewalk_core.errors import Unavailable
from ropewalk_kernel import cards, live
from tests.kernel.conftest import Notebook


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)


def test_a_card_follows_until_it_is_over(notebook: Notebook) -> None:
    left = [1, 1, 2, 3, 3]
    card = live.Card(lambda: left.pop(0), lambda value: cards.notice(f"at {value}"), lambda value: value == 3)
    card.open(0)
    until(lambda: notebook.updates[-1]["text/plain"] == "at 3")
    assert [one["text/plain"] for one in notebook.updates] == ["at 0", "at 1", "at 2", "at 3"]
    live.freeze()
    assert left == [3]


def test_a_card_outlives_a_platform_that_is_away(notebook: Notebook) -> None:
    answers: list[int | None] = [None, None, 7]

    def fetch() -> int:
        value = answers.pop(0)
        if value is None:
            raise Unavailable("The platform is away.")
        return value

    live.Card(fetch, lambda value: cards.notice(f"at {value}"), lambda value: value == 7).open(0)
    until(lambda: notebook.updates[-1]["text/plain"] == "at 7")
    live.freeze()


def test_a_card_outlives_a_picture_that_cannot_be_drawn(notebook: Notebook) -> None:
    answers = [1, 2, 7]

    def draw(value: int) -> cards.Picture:
        if value == 2:
            raise Unavailable("The platform is away.")
        return cards.notice(f"at {value}")

    live.Card(lambda: answers.pop(0), draw, lambda value: value == 7).open(0)
    until(lambda: notebook.updates[-1]["text/plain"] == "at 7")
    live.freeze()


def test_who_waits_draws_the_end_at_once(notebook: Notebook) -> None:
    card = live.Card(lambda: 0, lambda value: cards.notice(f"at {value}"), lambda value: value == 9)
    card.open(0)
    card.settle(9)
    assert notebook.updates[-1]["text/plain"] == "at 9"
    live.freeze()


def test_a_card_that_is_over_asks_nobody(notebook: Notebook) -> None:
    live.Card(lambda: 1 // 0, lambda value: cards.notice("done"), lambda value: True).open(0)
    assert [one["text/plain"] for one in notebook.updates] == ["done"]
    live.freeze()


def test_a_look_that_was_held_up_once_makes_no_card_slow() -> None:
    assert live.pause_after([0.0, 2.0]) == live.pause_after([3.0, 0.0, 3.0]) == live.EVERY
    assert live.EVERY < live.pause_after([0.5, 0.6, 0.7]) < live.pause_after([60.0, 60.0, 60.0]) <= 5.0

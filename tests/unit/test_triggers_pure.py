"""Triggers, decided: what may be wished, what fires and what does not, and that no account waits for another's list."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput
from ropewalk_core.model import State, Trigger, TriggerSpec
from ropewalk_core.triggers import occasions, wishes, words
from ropewalk_core.triggers.occasions import End, Firing

NOW = 1_800_000_030.0  # half a minute past


def trigger(created: float = NOW, **facts: Any) -> Trigger:
    spec = TriggerSpec.model_validate({key: facts.pop(key) for key in list(facts) if key in TriggerSpec.model_fields})
    given = {"id": "t-1", "owner": "ada", "name": "f", "created": created, "settled": created, **facts}
    return Trigger(spec=spec, **given)


def ended(state: State = State.DONE, **facts: Any) -> End:
    given = {"owner": "ada", "source": "function:g", "key": "c1@1", "id": "c1", "at": NOW + 1, **facts}
    return End(state=state, **given)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"every": " */5  * * * * "}, {"every": "*/5 * * * *"}),
        ({"every": "@Hourly", "zone": "Europe/Athens"}, {"every": "@Hourly"}),
        ({"after": "other"}, {"after": "function:other"}),
        ({"after": "workflow:Train_2", "when": "always"}, {"after": "workflow:Train_2"}),
        ({"on_file": "./inbox//*.csv"}, {"on_file": "inbox/*.csv"}),
        ({"on_file": "inbox/"}, {"on_file": "inbox/*"}),
        ({"on_file": "*.csv", "existing": True}, {"on_file": "*.csv"}),
    ],
)
def test_a_wish_is_kept_in_its_full_form(given: dict[str, Any], kept: dict[str, Any]) -> None:
    spec = wishes.checked(TriggerSpec.model_validate(given), NOW)
    assert {key: getattr(spec, key) for key in kept} == kept
    assert wishes.checked(spec, NOW) == spec and words.said(spec)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "every"),
        ({"every": "@hourly", "after": "g"}, "after"),
        ({"every": "no"}, "every"),
        ({"every": "0 0 30 2 *"}, "every"),
        ({"every": "@hourly", "zone": "Nowhere"}, "zone"),
        ({"every": "@hourly", "when": "always"}, "when"),
        ({"every": "@hourly", "existing": True}, "existing"),
        ({"after": "g", "zone": "Europe/Athens"}, "zone"),
        ({"after": "Not A Name"}, "after"),
        ({"after": "service:g"}, "after"),
        ({"after": "workflow:"}, "after"),
        ({"on_file": "../x"}, "on_file"),
        ({"on_file": "/etc/*"}, "on_file"),
        ({"on_file": "in*/x"}, "on_file"),
        ({"on_file": "inbox/**"}, "on_file"),
        ({"on_file": "inbox/" + "x" * 101}, "on_file"),
        ({"on_file": "inbox/.partial-*"}, "on_file"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        wishes.checked(TriggerSpec.model_validate(given), NOW)
    assert caught.value.field == field and caught.value.hint


def test_a_choice_keeps_what_is_there_already() -> None:
    have = [trigger(id="t-1", every="@hourly"), trigger(id="t-2", after="function:g")]
    hourly, daily = TriggerSpec(every="@hourly"), TriggerSpec(every="@daily")
    gone, new = wishes.changes(have, [hourly, daily, daily])
    assert [one.id for one in gone] == ["t-2"] and new == [daily]
    assert wishes.changes(have, [one.spec for one in have]) == ([], [])
    assert wishes.changes(have, []) == (have, [])


def test_a_schedule_fires_for_its_latest_moment_and_not_for_all_that_it_missed() -> None:
    one = trigger(every="* * * * *")
    assert occasions.came_due(one, NOW) is None
    occasion = occasions.came_due(one, NOW + 600)
    assert occasion is not None and occasion.at == 1_800_000_600.0
    over = one.model_copy(update={"settled": occasion.at})
    assert occasions.came_due(over, NOW + 600) is None
    assert occasions.comes_next(over, NOW + 600) == 1_800_000_660.0
    assert occasions.came_due(one.model_copy(update={"paused": True}), NOW + 600) is None


def test_what_was_missed_for_too_long_does_not_fire() -> None:
    one = trigger(every="0 0 1 1 *", created=NOW)
    year = occasions.comes_next(one, NOW)
    assert year is not None
    assert occasions.came_due(one, year + occasions.CATCH_UP - 1) is not None
    assert occasions.came_due(one, year + occasions.CATCH_UP + 1) is None


def test_a_clock_that_is_set_back_fires_nothing_twice() -> None:
    one = trigger(every="* * * * *", settled=NOW + 3600)
    assert occasions.came_due(one, NOW + 600) is None
    assert occasions.comes_next(one, NOW + 600) == 1_800_003_660.0


@pytest.mark.parametrize(
    ("when", "states"),
    [
        ("success", {State.DONE}),
        ("failure", {State.FAILED}),
        ("always", {State.DONE, State.FAILED, State.STOPPED}),
    ],
)
def test_ends_that_count(when: str, states: set[State]) -> None:
    one = trigger(after="function:g", when=when)
    counting = {state for state in State if state.terminal and occasions.followed(one, ended(state)) is not None}
    assert counting == states


def test_an_end_of_something_else_or_of_before_is_none() -> None:
    one = trigger(after="function:g")
    assert occasions.followed(one, ended(source="workflow:g")) is None
    assert occasions.followed(one, ended(at=NOW - 1)) is None
    assert occasions.followed(one.model_copy(update={"paused": True}), ended()) is None
    occasion = occasions.followed(one, ended(chain=3))
    assert occasion is not None and occasion.chain == 4
    assert occasions.too_long(4, 4) is None and occasions.too_long(5, 4) is not None


def test_a_call_is_told_the_same_however_often() -> None:
    one = trigger(every="0 2 * * *", zone="Europe/Athens")
    occasion = occasions.came_due(one, NOW + 86400)
    assert occasion is not None
    first, again = Firing(one, occasion), Firing(one.model_copy(update={"fires": 3}), occasion)
    assert first.told() == again.told() and first.key == again.key
    assert first.told()["kind"] == "every" and first.told()["at"].endswith("+02:00")
    file = Firing(trigger(on_file="inbox/*"), occasions.arrived("inbox/a b.csv", occasions.stamped(12, 1.5)))
    assert file.told()["file"] == {"path": "inbox/a b.csv", "size": 12} and file.occasion.mark == (
        occasions.known_as("a b.csv"),
        "12:1.500000",
    )


def test_a_file_counts_once_it_held_still() -> None:
    now = {"a": "1:1", "b": "2:2"}
    a, b = map(occasions.known_as, now)
    assert occasions.fresh({}, now) == []
    assert occasions.fresh({"a": "1:0", "b": "2:2"}, now) == ["b"]
    assert occasions.unseen({}, now) == now
    assert occasions.unseen({b: "2:2"}, now) == {"a": "1:1"}
    assert occasions.unseen({a: "0:0", b: "2:2"}, now) == {"a": "1:1"}  # another content under the same name


things = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 200), max_size=6)


@settings(max_examples=200, deadline=None)
@given(things, st.integers(1, 20), st.integers(1, 60))
def test_no_account_waits_for_the_list_of_another(counts: dict[str, int], share: int, room: int) -> None:
    waiting = {owner: [(owner, number) for number in range(count)] for owner, count in counts.items()}
    chosen = occasions.turn(waiting, share, room)
    took = {owner: [number for who, number in chosen if who == owner] for owner in counts}
    assert len(chosen) == len(set(chosen)) <= room
    for owner, count in counts.items():
        assert took[owner] == list(range(len(took[owner]))) and len(took[owner]) <= min(share, count)
    if len(chosen) < room:  # then everybody got a whole share
        assert all(len(took[owner]) == min(share, count) for owner, count in counts.items())
    fewest = min(
        (len(took[owner]) for owner, count in counts.items() if len(took[owner]) < min(share, count)), default=share
    )
    assert all(len(one) <= fewest + 1 for one in took.values())


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "0 */3 * * *", "30 2 * * *"]),
    st.lists(st.tuples(st.floats(1, 50_000), st.booleans()), min_size=1, max_size=20),
)
def test_each_moment_fires_once_or_is_overtaken_by_a_later_one(text: str, looks: list[tuple[float, bool]]) -> None:
    """Whenever it is looked, and whichever looks are killed before they are written down."""
    one, now = trigger(every=text), NOW
    fired: list[float] = []
    for seconds, killed in looks:
        now += seconds
        occasion = occasions.came_due(one, now)
        if occasion is None:
            continue
        if occasion.at not in fired:  # the same occasion is the same call
            fired.append(occasion.at)
        if not killed:
            one = one.model_copy(update={"settled": occasion.at})
    assert fired == sorted(fired)
    latest = occasions.came_due(trigger(every=text), now)
    if latest is not None:
        looked = occasions.came_due(one, now)
        assert looked is None or looked.at == latest.at
        assert latest.at in [*fired, looked.at if looked else None]

"""The choice by weight: fair, total, and only among those who take calls; and what can be wished."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import traffic
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Bundle, Function, FunctionRoute, FunctionSpec, Revision, Share, State, Status, Traffic

NONE = "revision 5, the latest, takes none."
SPEC = FunctionSpec(name="double", bundle=Bundle(files={}, entry="cell:x"))


@st.composite
def wishes(draw: st.DrawFn) -> dict[int, int]:
    """Return shares that add up to 100, with 0 for the latest."""
    numbers = draw(st.lists(st.integers(1, 99_999_999), unique=True, max_size=traffic.MOST))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(numbers), max_size=len(numbers))))
    bounds = [0, *cuts, 100]
    parts = [later - sooner for sooner, later in pairwise(bounds)]
    return dict(zip([0, *numbers], parts, strict=True))


def led(weights: dict[int, int]) -> FunctionRoute:
    def one(number: int) -> FunctionRoute:
        return FunctionRoute(
            owner="ada", name="double", revision=f"r{number}", spec=SPEC, number=number, weight=weights[number]
        )

    return one(0).model_copy(update={"others": tuple(one(number) for number in weights if number)})


@given(wish=wishes())
def test_of_points_spread_evenly_each_gets_its_share(wish: dict[int, int]) -> None:
    route = led(wish)
    seen = Counter(traffic.choose(route, (point + 0.5) / 100).number for point in range(100))
    assert seen == {number: weight for number, weight in wish.items() if weight}


@given(wish=wishes(), point=st.floats(0, 1, exclude_max=True))
def test_every_call_goes_to_one_that_takes_calls(wish: dict[int, int], point: float) -> None:
    assert wish[traffic.choose(led(wish), point).number] > 0


@given(wish=wishes(), point=st.floats(0, 1, exclude_max=True))
def test_the_choice_follows_from_the_point_alone(wish: dict[int, int], point: float) -> None:
    assert traffic.choose(led(wish), point) == traffic.choose(led(wish), point)


@given(wish=wishes(), point=st.floats(0, 1, exclude_max=True))
def test_a_share_that_is_missing_loses_no_call(wish: dict[int, int], point: float) -> None:
    """As when a revision is gone from a snapshot: whoever is left takes the call."""
    route = led(wish)
    fewer = route.model_copy(update={"others": route.others[1:]})
    assert traffic.choose(fewer, point) in traffic.everything(fewer)


@given(wish=wishes())
def test_a_wish_is_read_back_as_it_was_written(wish: dict[int, int]) -> None:
    spoken = {str(number) if number else "latest": weight for number, weight in wish.items()}
    assert traffic.weights(spoken) == wish
    shares = tuple(Share(number=one, revision="r", weight=wish[one]) for one in wish if one)
    split = Traffic(latest=wish[0], shares=shares)
    assert traffic.weights(traffic.written(split)) == wish
    ended = traffic.weights(traffic.ended(split))
    assert ended[0] == 100 and set(ended) == set(wish)


@given(wish=wishes(), number=st.integers(1, 99_999_999))
def test_pinning_changes_no_share(wish: dict[int, int], number: int) -> None:
    shares = tuple(Share(number=one, revision="r", weight=wish[one]) for one in wish if one)
    pinned = traffic.pinning(Traffic(latest=wish[0], shares=shares), number)
    if number in wish:
        assert pinned is None
    else:
        assert pinned == traffic.written(Traffic(latest=wish[0], shares=shares)) | {str(number): 0}


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"latest": 99},
        {1: 100, 2: 1},
        {1: 50.0, 2: 50},
        {1: True, 2: 99},
        {1: "100"},
        {1: 101, 2: -1},
        {0: 100},
        {-1: 100},
        {"01": 50, 1: 50},
        {"": 100},
        {"\u0661": 100},
        {"1" * 9: 100},
        {True: 100},
        {None: 100},
        dict.fromkeys(range(1, 11), 10),
    ],
)
def test_what_cannot_be_wished(wish: dict[object, object]) -> None:
    with pytest.raises(BadInput) as caught:
        traffic.weights(wish)
    assert caught.value.field == "traffic"


def test_pinned_is_by_number() -> None:
    route = led({0: 90, 3: 10, 4: 0})
    assert [getattr(traffic.pinned(route, one), "revision", None) for one in (0, 3, 4, 5)] == [None, "r3", "r4", None]


@pytest.mark.parametrize(
    ("latest", "shares", "said"),
    [
        (100, {}, ""),
        (100, {3: 0}, ""),
        (10, {3: 90}, "Of 100 calls revision 3 takes 90, revision 5, the latest, takes 10."),
        (0, {3: 90, 4: 10}, f"Of 100 calls revision 3 takes 90, revision 4 takes 10, {NONE}"),
        (0, {3: 90, 5: 10, 1: 0}, "Of 100 calls revision 3 takes 90, revision 5 takes 10."),
    ],
)
def test_a_split_is_said_in_a_sentence(latest: int, shares: dict[int, int], said: str) -> None:
    function = Function(
        owner="ada",
        name="double",
        revision=Revision(id="r5", number=5, spec=SPEC),
        status=Status(state=State.RUNNING),
        traffic=Traffic(
            latest=latest,
            shares=tuple(Share(number=one, revision="r", weight=weight) for one, weight in shares.items()),
        ),
    )
    assert traffic.said(function) == said


def test_it_can_be_reached_while_one_that_takes_calls_answers() -> None:
    split = led({0: 0, 1: 100, 2: 0})
    away = split.others[0].model_copy(update={"away": "It does not run."})
    assert traffic.reachable(split) and traffic.reachable(split.model_copy(update={"away": "It does not run."}))
    assert not traffic.reachable(split.model_copy(update={"others": (away, split.others[1])}))

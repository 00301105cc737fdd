"""The pure parts of the pages: words, forms, graphs, figures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ropewalk_core.figures import Cell, Series
from ropewalk_core.flows import Step
from ropewalk_core.model import Call, Function, State, Status
from ropewalk_hub.pages import forms, graph, words
from ropewalk_hub.pages.functions import row
from tests.effort import lines

SCHEMA: dict[str, Any] = {
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "note": {"type": "string", "default": "hi"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "on": {"type": "boolean"},
        "color": {"enum": ["red", 2, None]},
        "extra": {"type": "object"},
    },
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0031, "3 ms"),
        (1.24, "1.2 s"),
        (59.96, "60.0 s"),
        (60, "1 min"),
        (184, "3 min 4 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**50, "1024 TiB")]
)
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text


def test_times() -> None:
    assert words.relative(100, 102) == "just now"
    assert words.relative(100, 161) == "1 minute ago"
    assert words.relative(100, 100 + 2 * 86400) == "2 days ago"
    assert words.relative(500, 100) == "in 6 minutes"
    assert words.ago(0.5, 100) == Markup(
        '<time datetime="1970-01-01T00:00:00+00:00" title="01 Jan 1970, 00:00:00 UTC">1 minute ago</time>'
    )


@given(st.text(), st.sampled_from(State))
def test_notes_of_states_are_escaped(note: str, state: State) -> None:
    made = words.state(state, note)
    assert made.count("<") == words.state(state, "x" if note else "").count("<")


@given(st.text(), st.integers(1, 50))
def test_brief_stays_on_one_short_line(text: str, longest: int) -> None:
    made = words.brief(text, longest)
    assert len(made) <= longest and "\n" not in made


@given(st.dictionaries(st.sampled_from([forms.PREFIX + name for name in SCHEMA["properties"]]), st.text()))
def test_a_form_comes_back_as_it_was_typed(typed: dict[str, str]) -> None:
    values, errors = forms.parse(SCHEMA, typed)
    shown = {one.name: one.value for one in forms.fields(SCHEMA, {}, typed, errors)}
    for name, text in typed.items():
        assert shown[name] == text
    assert set(values) <= set(SCHEMA["properties"])
    assert all(isinstance(values.get(name, 0), int) for name in ("count",))


@given(
    st.text(),
    st.integers(),
    st.booleans(),
    st.sampled_from(["red", 2, None]),
    st.dictionaries(st.text(), st.integers()),
)
def test_values_survive_the_form(name: str, count: int, on: bool, color: Any, extra: dict[str, int]) -> None:
    values = {"name": name, "note": "x", "count": count, "on": on, "extra": extra} | ({"color": color} if color else {})
    typed = {one.name: one.value for one in forms.fields(SCHEMA, values, None, {})}
    again, errors = forms.parse(SCHEMA, typed)
    assert not errors
    assert again == values


def test_text_that_is_no_number_is_complained_about() -> None:
    typed = {"value.count": "1.5", "value.share": "half", "value.extra": "{"}
    _, errors = forms.parse(SCHEMA, typed)
    assert set(errors) == {"count", "share", "extra"}
    assert "a whole number, not '1.5'" in errors["count"].text and errors["count"].code == "RW-BAD-VALUES"


def step(id: str, needs: tuple[str, ...] = (), state: State = State.DONE, template: str = "") -> Step:
    return Step(id=id, name=id, template=template or id, status=Status(state=state), needs=needs)


@st.composite
def runs(draw: st.DrawFn) -> list[Step]:
    count = draw(st.integers(0, 30))
    templates = st.sampled_from(["load", "train", "join"])
    return [
        step(f"s{i}", tuple(draw(st.sets(st.sampled_from([f"s{j}" for j in range(count)]), max_size=3))),
             draw(st.sampled_from(State)), draw(templates))
        for i in range(count)
    ]  # fmt: skip


@given(runs())
def test_any_run_is_drawn_without_overlap(steps: list[Step]) -> None:
    made = graph.draw(steps, {})
    assert sum(node.count for node in made.nodes) == len(steps)
    places = [(node.x, node.y) for node in made.nodes]
    for number, (x, y) in enumerate(places):
        assert 0 <= x <= made.width - graph.WIDE and 0 <= y <= made.height - graph.HIGH
        for other_x, other_y in places[:number]:
            assert abs(x - other_x) >= graph.WIDE or abs(y - other_y) >= graph.HIGH


@given(runs())
def test_each_box_lies_behind_what_it_needs_unless_they_go_in_a_circle(steps: list[Step]) -> None:
    boxes = graph._boxes(steps)
    layers = graph._layers(boxes)
    place = {name: number for number, layer in enumerate(layers) for name in layer}
    assert len(place) == len(boxes)
    for name, box in boxes.items():
        before = max((place[need] for need in box.needs), default=-1)
        assert place[name] == before + 1 or (before == place[name] == len(layers) - 1)


def test_a_circle_comes_last() -> None:
    made = [step("a", ("b",)), step("b", ("a",)), step("behind", ("b",)), step("c"), step("d", ("c",))]
    assert graph._layers(graph._boxes(made)) == [["c"], ["d"], ["a", "b", "behind"]]


def test_a_long_chain_is_laid_out_with_work_that_grows_as_its_length() -> None:
    def laid(count: int) -> int:
        chain = [step(f"s{one}", (f"s{one - 1}",) if one else ()) for one in range(count)]
        return lines(lambda: graph.draw(chain, {}))

    assert laid(400) < 2.2 * laid(200)


def test_a_diamond_has_three_layers_and_many_alike_are_one_box() -> None:
    made = graph.draw([step("a"), step("b", ("a",)), step("c", ("a",)), step("d", ("b", "c"))], {"a": "1 s"})
    assert len({node.x for node in made.nodes}) == 3 and len(made.edges) == 4
    assert made.nodes[0].note == "done 1 s"
    many = [step("a"), *(step(f"t{i}", ("a",), State.FAILED if i == 3 else State.DONE, "t") for i in range(20))]
    drawn = graph.draw(many, {})
    assert [node.count for node in drawn.nodes] == [1, 20]
    assert drawn.nodes[1].state is State.FAILED and drawn.nodes[1].id == "t3"
    assert drawn.nodes[1].note == "1 failed, 19 done"


def test_figures_of_calls() -> None:
    def call(started: float, took: float | None, state: State = State.DONE) -> Call:
        ended = None if took is None else started + took
        return Call(id="c", function="f", owner="a", revision="r", started=started, ended=ended, state=state)

    series, now = Series(), 10_000.0
    for at, failed in ((now - 1, 0), (now - 2, 1), (now - 61, 0), (now - 3000, 0)):
        series.add(at, Cell(1, failed), now)
    one = Function.model_construct(name="f")
    made = row(one, series.figures("hour", now, owner="a", function="f"), [call(now - 1, 0.5)])
    assert (made.hour.calls, made.hour.errors, made.last, made.most) == (4, 1, now - 1, 2)
    assert made.bars[-2:] == (1, 2) and sum(made.bars) == 3 and len(made.bars) == 30
    again = row(one, series.figures("hour", now, owner="a", function="f"), [])  # records do not outlive the platform
    assert (again.hour.calls, again.bars) == (4, made.bars) and now - 120 < (again.last or 0) <= now
    assert row(one, None, []).last is None


def test_pretty_cuts_what_is_too_long() -> None:
    assert words.pretty({"a": [1]}) == json.dumps({"a": [1]}, indent=2)
    assert words.pretty("x" * 30, 10) == "x" * 10 + "\n... 20 more characters"

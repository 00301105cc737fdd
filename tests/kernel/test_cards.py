"""Cards, graphs and values: pure parts."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput, UserCodeFailed
from ropewalk_core.flows import Run, Step
from ropewalk_core.model import Service, ServiceSpec, State, Status, Why
from ropewalk_kernel import cards, complain, graph, look, run_cards, values
from ropewalk_kernel.places import where
from ropewalk_kernel.posts import Place
from tests.kernel.fake import step

ALLOWED = {"style", "div", "span", "p", "pre", "a", "table", "thead", "tbody", "tr", "th", "td"} | {
    "svg", "g", "title", "rect", "text", "path", "details", "summary",
}  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def run(*steps: Step, name: str = "tune", state: State = State.RUNNING) -> Run:
    return Run(id="run-0", owner="ada", name=name, status=Status(state=state), steps=steps)


HOSTILE = st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</pre><script>", "'-alert(1)-'", "</style><b>"]
)


@given(name=HOSTILE, error=HOSTILE, line=HOSTILE)
def test_what_people_wrote_is_never_markup(name: str, error: str, line: str) -> None:
    one = step(name, State.FAILED, error=error, traceback=error)
    service = Service(
        owner="ada",
        spec=ServiceSpec(name="a", template=name),
        status=Status(state=State.FAILED, why=Why(cause=error)),
        address=f"javascript:{name}",
    )
    for picture in (
        run_cards.draw(run(one, name=name), logs=[line]),
        cards.service_card(service, logs=[line]),
        cards.listing(name, ("a", "b"), [(error, line)], empty="none"),
    ):
        tags = Tags()
        tags.feed(picture.html)
        assert {tag for tag, _ in tags.seen} <= ALLOWED
        assert not any(key.startswith("on") or key == "src" for _, found in tags.seen for key in found)
        assert "javascript:" not in "".join(found.get("href") or "" for _, found in tags.seen)


def test_a_fan_out_is_one_box() -> None:
    steps = [
        step("load", State.DONE),
        *[step(f"train-{n}", State.RUNNING if n else State.FAILED, "load", template="train") for n in range(4)],
        *[step(f"score-{n}", State.ASKED, f"train-{n}", template="score") for n in range(4)],
        step("best", State.ASKED, *[f"score-{n}" for n in range(4)]),
    ]
    boxes = graph.arrange(steps)
    assert [(box.label, box.column) for box in boxes] == [("load", 0), ("train x 4", 1), ("score x 4", 2), ("best", 3)]
    assert boxes[1].state is State.FAILED
    assert boxes[1].summary == "✕ 1 failed, 3 running"
    assert graph.svg(boxes).count("<path") == 6


def test_a_chain_of_one_template_stays_a_chain() -> None:
    steps = [step("a-0", State.DONE, template="a"), step("a-1", State.DONE, "a-0", template="a")]
    assert [box.label for box in graph.arrange(steps)] == ["a-0", "a-1"]


def test_a_group_is_what_is_inside_it() -> None:
    steps = [
        step("load", State.DONE),
        *[step(f"train({n})", State.DONE, "load", template="train") for n in range(3)],
        step("train", State.DONE, *[f"train({n})" for n in range(3)], template="train", kind="group"),
        step("best", State.DONE, "train"),
    ]
    boxes = graph.arrange(steps)
    assert [(box.label, box.column) for box in boxes] == [("load", 0), ("train x 3", 1), ("best", 2)]
    assert "5 of 5 steps" in run_cards.draw(run(*steps)).text
    why = Status(state=State.DONE, note="kept", why=Why(cause="Its result is that of run-0 <b>: same code."))
    taken = run_cards.draw(run(*(one.model_copy(update={"status": why}) for one in steps)))
    assert "5 of 5 steps, 5 kept" in taken.text and "Why steps ran" in taken.html
    assert taken.html.count("run-0 &lt;b&gt;") == 5 and "<b>" not in taken.html
    assert "Why steps ran" not in run_cards.draw(run(*steps)).html
    address = "http://localhost:8000/workflows/run-1"
    opened = run_cards.draw(run(*steps), address=address)
    assert f'<a href="{address}" target="_blank"' in opened.html and opened.text.endswith(f"\n  {address}")
    held = run(*steps).model_copy(update={"status": Status(state=State.RUNNING, note="suspended")})
    assert "running (suspended)" in run_cards.draw(held).text and held.suspended


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=30))
def test_any_graph_can_be_drawn(needs: list[list[int]]) -> None:
    steps = [
        step(f"s-{at}", State.DONE, *[f"s-{one}" for one in wanted if one < at], template=f"t{at % 3}")
        for at, wanted in enumerate(needs)
    ]
    boxes = graph.arrange(steps)
    assert sum(len(box.steps) for box in boxes) == len(steps)
    assert all(boxes[need].column < box.column for box in boxes for need in box.needs)
    graph.svg(boxes)


def test_every_state_has_a_sign_and_a_tone() -> None:
    assert len({look.SIGNS[state] for state in State}) == 9
    assert all(f"--rw-{look.tone(state)}" in look.STYLE for state in State)


@pytest.mark.parametrize(("took", "words"), [(0.34, "340 ms"), (1.23, "1.2 s"), (200, "3 min 20 s")])
def test_durations(took: float, words: str) -> None:
    assert look.duration(100, 100 + took) == words
    assert look.duration(None) == ""


@dataclasses.dataclass
class Point:
    x: int


class Array:
    """What numpy and its friends offer; they are not in the platform's environment."""

    def tolist(self) -> list[list[int]]:
        return [[1, 2], [3, 4]]


class DataFrame:
    """What pandas offers."""

    columns = ("a",)

    def to_dict(self, orient: str) -> list[dict[str, int]]:
        assert orient == "records"
        return [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Array(), [[1, 2], [3, 4]]),
        (DataFrame(), [{"a": 1}, {"a": 2}]),
        (Point(3), {"x": 3}),
        ({2, 1}, [1, 2]),
        (datetime.date(2026, 11, 21), "2026-11-21"),
    ],
)
def test_python_values_become_json(value: object, plain: object) -> None:
    assert values.decode(values.encode(value)) == plain


def test_what_has_no_json_form_is_named() -> None:
    with pytest.raises(BadInput, match="type complex"):
        values.encode([1j])
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(BadInput, match="cannot be sent"):
        values.encode(circle)


def test_numbers_that_json_has_not_travel_to_python_only() -> None:
    assert values.encode([math.nan, -math.inf]) == b"[NaN, -Infinity]"
    with pytest.raises(BadInput, match=r'value\["a"\]\[1\] is NaN'):
        values.encode({"a": [1, math.nan]}, exact=False)


def test_names_under_localhost_are_reached_on_the_loopback() -> None:
    local = where("http://digits--fn--ada.localhost:8001/")
    assert local == (Place("127.0.0.1", 8001), "/", "digits--fn--ada.localhost:8001")
    away = where("https://digits--fn--ada.people.example/")
    assert away == (Place("digits--fn--ada.people.example", 443, secure=True), "/", "digits--fn--ada.people.example")


def test_an_error_explains_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_HOST", "localhost:8000")
    error = UserCodeFailed("It failed.", field="cell line 2", details={"traceback": "Traceback\nValueError: no"})
    text = complain.explain(error)
    assert re.search(r"ValueError: no\nRW-USER-CODE It failed\.\nWhere: cell line 2\nNext: Look at", text)
    assert text.endswith("More: http://localhost:8000/help/errors#RW-USER-CODE")


def test_a_picture_has_both_forms() -> None:
    bundle = cards.notice("done")._repr_mimebundle_()
    assert json.dumps(bundle)
    assert bundle["text/plain"] == "done"


def test_a_card_has_a_timeline_steps_parameters_and_copies_behind_their_names() -> None:
    done = step("load", State.DONE, inputs={"path": "a<b>"})
    one = run(done, step("fit", State.FAILED, "load", error="no <i>")).model_copy(update={"arguments": {"rate": 0.1}})
    html = run_cards.draw(
        one, printed={"load": ["read <b>"]}, copies={"Hera": "w = '<b>'", "Argo YAML": "a" * 9000}
    ).html
    found = re.findall(r"<summary>(.*?)</summary>", html)
    assert found[0] == "Timeline" and found[1] == "Steps (2)" and "fit" in found[2] and "load" in found[3]
    assert found[4:] == ["Parameters", "Copy as", "Hera"] and "Argo YAML: too long" in html
    assert "read &lt;b&gt;" in html and "<b>" not in html and "<i>" not in html


def test_a_long_chain_is_arranged_in_one_walk() -> None:
    steps = [step(f"s{n}", State.DONE, *([f"s{n - 1}"] if n else [])) for n in range(5000)]
    boxes = graph.arrange(steps)
    assert [box.column for box in boxes] == list(range(5000))

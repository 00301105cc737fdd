"""Runs side by side: what is a number of a run, and where its point stands."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import comparison, scatter
from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Compared, Comparison, Run, Step
from ropewalk_core.guard_flows import GuardedWorkflows
from ropewalk_core.journal import Put
from ropewalk_core.model import Actor, State, Status
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.records import RUN, STEP, dump
from tests.workflow_rig import ALICE, Rig

DONE = Status(state=State.DONE)
FILE = {"digest": "a" * 64, "size": 1}


def told(value: Any, seen: str = "") -> dict[str, Any]:
    text = json.dumps(value)
    return FILE | {"media_type": "application/json", "json": text, "preview": seen or repr(value)}


def rich(seen: str) -> dict[str, Any]:
    return FILE | {"media_type": "application/vnd.ropewalk.value", "json": "", "preview": seen}


def row(name: str = "run-1", /, metrics: dict[str, float] | None = None, **parameters: Any) -> Compared:
    return Compared(run=name, status=DONE, created=1.0, parameters=parameters, metrics=metrics or {})


@pytest.mark.parametrize(
    ("outputs", "numbers"),
    [
        ({}, {}),
        ({"result": told(0.5)}, {"": 0.5}),
        ({"result": told({"accuracy": 0.9, "name": "x", "ok": True, "none": None})}, {"accuracy": 0.9}),
        ({"result": told({"model": {"loss": 1}, "scores": [1, 2]})}, {"model.loss": 1.0}),
        ({"result": {"score": told(1), "model": told({"loss": -2.5})}}, {"score": 1.0, "model.loss": -2.5}),
        ({"result": told([1, 2])}, {}),
        ({"result": [told(1), told(2)]}, {}),
        ({"result": told(True)}, {}),
        ({"accuracy": 0.5, "epochs": 3, "text": "7 or so"}, {"accuracy": 0.5, "epochs": 3.0}),
        ({"result": rich("np.float64(0.25)")}, {"": 0.25}),
        ({"result": rich("{'a': np.float32(0.5), 'n': nan, 'm': -inf, 'b': np.True_, 'c': -np.int64(3)}")},
         {"a": 0.5, "c": -3.0}),
        ({"result": rich("{'model': {'loss': 2.0}, 1: 2.0, 'cut': [1, …")}, {}),
        ({"result": rich("data frame, 2 x 3")}, {}),
        ({"result": rich("__import__('os').system('x')")}, {}),
        ({"result": rich("np.load(3)")}, {}),
        ({"result": rich("(" * 399)}, {}),
        ({"result": FILE | {"media_type": "application/json", "json": "[" * 60_000}}, {}),
        ({"result": FILE | {"media_type": "application/json", "json": "9" * 5000}}, {}),
        ({"result": FILE | {"media_type": "application/json", "json": '{"a": NaN, "b": 1e999, "c": 1}'}}, {"c": 1.0}),
        ({"result": 10**400}, {}),
        ({"result": {"digest": "x", "media_type": 7, "json": 3, "preview": 4}}, {}),
    ],
)  # fmt: skip
def test_numbers_are_read_from_what_a_run_keeps_of_its_result(
    outputs: dict[str, Any], numbers: dict[str, float]
) -> None:
    assert comparison.numbers(outputs) == numbers


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inside: st.lists(inside)
                    | st.dictionaries(st.text(), inside), max_leaves=20), st.text(max_size=400))  # fmt: skip
def test_whatever_a_step_says_gives_finite_numbers_or_none(value: Any, seen: str) -> None:
    for outputs in (
        {"result": value},
        {"result": told(value, seen)},
        {"result": rich(seen)},
        {"result": rich(repr(value))},
    ):
        assert all(math.isfinite(one) for one in comparison.numbers(outputs).values())


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_the_words_of_a_dictionary_of_numbers_are_read_as_its_json_is(metrics: dict[str, float]) -> None:
    if len(repr(metrics)) <= 400:
        assert comparison.numbers({"result": rich(repr(metrics))}) == comparison.numbers({"result": told(metrics)})


def test_a_row_names_what_came_from_where() -> None:
    run = Run(id="run-1", owner="ada", name="study", status=DONE, arguments={"rate": 0.1, "deep": True}, created=5.0,
              ended=7.5, outputs={"result": told({"rate": 3, "loss": 1})})  # fmt: skip
    steps = {"train": Step(id="t", name="train", status=DONE, outputs={"result": told(4)}),
             "judge": Step(id="j", name="judge", status=DONE, outputs={"result": told({"auc": 0.7})})}  # fmt: skip
    found = comparison.row(run, steps)
    assert found.metrics == {"result.rate": 3, "loss": 1, "train.result": 4, "judge.auc": 0.7, "seconds": 2.5}
    assert found.parameters == {"rate": 0.1, "deep": True}
    going = run.model_copy(update={"ended": None, "outputs": {"result": told(2)}})
    assert comparison.row(going, {}).metrics == {"result": 2}


def test_columns_say_in_what_runs_differ_and_the_drawing_takes_those() -> None:
    rows = [row("a", {"seconds": 1, "loss": 2}, same=1, rate=1), row("b", {"seconds": 2, "auc": 1}, same=1, rate=2)]
    found = comparison.columns(rows)
    assert [(one.name, one.kind, one.varies) for one in found] == [
        ("same", "parameter", False),
        ("rate", "parameter", True),
        ("loss", "metric", True),
        ("auc", "metric", True),
        ("seconds", "metric", True),
    ]
    assert comparison.axes(found) == ("rate", "loss")
    assert comparison.axes([]) == ("", "")
    assert comparison.axes(comparison.columns([row(x=1)])) == ("x", "")


def test_rows_are_ordered_by_any_column_and_the_missing_come_last() -> None:
    rows = [row("a", {"m": 2}), row("b"), row("c", {"m": -1}, word="x"), row("d", {"m": 10}, word=3)]
    known = comparison.columns(rows)

    def by(sort: str) -> str:
        return "".join(one.run for one in comparison.ordered(rows, sort, known))

    assert (by(""), by("m"), by("-m")) == ("abcd", "cadb", "dacb")
    assert (by("word"), by("-word")) == ("dcab", "cdab")
    with pytest.raises(NotFound, match="no column 'other'") as caught:
        by("-other")
    assert "There are: word, m." in caught.value.hint


def test_a_point_stands_where_its_numbers_say() -> None:
    rows = [row("a", {"m": 0}, x=0), row("b", {"m": 10}, x=10), row("c", {"m": 5}, x=5), row("d", {}, x=1)]
    found = scatter.lay(rows, "x", "m")
    assert found is not None and found.left_out == 1 and found.logarithmic == ()
    a, b, c = found.points
    assert a.x < c.x < b.x and a.y > c.y > b.y and c.x == pytest.approx((a.x + b.x) / 2, abs=0.2)
    assert [one.words for one in found.across] == ["0", "2", "4", "6", "8", "10"]
    assert b.title == "b: x 10, m 10" and found.label == "m against x, 3 runs"
    assert scatter.lay(rows[3:], "x", "m") is None and scatter.lay([], "x", "m") is None


def test_an_axis_is_logarithmic_where_values_span_orders_of_magnitude() -> None:
    found = scatter.lay([row(str(at), {"m": at}, rate=10.0**-at) for at in range(5)], "rate", "m")
    assert found is not None and found.logarithmic == ("rate",) and "logarithmic" in found.label
    gaps = [later.x - one.x for later, one in zip(found.points, found.points[1:], strict=False)]
    assert max(gaps) - min(gaps) < 0.5
    assert [one.words for one in found.across] == ["0.0001", "0.001", "0.01", "0.1", "1"]


def test_words_have_places_of_their_own_and_those_that_are_too_many_are_counted() -> None:
    found = scatter.lay([row(str(at), {"m": at}, kind=f"kind {at:02}") for at in range(20)], "kind", "m")
    assert found is not None and len(found.points) == 12 and found.left_out == 8
    assert len({one.x for one in found.points}) == 12 and found.across[0].words == "kind 00"


NUMBERS = st.integers() | st.floats() | st.text(max_size=3) | st.none() | st.booleans()


@given(st.lists(st.tuples(NUMBERS, st.none() | st.floats(allow_nan=False, allow_infinity=False)), max_size=20))
def test_every_point_lies_inside_whatever_the_values_are(values: list[tuple[Any, float | None]]) -> None:
    rows = [row("r", {} if y is None else {"m": y}, x=x) for x, y in values]
    found = scatter.lay(rows, "x", "m")
    for one in found.points if found else ():
        assert scatter.LEFT <= one.x <= scatter.WIDE - scatter.RIGHT
        assert scatter.TOP <= one.y <= scatter.HIGH - scatter.BOTTOM
    for tick in (*found.across, *found.up) if found else ():
        assert math.isfinite(tick.at)
    assert found is None or len(found.across) <= 12


# From the journal


@step
def train(rows: int, rate: float) -> dict[str, float]:
    return {"accuracy": rows * rate, "loss": 1 - rate}


@step
def judge(model: Any) -> float:
    return float(model["accuracy"] * 2)


@workflow
def study(rows: int, rate: float = 0.5) -> object:
    model = train(rows, rate)
    judge(model)
    return model


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path / "home")
    found.start()
    yield found
    await found.close()


async def compared(rig: Rig, name: str, **more: Any) -> Comparison:
    return await GuardedWorkflows(rig.workflows).compare(ALICE, "alice", name, **more)


async def test_real_runs_are_compared_by_what_they_returned(rig: Rig) -> None:
    runs = [await rig.wait((await rig.submit(study.spec(rows=rows))).id) for rows in (2, 4)]
    found = await compared(rig, "study")
    assert [one.run for one in found.rows] == [runs[1].id, runs[0].id] and not found.more
    assert found.rows[0].parameters == {"rows": 4, "rate": 0.5}
    assert found.rows[0].metrics == {"accuracy": 2.0, "loss": 0.5, "seconds": found.rows[0].metrics["seconds"]}
    assert found.steps == ("train", "judge")
    more = await compared(rig, "study", steps=["judge", "nothing"], limit=1)
    assert len(more.rows) == 1 and more.more and more.rows[0].metrics["judge.result"] == 4.0
    with pytest.raises(NotFound):
        await compared(rig, "stud")
    with pytest.raises(NotFound):
        await GuardedWorkflows(rig.workflows).compare(Actor(account="bob"), "alice", "study")


async def test_steps_that_nobody_asked_for_are_not_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = []
    for at in range(300):
        name, facts = "many" if at % 2 else "other", {"arguments": {"at": at}, "outputs": {"result": at}}
        run = Run(id=f"run-{at:04}", owner="alice", name=name, status=DONE, **facts)
        operations.append(Put(RUN, "alice", run.id, {"run": dump(run)}))
        for number in range(5):
            one = Step(id=f"s{number}", name=f"s{number}", status=DONE, outputs={"result": number})
            operations.append(Put(STEP, "alice", f"{run.id}/{one.id}", {"step": dump(one), "order": number}))
    await rig.journal.write(*operations)
    read: list[str] = []
    page, get = rig.journal.page, rig.journal.get
    monkeypatch.setattr(rig.journal, "page", lambda kind, *args, **more: _noted(read, kind, page(kind, *args, **more)))
    monkeypatch.setattr(rig.journal, "get", lambda kind, *args: _noted(read, kind, get(kind, *args)))
    found = await compared(rig, "many")
    assert len(found.rows) == 150 and found.rows[0].parameters == {"at": 299}
    assert read.count(STEP) == 1, "the steps of one run, by which the names are known"
    read.clear()
    found = await compared(rig, "many", steps=["s3"])
    assert read.count(STEP) == 151 and all(one.metrics["s3.result"] == 3 for one in found.rows)
    await asyncio.sleep(0)


def _noted(read: list[str], kind: str, found: Any) -> Any:
    read.append(kind)
    return found

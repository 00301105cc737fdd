"""What a result comes from, read from the run alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Artifact, Run, Step
from ropewalk_core.lineage import MOST, maker, origins, words
from ropewalk_core.model import State, Status

DONE = Status(state=State.DONE)


def file(name: str) -> dict[str, Any]:
    return {"digest": name * 64, "type": "list", "size": 1}


def step(name: str, gives: str, *needs: str, kind: Any = "step", **inputs: Any) -> Step:
    artifacts = (Artifact(name="result", digest=gives * 64, size=1),) if gives else ()
    return Step(id=name, name=name, kind=kind, status=DONE, needs=needs, inputs=inputs, artifacts=artifacts)


def run(*steps: Step) -> Run:
    return Run(id="run-1", owner="ada", name="study", status=DONE, steps=steps)


def drawn(one: Run, name: str) -> list[str]:
    found = origins(one, next(step for step in one.steps if step.id == name))
    return [f"{'.' * at.depth}{at.argument}<{at.step.id}{'!' if at.again else ''}({words(at)})" for at in found]


def test_each_step_stands_below_the_one_that_took_its_result() -> None:
    study = run(
        step("load", "a", size=4),
        step("train-0", "b", "load", rows=file("a"), rate=0.1),
        step("train-1", "c", "load", rows=file("a"), rate=0.2),
        step("best", "d", "train-0", "train-1", scores=[file("b"), file("c")], text="x"),
    )
    assert drawn(study, "best") == [
        '<best(text="x")',
        ".scores<train-0(rate=0.1)",
        "..rows<load(size=4)",
        ".scores<train-1(rate=0.2)",
        "..rows<load(size=4)",
    ]
    assert maker(study, "c" * 64).id == "train-1"
    with pytest.raises(NotFound):
        maker(study, "e" * 64)


def test_what_was_shown_is_not_shown_again_with_all_before_it() -> None:
    steps = [step("s0", "0")]
    for at in range(1, 9):
        steps.append(step(f"s{at}", str(at), f"s{at - 1}", left=file(str(at - 1)), right=file(str(at - 1))))
    found = drawn(run(*steps), "s8")
    assert len(found) == 17 and found[-1] == ".right<s7!()"


def test_equal_results_are_those_of_the_steps_that_were_waited_for() -> None:
    """Two steps may give the same, and one may give what it took."""
    study = run(
        step("a", "x"), step("b", "x"), step("same", "x", "b", value=file("x")),
        step("pair", "y", "a", "b", values=[file("x"), file("x")]),
    )  # fmt: skip
    assert drawn(study, "same") == ["<same()", ".value<b()"]
    assert drawn(study, "pair") == ["<pair()", ".values<a()", ".values<b()"]


def test_values_of_the_person_and_steps_that_are_only_waited_for() -> None:
    study = run(
        step("list", "a"),
        step("member(0)", "b", "list", number=3),
        step("member", "", "member(0)", kind="group"),
        step("join", "c", "member", numbers=[file("b")], table={"key": "values/1", "type": "frame"}),
    )
    assert drawn(study, "join") == ["<join(table=(a file))", ".numbers<member(0)(number=3)", "..<list()"]


def test_a_long_chain_ends_somewhere() -> None:
    steps = [step("s0", "")]
    steps += [step(f"s{at}", "", f"s{at - 1}") for at in range(1, MOST + 100)]
    found = origins(run(*steps), steps[-1])
    assert len(found) == MOST and found[-1].depth == MOST - 1


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.just({"digest": "a" * 64}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["digest", "key", "x"]), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(st.lists(st.tuples(NAMES, NAMES, st.lists(NAMES, max_size=3), JSON, st.booleans()), min_size=1, max_size=5))
def test_whatever_a_run_says_it_ends_and_is_in_words(rows: list[Any]) -> None:
    steps = {
        name: step(name, gives, *needs, kind="group" if group else "step", value=value)
        for name, gives, needs, value, group in rows
    }
    one = run(*steps.values())
    for each in one.steps:
        found = origins(one, each)
        assert found[0].step == each and len(found) <= MOST
        json.dumps([words(at) for at in found])

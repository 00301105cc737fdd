"""Expressions in whole manifests: read before the start, and given their values while a run goes on. No process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.state import Begin, Exited, Fact, Grant, Launch, Outcome, Ready, RunState, Tick, Wake
from ropewalk_workflows.manifest import read
from tests.expr.hostile import HOSTILE

IMAGES = {"python": "python"}
Call = dict[str, Any]


def manifest(tasks: list[Call], parameters: Mapping[str, str], outputs: list[Call] | None = None) -> dict[str, Any]:
    """A DAG whose tasks all run `p`, which takes `v` and gives `result` and `m`."""
    program = {"image": "python", "command": ["python", "-c", "pass"], "args": ["{{=upper(inputs.parameters.v)}}"]}
    return {
        "kind": "Workflow",
        "spec": {
            "entrypoint": "main",
            "arguments": {"parameters": [{"name": key, "value": value} for key, value in parameters.items()]},
            "templates": [
                {"name": "main", "dag": {"tasks": tasks}, "outputs": {"parameters": outputs or []}},
                {
                    "name": "p",
                    "inputs": {"parameters": [{"name": "v", "default": "none"}]},
                    "container": program,
                    "outputs": {"parameters": [{"name": "m", "valueFrom": {"path": "/tmp/m"}}]},
                },
            ],
        },
    }


def task(name: str, value: str, **more: Any) -> Call:
    return {
        "name": name,
        "template": "p",
        "arguments": {"parameters": [{"name": "v", "value": value}]},
        **more,
    }


def run(
    given: dict[str, Any], results: Mapping[str, str] | None = None, fails: Mapping[str, list[int]] | None = None
) -> RunState:
    """Run it to its end; each program gives its own input, or what `results` says by its path.

    ``fails`` says with which codes the first attempts of a path end.
    """
    state = RunState("run-1", "ada", RunSpec(name="x", manifest=given), read(given, IMAGES))
    waiting: list[Any] = [Begin(1.0)]
    failures = dict(fails or {})
    while waiting:
        _, actions = step(state, waiting.pop(0))
        for one in actions:
            if isinstance(one, Ready):
                waiting.append(Grant(2.0, one.id))
            elif isinstance(one, Wake):
                waiting.append(Tick(max(one.at, 3.0)))
            elif isinstance(one, Launch):
                node = state.nodes[one.id]
                value = (results or {}).get(node.path, node.inputs["v"])
                codes = failures.get(node.path) or []
                outcome = Outcome(True, parameters={"result": value, "m": value})
                if one.attempt <= len(codes):
                    outcome = Outcome(False, error="It broke.", code=codes[one.attempt - 1])
                waiting.append(Exited(3.0, one.id, one.attempt, outcome))
    assert state.finished
    return state


def inputs(state: RunState) -> dict[str, str]:
    return {
        node.path: node.inputs["v"] for node in state.nodes.values() if node.kind == "pod" and node.phase == "Succeeded"
    }


def test_values_are_calculated() -> None:
    tasks = [
        task("a", "{{=asInt(workflow.parameters.n) * 2}}"),
        task("b", "<{{=tasks.a.outputs.result + '!'}}>", dependencies=["a"]),
        task("c", "{{={a: asInt(tasks.a.outputs.parameters.m), s: '<'} }}", dependencies=["a"]),
        task("d", "{{=tasks['left-out'].outputs.result ?? 'nothing'}}", dependencies=["left-out"]),
        task("left-out", "x", when="{{=asInt(workflow.parameters.n) > 100}}"),
        task("e", "{{=item.k}}-{{=item.more ?? 'no'}}", withItems=[{"k": "x"}, {"k": "y", "more": "z"}]),
        task("f", "{{=asInt(item) + 1}}", withParam="{{=toJson(filter(1..4, # % 2 == 0))}}"),
        task("g", "{{=jsonpath(workflow.parameters.json, '$.a[1].b')}}"),
    ]
    outputs = [
        {"name": "all", "valueFrom": {"expression": "asInt(tasks.a.outputs.result) / 4"}},
        {"name": "either", "valueFrom": {"expression": "tasks['left-out'].outputs.parameters.m ?? workflow.name"}},
        {"name": "default", "valueFrom": {"expression": "tasks['left-out'].outputs.parameters.m", "default": "gone"}},
    ]
    state = run(manifest(tasks, {"n": "21", "json": '{"a": [0, {"b": "deep"}]}'}, outputs))
    assert state.phase == "Succeeded", [(node.path, node.fact.error) for node in state.nodes.values()]
    assert inputs(state) == {
        "a": "42",
        "b": "<42!>",
        "c": '{"a":42,"s":"\\u003c"}',
        "d": "nothing",
        "e(0)": "x-no",
        "e(1)": "y-z",
        "f(0)": "3",
        "f(1)": "5",
        "g": "deep",
    }
    assert state.root is not None
    assert state.root.outputs == {"all": "10.5", "either": "run-1", "default": "gone"}


def test_conditions() -> None:
    tasks = [
        task("a", "heads"),
        task("b", "1", dependencies=["a"], when="{{=tasks.a.outputs.result == 'heads'}}"),
        task("c", "2", dependencies=["a"], when="{{=tasks.a.outputs.result}} == tails || {{=1 > 2}}"),
        task("d", "3", dependencies=["a"], when="{{=tasks.a.status == 'Succeeded' && 'a' in ['a']}} == true"),
    ]
    assert set(inputs(run(manifest(tasks, {})))) == {"a", "b", "d"}


def test_an_expression_without_a_value_fails_its_step_and_says_why() -> None:
    state = run(manifest([task("a", "{{=asInt(workflow.parameters.n)}}")], {"n": "seven"}))
    assert state.phase == "Error"
    errors = [node.fact.error for node in state.nodes.values() if node.fact.error]
    assert errors and "asInt(): 'seven' is no whole number" in errors[0]


def test_a_run_grows_again_from_its_facts() -> None:
    tasks = [
        task("a", "{{=1 + 1}}"),
        task("b", "{{=tasks.a.outputs.result}}{{=keys({b: 1, a: 2})}}", dependencies=["a"]),
    ]
    given = manifest(tasks, {})
    first = run(given)
    again = RunState("run-1", "ada", RunSpec(name="x", manifest=given), read(given, IMAGES))
    again.facts = {key: Fact(**one.as_dict()) for key, one in first.facts.items()}
    again.begun = set(again.facts)
    step(again, Begin(9.0))
    assert inputs(again) == inputs(first) == {"a": "2", "b": '2["a","b"]'}


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_never_becomes_an_operator_a_name_or_a_tag(value: str) -> None:
    value = value.encode(errors="replace").decode()
    more = {"dependencies": ["a"]}
    tasks = [
        task("a", "fixed"),
        task("b", "{{=tasks.a.outputs.parameters.m}}", **more),
        task("c", "{{=tasks.a.outputs.result}}", **more),
        task("d", "{{=item}}.{{item}}", withParam="{{=toJson([tasks.a.outputs.result])}}", **more),
        task("e", "{{=tasks.a.outputs.result == tasks.a.outputs.parameters.m}}", **more),
        task("never", "x", when="{{=tasks.a.outputs.result == 'no such value'}}", **more),
        task("f", "{{=fromJSON(toJson([tasks.a.outputs.result]))[0]}}", **more),
        task("g", "{{=tasks.c.outputs.result}}", dependencies=["c"]),
    ]
    state = run(manifest(tasks, {}), {"a": value})
    same = dict.fromkeys(("b", "c", "f", "g"), value)
    assert inputs(state) == {"a": "fixed", **same, "d(0)": f"{value}.{value}", "e": "true"}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("workflow.parameters.no", "known as 'workflow.parameters.no'"),
        ("nothing ?? 'x'", "known as 'nothing'"),
        ("tasks.b.outputs.result", "known as 'tasks.b.outputs.result'"),
        ("tasks.b?.outputs ?? 'x'", "known as 'tasks.b'"),
        ("keys(tasks)", "known as 'tasks'"),
        ("1 +", "ends too early (at character 3"),
        ("foo(1)", "no function 'foo'"),
    ],
)
def test_what_cannot_have_a_value_is_refused_before_the_start(expression: str, words: str) -> None:
    given = manifest([task("a", f"{{{{={expression}}}}}"), task("b", "x")], {"n": "1"})
    with pytest.raises(BadWorkflow) as caught:
        read(given, IMAGES)
    assert words in str(caught.value)
    assert caught.value.field == "spec.templates[main].dag.tasks[a].arguments.parameters[v]"


def test_outputs_name_their_expression() -> None:
    for source in (
        {"expression": "tasks.z.outputs.result"},
        {"expression": "1 +"},
        {},
        {"expression": "1", "parameter": "x"},
    ):
        with pytest.raises(BadWorkflow) as caught:
            read(manifest([task("a", "x")], {}, [{"name": "o", "valueFrom": source}]), IMAGES)
        assert (caught.value.field or "").startswith("spec.templates[main].outputs.parameters[o]")


def test_an_artifact_comes_from_no_expression() -> None:
    given = manifest([task("a", "x")], {})
    given["spec"]["templates"][0]["outputs"] = {
        "artifacts": [{"name": "o", "from": "{{=tasks.a.outputs.artifacts.x}}"}]
    }
    with pytest.raises(BadWorkflow, match="cannot come from an expression"):
        read(given, IMAGES)


def retrying(**strategy: Any) -> dict[str, Any]:
    given = manifest([task("a", "x")], {})
    given["spec"]["templates"][1]["retryStrategy"] = strategy
    return given


@pytest.mark.parametrize(
    ("expression", "codes", "attempts", "phase"),
    [
        ("asInt(lastRetry.exitCode) == 3", [3, 3], 3, "Succeeded"),
        ("asInt(lastRetry.exitCode) == 3", [3, 4], 2, "Failed"),
        ("asInt(retries) < 1", [3, 3, 3], 2, "Failed"),
        ("lastRetry.status == 'Failed' && lastRetry.message contains 'broke'", [1], 2, "Succeeded"),
        ("asFloat(lastRetry.duration) >= 1", [1], 2, "Succeeded"),
        ("lastRetry.exitCode", [1], 1, "Error"),
        ("asInt(lastRetry.message) > 1", [1], 1, "Error"),
    ],
)
def test_an_expression_says_whether_to_try_again(expression: str, codes: list[int], attempts: int, phase: str) -> None:
    state = run(retrying(limit=5, expression=expression), fails={"a": codes})
    (node,) = (one for one in state.nodes.values() if one.kind == "pod")
    assert (node.fact.attempt, node.phase) == (attempts, phase)
    assert phase != "Error" or "Whether to try again cannot be decided" in node.fact.error


def test_with_an_expression_errors_are_tried_again_too() -> None:
    assert read(retrying(limit=1, expression="true"), IMAGES).spec.templates[1].retry_strategy.policy == "Always"  # type: ignore[union-attr]
    assert read(retrying(limit=1), IMAGES).spec.templates[1].retry_strategy.policy == "OnFailure"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("lastRetry.exitCode >", "ends too early"),
        ("inputs.parameters.v == 'x'", "known as 'inputs.parameters.v'"),
        ("'{{inputs.parameters.v}}' == 'x'", "no {{tags}}"),
    ],
)
def test_what_a_retry_cannot_ask_is_refused(expression: str, words: str) -> None:
    with pytest.raises(BadWorkflow) as caught:
        read(retrying(limit=1, expression=expression), IMAGES)
    assert words in str(caught.value)
    assert caught.value.field == "spec.templates[p].retryStrategy.expression"

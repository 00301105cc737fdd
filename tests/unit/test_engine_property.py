"""The pure engine under any order of events: it ends, in the right order, without one attempt too many."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_workflows.engine import core
from ropewalk_workflows.engine import state as nouns
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.leaves import MOST_LOST
from ropewalk_workflows.engine.state import RunState
from tests.effort import lines
from tests.engine_world import World, fresh


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """A DAG of a few tasks, some of them fans, some with retries, some with conditions on others' ends."""
    count = draw(st.integers(1, 7))
    tasks: list[dict[str, Any]] = []
    templates: list[dict[str, Any]] = []
    for index in range(count):
        before = draw(st.lists(st.integers(0, index - 1), unique=True, max_size=3)) if index else []
        task: dict[str, Any] = {"name": f"t{index}", "template": f"p{index}"}
        if before and draw(st.booleans()):
            words = [draw(st.sampled_from(["", ".Failed", ".Succeeded", ".Skipped"])) for _ in before]
            glue = draw(st.sampled_from([" && ", " || "]))
            task["depends"] = glue.join(f"t{one}{word}" for one, word in zip(before, words, strict=True))
        elif before:
            task["dependencies"] = [f"t{one}" for one in before]
        if draw(st.integers(0, 4)) == 0:
            task["withItems"] = list(range(draw(st.integers(0, 3))))
        if draw(st.integers(0, 5)) == 0:
            task["when"] = draw(st.sampled_from(["1 == 1", "1 == 2"]))
        if draw(st.integers(0, 6)) == 0:
            task["continueOn"] = {"failed": True}
        if "withItems" not in task and draw(st.integers(0, 4)) == 0:
            running = {"template": "hook", "expression": f"tasks.t{index}.status == 'Running'"}
            task |= draw(
                st.sampled_from([{"onExit": "hook"}, {"hooks": {"exit": {"template": "hook"}, "at": running}}])
            )
        template: dict[str, Any] = {"name": f"p{index}", "container": {"image": "python", "command": ["x"]}}
        if draw(st.integers(0, 6)) == 0:
            template = {"name": f"p{index}", "suspend": draw(st.sampled_from([{}, {"duration": "5s"}]))}
        elif limit := draw(st.integers(0, 2)):
            template["retryStrategy"] = {"limit": limit}
        if draw(st.integers(0, 4)) == 0:
            templates.append({**template, "name": f"q{index}"})
            template = composites(draw, index)
        tasks.append(task)
        templates.append(template)
    spec: dict[str, Any] = {
        "entrypoint": "main",
        "templates": [{"name": "main", "dag": {"tasks": tasks, "failFast": draw(st.booleans())}}, *templates],
    }
    spec["templates"].append({"name": "hook", "container": {"image": "python", "command": ["x"]}})
    if draw(st.integers(0, 3)) == 0:
        failed = {"template": "hook", "expression": "workflow.status == 'Failed'"}
        spec |= {"onExit": "hook", "hooks": {"sad": failed}}
    if draw(st.booleans()):
        spec["parallelism"] = draw(st.integers(1, 3))
    return {"kind": "Workflow", "spec": spec}


def composites(draw: st.DrawFn, index: int) -> dict[str, Any]:
    """A group around a program, tried again or not."""
    inside = [{"name": f"n{one}", "template": f"q{index}"} for one in range(draw(st.integers(1, 2)))]
    found: dict[str, Any] = {"name": f"p{index}"}
    found |= {"dag": {"tasks": inside}} if draw(st.booleans()) else {"steps": [[one] for one in inside]}
    if limit := draw(st.integers(0, 2)):
        backoff = draw(st.sampled_from([{}, {"backoff": {"duration": "10s"}}]))
        found["retryStrategy"] = {"limit": limit, "retryPolicy": "Always", **backoff}
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.data())
def test_any_interleaving_ends_well(manifest: dict[str, Any], data: st.DataObject) -> None:
    ok = nouns.Outcome(True)

    def ends(path: str, tries: int) -> nouns.Outcome:
        return ok if data.draw(st.integers(0, 2)) else nouns.Outcome(False, error="no")

    world = World(manifest, ends, harsh=True)
    world.live(data.draw, 400)
    state = world.state
    assert state.finished
    assert not any(fact.running for fact in state.facts.values())
    assert all(node.ended for node in state.nodes.values())
    assert state.running == 0
    for leaf, fact in state.facts.items():
        template = state.nodes[leaf].template
        assert template is not None
        limit = int(template.retry_strategy.limit or 0) if template.retry_strategy else 0
        assert fact.tries <= limit
        assert fact.lost <= MOST_LOST + 1


def after_a_failure(facts: dict[str, dict[str, Any]]) -> RunState:
    """Return a run whose second task asks for the exit code of the first one, which may fail."""
    tasks = [
        {"name": "a", "template": "p", "continueOn": {"failed": True}},
        {"name": "b", "template": "q", "dependencies": ["a"], "when": "{{tasks.a.exitCode}} == 3"},
    ]
    program = {"image": "python", "command": ["x"]}
    templates = [
        {"name": "main", "dag": {"tasks": tasks}},
        {"name": "p", "container": program, "retryStrategy": {"limit": 1}},
        {"name": "q", "container": program},
    ]
    state = fresh({"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates}}, facts)
    step(state, nouns.Begin(1.0))
    return state


@pytest.mark.parametrize(("codes", "end"), [((3, 3), ""), ((4, 3), ""), ((3, 4), "Skipped"), ((3, 0), "Skipped")])
def test_what_follows_sees_the_exit_code_of_the_last_attempt(codes: tuple[int, int], end: str) -> None:
    state = after_a_failure({})
    for attempt, code in enumerate(codes, 1):
        step(state, nouns.Tick(float(attempt)))
        step(state, nouns.Grant(float(attempt), "a"))
        step(state, nouns.Exited(float(attempt), "a", attempt, nouns.Outcome(not code, error="no", code=code)))
    assert state.nodes["b"].phase == end
    again = after_a_failure({key: one.as_dict() for key, one in state.facts.items() if key == "a"})
    assert again.nodes["b"].phase == end


def test_an_old_journal_does_not_know_the_exit_code() -> None:
    before = {"a": {"phase": "Failed", "attempt": 2, "tries": 1, "error": "no"}}
    assert after_a_failure(before).nodes["b"].phase == "Skipped"  # it counts as 1
    assert after_a_failure({"a": {**before["a"], "code": 3}}).nodes["b"].phase == ""


def test_a_chain_of_thousands_and_a_wide_fan_take_no_stack() -> None:
    chain = [
        {"name": f"t{index}", "template": "p", **({"dependencies": [f"t{index - 1}"]} if index else {})}
        for index in range(3000)
    ]
    templates = [
        {"name": "main", "dag": {"tasks": chain}},
        {"name": "p", "container": {"image": "python", "command": ["x"]}},
    ]
    manifest = {"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates}}
    facts = {f"t{index}": {"phase": "Succeeded", "attempt": 1} for index in range(3000)}
    state = fresh(manifest, facts)
    step(state, nouns.Begin(1.0))
    assert state.finished
    assert state.phase == "Succeeded"
    failed = fresh(manifest, {"t0": {"phase": "Failed", "attempt": 1}})
    step(failed, nouns.Begin(1.0))
    assert failed.finished
    assert failed.phase == "Failed"


def test_a_wide_run_begins_with_work_that_grows_as_its_width() -> None:
    def begins(count: int) -> int:
        tasks = [{"name": f"t{one}", "template": f"p{one}"} for one in range(count)]
        programs = [{"name": f"p{one}", "container": {"image": "python", "command": ["x"]}} for one in range(count)]
        templates = [{"name": "main", "dag": {"tasks": tasks}}, *programs]
        state = fresh({"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates}})
        return lines(lambda: step(state, nouns.Begin(1.0)))

    assert begins(800) < 2.2 * begins(400)


def test_loops_in_loops_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "_MOST_NODES", 200)
    many = {"withSequence": {"count": 50}}
    manifest = {
        "kind": "Workflow",
        "spec": {
            "entrypoint": "main",
            "templates": [
                {"name": "main", "dag": {"tasks": [{"name": "a", "template": "inner", **many}]}},
                {"name": "inner", "dag": {"tasks": [{"name": "b", "template": "leaf", **many}]}},
                {"name": "leaf", "suspend": {"duration": "1s"}},
            ],
        },
    }
    state = fresh(manifest)
    step(state, nouns.Begin(0.0))
    assert len(state.nodes) <= 200
    assert any("more than 200 steps" in one.error for one in state.facts.values())


def test_the_workflows_parallelism_holds_across_a_restart() -> None:
    """A step that was lost waits for its place; what runs is met later in the tree, and has that place."""
    tasks = [{"name": name, "template": "p"} for name in ("a", "b")]
    program = {"name": "p", "container": {"image": "python", "command": ["x"]}}
    templates = [{"name": "main", "dag": {"tasks": tasks}}, program]
    manifest = {"kind": "Workflow", "spec": {"entrypoint": "main", "parallelism": 1, "templates": templates}}
    state = fresh(manifest, {"a": {"attempt": 1}, "b": {"attempt": 1, "running": True}})
    assert step(state, nouns.Begin(1.0))[1] == [nouns.Recover("b", 1)]
    assert step(state, nouns.Exited(2.0, "b", 1, nouns.Outcome(True)))[1] == [nouns.Ready("a")]

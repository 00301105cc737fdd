"""A composite with a retryStrategy: the whole is tried again, and a restart of the engine changes nothing of it."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.engine import state as nouns
from ropewalk_workflows.engine import view
from ropewalk_workflows.manifest import read
from tests.engine_driver import IMAGES, PROGRAM, Driver


def manifest(retry: dict[str, Any], **inner: Any) -> dict[str, Any]:
    """Return a workflow with one group of two programs, ``a`` and then ``b``, that is tried again."""
    tasks = [{"name": "a", "template": "p"}, {"name": "b", "template": "p", "dependencies": ["a"]}]
    group = {"name": "group", "dag": {"tasks": tasks}, "retryStrategy": retry, **inner}
    main = {"name": "main", "steps": [[{"name": "g", "template": "group"}]]}
    templates = [main, group, {"name": "p", "container": PROGRAM}]
    return {"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates}}


def test_the_whole_group_runs_again_after_a_failure_in_it() -> None:
    run = Driver(manifest({"limit": 2}))
    run.end("g(0)/a")
    run.end("g(0)/b", ok=False)
    assert run.phase("g(0)") == "Failed" and run.phase("g") == ""
    run.wait()
    run.end("g(1)/a")
    run.end("g(1)/b")
    assert run.began == ["g(0)/a", "g(0)/b", "g(1)/a", "g(1)/b"]
    assert run.state.finished and run.state.phase == "Succeeded"
    assert run.state.failed_step == ""


def test_it_fails_once_its_retries_are_used_up() -> None:
    run = Driver(manifest({"limit": 1}))
    for number in range(2):
        run.end(f"g({number})/a", ok=False)
        run.wait()
    assert run.state.finished and run.state.phase == "Failed"
    assert view.run_status(run.state).why is not None
    assert "g(1).a" in view.run_status(run.state).why.cause  # type: ignore[union-attr]


def test_the_time_between_attempts_grows() -> None:
    run = Driver(manifest({"limit": 2, "backoff": {"duration": "10s", "factor": 3}}))
    run.end("g(0)/a", ok=False)
    assert run.wakes == [run.now + 10]
    group = run.state.nodes["g"]
    assert view.status(run.state, group).why is not None
    run.wait(9)
    assert "g(1)/a" not in run.began
    run.wait(1)
    run.end("g(1)/a", ok=False)
    assert run.wakes[-1] == run.now + 30


@pytest.mark.parametrize(("expression", "tries"), [("asInt(retries) < 1", 2), ("lastRetry.status == 'Error'", 1)])
def test_an_expression_decides(expression: str, tries: int) -> None:
    run = Driver(manifest({"limit": 5, "expression": expression}))
    for number in range(tries):
        run.end(f"g({number})/a", ok=False)
        run.wait()
    assert run.state.finished and run.state.nodes["g"].fact.attempt == tries


def test_steps_in_it_know_which_attempt_it_is_and_how_the_last_one_ended() -> None:
    given = manifest({"limit": 2})
    call = given["spec"]["templates"][1]["dag"]["tasks"][0]
    call["arguments"] = {"parameters": [{"name": "x", "value": "{{retries}}/{{lastRetry.status}}/{{=retries + '!'}}"}]}
    given["spec"]["templates"][2]["inputs"] = {"parameters": [{"name": "x", "value": "-"}]}
    run = Driver(given)
    run.end("g(0)/a", ok=False)
    run.wait()
    for one in (run, run.again()):
        inputs = {node.path: node.inputs.get("x") for node in one.state.nodes.values() if node.path.endswith("/a")}
        assert inputs == {"g(0)/a": "0//0!", "g(1)/a": "1/Failed/1!"}


@pytest.mark.parametrize("at", range(5))
def test_a_restart_goes_on_in_the_attempt_that_it_was_in(at: int) -> None:
    run = Driver(manifest({"limit": 2, "backoff": {"duration": "5s"}}))
    acts = [
        lambda one: one.end("g(0)/a"),
        lambda one: one.end("g(0)/b", ok=False),
        lambda one: one.wait(5),
        lambda one: one.end("g(1)/a"),
        lambda one: one.end("g(1)/b"),
    ]
    for number, act in enumerate(acts):
        if number == at:
            now, run = run.now, run.again()
            run.now = now
        act(run)
    assert run.state.finished and run.state.phase == "Succeeded"
    assert run.state.nodes["g"].fact.attempt == 2
    assert [one for one in run.began if one.startswith("g(0)") and at > 1] == []


def test_a_person_who_retries_the_run_goes_on_in_its_last_attempt() -> None:
    run = Driver(manifest({"limit": 1}))
    run.end("g(0)/a", ok=False)
    run.wait()
    run.end("g(1)/a")
    run.end("g(1)/b", ok=False)
    assert run.state.finished
    kept = {name: one.again_from_failure() for name, one in run.state.facts.items()}
    after = Driver(run.state.spec.manifest, kept)
    assert after.began == ["g(1)/b"]
    assert after.phase("g(0)/a") == "Failed"
    after.end("g(1)/b")
    assert after.state.finished and after.state.phase == "Succeeded"


def test_a_stopped_run_does_not_wait_for_the_next_attempt() -> None:
    run = Driver(manifest({"limit": 1, "backoff": {"duration": "1h"}}))
    run.end("g(0)/a", ok=False)
    run.take(nouns.Cancel(run.now))
    assert run.state.finished
    assert view.run_status(run.state).state == "stopped"


def test_the_entry_itself_can_be_tried_again() -> None:
    given = manifest({"limit": 1})
    given["spec"]["entrypoint"] = "group"
    run = Driver(given)
    run.end("group(0)/a", ok=False)
    run.wait()
    assert "group" in run.state.facts and view.visible(run.state.nodes["group"])
    after = run.again()
    after.end("group(1)/a")
    after.end("group(1)/b")
    assert after.state.finished and after.state.phase == "Succeeded"


def test_a_step_group_with_an_error_in_it_has_failed_as_on_argo() -> None:
    given = manifest({"limit": 1})  # tries again after failures only
    group = given["spec"]["templates"][1]
    del group["dag"]
    group["steps"] = [[{"name": "a", "template": "p"}]]
    run = Driver(given)
    run.take(nouns.Grant(run.now, run.state.nodes[nouns.node_id("g(0)/a")].id))
    wrong = nouns.Outcome(False, error="no", is_error=True)
    run.take(nouns.Exited(run.now, nouns.node_id("g(0)/a"), 1, wrong))
    assert run.phase("g(0)") == "Failed"
    run.wait()
    assert "g(1)/a" in run.began


def test_defaults_of_templates_hold_for_all_of_their_kind() -> None:
    given = manifest({"limit": 1})
    defaults = {
        "retryStrategy": {"limit": 3, "retryPolicy": "Always"},
        "container": {"env": [{"name": "A", "value": "1"}]},
    }
    given["spec"]["templateDefaults"] = defaults
    templates = read(given, IMAGES).templates
    assert [(one.name, one.retry_strategy.limit) for one in templates.values() if one.retry_strategy] == [
        ("main", "3"),
        ("group", "1"),
        ("p", "3"),
    ]
    assert templates["group"].retry_strategy.retry_policy == "Always"  # type: ignore[union-attr]
    assert templates["p"].container is not None and templates["p"].container.env[0].name == "A"
    assert templates["main"].container is None


@pytest.mark.parametrize("wrong", [[], {"steps": [[]]}, {"name": "x"}])
def test_defaults_that_cannot_be_are_refused(wrong: Any) -> None:
    given = manifest({"limit": 1})
    given["spec"]["templateDefaults"] = wrong
    with pytest.raises(BadWorkflow) as refused:
        read(given, IMAGES)
    assert refused.value.field.startswith("spec.templateDefaults")

"""Hooks of calls and of a whole workflow: when they run, what they are given, and that a restart changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.model import State
from ropewalk_core.settings import Settings
from ropewalk_workflows.argo.nodes import known
from ropewalk_workflows.argo.seen import Asked, seen
from ropewalk_workflows.argo_server.nodes import node_id
from ropewalk_workflows.engine import state as nouns
from ropewalk_workflows.engine import view
from ropewalk_workflows.manifest import read
from tests.engine_driver import IMAGES, PROGRAM, Driver
from tests.unit.test_argo_composites import RUN, again, drawn

TOLD = {"parameters": [{"name": "how", "value": "{{tasks.a.status}}/{{tasks.a.outputs.parameters.out}}"}]}
RUNS = {"template": "tell", "expression": "tasks.a.status == 'Running'"}
ENDS = {"template": "tell", "expression": "tasks.a.status == 'Failed' && workflow.name != ''"}


def manifest(call: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a workflow of ``a`` and then ``b``, of which ``a`` has hooks."""
    tasks = [{"name": "a", "template": "p", **(call or {})}, {"name": "b", "template": "p", "depends": "a || a.Failed"}]
    outputs = {"parameters": [{"name": "out", "valueFrom": {"path": "/tmp/out"}}]}
    templates = [
        {"name": "main", "dag": {"tasks": tasks}},
        {"name": "p", "outputs": outputs, "container": PROGRAM},
        {"name": "tell", "inputs": {"parameters": [{"name": "how", "value": "-"}]}, "container": PROGRAM},
    ]
    return {"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates, **spec}}


def finished(run: Driver, *paths: str) -> Driver:
    for one in paths:
        run.end(one)
    return run


def test_what_follows_waits_for_the_exit_hook() -> None:
    run = Driver(manifest({"hooks": {"exit": {"template": "tell", "arguments": TOLD}}}))
    run.end("a", parameters={"out": "7"})
    assert run.began == ["a", "a.onExit"]
    assert run.node("a.onExit").inputs == {"how": "Succeeded/7"}
    run.end("a.onExit", ok=False)
    assert run.began[-1] == "b"
    run.end("b")
    assert run.state.finished and run.state.phase == "Succeeded"  # a hook that fails changes nothing


def test_a_failed_call_has_its_exit_hook_too_and_what_it_never_gave_stays_a_tag() -> None:
    run = Driver(manifest({"hooks": {"exit": {"template": "tell", "arguments": TOLD}}}))
    run.end("a", ok=False)
    assert run.node("a.onExit").inputs == {"how": "Failed/{{tasks.a.outputs.parameters.out}}"}


def test_on_exit_is_given_the_arguments_of_the_workflow() -> None:
    arguments = {"parameters": [{"name": "how", "value": "told"}]}
    run = Driver(manifest({"onExit": "tell"}, arguments=arguments))
    run.end("a")
    assert run.node("a.onExit").inputs == {"how": "told"}


def test_a_condition_is_met_while_the_call_runs_or_when_it_has_ended() -> None:
    run = Driver(manifest({"hooks": {"runs": RUNS, "ends": ENDS}}))
    run.take(nouns.Grant(11.0, "a"))
    assert run.began == ["a", "a.hooks.runs"]
    run.take(nouns.Exited(12.0, "a", 1, nouns.Outcome(False, error="no")))
    assert run.began == ["a", "a.hooks.runs", "a.hooks.ends"]
    run.end("a.hooks.ends")
    assert run.began[-1] != "b"
    run.end("a.hooks.runs")
    assert run.began[-1] == "b"


def test_a_skipped_call_has_no_exit_hook() -> None:
    run = Driver(manifest({"onExit": "tell", "when": "1 == 2"}))
    assert run.began == ["b"]


@pytest.mark.parametrize("at", range(5))
def test_a_restart_changes_nothing(at: int) -> None:
    run = Driver(manifest({"hooks": {"runs": RUNS, "exit": {"template": "tell"}}}, onExit="tell"))
    for number, path in enumerate(("a.hooks.runs", "a", "a.onExit", "b", "onExit")):
        if path == "a.hooks.runs":
            run.take(nouns.Grant(run.now, "a"))
        if number == at:
            run = run.again()
            for leaf, fact in list(run.state.facts.items()):
                if fact.running:
                    run.take(nouns.Lost(run.now, leaf, fact.attempt))
        run.end(path)
    assert run.state.finished and run.state.phase == "Succeeded"
    assert {one.path for one in run.state.nodes.values()} >= {"a.hooks.runs", "a.onExit", "onExit"}


def test_hooks_of_the_workflow_run_by_its_status_and_before_its_last_step() -> None:
    hooks = {
        "runs": {"template": "tell", "expression": "workflow.status == 'Running'"},
        "sad": {"template": "tell", "expression": "workflow.status == 'Failed'"},
        "exit": {"template": "tell", "arguments": {"parameters": [{"name": "how", "value": "{{workflow.status}}"}]}},
    }
    run = Driver(manifest(hooks=hooks))
    assert run.began == ["a", "hooks.runs"]
    finished(run, "hooks.runs", "a").end("b", ok=False)
    assert run.began[-1] == "hooks.sad"
    run.end("hooks.sad", ok=False)
    assert run.began[-1] == "onExit" and run.node("onExit").inputs == {"how": "Failed"}
    run.end("onExit")
    assert run.state.finished and run.state.phase == "Failed" and run.state.failed_step == "b"


def test_a_last_step_that_fails_is_named() -> None:
    run = finished(Driver(manifest({"onExit": "tell"}, onExit="tell")), "a")
    run.end("a.onExit", ok=False)
    finished(run, "b").end("onExit", ok=False)
    status = view.run_status(run.state)
    assert status.state is State.FAILED and status.why is not None and status.why.cause.startswith("The step onExit")


def test_a_stopped_run_begins_no_hook() -> None:
    run = Driver(manifest({"onExit": "tell"}, onExit="tell"))
    run.take(nouns.Grant(11.0, "a"))
    run.take(nouns.Cancel(12.0))
    run.take(nouns.Exited(13.0, "a", 1, nouns.Outcome(True)))
    assert run.state.finished and run.began == ["a"]


def test_a_run_that_is_stopped_runs_its_on_exit_and_nothing_else() -> None:
    run = Driver(manifest({"hooks": {"ends": ENDS, "exit": {"template": "tell", "arguments": TOLD}}}, onExit="tell"))
    run.take(nouns.Grant(11.0, "a"))
    run.take(nouns.Cancel(12.0, on_exit=True))
    run.take(nouns.Exited(13.0, "a", 1, nouns.Outcome(False, error="killed")))
    assert run.began == ["a", "a.onExit"] and not run.state.finished
    assert run.node("a.onExit").inputs["how"].startswith("Failed/")
    assert view.run_status(run.state).state is State.STOPPING
    finished(run, "a.onExit")
    assert run.began == ["a", "a.onExit", "onExit"] and run.state.phase == "Failed"
    run.end("onExit", ok=False)
    assert run.state.finished and view.run_status(run.state).state is State.STOPPED
    shown = {one.path: view.step(run.state, one) for one in run.state.nodes.values()}
    assert [shown[path].status.state for path in ("a", "b")] == [State.STOPPED, State.STOPPED]
    assert not shown["a"].error and shown["onExit"].status.state is State.FAILED


def test_a_stopped_run_goes_on_with_its_on_exit_after_a_restart() -> None:
    first = Driver(manifest({"onExit": "tell"}, onExit="tell"))
    stop = nouns.Cancel(12.0, on_exit=True)
    first.take(nouns.Grant(11.0, "a"))
    first.take(stop)
    first.take(nouns.Exited(13.0, "a", 1, nouns.Outcome(False)))
    second = first.again()
    second.take(stop)
    finished(second, "a.onExit", "onExit")
    assert set(second.began) <= {"a.onExit", "onExit"} and second.state.finished
    assert view.run_status(second.state).state is State.STOPPED
    assert view.status(second.state, second.node("a")).state is State.STOPPED


def test_an_exit_handler_too_is_ended_when_a_stopped_run_is_cancelled() -> None:
    run = Driver(manifest(onExit="tell"))
    run.take(nouns.Grant(11.0, "a"))
    run.take(nouns.Cancel(12.0, on_exit=True))
    run.take(nouns.Exited(13.0, "a", 1, nouns.Outcome(False)))
    exit_ = run.node("onExit").id
    run.take(nouns.Grant(13.0, exit_))
    run.take(nouns.Cancel(14.0, on_exit=True))  # once more changes nothing
    assert run.node("onExit").fact.running and not run.state.finished
    run.take(nouns.Cancel(15.0))
    run.take(nouns.Exited(16.0, exit_, 1, nouns.Outcome(False)))
    assert run.state.finished and view.run_status(run.state).state is State.STOPPED


@pytest.mark.parametrize(
    ("call", "spec", "words", "field"),
    [
        (
            {"hooks": {"x": {"template": "tell"}}},
            {},
            "needs an expression",
            "spec.templates[main].dag.tasks[a].hooks[x]",
        ),
        ({"hooks": {"x y": RUNS}}, {}, "name", "spec.templates[main].dag.tasks[a].hooks[x y]"),
        ({"onExit": "gone"}, {}, "no template 'gone'", "spec.templates[main].dag.tasks[a].onExit.template"),
        ({"onExit": "main"}, {}, "cycle", "spec.templates[main]"),
        ({"onExit": "tell", "withItems": [1]}, {}, "fans out", "spec.templates[main].dag.tasks[a]"),
        (
            {"hooks": {"x": {**RUNS, "expression": "tasks.b.status == ''"}}},
            {},
            "tasks.b",
            "spec.templates[main].dag.tasks[a].hooks[x].expression",
        ),
        (
            {"hooks": {"x": {**RUNS, "expression": "tasks.a.outputs.parameters.out == ''"}}},
            {},
            "tasks.a",
            "spec.templates[main].dag.tasks[a].hooks[x].expression",
        ),
        (
            {"hooks": {"exit": {"template": "tell", "arguments": {"parameters": [{"name": "how", "value": "{{x}}"}]}}}},
            {},
            "{{x}}",
            "spec.templates[main].dag.tasks[a].hooks[exit].arguments.parameters[how]",
        ),
        ({}, {"hooks": {"exit": {"template": "tell", "expression": "true"}}}, "no expression", "spec.hooks[exit]"),
        ({}, {"onExit": "gone"}, "no template", "spec.onExit"),
    ],
)
def test_what_is_wrong_with_a_hook_is_named(call: dict[str, Any], spec: dict[str, Any], words: str, field: str) -> None:
    with pytest.raises(BadWorkflow) as refused:
        read(manifest(call, **spec), IMAGES)
    assert words in refused.value.message and refused.value.field == field


# On Argo


def hooked() -> Driver:
    run = Driver(
        manifest(
            {"hooks": {"runs": RUNS, "exit": {"template": "tell"}}},
            onExit="tell",
            hooks={"w": {"template": "tell", "expression": "workflow.status == 'Running'"}},
        )
    )
    run.take(nouns.Grant(11.0, "a"))
    return run


def test_hooks_are_drawn_and_read_as_argo_has_them() -> None:
    run = finished(hooked(), "a.hooks.runs", "hooks.w", "a")
    run.end("a.onExit", ok=False)
    finished(run, "b", "onExit")
    nodes = drawn(run, "Succeeded")
    named = {one["name"]: one for one in nodes.values()}
    for name in ("hooks.runs", "onExit"):
        hook = named[f"{RUN}.a.{name}"]
        assert hook["nodeFlag"] == {"hooked": True} and hook["boundaryID"] == RUN and hook["type"] == "Pod"
        assert hook["id"] in named[f"{RUN}.a"]["children"]
    assert node_id(RUN, f"{RUN}.b") in named[f"{RUN}.a"]["children"]
    assert node_id(RUN, f"{RUN}.hooks.w") in named[RUN]["children"]
    checked = read(run.state.spec.manifest, IMAGES)
    there = {"metadata": {"name": RUN}, "status": {"phase": "Succeeded", "nodes": nodes}}
    found = seen(Asked("alice", RUN, run.state.spec, checked), there, known(there, checked, RUN), {}, Settings(), 1e9)
    states = {one.name: one.status.state for one, _ in found.steps}
    assert states == {
        **dict.fromkeys(("a", "b", "a.hooks.runs", "hooks.w", "onExit"), State.DONE),
        "a.onExit": State.FAILED,
    }


def test_a_hook_that_argo_was_too_late_for_is_not_waited_for() -> None:
    run = finished(hooked(), "a.hooks.runs", "hooks.w", "a", "a.onExit")
    nodes = drawn(run, "Running")
    del nodes[node_id(RUN, f"{RUN}.a.hooks.runs")]
    checked = read(run.state.spec.manifest, IMAGES)
    there = {"metadata": {"name": RUN}, "status": {"phase": "Running", "nodes": nodes}}
    found = seen(Asked("alice", RUN, run.state.spec, checked), there, known(there, checked, RUN), {}, Settings(), 1e9)
    assert [one.name for one, _ in found.steps] == ["a", "b", "hooks.w", "a.onExit"]


def test_a_retried_workflow_runs_its_own_hooks_again_and_those_of_what_failed() -> None:
    run = finished(hooked(), "a.hooks.runs", "hooks.w")
    run.end("a", ok=False)
    finished(run, "a.onExit", "b", "onExit")
    _, pods, _ = again(run, "Failed")
    assert set(pods) >= {node_id(RUN, f"{RUN}.{name}") for name in ("onExit", "hooks.w")}


def test_a_hook_that_went_well_does_not_hinder_the_retry_of_its_call() -> None:
    run = Driver(manifest({"onExit": "tell"}))
    run.state.spec.manifest["spec"]["templates"][0]["dag"]["tasks"].pop()
    run = Driver(run.state.spec.manifest)
    run.end("a", ok=False)
    run.end("a.onExit")
    assert run.state.phase == "Failed"
    assert set(again(run, "Failed")[1]) == {node_id(RUN, f"{RUN}.{name}") for name in ("a", "a.onExit")}

"""Runs as Argo's clients see them, held against workflows that the real controller wrote (``tests/unit/argo``)."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import errors as ours
from ropewalk_core.errors import BadInput, BadName
from ropewalk_core.flows import Run, RunSpec, Step
from ropewalk_core.model import State, Status, Why
from ropewalk_workflows.argo_server import errors, objects, selectors, wishes
from ropewalk_workflows.argo_server.nodes import node_id, nodes, pod_name
from ropewalk_workflows.argo_server.told import Told
from tests.unit.test_argo_seen import look, recorded, spec_of

NAMES = {"argo_steps": "argo_steps", "dynamic": "dynamic_failed", "fan_out": "fan_out", "retry": "retry_failed"}
COMPARED = ("displayName", "type", "phase", "templateName")
ARROWS = ("children", "outboundNodes")


def told(name: str) -> tuple[Told, dict[str, Any]]:
    """A recorded workflow, and the run that our port shows of it."""
    there = recorded(NAMES[name])
    found = look(name, there)
    steps = tuple(step for step, _ in found.steps)
    run = Run(id="run-0", owner="ada", name=name, status=found.status, steps=steps, created=1e9, ended=1e9 + 5)
    return Told("run-0", "ada", run, spec_of(name), {step.id: fact for step, fact in found.steps}), there


def compared(nodes: dict[str, Any]) -> dict[str, Any]:
    """Nodes by name, and arrows between names: the recording has another workflow's hashes."""
    names = {identifier: one["name"] for identifier, one in nodes.items()}
    return {
        one["name"]: {key: one.get(key) for key in COMPARED}
        | {key: sorted(names[each] for each in one.get(key) or ()) for key in ARROWS}
        | {"boundary": names.get(one.get("boundaryID") or "")}
        | {"retried": bool((one.get("nodeFlag") or {}).get("retried"))}
        for one in nodes.values()
    }


@pytest.mark.parametrize("name", NAMES)
def test_nodes_are_those_of_the_real_controller(name: str) -> None:
    run, there = told(name)
    drawn, _ = nodes(run, objects.phase(run.run))
    assert compared(drawn) == compared(there["status"]["nodes"])
    assert all(one["id"] == node_id("run-0", one["name"]) for one in drawn.values())


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_real_controller(name: str) -> None:
    run, there = told(name)
    drawn = {one["name"]: one for one in nodes(run, objects.phase(run.run))[0].values()}
    for node in there["status"]["nodes"].values():
        given = node.get("outputs") or {}
        real = {one["name"]: one.get("value") for one in given.get("parameters") or ()}
        real.pop("ropewalk-facts", None)
        if node["type"] == "Pod" and node["phase"] == "Succeeded":
            outputs = drawn[node["name"]]["outputs"]
            assert {one["name"]: one["value"] for one in outputs.get("parameters") or ()} == real
            assert outputs.get("result") == given.get("result")
            files = {one["name"] for one in given.get("artifacts") or ()} - {"main-logs"}
            assert {one["name"] for one in outputs.get("artifacts") or ()} <= files


def test_names_of_nodes_and_pods_are_what_clients_compute() -> None:
    assert node_id("run-0", "run-0") == "run-0"
    assert node_id("x", "a") == "x-3826002220"  # FNV-1a of `a`, from its authors' own table
    assert pod_name("run-0", "run-0", "main") == "run-0"
    assert pod_name("x", "a", "fit") == "x-fit-3826002220" and pod_name("x", "a", "") == "x-3826002220"
    assert pod_name("x" * 300, "a", "fit") == "x" * 242 + "-3826002220"


def test_an_object_has_what_the_clients_read() -> None:
    found = objects.workflow(told("fan_out")[0])
    assert found["metadata"]["name"] == found["metadata"]["uid"] == "run-0"
    assert found["metadata"]["namespace"] == "ada"
    assert found["metadata"]["labels"]["workflows.argoproj.io/phase"] == "Succeeded"
    assert found["metadata"]["labels"]["workflows.argoproj.io/completed"] == "true"
    assert found["metadata"]["annotations"]["workflows.argoproj.io/pod-name-format"] == "v2"
    assert found["metadata"]["creationTimestamp"] == "2001-09-09T01:46:40Z"
    assert (found["status"]["phase"], found["status"]["progress"]) == ("Succeeded", "5/5")
    assert found["status"]["finishedAt"] == "2001-09-09T01:46:45Z"
    assert "_last" not in json.dumps(found)
    assert "nodes" not in objects.workflow(told("fan_out")[0], tree=False)["status"]


@pytest.mark.parametrize(
    ("state", "word"),
    [(one, "Running") for one in ("asked", "running", "stopping")] + [("stopped", "Failed"), ("done", "Succeeded")],
)
def test_only_words_that_hera_takes_for_what_they_are(state: str, word: str) -> None:
    run = Run(id="run-0", owner="ada", name="x", status=Status(state=State(state), why=Why(cause="so")))
    found = objects.workflow(Told("x-1", "ada", run, spec_of("fan_out")))
    assert found["status"]["phase"] == word
    if state == "stopped":
        assert found["status"]["message"] == "Stopped with strategy 'Terminate'"
    if state == "asked":
        assert "nodes" not in found["status"]


def test_a_step_that_waits_for_another_has_no_node_yet() -> None:
    run, _ = told("fan_out")
    first = Step(id="fit-0", name="fit(0)", status=Status(state=State.RUNNING), attempt=1, started=1e9)
    going = run.run.model_copy(update={"status": Status(state=State.RUNNING), "steps": (first,), "ended": None})
    facts = {"fit-0": run.facts["fit-0"].__class__(attempt=1, running=True, started=1e9)}
    drawn, pods = nodes(Told("run-0", "ada", going, run.spec, facts), "Running")
    assert drawn["run-0"]["phase"] == "Running" and drawn["run-0"]["finishedAt"] is None
    assert drawn[node_id("run-0", "run-0.fit-0")]["phase"] == "Running"
    assert node_id("run-0", "run-0.best") not in drawn
    assert pods[node_id("run-0", "run-0.fit-0")] == "fit-0"


def test_a_manifest_of_other_rules_is_still_listed() -> None:
    run, _ = told("fan_out")
    spec = RunSpec(name="old", manifest={"kind": "Workflow", "spec": {"entrypoint": "gone", "templates": []}})
    found = objects.workflow(Told("old-1", "ada", run.run, spec))
    assert found["status"]["phase"] == "Succeeded" and "nodes" not in found["status"]


# Selectors


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("", True),
        ("a=1", True),
        ("a==1,b!=1", True),
        ("a!=1", False),
        ("b=2, c", False),
        ("!c", True),
        ("! a", False),
        ("a in (1, 2)", True),
        ("a notin (1,2)", False),
        ("c notin (1)", True),
        ("c!=1", True),
        ("workflows.argoproj.io/phase in (Running,Failed)", True),
    ],
)
def test_label_selectors(text: str, met: bool) -> None:
    found = {"a": "1", "b": "2", "workflows.argoproj.io/phase": "Failed"}
    assert selectors.met(selectors.labels(text), found) is met


@given(st.text(alphabet=string.printable, max_size=40))
def test_any_text_is_a_selector_or_a_bad_one(text: str) -> None:
    for read in (selectors.labels, selectors.fields):
        try:
            selectors.met(read(text), {"a": "1"})
        except BadInput as error:
            assert error.field


_words = st.text(alphabet=string.ascii_letters, min_size=1, max_size=5)


@given(st.dictionaries(_words, _words, max_size=4), st.dictionaries(_words, _words, max_size=4))
def test_equalities_are_met_by_those_that_have_them_all(wanted: dict[str, str], found: dict[str, str]) -> None:
    text = ",".join(f"{key}={one}" for key, one in wanted.items())
    assert selectors.met(selectors.labels(text), found) is all(found.get(key) == one for key, one in wanted.items())


def test_fields_that_can_be_asked_for() -> None:
    asked = selectors.fields("metadata.name=x,metadata.namespace!=y")
    assert selectors.only(asked, "metadata.name") == "x" and not selectors.only(asked, "metadata.namespace")
    with pytest.raises(BadInput):
        selectors.fields("status.phase=Running")


# Wishes and errors

HELLO: dict[str, Any] = {
    "metadata": {"generateName": "hello-", "creationTimestamp": None, "labels": {"mine": "1"}},
    "spec": {
        "entrypoint": "main",
        "arguments": {"parameters": [{"name": "who", "value": "you"}]},
        "templates": [{"name": "main", "inputs": {}, "script": {"image": "alpine", "source": "true", "name": ""}}],
    },
    "status": {"startedAt": None, "finishedAt": None},
}


def test_what_a_server_sets_is_not_kept() -> None:
    labels = {"mine": "1", "workflows.argoproj.io/phase": "Failed"}
    metadata = {**HELLO["metadata"], "uid": "u", "resourceVersion": "7", "namespace": "ada", "labels": labels}
    spec = wishes.spec_of({**HELLO, "metadata": metadata}, "ada", "ropewalk--ada")
    assert spec.manifest["metadata"] == {"generateName": "hello-", "labels": {"mine": "1"}}
    assert "status" not in spec.manifest and spec.manifest["kind"] == "Workflow"
    assert (spec.name, spec.source, spec.arguments, spec.fresh) == ("hello", "argo", {"who": "you"}, True)


@pytest.mark.parametrize(
    "workflow",
    [None, [], "x", {}, {"spec": []}, {"metadata": 3, "spec": {}}, {"spec": {"arguments": "x"}}],
)
def test_junk_is_refused(workflow: Any) -> None:
    with pytest.raises(BadInput):
        wishes.spec_of(workflow, "ada", "ada")


@pytest.mark.parametrize("name", ["Hello", "-x", "x-", "a/b", "a" * 64, 7, "ä"])
def test_names_that_kubernetes_refuses(name: Any) -> None:
    with pytest.raises(BadName):
        wishes.spec_of({**HELLO, "metadata": {"name": name}}, "ada", "ada")


def test_another_namespace_in_the_object_is_refused() -> None:
    with pytest.raises(BadInput, match="another namespace"):
        wishes.spec_of({**HELLO, "metadata": {"name": "x", "namespace": "bob"}}, "ada", "ada")


def test_resubmitted_under_a_name_of_its_own() -> None:
    spec = wishes.spec_of({**HELLO, "metadata": {"name": "one", "labels": {"a": "b"}}}, "ada", "ada")
    again = wishes.again(spec, "one", ["who=them=all"])
    labels = {"a": "b", "workflows.argoproj.io/resubmitted-from-workflow": "one"}
    assert again.manifest["metadata"] == {"generateName": "one-", "labels": labels}
    assert again.manifest["spec"]["arguments"]["parameters"] == [{"name": "who", "value": "them=all"}]
    assert again.arguments == {"who": "them=all"}
    assert spec.manifest["spec"]["arguments"]["parameters"] == [{"name": "who", "value": "you"}]
    for wrong in ("nobody=1", "who"):
        with pytest.raises(BadInput):
            wishes.again(spec, "one", [wrong])


def test_every_error_has_a_number_and_a_status_that_hera_knows_or_http_has() -> None:
    for kind in ours.documented():
        status, body = errors.said(kind("It went wrong.", hint="Do this."))
        assert 400 <= status < 600 and 1 <= body["code"] <= 16
        if issubclass(kind, ours.BadInput):
            assert (status, body["code"]) == (400, 3)
        assert body["message"].endswith("Do this.")
        assert ("It went wrong." in body["message"]) is kind.public

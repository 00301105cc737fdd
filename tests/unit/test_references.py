"""References to saved workflows are written out: what a run is of stands in its manifest, and nothing else does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec, SavedSpec
from ropewalk_core.model import State
from ropewalk_core.settings import Environments, Limits
from ropewalk_hub.platform import SystemClock
from ropewalk_workflows.compile import from_object, to_save
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.references import whole
from ropewalk_workflows.saved.desk import SavedDesk
from tests.workflow_rig import ALICE, Rig

SAY = {
    "name": "say",
    "inputs": {"parameters": [{"name": "text"}]},
    "script": {"image": "python", "source": "print('{{inputs.parameters.text}}')"},
}
TWICE = {
    "name": "twice",
    "inputs": {"parameters": [{"name": "text"}]},
    "steps": [
        [{"name": "a", "template": "say", "arguments": {"parameters": [{"name": "text", "value": "before"}]}}],
        [
            {
                "name": "b",
                "template": "say",
                "arguments": {"parameters": [{"name": "text", "value": "{{inputs.parameters.text}}"}]},
            }
        ],
    ],
    "outputs": {"parameters": [{"name": "out", "valueFrom": {"parameter": "{{steps.b.outputs.result}}"}}]},
}
GREET = {
    "entrypoint": "main",
    "arguments": {"parameters": [{"name": "text", "value": "hello"}]},
    "templates": [
        {
            **TWICE,
            "name": "main",
            "inputs": {"parameters": [{"name": "text", "value": "{{workflow.parameters.text}}"}]},
        },
        TWICE,
        SAY,
    ],
}
SAVED = {"greet": GREET}


def of(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "it"}, "spec": spec}


def calling(saved: str = "greet", template: str = "twice", **more: Any) -> dict[str, Any]:
    call = {
        "name": "a",
        "templateRef": {"name": saved, "template": template},
        "arguments": {"parameters": [{"name": "text", "value": "hi"}]},
        **more,
    }
    outputs = {"parameters": [{"name": "out", "valueFrom": {"parameter": "{{steps.a.outputs.parameters.out}}"}}]}
    return of({"entrypoint": "main", "templates": [{"name": "main", "steps": [[call]], "outputs": outputs}]})


def test_what_refers_to_nothing_is_the_very_same() -> None:
    manifest = of(GREET)
    assert whole(manifest, SAVED.get) is manifest
    for other in ({}, of({}), {"spec": "no"}, of({"templates": "no"}), of({"templates": [None, {"steps": 7}]})):
        assert whole(other, SAVED.get) is other


def test_a_template_comes_with_those_that_it_calls() -> None:
    manifest = calling()
    before = copy.deepcopy(manifest)
    found = whole(manifest, SAVED.get)
    assert manifest == before and [one["name"] for one in found["spec"]["templates"]] == [
        "main",
        "greet-twice",
        "greet-say",
    ]
    assert [one["template"] for (one,) in found["spec"]["templates"][1]["steps"]] == ["greet-say", "greet-say"]
    read(found, Environments().images)


def test_a_name_that_is_taken_is_not_taken_twice_and_a_template_comes_once() -> None:
    manifest = calling()
    steps = manifest["spec"]["templates"][0]["steps"]
    steps.append([{**steps[0][0], "name": "again"}])
    manifest["spec"]["templates"].append({**SAY, "name": "greet-twice"})
    names = [one["name"] for one in whole(manifest, SAVED.get)["spec"]["templates"]]
    assert names == ["main", "greet-twice", "greet-twice-2", "greet-say"]


def test_hooks_and_exits_are_called_by_their_new_names_too() -> None:
    ends = {"name": "ends", "steps": [[{"name": "x", "template": "say", "onExit": "say", "hooks": {}}]]}
    ends["steps"][0][0]["hooks"] = {"exit": {"template": "say"}}  # type: ignore[index]
    saved = {"more": {"templates": [ends, SAY]}}
    manifest = calling("more", "ends", hooks={"exit": {"templateRef": {"name": "more", "template": "say"}}})
    manifest["spec"]["hooks"] = {"exit": {"templateRef": {"name": "more", "template": "say"}}}
    found = whole(manifest, saved.get)["spec"]
    assert found["hooks"] == {"exit": {"template": "more-say"}}
    call = found["templates"][0]["steps"][0][0]
    assert call["template"] == "more-ends" and call["hooks"] == {"exit": {"template": "more-say"}}
    inner = next(one for one in found["templates"] if one["name"] == "more-ends")["steps"][0][0]
    assert (inner["template"], inner["onExit"], inner["hooks"]) == (
        "more-say",
        "more-say",
        {"exit": {"template": "more-say"}},
    )


def test_a_workflow_that_is_a_template_keeps_what_it_says_itself() -> None:
    said = {
        "workflowTemplateRef": {"name": "greet"},
        "entrypoint": "twice",
        "arguments": {"parameters": [{"name": "text", "value": "mine"}, {"name": "other", "value": "too"}]},
    }
    found = whole(of(said), SAVED.get)["spec"]
    assert found == {**GREET, "entrypoint": "twice", "arguments": said["arguments"]}
    assert whole(of({"workflowTemplateRef": {"name": "greet"}}), SAVED.get)["spec"] == GREET


def test_one_that_calls_itself_and_a_long_chain_end() -> None:
    again = {"name": "again", "steps": [[{"name": "x", "template": "again", "when": "false"}]]}
    found = whole(calling("more", "again"), {"more": {"templates": [again]}}.get)["spec"]["templates"]
    assert [one["name"] for one in found] == ["main", "more-again"] and found[1]["steps"][0][0][
        "template"
    ] == "more-again"
    chain = [{"name": f"t{n}", "steps": [[{"name": "x", "template": f"t{n + 1}"}]]} for n in range(2000)]
    with pytest.raises(BadWorkflow, match="More than 1,000 templates"):
        whole(calling("more", "t0"), {"more": {"templates": chain}}.get)


@pytest.mark.parametrize(
    ("manifest", "field", "said"),
    [
        (calling("away"), "spec.templates[main].steps[0][a].templateRef", "There is no saved workflow 'away'."),
        (calling(template="away"), "spec.templates[main].steps[0][a].templateRef", "has no template 'away'"),
        (calling(template=None), "spec.templates[main].steps[0][a].templateRef.template", "which template"),  # type: ignore[arg-type]
        (calling(7), "spec.templates[main].steps[0][a].templateRef", "A reference has a name."),  # type: ignore[arg-type]
        (calling(templateRef="x"), "spec.templates[main].steps[0][a].templateRef", "A reference has a name."),
        (
            calling(templateRef={"name": "greet", "template": "say", "clusterScope": True}),
            "spec.templates[main].steps[0][a].templateRef.clusterScope",
            "of the whole cluster",
        ),
        (calling(more=1, template_="x"), "", ""),
        (
            of({"workflowTemplateRef": {"name": "away"}}),
            "spec.workflowTemplateRef",
            "There is no saved workflow 'away'.",
        ),
        (of({**GREET, "workflowTemplateRef": {"name": "greet"}}), "spec.workflowTemplateRef", "not both"),
        (of({"workflowTemplateRef": {"name": "refers"}}), "spec.workflowTemplateRef", "refers to another"),
    ],
)
def test_what_cannot_be_found_is_refused_with_its_place(manifest: dict[str, Any], field: str, said: str) -> None:
    saved = {**SAVED, "refers": {"workflowTemplateRef": {"name": "greet"}}}
    if not field:
        manifest["spec"]["templates"][0]["steps"][0][0]["template"] = "main"
        field, said = "spec.templates[main].steps[0][a].templateRef", "not both"
    with pytest.raises(BadWorkflow, match=said) as caught:
        whole(manifest, saved.get)
    assert caught.value.field == field


LEAF = st.none() | st.booleans() | st.integers() | st.sampled_from(["greet", "say", "main", "", "away"])
KEYS = st.sampled_from(
    ["name", "template", "templateRef", "workflowTemplateRef", "templates", "steps", "dag", "tasks", "hooks", "onExit"]
) | st.sampled_from(["arguments", "parameters", "inline", "exit", "entrypoint"])
ANYTHING = st.recursive(
    LEAF, lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=4), max_leaves=20
)


@given(ANYTHING, ANYTHING)
def test_whatever_comes_it_is_written_out_or_refused(spec: Any, saved: Any) -> None:
    manifest = of(spec)
    known = {"greet": saved if isinstance(saved, dict) else GREET}
    before = copy.deepcopy(manifest)
    try:
        found = whole(manifest, known.get)
    except BadWorkflow as error:
        assert error.field
    else:
        assert manifest == before and isinstance(found, Mapping)


@step
def double(x: int) -> int:
    return 2 * x


@workflow
def doubled(x: int = 1) -> object:
    return double(x)


async def test_a_run_is_of_what_was_saved_when_it_was_submitted(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    desk = SavedDesk(rig.journal, SystemClock(), Limits(), rig.workflows)
    rig.start()
    try:
        run = RunSpec(name="greet", manifest=of(GREET), source="argo")
        await desk.save(ALICE, "alice", SavedSpec(name="greet", run=run))
        ended = await rig.wait((await rig.submit(from_object(calling()))).id)
        assert ended.status.state is State.DONE and ended.outputs["out"] == "hi"
        kept = await rig.workflows.spec(ALICE, "alice", ended.id)
        assert "templateRef" not in str(kept.manifest)
        await desk.save(ALICE, "alice", SavedSpec(name="greets", run=run.model_copy(update={"manifest": REFERS})))
        assert [one.name for one in (await desk.get(ALICE, "alice", "greets")).spec.arguments] == ["text"]
        launched = await desk.launch(ALICE, "alice", "greets", {"text": "anew"})
        assert (await rig.wait(launched.id)).outputs["out"] == "anew"
        saved = to_save(doubled, name="doubled")
        await desk.save(ALICE, "alice", saved)
        with pytest.raises(BadWorkflow, match="was saved from Python"):
            await rig.submit(from_object(of({"workflowTemplateRef": {"name": "doubled"}})))
        await desk.remove(ALICE, "alice", "greet")
        with pytest.raises(BadWorkflow, match="There is no saved workflow 'greet'"):
            await desk.launch(ALICE, "alice", "greets", {})
    finally:
        await rig.close()


REFERS = of({"workflowTemplateRef": {"name": "greet"}})

"""Manifests written plainly: a template that stands in a call is the same work as one that stands on its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.manifest import read
from ropewalk_workflows.manifest.resolved import plain

IMAGES = {"python": "python"}
PROGRAM: dict[str, Any] = {"container": {"image": "python", "command": ["true"]}}


def manifest(*templates: dict[str, Any]) -> dict[str, Any]:
    """Return a Workflow that begins with the first template."""
    spec = {"entrypoint": templates[0]["name"], "templates": list(templates)}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "x-"}, "spec": spec}


def called(kind: str, **call: Any) -> dict[str, Any]:
    """Return a template with one call, named a."""
    one = {"name": "a", **call}
    return {"name": "main", **({"dag": {"tasks": [one]}} if kind == "dag" else {"steps": [[one]]})}


@pytest.mark.parametrize("kind", ["dag", "steps"])
def test_an_inline_template_gets_a_place_and_a_name(kind: str) -> None:
    given_one = manifest(called(kind, inline=PROGRAM))
    before = copy.deepcopy(given_one)
    wanted = manifest(called(kind, template="main-a"), {**PROGRAM, "name": "main-a"})
    assert plain(given_one) == wanted
    assert given_one == before
    assert read(given_one, IMAGES) == read(wanted, IMAGES)


def test_a_name_that_is_taken_gets_a_number() -> None:
    made = plain(manifest(called("dag", inline=PROGRAM), {**PROGRAM, "name": "main-a"}))
    assert [one["name"] for one in made["spec"]["templates"]] == ["main", "main-a", "main-a-2"]
    assert made["spec"]["templates"][0]["dag"]["tasks"][0]["template"] == "main-a-2"


def test_an_argument_reaches_an_inline_template() -> None:
    inner = {"inputs": {"parameters": [{"name": "x"}]}, "container": {"image": "python", "command": ["echo"]}}
    inner["container"]["args"] = ["{{inputs.parameters.x}}"]
    arguments = {"parameters": [{"name": "x", "value": "{{item}}"}]}
    made = read(manifest(called("steps", inline=inner, arguments=arguments, withItems=[1, 2])), IMAGES)
    assert made.template("main-a").inputs.parameters[0].name == "x"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"inline": PROGRAM, "template": "main"}, "not both"),
        ({"inline": "x"}, "must be an object"),
        ({"inline": {"dag": {"tasks": []}}}, "single step"),
        ({"inline": {"inputs": {"parameters": [{"name": "own"}]}, **PROGRAM}}, "'own' is one of"),
        ({"inline": {"script": {"image": "python", "source": "print('{{item}}')"}}}, "cannot use '{{item}}'"),
        ({"inline": {"script": {"image": "python", "source": "{{steps.a.id}}"}}}, "cannot use '{{steps.a.id}}'"),
    ],
)
@pytest.mark.parametrize(("kind", "place"), [("dag", "dag.tasks[a]"), ("steps", "steps[0][a]")])
def test_what_would_mean_something_else_is_refused(kind: str, place: str, call: dict[str, Any], words: str) -> None:
    around = {**called(kind, **call), "inputs": {"parameters": [{"name": "own", "value": "1"}]}}
    with pytest.raises(BadWorkflow) as caught:
        read(manifest(around), IMAGES)
    assert words in str(caught.value)
    assert caught.value.field == f"spec.templates[main].{place}.inline"


NAMES = st.text("ab-", min_size=1, max_size=3)
CALLS = st.lists(st.tuples(NAMES, st.booleans()), max_size=4, unique_by=lambda one: one[0])


@given(st.lists(st.tuples(NAMES, CALLS, st.booleans()), min_size=1, max_size=4, unique_by=lambda one: one[0]))
def test_every_call_names_a_template_and_no_name_is_twice(
    given_ones: list[tuple[str, list[tuple[str, bool]], bool]],
) -> None:
    templates = []
    for name, calls, dag in given_ones:
        body = [{"name": one, **({"inline": PROGRAM} if inline else {"template": name})} for one, inline in calls]
        templates.append({"name": name, **({"dag": {"tasks": body}} if dag else {"steps": [body]})})
    made = plain(manifest(*templates))
    found = made["spec"]["templates"]
    names = [one["name"] for one in found]
    assert len(set(names)) == len(names)
    assert len(names) == len(templates) + sum(inline for _, calls, _ in given_ones for _, inline in calls)
    for one in found[: len(templates)]:
        calls = one["dag"]["tasks"] if "dag" in one else one["steps"][0]
        assert all("inline" not in call and call["template"] in names for call in calls)
    assert plain(made) is made


JUNK = st.recursive(
    st.none() | st.text(max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["spec", "templates", "dag", "tasks", "steps", "inline", "name"]), inner)
    ),
)


@given(JUNK, st.sampled_from(["spec", "templates", "dag", "steps", "inline"]))
def test_junk_is_left_or_refused(junk: Any, at: str) -> None:
    call = junk if at != "inline" else [{"name": "a", "inline": junk}]
    inner = junk if at == "dag" else {"tasks": call}
    template = {"name": "m", "dag": inner, "steps": junk if at == "steps" else [call]}
    spec = junk if at == "spec" else {"templates": junk if at == "templates" else [template]}
    try:
        plain({"spec": spec})
    except BadWorkflow as error:
        assert error.field

"""Saved workflows: what can stay open until a launch, what is refused by name, and runs that launches make."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput, BadWorkflow, NotFound, RopewalkError
from ropewalk_core.flows import KEPT, Run, SavedSpec
from ropewalk_core.model import State
from ropewalk_core.settings import Limits
from ropewalk_hub.platform import SystemClock
from ropewalk_runtime import values
from ropewalk_workflows import names
from ropewalk_workflows.compile import to_save
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.saved import launching
from ropewalk_workflows.saved.desk import SavedDesk
from tests.workflow_rig import ALICE, Rig

LIST_OF_RATES = [0.1, 0.2]


@step
def train(rate: float, mode: str = "fast", extra: Any = None) -> float:
    return rate * (2 if mode == "fast" else 3) + (len(extra) if extra else 0)


@step
def told(value: Any) -> Any:
    return [value]


@step
def total(parts: list[Any]) -> Any:
    return sum(parts)


@workflow
def once(rate: float = 0.5, mode: Literal["fast", "slow"] = "fast", extra: dict[str, int] | None = None) -> object:
    """Train once.

    With one rate.
    """
    return train(rate, mode, extra)


@workflow
def needing(value: Any) -> object:
    return told(value)


@workflow
def many(rates: list[float] = LIST_OF_RATES, first: float = 1.0) -> object:
    return total([first, total(train.map(rates))])


@workflow
def counted(count: int, rate: float = 0.5) -> object:
    return total([train(rate) for _ in range(count)])


MANIFEST = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: hello}
spec:
  entrypoint: say
  arguments:
    parameters:
    - {name: who, value: world, enum: [world, moon], description: whom to greet}
    - {name: times}
  templates:
  - name: say
    inputs:
      parameters: [{name: who}, {name: times}]
    container:
      image: alpine
      command: [sh, -c]
      args: ["echo hello {{inputs.parameters.who}} {{inputs.parameters.times}}"]
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    made.start()
    yield made
    await made.close()


def desk_of(rig: Rig, **limits: int) -> SavedDesk:
    return SavedDesk(rig.journal, SystemClock(), Limits(**limits), rig.workflows)


async def launched(rig: Rig, desk: SavedDesk, name: str, **arguments: Any) -> Run:
    run = await desk.launch(ALICE, "alice", name, arguments)
    return await rig.wait(run.id)


# What can be saved


def test_arguments_are_those_of_the_signature_with_what_they_take() -> None:
    spec = to_save(once)
    assert [(one.name, one.required) for one in spec.arguments] == [("rate", False), ("mode", False), ("extra", False)]
    rate, mode, extra = (one.takes for one in spec.arguments)
    assert rate == {"type": "number", "default": 0.5}
    assert mode["enum"] == ["fast", "slow"] and mode["default"] == "fast"
    assert extra["default"] is None and spec.doc.startswith("Train once.")
    assert to_save(needing).arguments[0].required


def test_a_value_that_puts_the_steps_together_is_asked_for_by_name_with_the_way_out() -> None:
    with pytest.raises(BadWorkflow) as caught:
        to_save(counted)
    assert caught.value.field == "count" and ".save(count=...)" in caught.value.hint
    fixed = to_save(counted, fixed={"count": 3})
    assert [one.name for one in fixed.arguments] == ["rate"] and fixed.run.arguments["count"] == 3


@pytest.mark.parametrize(
    "body",
    [
        "told(value) if value else told(1)",
        "told(value + 1)",
        "told(f'{value}')",
        "told([one for one in value])",
        "told(value['key'])",
        "told({'deep': value})",
        "told.when(value > 1)(1)",
        "told.when(value)(1)",
        "value",
    ],
)
def test_whatever_else_a_workflow_does_with_an_open_argument_is_refused(body: str) -> None:
    scope: dict[str, Any] = {"told": told}
    exec(f"def made(value):\n    return {body}", scope)
    with pytest.raises(BadWorkflow) as caught:
        to_save(workflow(scope["made"]))
    assert "value" in f"{caught.value.field} {caught.value.message}" or body == "value"


def test_what_no_form_can_show_is_fixed_at_its_default() -> None:
    @workflow
    def deep(table: Any = {1, 2}, rate: float = 0.1) -> object:  # noqa: B006 - nobody changes it
        return train(rate, extra=table)

    assert [one.name for one in to_save(deep).arguments] == ["rate"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(BadWorkflow, match="no argument 'speed'"):
        to_save(once, fixed={"speed": 1})
    with pytest.raises(BadWorkflow, match="no name"):
        to_save(once, name="...")
    assert to_save(once, name="my train!").name == "my-train"


# What a launch makes of it


def test_a_launch_refuses_by_the_arguments_name() -> None:
    spec = to_save(needing)
    cases: list[tuple[SavedSpec, dict[str, Any], str]] = [
        (spec, {}, "value"),
        (spec, {"value": 1, "speed": 2}, "speed"),
        (spec, {"value": float("nan")}, "value"),
        (spec, {"value": "x" * 20_000}, "value"),
        (to_save(once), {"rate": "fast"}, "rate"),
        (to_save(once), {"mode": "slowly"}, "mode"),
        (to_save(many), {"rates": 3}, "rates"),
    ]
    for one, arguments, field in cases:
        with pytest.raises(BadInput) as caught:
            launching.launched(one, arguments)
        assert caught.value.field == field, arguments


def test_a_schema_that_refers_to_itself_in_two_ways_keeps_nobody_waiting() -> None:
    spec = to_save(needing)
    ref = {"$ref": "#/components/schemas/Tree"}
    tree = {"anyOf": [{"type": "array", "items": ref}, {"type": "array", "items": ref}, {"type": "string"}]}
    hostile = spec.arguments[0].model_copy(update={"takes": ref})
    spec = spec.model_copy(update={"arguments": (hostile,), "types": {"Tree": tree}})
    launching.check(spec)
    value: Any = 1
    for _ in range(60):
        value = [value]
    launching.launched(spec, {"value": value})
    with pytest.raises(BadInput, match="must be a list or text"):
        launching.launched(spec, {"value": 1})


@pytest.mark.parametrize(
    ("takes", "fits", "other"),
    [
        ({"type": "integer"}, 3, True),
        ({"type": "number"}, 3, "3"),
        ({"type": "boolean"}, False, 0),
        ({"enum": [1, "a"]}, 1, True),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, "x"),
        ({"type": "array"}, [], {}),
        ({}, {"any": 1}, None),
    ],
)
def test_a_value_is_of_the_type_that_is_taken(takes: dict[str, Any], fits: Any, other: Any) -> None:
    spec = to_save(needing)
    spec = spec.model_copy(update={"arguments": (spec.arguments[0].model_copy(update={"takes": takes}),)})
    assert launching.launched(spec, {"value": fits}).arguments["value"] == fits
    if takes:
        with pytest.raises(BadInput, match="'value' must be "):
            launching.launched(spec, {"value": other})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_value_reaches_the_step_as_it_was_given_and_is_no_tag(value: Any) -> None:
    if not values.is_exact(value):
        return
    run = launching.launched(to_save(needing), {"value": value})
    [parameter] = run.manifest["spec"]["arguments"]["parameters"]
    assert json.loads(parameter["value"]) == value and "{{" not in parameter["value"]
    assert run.arguments["value"] == value


@given(st.lists(JSON, max_size=6))
def test_a_list_that_is_fanned_out_keeps_its_members_and_their_order(items: list[Any]) -> None:
    if not values.is_exact(items):
        return
    spec = to_save(many)
    text = launching.parameter_text(f"{names.ITEMS}rates", {"rates": items})
    assert text is not None
    assert [json.loads(one["value"]) for one in json.loads(text)] == items
    assert [one["index"] for one in json.loads(text)] == [str(place) for place in range(len(items))]
    assert spec.arguments[0].name == "rates"


def test_a_firing_gives_what_is_named_like_its_facts_and_nothing_else() -> None:
    @workflow
    def hearing(at: str, file: Any = None, event: Any = None, rate: float = 0.1) -> object:
        return total([told(at), told(file), told(event), told(rate)])

    spec = to_save(hearing)
    event = {"trigger": "t-1", "kind": "every", "at": "2027-01-15T08:05:00+00:00"}
    assert launching.told(spec, event) == {"at": event["at"], "event": event}
    assert launching.untold(spec, event) == "" and launching.untold(to_save(needing), event) == "value"


# End to end


async def test_launches_are_runs_of_their_own_with_their_own_values(rig: Rig) -> None:
    desk = desk_of(rig)
    await desk.save(ALICE, "alice", to_save(once))
    first = await launched(rig, desk, "once")
    assert (first.status.state, rig.result(first)) == (State.DONE, 1.0)
    second = await launched(rig, desk, "once", rate=2, mode="slow", extra={"a": 1})
    assert rig.result(second) == 7 and second.arguments["mode"] == "slow"
    third = await launched(rig, desk, "once")
    assert third.id != first.id and not third.unchanged
    assert [one.status.note for one in third.steps if one.kind == "step"] == [KEPT]
    again = await desk.launch(ALICE, "alice", "once", {}, fresh=True, key="k")
    assert (await desk.launch(ALICE, "alice", "once", {}, fresh=True, key="k")).id == again.id


HARD = {"text": 'it\'s {{hard}} "quoted" \\ and\nlong', "number": 1e-7, "nothing": None, "list": [True, "ü"]}


async def test_values_of_any_letters_reach_the_step(rig: Rig) -> None:
    desk = desk_of(rig)
    await desk.save(ALICE, "alice", to_save(needing))
    assert rig.result(await launched(rig, desk, "needing", value=HARD)) == [HARD]


async def test_a_list_is_fanned_out_and_joined(rig: Rig) -> None:
    desk = desk_of(rig)
    await desk.save(ALICE, "alice", to_save(many))
    run = await launched(rig, desk, "many")
    assert rig.result(run) == pytest.approx(1.0 + 0.6)
    run = await launched(rig, desk, "many", rates=[1, 2, 3], first=10)
    assert rig.result(run) == 22
    assert len([one for one in run.steps if one.name.startswith("train(")]) == 3


async def test_a_plain_manifest_is_launched_with_its_own_parameters(rig: Rig) -> None:
    desk = desk_of(rig)
    saved = await desk.save(ALICE, "alice", to_save(MANIFEST))
    assert [(one.name, one.required) for one in saved.spec.arguments] == [("who", False), ("times", True)]
    with pytest.raises(BadInput, match="times"):
        await desk.launch(ALICE, "alice", "hello", {})
    with pytest.raises(BadInput):
        await desk.launch(ALICE, "alice", "hello", {"who": "mars", "times": "2"})
    run = await launched(rig, desk, "hello", who="moon", times=2)
    assert run.status.state is State.DONE
    [one] = run.steps
    log = [line.text async for line in rig.workflows.logs(ALICE, "alice", run.id, one.id)]
    assert log == ["hello moon 2"]


async def test_saving_again_is_a_version_only_where_it_says_something_else(rig: Rig) -> None:
    desk = desk_of(rig)
    one = await desk.save(ALICE, "alice", to_save(once))
    assert (await desk.save(ALICE, "alice", to_save(once))).version == 1
    other = await desk.save(ALICE, "alice", to_save(once, fixed={"mode": "slow"}))
    assert (other.version, other.created) == (2, one.created)
    listed = (await desk.list(ALICE, "alice")).items
    assert [each.name for each in listed] == ["once"] and not listed[0].spec.run.bundles
    run = await launched(rig, desk, "once")
    assert rig.result(run) == 1.5
    await desk.remove(ALICE, "alice", "once")
    assert (await rig.get(run.id)).id == run.id
    for act in (desk.get, desk.remove):
        with pytest.raises(NotFound):
            await act(ALICE, "alice", "once")
    with pytest.raises(NotFound):
        await desk.launch(ALICE, "alice", "once", {})


async def test_what_could_never_run_is_not_saved(rig: Rig) -> None:
    desk = desk_of(rig, saved_workflows=1)
    wrong = to_save(MANIFEST.replace("container:", "resource: {}\n    container:"))
    with pytest.raises(BadWorkflow, match="resource"):
        await desk.save(ALICE, "alice", wrong)
    spec = to_save(once)
    bad = spec.arguments[0].model_copy(update={"takes": {"type": 5}})
    with pytest.raises(BadWorkflow, match="no JSON Schema"):
        await desk.save(ALICE, "alice", spec.model_copy(update={"arguments": (bad, *spec.arguments[1:])}))
    long = spec.arguments[0].model_copy(update={"takes": {"enum": ["x" * 1000] * 200}})
    with pytest.raises(BadWorkflow, match="too long"):
        await desk.save(ALICE, "alice", spec.model_copy(update={"arguments": (long, *spec.arguments[1:])}))
    with pytest.raises(BadWorkflow, match="is no argument"):
        await desk.save(ALICE, "alice", spec.model_copy(update={"arguments": spec.arguments[1:]}))
    assert (await desk.list(ALICE, "alice")).items == ()
    await desk.save(ALICE, "alice", spec)
    with pytest.raises(RopewalkError) as caught:
        await desk.save(ALICE, "alice", to_save(many))
    assert caught.value.field == "limits.saved_workflows"


async def test_pages_follow_each_other(rig: Rig) -> None:
    desk = desk_of(rig)
    for number in range(5):
        await desk.save(ALICE, "alice", to_save(once, name=f"w{number}"))
    first = await desk.list(ALICE, "alice", limit=3)
    assert [one.name for one in first.items] == ["w0", "w1", "w2"]
    assert [one.name for one in (await desk.list(ALICE, "alice", after=first.next, limit=3)).items] == ["w3", "w4"]

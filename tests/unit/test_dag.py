"""What `@step` and `@workflow` make of plain Python, and what they refuse instead of guessing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.manifest import check_supplied, read


@step
def train(rate: float = 0.1) -> float:
    return rate


@step
def train_1(rate: float) -> float:
    return rate


@step
def ship(bundle: str, call: int, place: list[int]) -> str:
    return f"{bundle}{call}{place}"


@pytest.mark.parametrize(
    "use",
    [
        lambda one: one == 3,
        lambda one: one != 3,
        lambda one: 3 in [one],
        lambda one: f"model-{one}",
        lambda one: one % 2,
        lambda one: -one,
        lambda one: range(one),
        lambda one: float(one),
        lambda one: one.shape,
        lambda one: one & 1,
        lambda one: one @ one,
        lambda one: one(),
        lambda one: next(one),
        lambda one: Path(one),
        lambda one: 1 in one,
        lambda one: one.__setitem__(0, 1),
    ],
)
def test_a_workflow_cannot_decide_by_a_result_that_is_not_known_yet(use: Callable[[Any], Any]) -> None:
    @workflow
    def guess() -> Any:
        found = train(1)
        return train(2) if use(found) else found

    with pytest.raises(BadWorkflow, match="known only when the run runs"):
        guess.spec()


def test_what_the_workflows_own_lines_raise_names_the_line_and_keeps_the_cause() -> None:
    @workflow
    def broken(depth: Any) -> Any:
        train(1)
        return train(depth + 1)

    with pytest.raises(BadWorkflow, match="'broken' raised TypeError while its steps were put together: ") as caught:
        broken.spec(depth="three")
    assert isinstance(caught.value.__cause__, TypeError)
    assert caught.value.field == f"broken, line {broken.function.__code__.co_firstlineno + 3}"


def test_a_step_called_wrongly_is_named_with_the_argument() -> None:
    @workflow
    def wrong() -> Any:
        return train(depht=1)

    with pytest.raises(BadWorkflow, match=r"The step 'train' cannot be called so: .*'depht'"):
        wrong.spec()
    for items in (5, None):
        with pytest.raises(BadWorkflow, match=r"train\.map\(\.\.\.\) takes a list"):
            train.map(items)


def test_tasks_have_names_of_their_own_whatever_steps_are_called() -> None:
    @workflow
    def several() -> Any:
        return [train(1), train(2), train_1(3), train(4)]

    spec = several.spec()
    tasks = read(spec.manifest, {}).template("main").dag
    assert tasks is not None
    assert [one.name for one in tasks.tasks] == ["train-0", "train-2", "train-1", "train-3"]


def test_arguments_may_have_any_name() -> None:
    @workflow
    def all_of_them() -> Any:
        return ship("a", 1, [3])

    spec = all_of_them.spec()
    manifest = read(spec.manifest, {})
    check_supplied(manifest, {}, list(spec.bundles), list(spec.values))
    names = [one.name for one in manifest.template("ship").inputs.artifacts]
    assert len(names) == len(set(names)) == 5


def test_a_workflow_that_calls_itself_without_end_is_a_cycle() -> None:
    @step
    def plus(a: Any) -> int:
        return 1

    @workflow
    def endless() -> Any:
        return plus(endless())

    @workflow
    def down(n: int) -> Any:
        return plus(down(n - 1)) if n else plus(0)

    with pytest.raises(BadWorkflow, match="'endless' calls itself without end: a cycle"):
        endless.spec()
    assert len(down.graph(3).tasks) == 4


@pytest.mark.parametrize("bad", [-1, 0, float("nan"), float("inf"), "10m"])
def test_a_time_limit_is_a_number_of_seconds(bad: Any) -> None:
    for make in (lambda: step(timeout=bad), lambda: workflow(timeout=bad), lambda: step(retries=1, backoff=bad or -1)):
        with pytest.raises(BadWorkflow, match="number of seconds"):
            make()


def test_an_argument_that_needs_a_pickle_is_named_with_its_type_and_what_to_do() -> None:
    def keep(table: object) -> None: ...

    def spec(pickle: bool) -> Any:
        kept = step(pickle=pickle)(keep)

        @workflow
        def flow() -> None:
            kept({"rng": random.Random(1)})

        return flow.spec()

    with pytest.raises(
        BadWorkflow, match=r"The argument keep\.table\['rng'\] is of the type random\.Random and"
    ) as found:
        spec(pickle=False)
    assert found.value.field == "keep.table" and "@step(pickle=True)" in found.value.hint
    [made] = [one for one in spec(pickle=True).manifest["spec"]["templates"] if one["name"] == "keep"]
    [call] = [one for one in made["inputs"]["artifacts"] if one["name"] == "ropewalk-call"]
    assert json.loads(call["raw"]["data"]) == {"wants": [], "lists": [], "pickle": True}


@step
def measure(value: float = 1.0) -> Any:
    return value


@step
def act(value: Any = None) -> Any:
    return value


def built(function: Callable[[], object]) -> dict[str, Any]:
    return workflow(function).spec().manifest


def test_a_condition_is_decided_by_the_step_whose_result_it_is() -> None:
    def flow() -> object:
        found = measure()
        return act([act.when(found > 0.5)(1), act.when(found == "a' || 'b")(2), act.when(found > 0.5)(3)])

    manifest = built(flow)
    tasks = {one["name"]: one for one in manifest["spec"]["templates"][0]["dag"]["tasks"]}
    whens = [one.get("when") for one in tasks.values()]
    assert whens.count("{{tasks.measure.outputs.parameters.is-0}} == true") == 2
    assert whens.count("{{tasks.measure.outputs.parameters.is-1}} == true") == 1
    assert "a' || 'b" not in str(whens), "a value never becomes source"
    conditional = [name for name, one in tasks.items() if "when" in one]
    assert all(tasks[one]["dependencies"] == ["measure"] for one in conditional)
    assert read(manifest, {"ropewalk/runner:0.1": "step"}).spec.templates


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (lambda: act(1) if measure() > 0.5 else None, "step.when(condition)"),
        (lambda: act.when(measure())(1), "as it is"),
        (lambda: act(act.when(act.when(measure() > 1)(2) > 3)(4)), "may be left out itself"),
        (lambda: act(act.when(measure.map([1, 2]) > 3)(4)), "which has many"),
        (lambda: act.when(measure() > 1)(2), "which may be left out"),
        (lambda: act(act.map(act.when(measure() > 1)(2))), "which may be left out"),
        (lambda: act.when(measure() > [1])(2), "cannot compare"),
        (lambda: act(measure() in (1, 2)), "step.when(condition)"),
    ],
)
def test_a_condition_that_nobody_could_decide_is_refused(flow: Callable[[], object], said: str) -> None:
    with pytest.raises(BadWorkflow) as caught:
        built(flow)
    assert said in f"{caught.value}"


def test_a_condition_that_is_known_is_no_condition() -> None:
    def flow() -> object:
        return act([act.when(True)(1), act.when(False)(2), measure()])

    tasks = built(flow)["spec"]["templates"][0]["dag"]["tasks"]
    assert len(tasks) == 3 and not any("when" in one for one in tasks)
    assert act.when(False)(1) is None and act.when(3 > 2)(1) == 1

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

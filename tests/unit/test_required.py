"""Requirements of steps: which lines, on what they may stand, and what a run is told to run in."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.settings import Environments
from ropewalk_workflows import names, required
from ropewalk_workflows.compile import compile_workflow
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.manifest import read
from ropewalk_workflows.programs import program
from tests.workflow_rig import ALICE, Rig

IMAGES = Environments().images
KEY = "0123456789abcdef0123456789abcdef"


@step(requirements=["polars==1.2", "Numpy", "polars==1.2"])
def frame(x: int) -> int:
    return x


@step
def plain(x: int) -> int:
    return x


@workflow
def both(x: int = 1) -> object:
    return plain(frame(x))


def manifest_of(work: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(compile_workflow(work, (), {}).manifest))
    return found


def test_lines_are_in_one_spelling_and_only_on_their_step() -> None:
    assert frame.options.requirements == ("numpy", "polars==1.2")
    assert program("wc {x}", requirements="polars").options.requirements == ("polars",)
    manifest = manifest_of(both)
    assert required.wanted(read(manifest, IMAGES)) == {"frame": ("numpy", "polars==1.2")}
    assert required.lines_of(manifest) == {("numpy", "polars==1.2"): "frame"}
    assert names.REQUIREMENTS not in json.dumps(manifest_of(just)) and required.named(manifest) == set()


@workflow
def just(x: int = 1) -> object:
    return plain(x)


@pytest.mark.parametrize("wrong", [["a b"], [7], ["x @ http://localhost/x.whl"], ["-r file"], ["x"] * 300])
def test_a_wrong_line_is_refused_where_it_is_written(wrong: list[Any]) -> None:
    with pytest.raises(BadWorkflow) as caught:
        step(requirements=wrong)(lambda: None)
    assert caught.value.field == "requirements"


def test_an_annotation_by_hand_is_read_as_strictly() -> None:
    good = manifest_of(both)
    at = next(n for n, one in enumerate(good["spec"]["templates"]) if one["name"] == "frame")
    for text in ("{}", "no", "[7]", '["a b"]', "[" * 5000):
        bad = copy.deepcopy(good)
        bad["spec"]["templates"][at]["metadata"]["annotations"][names.REQUIREMENTS] = text
        with pytest.raises(BadWorkflow) as caught:
            required.wanted(read(bad, IMAGES))
        assert caught.value.field == "spec.templates[frame].metadata.annotations"
    bad = copy.deepcopy(good)
    bad["spec"]["templates"][at]["container"]["image"] = "python"
    with pytest.raises(BadWorkflow, match="Only steps of Ropewalk's own"):
        required.wanted(read(bad, IMAGES))


def test_the_platform_says_which_environment_and_nobody_else_does() -> None:
    manifest = manifest_of(both)
    found = required.equipped(manifest, {"frame": KEY})
    assert required.named(found) == {KEY} and required.named(manifest) == set()
    assert required.equipped(found, {"frame": KEY}) is found and required.equipped(manifest, {}) is manifest
    assert required.named(required.equipped(found, {})) == set()
    assert required.equipped(found, {})["spec"] == manifest["spec"]
    [template] = [one for one in read(found, IMAGES).spec.templates if one.name == "frame"]
    assert required.environment_of(template) == KEY
    with pytest.raises(BadWorkflow, match="stands in a call"):
        required.equipped(manifest, {"away": KEY})


def test_a_cluster_refuses_them_by_the_name_of_the_step() -> None:
    with pytest.raises(BadWorkflow, match="on a cluster") as caught:
        required.refused(read(manifest_of(both), IMAGES))
    assert caught.value.field == "requirements of frame"
    required.refused(read(manifest_of(just), IMAGES))


async def test_a_run_names_what_was_built_until_it_has_ended_and_a_retry_has_it_built_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    asked: list[tuple[str, ...]] = []

    async def built(owner: str, lines: Sequence[str]) -> str:
        asked.append(tuple(lines))
        return f"{len(asked):032x}"

    rig.workflows._built = built
    try:
        forged = required.equipped(compile_workflow(just, (), {}).manifest, {"plain": KEY})
        spec = compile_workflow(just, (), {}).model_copy(update={"manifest": dict(forged)})
        run = await rig.workflows.submit(ALICE, "alice", spec)
        assert required.named((await rig.workflows.spec(ALICE, "alice", run.id)).manifest) == set() and not asked
        run = await rig.workflows.submit(ALICE, "alice", compile_workflow(both, (), {}))
        assert asked == [("numpy", "polars==1.2")]
        assert await rig.workflows.environments() == {f"{1:032x}"}
        await rig.workflows.cancel(ALICE, "alice", run.id)
        rig.start()
        await rig.wait(run.id)
        assert await rig.workflows.environments() == set()
        await rig.workflows.retry(ALICE, "alice", run.id)
        spec = await rig.workflows.spec(ALICE, "alice", run.id)
        assert required.named(spec.manifest) == {f"{2:032x}"}
    finally:
        await rig.close()

"""Every example gives the same on Argo as on this machine's engine: how it ends, its outputs, its files, its graph."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.flows import Run, RunSpec, Step
from ropewalk_core.model import State
from ropewalk_runtime.values import PICKLE
from ropewalk_workflows.compile import from_object
from tests.cluster.layout import ROOT
from tests.engine_rig import EngineRig
from tests.kube.argo_stage import ArgoRig, argo, public, registry_door
from tests.kube.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(300)]
FOLDER = ROOT / "workflows" / "examples"
NAMES = [
    *sorted(one.stem for one in FOLDER.glob("*.py") if one.stem != "__init__"),
    *sorted(one.name for one in FOLDER.glob("argo_*.yaml")),
]
QUICK = ("dynamic", "hera_program")
"""One whose graph grows while it runs, and one of another library: the rest takes as long again and again."""
_READ = ("toss",)  # templates whose printed result another one reads


@pytest.fixture
async def rig(stage: Stage, tmp_path: Path) -> AsyncIterator[ArgoRig]:
    stage.needs("argo")
    public(registry_door(stage))
    async with argo(stage, tmp_path, "examples") as one:
        yield one


def example(name: str) -> tuple[RunSpec, Any]:
    if name.endswith(".yaml"):
        return from_object((FOLDER / name).read_text()), None
    module = importlib.import_module(f"examples.{name}")
    return from_object(module.EXAMPLE, **module.ARGUMENTS), module.RESULT


async def here(spec: RunSpec) -> Run:
    """Return the run as this machine's own engine carries it out."""
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:  # short: a socket's path has at most 107 bytes
        local = EngineRig(Path(folder) / "home")
        try:
            await local.start()
            return await local.wait((await local.submit(spec)).id, seconds=120)
        finally:
            await local.close()


def shape(run: Run) -> dict[str, Any]:
    """Return what must not depend on where a run was carried out.

    A pickle of a class from the cells holds a random mark, so that it has another digest each time, here as there.
    The words for a value may hold an address, or a set in an order that each process has of its own.
    """
    pickled = {one.digest for step in run.steps for one in step.artifacts if one.media_type == PICKLE}
    return {
        "state": run.status.state,
        "outputs": _bare(run.outputs, pickled),
        "steps": {one.id: _step(one, pickled) for one in run.steps},
    }


def _step(step: Step, pickled: set[str]) -> dict[str, Any]:
    outputs = _bare(step.outputs, pickled)
    if step.template not in _READ and not any(one.name == "result" for one in step.artifacts):
        outputs.pop("result", None)  # Argo keeps what a script prints only where something reads it
    return {
        "name": step.name,
        "kind": step.kind,
        "needs": sorted(step.needs),
        "state": (step.status.state, step.status.note),
        "attempt": step.attempt,
        "inputs": _bare(step.inputs, pickled),
        "outputs": outputs,
        "artifacts": sorted(
            (one.name, one.media_type, *(() if one.digest in pickled else (one.digest, one.size)))
            for one in step.artifacts
        ),
    }


def _bare(value: Any, pickled: set[str]) -> Any:
    if isinstance(value, dict) and value.get("digest") in pickled:
        return {"type": value.get("type")}
    if isinstance(value, dict):
        return {key: _bare(one, pickled) for key, one in value.items() if key not in ("json", "preview")}
    return [_bare(one, pickled) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.cluster_slow) for one in NAMES]
)
async def test_an_example_is_the_same(name: str, rig: ArgoRig) -> None:
    spec, expected = example(name)
    there = await rig.wait((await rig.submit(spec)).id, seconds=200)
    assert there.status.state is State.DONE, [(one.name, one.status, one.error, one.traceback) for one in there.steps]
    if expected is not None:
        assert await rig.result(there) == expected
    assert shape(there) == shape(await here(spec))

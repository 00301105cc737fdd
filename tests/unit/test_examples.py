"""Each example: it compiles to the manifest beside it, that is valid for Argo, and it runs with the expected result.

Write the manifests anew with ``ROPEWALK_GOLDEN=1 pytest tests/unit/test_examples.py``.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ropewalk_core.flows import RunSpec
from ropewalk_core.model import State
from ropewalk_workflows.compile import from_object, to_yaml
from ropewalk_workflows.manifest import read
from tests.conformance.schema import workflow
from tests.workflow_rig import Rig

FOLDER = Path(__file__).parents[2] / "workflows" / "examples"
PYTHON = sorted(one.stem for one in FOLDER.glob("*.py") if one.stem != "__init__")
PLAIN = sorted(one.name for one in FOLDER.glob("argo_*.yaml"))
# Its steps write to /tmp, which is everybody's here: tests/faults/test_engine.py runs it where each step has its own.
UNBOXED = [name for name in [*PYTHON, *PLAIN] if name != "hera_program"]
IMAGES = {"python": "python", "busybox": "shell"}


def example(name: str) -> tuple[RunSpec, Any, Any]:
    if name.endswith(".yaml"):
        return from_object((FOLDER / name).read_text()), None, None
    module = importlib.import_module(f"examples.{name}")
    return from_object(module.EXAMPLE, **module.ARGUMENTS), module.EXAMPLE, module.RESULT


@pytest.mark.parametrize("name", PYTHON)
def test_it_compiles_to_the_manifest_beside_it(name: str) -> None:
    text = to_yaml(example(name)[0].manifest)
    golden = FOLDER / f"{name}.yaml"
    if os.environ.get("ROPEWALK_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.parametrize("name", [*PYTHON, *PLAIN])
def test_argos_own_schema_accepts_it(name: str) -> None:
    manifest = example(name)[0].manifest
    jsonschema.Draft202012Validator(workflow()).validate(manifest)
    assert read(manifest, IMAGES).spec.entrypoint


@pytest.mark.parametrize("name", UNBOXED)
async def test_it_runs(name: str, tmp_path: Path) -> None:
    spec, _, expected = example(name)
    rig = Rig(tmp_path / "home")
    rig.start()
    try:
        run = await rig.wait((await rig.submit(spec.model_copy(update={"folder": ""}))).id, seconds=50)
        assert run.status.state == State.DONE, [(one.name, one.error, one.traceback) for one in run.steps]
        if expected is not None:
            assert rig.result(run) == expected
    finally:
        await rig.close()


def test_the_plain_python_call_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("conditions", "diamond", "dynamic", "fan_out", "last"):
        module = importlib.import_module(f"examples.{name}")
        assert module.EXAMPLE(**module.ARGUMENTS) == module.RESULT


def test_the_manifest_beside_it_is_what_people_read() -> None:
    for name in PYTHON:
        manifest = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        assert manifest["kind"] == "Workflow"
        assert "def " not in json.dumps(manifest) or name == "hera_program", "code travels by digest"

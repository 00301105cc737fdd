"""A run as text to copy: each text makes the same run again."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec
from ropewalk_workflows import copies
from ropewalk_workflows.compile import from_object
from tests.unit.test_examples import PLAIN, PYTHON, example

OURS = [name for name in PYTHON if name != "hera_program"]


def made(program: str) -> dict[str, Any]:
    """Run a Hera program and return the manifest of its workflow."""
    names: dict[str, Any] = {}
    exec(program, names)
    return names["w"].to_dict()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [*PYTHON, *PLAIN])
def test_the_hera_program_of_each_example_makes_an_equal_manifest(name: str) -> None:
    spec = example(name)[0]
    assert made(copies.as_hera(spec)) == spec.manifest
    assert yaml.safe_load(copies.as_yaml(spec)) == spec.manifest


def test_a_graph_is_written_as_people_write_it() -> None:
    program = copies.as_hera(example("fan_out")[0])
    assert all(word in program for word in ("with DAG(", "Task(", "Container(")) and "w.templates" not in program


@given(st.text(max_size=60), st.lists(st.integers() | st.booleans() | st.text(max_size=9), max_size=4))
def test_no_value_becomes_code(text: str, items: list[Any]) -> None:
    template = {
        "name": "a",
        "container": {"image": "busybox", "args": [text]},
        "metadata": {"annotations": {"a": text}},
    }
    task = {"name": "a", "template": "a", "when": text, **({"withItems": items} if items else {})}
    spec = {"entrypoint": "main", "templates": [{"name": "main", "dag": {"tasks": [task]}}, template]}
    manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "a"}, "spec": spec}
    assert made(copies.as_hera(RunSpec(name="a", manifest=manifest))) == manifest


def test_what_hera_cannot_say_is_named() -> None:
    with pytest.raises(BadWorkflow) as caught:
        copies.as_hera(RunSpec(name="a", manifest={"kind": "Workflow", "metadata": {}, "spec": {"templates": 3}}))
    assert "templates" in str(caught.value.field)


@pytest.mark.parametrize("name", OURS)
def test_the_python_of_each_example_is_the_same_workflow(name: str, tmp_path: Path) -> None:
    spec, workflow, _ = example(name)
    text = copies.as_python(spec)
    path = tmp_path / f"copied_{name}.py"
    path.write_text(text)
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    try:
        found.loader.exec_module(module)
        again = from_object(
            getattr(module, workflow.function.__name__), **importlib.import_module(f"examples.{name}").ARGUMENTS
        )
    finally:
        del sys.modules[path.stem]
    assert again.manifest == spec.manifest, text


def test_a_run_of_no_python_of_ours_has_none() -> None:
    assert copies.as_python(example("argo_steps.yaml")[0]) == ""

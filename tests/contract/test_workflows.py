"""The engine of this machine passes the contract: the real engine process, the real host, a sandbox."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.flows import RunSpec
from ropewalk_core.testing import WorkflowsContract
from ropewalk_workflows.local import LocalWorkflows
from tests.engine_rig import EngineRig


def manifest(script: str) -> dict[str, Any]:
    say = {"name": "say", "container": {"image": "alpine", "command": ["sh", "-c"], "args": [script]}}
    tasks = [{"name": "first", "template": "say"}, {"name": "second", "template": "say", "depends": "first"}]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "hello-"},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "dag": {"tasks": tasks}}, say]},
    }


@pytest.mark.timeout(120)
class TestLocalWorkflows(WorkflowsContract):
    @pytest.fixture
    async def port(self) -> AsyncIterator[LocalWorkflows]:  # type: ignore[override]
        with tempfile.TemporaryDirectory(prefix="rw-") as folder:  # short: a socket's path has at most 107 bytes
            rig = EngineRig(Path(folder) / "home")
            try:
                await rig.start()
                yield rig.workflows
            finally:
                await rig.close()

    @pytest.fixture
    def quick(self) -> RunSpec:
        return RunSpec(name="hello", manifest=manifest("echo one; echo two"), source="argo")

    @pytest.fixture
    def slow(self) -> RunSpec:
        return RunSpec(name="slow", manifest=manifest("sleep 60"), source="argo")

"""Workflows on a real cluster with Argo: the contract, and what only a cluster can show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.model import RunSpec
from ropewalk_core.testing import WorkflowsContract
from ropewalk_workflows.argo import ArgoWorkflows
from tests.cluster.scene import BUSYBOX
from tests.kube.argo_stage import ArgoRig, argo
from tests.kube.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]


def manifest(script: str) -> dict[str, Any]:
    say = {"name": "say", "container": {"image": BUSYBOX, "command": ["sh", "-c"], "args": [script]}}
    tasks = [{"name": "first", "template": "say"}, {"name": "second", "template": "say", "depends": "first"}]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "hello-"},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "dag": {"tasks": tasks}}, say]},
    }


@pytest.fixture
async def rig(stage: Stage, tmp_path: Path) -> AsyncIterator[ArgoRig]:
    async with argo(stage, tmp_path, "workflows") as one:
        yield one


class TestKubeWorkflows(WorkflowsContract):
    seconds = 120.0

    @pytest.fixture
    def port(self, rig: ArgoRig) -> ArgoWorkflows:  # type: ignore[override]
        return rig.workflows

    @pytest.fixture
    def quick(self) -> RunSpec:
        return RunSpec(name="hello", manifest=manifest("echo one; echo two"), source="argo")

    @pytest.fixture
    def slow(self) -> RunSpec:
        return RunSpec(name="slow", manifest=manifest("sleep 60"), source="argo")

"""What is written for an attempt before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropewalk_core.flows import RunSpec
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.settings import Settings
from ropewalk_workflows.engine import attempts
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.state import Begin, RunState
from ropewalk_workflows.manifest import read


class Looked(dict[str, Any]):
    """A part of a manifest that counts how often somebody goes through it."""

    times = 0

    def items(self) -> Any:
        self.times += 1
        return super().items()


def test_a_manifest_is_looked_through_once_for_all_attempts(tmp_path: Path) -> None:
    metadata = Looked({"name": "wide"})
    program = {"image": "alpine", "command": ["true"]}
    templates = [
        {"name": "main", "dag": {"tasks": [{"name": f"t{one}", "template": "p"} for one in range(5)]}},
        {"name": "p", "container": program},
    ]
    manifest = {"kind": "Workflow", "metadata": metadata, "spec": {"entrypoint": "main", "templates": templates}}
    settings = Settings(home=tmp_path)
    AccountPaths(tmp_path, "alice").root.mkdir(parents=True)
    spec = RunSpec(name="wide", manifest=manifest)
    state = RunState(run="run-1", owner="alice", spec=spec, manifest=read(spec.manifest, settings.environments.images))
    step(state, Begin(1.0))
    metadata.times = 0
    for node in [one for one in state.nodes.values() if one.kind == "pod"]:
        attempts.prepare(settings, state, node, 1)
    assert metadata.times == 1

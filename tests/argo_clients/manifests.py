"""Small workflows that the clients submit, as a person would write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

NOTE = Path(f"/tmp/ropewalk-note-{os.getpid()}.txt")
"""A file that a step writes; of this process alone, because where there is no sandbox /tmp is everybody's."""


def say(text: str, **metadata: Any) -> dict[str, Any]:
    """Two tasks, the second of which says what it was given."""
    sh = {"image": "alpine", "command": ["sh", "-c"]}
    first = {"name": "first", "container": {**sh, "args": ["echo one; echo two"]}}
    second = {
        "name": "second",
        "inputs": {"parameters": [{"name": "text"}]},
        "outputs": {"artifacts": [{"name": "note", "path": str(NOTE)}]},
        "container": {**sh, "args": [f"echo '{{{{inputs.parameters.text}}}}' | tee {NOTE}"]},
    }
    given = {"parameters": [{"name": "text", "value": "{{workflow.parameters.text}}"}]}
    tasks = [
        {"name": "a", "template": "first"},
        {"name": "b", "template": "second", "depends": "a", "arguments": given},
    ]
    return _workflow(metadata, [{"name": "main", "dag": {"tasks": tasks}}, first, second], text=text)


def fails(**metadata: Any) -> dict[str, Any]:
    """One step that fails while a file is not there."""
    script = "test -e there || { echo sorry; exit 3; }"
    step = {"name": "main", "container": {"image": "alpine", "command": ["sh", "-c"], "args": [script]}}
    return _workflow(metadata, [step])


def sleeps(**metadata: Any) -> dict[str, Any]:
    """One step that takes a minute if nobody ends it."""
    step = {"name": "main", "container": {"image": "alpine", "command": ["sh", "-c"], "args": ["echo up; sleep 60"]}}
    return _workflow(metadata, [step])


def asks(**metadata: Any) -> dict[str, Any]:
    """A pause that somebody must end, and a step after it."""
    tasks = [{"name": "approve", "template": "pause"}, {"name": "go", "template": "go", "depends": "approve"}]
    go = {"name": "go", "container": {"image": "alpine", "command": ["true"]}}
    return _workflow(metadata, [{"name": "main", "dag": {"tasks": tasks}}, {"name": "pause", "suspend": {}}, go])


def _workflow(metadata: dict[str, Any], templates: list[dict[str, Any]], **parameters: str) -> dict[str, Any]:
    arguments = {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": metadata,
        "spec": {"entrypoint": "main", "arguments": arguments, "templates": templates},
    }

"""`step`, `program`, `notebook` and `workflow` as people import them: the graph's own, with `submit` to the platform.

Importing this costs no client; that is loaded when something is submitted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropewalk_core import settings
from ropewalk_core.flows import RunSpec
from ropewalk_workflows.dag import set_submitter, step, workflow
from ropewalk_workflows.here import here
from ropewalk_workflows.notebooks import notebook
from ropewalk_workflows.programs import program

__all__ = ["notebook", "program", "step", "workflow", "working_folder"]


def working_folder() -> str:
    """Return the notebook's folder as the platform names it: relative to the person's files, or absolute."""
    folder, home = here(), Path(settings.read_environment("HOME") or "/")
    if folder == home:
        return ""
    return str(folder.relative_to(home)) if folder.is_relative_to(home) else str(folder)


def _send(spec: RunSpec) -> Any:
    from ropewalk_kernel.submit import send

    return send(spec)


def _save(workflow: Any, name: str, **options: Any) -> Any:
    from ropewalk_kernel.saved import save

    return save(workflow, name, **options)


set_submitter(_send, saver=_save, folder=working_folder)

"""Submitting: anything that is a workflow becomes a run with a live card under the cell.

``workflow.submit(...)`` and ``ropewalk.submit(x)`` end here. Not here: compiling (``ropewalk_workflows.compile``). The
platform finds an equal run by its content, so running a cell again says "unchanged" instead of computing again.
"""

from __future__ import annotations

from typing import Any

from ropewalk_core import sync
from ropewalk_core.client import on_cluster
from ropewalk_core.flows import RunSpec
from ropewalk_core.model import Requirements
from ropewalk_kernel import needs
from ropewalk_kernel.runs import RunHandle
from ropewalk_kernel.workflows import working_folder
from ropewalk_workflows import compile as compiler
from ropewalk_workflows import required

_UNCHANGED = (
    "unchanged: code, arguments and packages are those of this run. Files that steps read are not compared; "
    "submit with fresh=True to run it again"
)


def submit(workflow: Any, *, fresh: bool = False, **arguments: Any) -> RunHandle:
    """Submit a workflow and return the run's handle.

    Parameters
    ----------
    workflow
        A ``@workflow`` function, any ``hera.workflows.Workflow``, or an Argo manifest as YAML text or dictionary.
    fresh
        Run again, also when an equal run is under way or done. Equal means the same code, arguments and packages; files
        that the steps read are not compared.
    arguments
        The workflow's arguments.

    Raises
    ------
    BadWorkflow
        If it cannot run as written; the field is named, and nothing was started.
    Unsatisfiable
        If no machine can ever satisfy a step's placement.

    Examples
    --------
    >>> import ropewalk
    >>> @ropewalk.step
    ... def double(x):
    ...     return 2 * x
    >>> @ropewalk.workflow
    ... def work(x):
    ...     return double(x)
    >>> ropewalk.submit(work, x=21)
    """
    folder = working_folder()
    spec = compiler.from_object(workflow, **arguments)
    return send(spec.model_copy(update={"fresh": fresh, "folder": folder}))


def prepare(spec: RunSpec) -> None:
    """Have the environments built that steps of ours need, with the log under the cell. A cluster refuses them."""
    if spec.source != "workflow" or on_cluster():
        return
    for lines, name in required.lines_of(spec.manifest).items():
        needs.prepare(name, Requirements(requirements=lines))


def send(spec: RunSpec) -> RunHandle:
    """Have built what its steps need, send a compiled run on its way, and show its card."""
    prepare(spec)
    run = sync.wait(sync.client().workflows.submit(spec))
    return RunHandle(run).show(f"run {run.id} of {run.name}: {_UNCHANGED if run.unchanged else 'submitted'}")

"""What people import: functions, services, workflows, steps, runs, files, secrets, and what belongs to them.

Names are loaded when they are first used, so that ``import ropewalk`` in a step or a function costs nothing and needs
neither a platform nor a notebook around it. Re-exports and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropewalk_core.errors import RopewalkError
    from ropewalk_core.placement import Placement
    from ropewalk_kernel.files import files
    from ropewalk_kernel.functions import functions
    from ropewalk_kernel.magics import function
    from ropewalk_kernel.runs import runs
    from ropewalk_kernel.saved import save, workflows
    from ropewalk_kernel.services import services
    from ropewalk_kernel.stored import secrets
    from ropewalk_kernel.submit import submit
    from ropewalk_kernel.workflows import notebook, program, step, workflow
    from ropewalk_runtime.cells import result
    from ropewalk_runtime.context import current_call
    from ropewalk_runtime.own import serialiser

__all__ = [
    "Placement",
    "RopewalkError",
    "current_call",
    "files",
    "function",
    "functions",
    "notebook",
    "program",
    "result",
    "runs",
    "save",
    "secrets",
    "serialiser",
    "services",
    "step",
    "submit",
    "workflow",
    "workflows",
]

_HOMES = {
    "Placement": "ropewalk_core.placement",
    "RopewalkError": "ropewalk_core.errors",
    "current_call": "ropewalk_runtime.context",
    "files": "ropewalk_kernel.files",
    "function": "ropewalk_kernel.magics",
    "functions": "ropewalk_kernel.functions",
    "notebook": "ropewalk_kernel.workflows",
    "program": "ropewalk_kernel.workflows",
    "result": "ropewalk_runtime.cells",
    "runs": "ropewalk_kernel.runs",
    "save": "ropewalk_kernel.saved",
    "secrets": "ropewalk_kernel.stored",
    "serialiser": "ropewalk_runtime.own",
    "services": "ropewalk_kernel.services",
    "step": "ropewalk_kernel.workflows",
    "submit": "ropewalk_kernel.submit",
    "workflow": "ropewalk_kernel.workflows",
    "workflows": "ropewalk_kernel.saved",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ropewalk' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

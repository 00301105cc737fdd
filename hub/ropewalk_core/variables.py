"""Variables of a function: which names and values may be, and how they are written in a line. Pure.

Plain ones are part of a revision and shown with it; a secret is there by name alone. Not here: keeping secrets
(``secrets``), and handing either to a worker (the backends). Rejected: refusing PATH and HOME (a program may want its
own), and variables that Python or the loader reads when a process starts, which do nothing in one that was forked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from ropewalk_core.errors import BadInput
from ropewalk_core.model import FunctionSpec

MOST, LARGEST = 64, 32 * 2**10
"""Variables of one function, and bytes of all of them together, as JSON: that is how a worker's order has them."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_OURS = re.compile(
    r"ROPEWALK_.*|PYTHON.*|LD_.*|K_SERVICE|K_CONFIGURATION|K_REVISION|PORT|(CUDA|NVIDIA)_VISIBLE_DEVICES"
)


def parse(lines: Iterable[str] | Mapping[str, object], *, field: str = "environment") -> dict[str, str]:
    """Return variables that were written ``NAME=VALUE``, or given by name.

    Raises
    ------
    BadInput
        If a line has no name.
    """
    if isinstance(lines, Mapping):
        return {str(name): str(value) for name, value in lines.items()}
    found = {}
    for line in lines:
        name, sign, value = line.partition("=")
        if not sign:
            raise BadInput(f"{line[:60]!r} is no variable.", field=field, hint="Write NAME=VALUE.")
        found[name] = value
    return found


def check_name(name: str, *, field: str) -> str:
    """Return the name of a variable, or raise `BadInput`."""
    if not _NAME.fullmatch(name):
        hint = "Use letters, digits and underscores, 64 at most, and no digit first."
        raise BadInput(f"{name[:70]!r} cannot be the name of a variable.", field=field, hint=hint)
    if _OURS.fullmatch(name):
        hint = "Names that begin with ROPEWALK_, PYTHON or LD_, PORT, what chooses a GPU and Knative's own are taken."
        raise BadInput(f"The variable {name} is not a function's to set.", field=field, hint=hint)
    return name


def check(spec: FunctionSpec) -> None:
    """Refuse variables and names of secrets that cannot be. Raises `BadInput`."""
    for name in spec.environment:
        check_name(name, field=f"environment.{name[:70]}")
    for name in spec.secrets:
        check_name(name, field="secrets")
    if both := set(spec.environment) & set(spec.secrets):
        name = min(both)
        hint = "Leave it out of one of them."
        raise BadInput(f"{name} is both a variable and a secret.", field="secrets", hint=hint)
    if len(set(spec.secrets)) < len(spec.secrets):
        raise BadInput("A secret is named twice.", field="secrets", hint="Name each once.")
    if any("\0" in value for value in spec.environment.values()):
        raise BadInput("A variable holds a zero byte.", field="environment")
    if len(json.dumps(spec.environment)) > LARGEST or len(spec.environment) + len(spec.secrets) > MOST:
        raise BadInput(
            f"A function has {MOST} variables and {LARGEST // 1024} KiB of them, as JSON, at most.",
            field="environment",
            hint="Keep larger values in a file.",
        )

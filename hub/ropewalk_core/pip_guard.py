"""pip inside an account's environment: the same program, with one clear sentence when it refuses to break Ropewalk.

The pins themselves are pip's own constraints; this only says, by name, what they mean. It runs as the person, inside
the sandbox, from the read-only base. pip is pinned too, so the one private name used here is the locked version's.
Rejected: a wrapper that parses the arguments (pip's resolver alone knows what a package pulls in).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

PINS = "needed-by-ropewalk.txt"


def main() -> int:
    """Run pip with the arguments of this process."""
    from pip._internal.cli.main import main as run
    from pip._internal.resolution.resolvelib.factory import Factory

    pins = read_pins(Path(sys.prefix) / PINS)
    factory: Any = Factory
    explain = factory.get_installation_error

    def explain_and_name(self: Any, failure: Any, constraints: Any) -> Any:
        error = explain(self, failure, constraints)
        wanted = {_canonical(cause.requirement.project_name) for cause in failure.causes}
        for name in sorted(wanted & set(pins)):
            sys.stderr.write(f"{sentence(name, pins[name])}\n")
        return error

    factory.get_installation_error = explain_and_name
    return int(run())


def sentence(name: str, version: str) -> str:
    """Return what a person reads when a package would have broken the environment."""
    return (
        f"Ropewalk needs {name} {version}: another version would break your notebooks, functions and steps. "
        "Nothing was installed. [RW-WOULD-BREAK] Install another version of your package, one that works with it."
    )


def read_pins(path: Path) -> dict[str, str]:
    """Return the pinned packages of an environment."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {_canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

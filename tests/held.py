"""Which files below a folder hold a value: the proof that a secret is where it belongs and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def holding(home: Path, value: str) -> list[str]:
    """Return the files of a home that hold the value, each as a path relative to it."""
    found = []
    for folder, _, names in os.walk(home):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode) and value.encode() in path.read_bytes():
                found.append(str(path.relative_to(home)))
    return found

"""The working folder of the kernel, or one clear sentence when somebody removed it. Imports nothing heavy.

Not here: how the platform names that folder (the kernel's ``workflows``). Rejected: leaving it to `Path.cwd`, which
raises a bare FileNotFoundError that names no folder.
"""

from __future__ import annotations

from pathlib import Path

from ropewalk_core.errors import NotFound

_GONE = " (deleted)"


def here() -> Path:
    """Return the working folder.

    Raises
    ------
    NotFound
        If it was removed, or replaced by another folder of that name.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise _gone() from error


def _gone() -> NotFound:
    try:
        name = str(Path("/proc/self/cwd").readlink()).removesuffix(_GONE)
    except OSError:  # this system does not say what it was called
        name = ""
    named = f" {name}" if name else ""
    target = repr(name) if name and Path(name).is_dir() else 'os.path.expanduser("~")'
    return NotFound(
        f"The folder{named} in which this notebook works was removed.",
        field="folder",
        hint=f"Go to a folder that exists, then run the cell again: import os; os.chdir({target})",
    )

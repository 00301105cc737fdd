"""What the cells of a notebook that runs as a step are given and give back, and how one fails.

The notebook's kernel is a process of its own: values pass through files of a folder that is named in its environment,
in the form in which they pass from step to step. Standard library only. Not here: running the cells (``notebooks``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from ropewalk_runtime import values

FOLDER = "ROPEWALK_NOTEBOOK"
_GIVEN, _STORE, _RESULT = "given", "store", "result"
Value = TypeVar("Value")


class CellFailed(RuntimeError):
    """A cell raised something, or its kernel ended; ``told`` is what a step says of that."""

    def __init__(self, said: str, traceback: str = "", problem: str = "RW-USER-CODE") -> None:
        super().__init__(said)
        self.told = {"ok": False, "problem": problem, "error": said, "traceback": traceback}


def result(value: Value) -> Value:
    """Say what a notebook gives back where it runs as a step; the last call counts, without one it is None.

    Returns the value, so that the last line of a cell shows it. In a notebook that you run yourself that is all.

    Parameters
    ----------
    value
        What a step may return: plain values, arrays, data frames, or what has a serialiser.

    Raises
    ------
    ropewalk_runtime.values.Unsavable
        If it cannot be written.
    """
    if folder := os.environ.get(FOLDER):
        saved = values.save(value, Path(folder) / _STORE)
        (Path(folder) / _RESULT).write_text(saved.digest, encoding="utf-8")
    return value


def given(name: str) -> Any:
    """Return a parameter that is no plain value; the injected cell of the notebook asks for it."""
    return values.load(_file(Path(os.environ[FOLDER]), (Path(os.environ[FOLDER]) / _GIVEN / name).read_text("utf-8")))


def give(folder: Path, name: str, value: Any) -> None:
    """Keep a parameter for the kernel. The result of the step that gave it may be a pickle, so this may be one."""
    saved = values.save(value, folder / _STORE, name, pickles=True)
    (folder / _GIVEN).mkdir(exist_ok=True)
    (folder / _GIVEN / name).write_text(saved.digest, encoding="utf-8")


def returned(folder: Path) -> Any:
    """Return what the cells gave back; None where they said nothing."""
    said = folder / _RESULT
    return values.load(_file(folder, said.read_text("utf-8"))) if said.is_file() else None


def _file(folder: Path, digest: str) -> Path:
    return folder / _STORE / digest[:2] / digest

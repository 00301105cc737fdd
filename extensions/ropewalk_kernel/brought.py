"""What people bring besides functions and classes: a whole cell that makes an app, and a program in any language.

Not here: deploying (``functions``), how each runs (``ropewalk_runtime``: ``asgi``, ``programs``, ``listening``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ropewalk_core.errors import BadInput
from ropewalk_core.model import Bundle
from ropewalk_workflows.capture import capture, capture_cell, sealed
from ropewalk_workflows.here import here as working_folder

FILE = "program"
_LONGEST_PATH = 1000
_FILE_NAME = re.compile(r"(?:\.{0,2}/)?[\w./-]+\.[A-Za-z]\w{0,4}")
"""One word that ends as a file's name does."""


class Brought(Protocol):
    """Something that becomes a bundle in its own way."""

    form: str

    def bundle(self) -> Bundle:
        """Return its code."""


class Cell:
    """A whole cell whose statements make what answers, such as ``app = FastAPI()``.

    Parameters
    ----------
    text
        The cell as plain Python.
    name
        What it binds to that which answers.
    file
        What Python calls the cell.
    value
        That which answers, here.
    """

    form = "asgi"

    def __init__(self, text: str, name: str, file: str, value: Any) -> None:
        self.text, self.__name__, self.file, self.function = text, name, file, value

    def bundle(self) -> Bundle:
        """See `Brought`."""
        return capture_cell(self.text, self.__name__, file=self.file)


class Program:
    """A program's text.

    Parameters
    ----------
    text
        What its file holds.
    name
        What to call it.
    """

    form = "program"
    function: Callable[..., Any] | None = None

    def __init__(self, text: str, name: str) -> None:
        self.text, self.__name__ = text, name

    @classmethod
    def of(cls, source: str, name: str) -> Program:
        """Return a program from its text, or from a file of the working folder.

        Raises
        ------
        BadInput
            If there is nothing in it, or it is the name of a file that is not there.
        """
        named = source.strip() and "\n" not in source and len(source) < _LONGEST_PATH
        if named and (path := working_folder() / source).is_file():
            return cls(_text(path), name)
        if named and _FILE_NAME.fullmatch(source.strip()):
            hint = "Name a file of this folder, or write the program itself; a command's name goes below a `#!` line."
            raise BadInput(f"There is no file '{source.strip()}' in {working_folder()}.", field="source", hint=hint)
        return cls(source, name)

    def bundle(self) -> Bundle:
        """See `Brought`."""
        if not self.text.strip():
            raise BadInput("The program is empty.", field="program", hint="Write what it does below its `#!` line.")
        text = self.text if self.text.endswith("\n") else f"{self.text}\n"
        return sealed({FILE: text}, f"{FILE}:main", {}, ())


def captured(function: Callable[..., Any] | Brought) -> Bundle:
    """Return the code of whatever is to answer."""
    return function.bundle() if isinstance(function, Cell | Program) else capture(function)


def here(function: Any) -> Callable[..., Any] | None:
    """Return what of it can be called in this kernel; a program cannot."""
    found = getattr(function, "function", function)
    return found if callable(found) else None


def form_of(function: Any) -> str:
    """Return how code is run, as far as it says so itself: an ASGI app is a coroutine of scope, receive and send."""
    if isinstance(function, Cell | Program):
        return function.form
    names = list(inspect.signature(function).parameters) if inspect.iscoroutinefunction(function) else []
    return "asgi" if names == ["scope", "receive", "send"] else "python"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        hint = "Programs travel as text; let a script run what you compiled, from a file of yours."
        raise BadInput(f"{path.name} cannot be read as text.", field="program", hint=hint) from error

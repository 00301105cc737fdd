"""What a function of a notebook needs: the lines beside its name and the block of its cell, and having that built.

Not here: which lines are allowed (``ropewalk_core.requirements``) and how they are installed (the platform). What is
said while they are goes under the cell; an interrupt ends it.
"""

from __future__ import annotations

import inspect
import linecache
import time
import types
from collections.abc import Iterable
from typing import Any

from IPython import display as screen
from IPython import get_ipython

from ropewalk_core import sync
from ropewalk_core.model import FunctionSpec, Requirements
from ropewalk_core.requirements import Script, check_python, checked, script
from ropewalk_kernel import cards
from ropewalk_kernel.brought import Cell, Program
from ropewalk_kernel.cards import Picture
from ropewalk_workflows.capture.collect import plain

OPTIONS = frozenset({"requirements", "requires_python"})
EVERY = 0.2
"""Seconds between two drawings of the log."""
_display: Any = screen.display


def of(function: Any, requirements: Iterable[str] | str = (), requires_python: str = "") -> dict[str, Any]:
    """Return what a function needs, as fields of a `FunctionSpec`.

    Parameters
    ----------
    function
        What is deployed; a block ``# /// script`` in its cell counts.
    requirements, requires_python
        What was given beside it; the lines are added to those of the block.

    Raises
    ------
    BadInput
        If a line or the block is wrong.
    """
    block = script(_text(function)) or Script()
    lines = [requirements] if isinstance(requirements, str) else list(requirements)
    python = check_python(requires_python, "") if requires_python else block.requires_python
    return {"requirements": checked([*block.requirements, *lines]), "requires_python": python}


def prepare(name: str, needs: FunctionSpec | Requirements) -> None:
    """Have what a function or a step needs built, and show what is said meanwhile; nothing if it is there already.

    Parameters
    ----------
    name
        Of the function or step, for its reader.
    needs
        Its requirements.

    Raises
    ------
    RopewalkError
        Why it cannot be built.
    """
    if not needs.requirements:
        return
    shown = _Shown(name)
    ended = False
    try:
        for line in sync.iterate(sync.client().functions.prepare(needs)):
            shown.say(line.text)
        ended = True
    finally:
        shown.end("ready" if ended else "not built")


class _Shown:
    """The log under the cell; it is there from the first line on, and drawn some times a second at most."""

    def __init__(self, name: str) -> None:
        self._name, self._lines = name, list[str]()
        self._began = time.monotonic()
        self._drawn, self._handle = float("-inf"), None

    def say(self, line: str) -> None:
        self._lines.append(line)
        if time.monotonic() - self._drawn >= EVERY:
            self._drawn = time.monotonic()
            self._draw("building")

    def end(self, word: str) -> None:
        if self._lines:
            self._draw(word)

    def _draw(self, word: str) -> None:
        picture: Picture = cards.building(self._name, word, self._lines, time.monotonic() - self._began)
        if get_ipython() is None:
            return
        if self._handle is None:
            self._handle = _display(picture, display_id=True)
        else:
            self._handle.update(picture)


def _text(function: Any) -> str:
    """Return the text in which a block may stand: the cell that defines the function, or the program itself."""
    if isinstance(function, Cell | Program):
        return function.text
    function = inspect.unwrap(plain(function))
    inside = vars(function).values() if isinstance(function, type) else [function]
    codes = [one.__code__ for one in inside if isinstance(one, types.FunctionType)]
    cells: dict[str, Any] = getattr(getattr(get_ipython(), "compile", None), "_filename_map", None) or {}
    file = next((one.co_filename for one in codes if one.co_filename in cells), "")
    return "".join(linecache.getlines(file)) if file else ""

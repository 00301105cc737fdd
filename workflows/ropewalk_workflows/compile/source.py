"""The text of a workflow and of its steps as they stand in the notebook, with what they name there. For people to read.

It travels beside the code of the steps and is never run by anybody: decorators and the order of calls are in it, which
the captured code of a step has not. Not here: what runs (``capture``). What has no text, or looks like a secret, is
left out: a run needs none of it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

from ropewalk_core.errors import BadCode
from ropewalk_core.model import Bundle
from ropewalk_runtime import values
from ropewalk_workflows import names
from ropewalk_workflows.capture import sealed
from ropewalk_workflows.capture.sources import OURS
from ropewalk_workflows.dag import Step, Workflow


def source_of(workflow: Workflow) -> Bundle | None:
    """Return the text as a bundle that nothing runs; None where it cannot be read."""
    found = _Found()
    found.take(workflow.name, workflow)
    if not found.pieces:
        return None
    ours = [f"from ropewalk import {', '.join(sorted(found.ours))}"] if found.ours else []
    text = "\n".join([*ours, *sorted(found.lines), "", "", "\n\n\n".join(found.pieces.values()), ""]).lstrip("\n")
    try:
        return sealed({f"{names.SOURCE}.py": text}, f"{names.SOURCE}:{workflow.function.__name__}", {}, ())
    except BadCode:
        return None


class _Found:
    """What was met so far: lines at the top, and definitions in the order in which they are needed."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self.ours: set[str] = set()
        self.pieces: dict[int, str] = {}
        self._seen: set[int] = set()

    def take(self, name: str, value: Any) -> None:
        """Note what a name stands for."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        function = value.function if isinstance(value, Step | Workflow) else value
        if isinstance(value, types.ModuleType):
            self.lines.add(f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else ""))
        elif isinstance(value, Step) and value.made:
            self.ours.add(value.made.text.partition("(")[0])
            self.lines.add(f"{name} = {value.made.text}")
        elif _is_ours(function):
            self.ours.add(name)
        elif isinstance(function, types.FunctionType):
            self._define(function, inner=not isinstance(value, Step))
        elif values.is_exact(value):
            self.lines.add(f"{name} = {value!r}")

    def _define(self, function: types.FunctionType, *, inner: bool) -> None:
        text = _text(function)
        if not text:
            return
        wanted = set(_names(text, whole=inner))
        for name, value in _around(function):
            if name in wanted:
                self.take(name, value)
        self.pieces[id(function)] = text


def _is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in (*OURS, "ropewalk_core")


def _text(function: Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError, SyntaxError):
        return ""


def _around(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    yield from function.__globals__.copy().items()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _names(text: str, *, whole: bool) -> Iterator[str]:
    """Yield the names in a definition; of a step, whose code is captured elsewhere, those around its body."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            around = [*node.decorator_list, *node.args.defaults, *(one for one in node.args.kw_defaults if one)]
            for one in [node] if whole else around:
                yield from (inner.id for inner in ast.walk(one) if isinstance(inner, ast.Name))

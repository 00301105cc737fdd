"""What travels with a function besides itself, in one line, read from the very code that is about to be sent. Pure.

Not here: what may travel (``ropewalk_workflows.capture``). Rejected: a list kept beside the code, which could say
something else than the code does.
"""

from __future__ import annotations

import ast

from ropewalk_core.model import Bundle

_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LONGEST = 40
"""Letters of a value that are shown."""


def said(bundle: Bundle) -> str:
    """Return the line: helpers with their cells, values that the code got from the notebook, files and imports."""
    module, _, entry = bundle.entry.partition(":")
    main = f"{module}.py"
    if main not in bundle.files:
        return ""
    body = ast.parse(bundle.files[main]).body
    cells = {
        int(place.rpartition(":")[2]): cell.rpartition(":")[0]
        for place, cell in bundle.origin.items()
        if place.startswith(f"{main}:")
    }
    parts = {
        "helpers": [_helper(one, cells) for one in body if isinstance(one, _DEFINES) and one.name != entry],
        "values": [_value(one) for one in body if isinstance(one, ast.Assign) and one.lineno < min(cells, default=0)],
        "files": sorted(path for path in bundle.files if path != main),
        "imports": sorted({one.partition(".")[0] for one in bundle.imports} - {_top(one) for one in bundle.files}),
    }
    listed = [f"{what} {', '.join(found)}" for what, found in parts.items() if found]
    return "; ".join([f"captured: {entry}", *listed]) if listed else ""


def _helper(one: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, cells: dict[int, str]) -> str:
    start = max((line for line in cells if line <= one.lineno), default=0)
    return f"{one.name} ({cells[start]})" if start else one.name


def _value(one: ast.Assign) -> str:
    name, text = ast.unparse(one.targets[0]), ast.unparse(one.value)
    return f"{name} = {text}" if len(text) <= _LONGEST else f"{name} = {text[:_LONGEST]}... ({len(text):,} characters)"


def _top(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")

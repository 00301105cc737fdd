"""Find the source of things defined in cells: which cell, which line, which import statement. Reads linecache only.

It must not decide what is captured (``collect``). `inspect.getsource` alone is not enough: it cannot find a class that
was defined in a cell, and it does not say which cell a line came from.
"""

from __future__ import annotations

import ast
import gc
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk_core.errors import BadCode
from ropewalk_workflows.capture import values

OURS = ("ropewalk", "ropewalk_workflows", "ropewalk_kernel")


@dataclass(frozen=True)
class Piece:
    """One definition as it stands in its cell. ``cell`` and ``line`` say where its first line is."""

    name: str
    text: str
    cell: str
    line: int
    future: bool = False

    def where(self, name: str = "") -> str:
        """Return the place at which the name is used, for an error's field."""
        line = self.line
        for node in ast.walk(ast.parse(self.text)) if name else ():
            if isinstance(node, ast.Name) and node.id == name:
                line = self.line + node.lineno - 1
                break
        return f"{self.cell}, line {line}"


class Cells:
    """The sources that surround one namespace: a notebook's cells, or one module's file."""

    def __init__(self, namespace: dict[str, Any], shell: Any = None) -> None:
        self.namespace = namespace
        self._numbers: dict[str, Any] = dict(getattr(getattr(shell, "compile", None), "_filename_map", None) or {})
        file = namespace.get("__file__")
        self.file = file if isinstance(file, str) and Path(file).is_file() else ""

    def label(self, filename: str) -> str:
        """Return what tracebacks call this source: ``cell [3]``, or a file's name."""
        if filename in self._numbers:
            return f"cell [{self._numbers[filename]}]"
        return Path(filename).name if Path(filename).is_file() else filename

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield file name and source, the newest cell first."""
        if self.file:
            yield self.file, "".join(linecache.getlines(self.file))
            return
        names = [name for name in linecache.cache if name in self._numbers or not Path(name).exists()]
        names.sort(key=lambda name: int(self._numbers.get(name) or 0))
        for name in reversed(names):
            yield name, "".join(linecache.getlines(name))

    def import_of(self, name: str, value: Any) -> str:
        """Return the statement by which the cells imported this value under this name, or nothing."""
        for _, text in self.texts():
            for node in _module_level(_parse(text)):
                if isinstance(node, ast.Import | ast.ImportFrom) and (found := _binds(node, name, value)):
                    return found
        return ""

    def piece(self, name: str, value: Any) -> Piece:
        """Return the definition of a function or class.

        Raises
        ------
        BadCode
            If its source cannot be found.
        """
        if isinstance(value, type):
            return self._class(name, value)
        if values.is_typing(value):
            return self._assigned(name)
        function = inspect.unwrap(value)
        code = getattr(function, "__code__", None)
        if not isinstance(code, types.CodeType):
            raise _no_source(name)
        text = "".join(linecache.getlines(code.co_filename, function.__globals__))
        node = _definition(_parse(text), code)
        if node is None:
            raise _no_source(name)
        return self._cut(name, text, node, code.co_filename)

    def _class(self, name: str, value: type) -> Piece:
        files = [
            one.__code__.co_filename
            for one in vars(value).values()
            if isinstance(one, types.FunctionType) and one.__code__
        ]
        texts = [(file, "".join(linecache.getlines(file))) for file in files] + list(self.texts())
        for file, text in texts:
            for node in _module_level(_parse(text)):
                if isinstance(node, ast.ClassDef) and node.name == value.__qualname__:
                    return self._cut(name, text, node, file)
        return self._assigned(name)  # Point = namedtuple("Point", "x y")

    def _assigned(self, name: str) -> Piece:
        """Return the statement that gave the name its value."""
        for file, text in self.texts():
            for node in reversed([*_module_level(_parse(text))]):
                if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == [name]:
                    return self._cut(name, text, node, file)
        raise _no_source(name)

    def _is_ours(self, decorator: ast.expr) -> bool:
        node = decorator.func if isinstance(decorator, ast.Call) else decorator
        while isinstance(node, ast.Attribute):
            node = node.value
        if not isinstance(node, ast.Name):
            return False
        value = self.namespace.get(node.id)
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if isinstance(module, str) and module.partition(".")[0] in OURS:
            return True
        # ``for step in range(3)`` in a later cell: the name stands for something else now, which decorated nothing.
        return not callable(value) and any(node.id in _imported(_parse(text)) for _, text in self.texts())

    def _cut(self, name: str, text: str, node: ast.stmt, file: str) -> Piece:
        lines = text.splitlines(keepends=True)
        decorators = list(getattr(node, "decorator_list", []))
        first = min([node.lineno, *(one.lineno for one in decorators)])
        last = node.end_lineno or node.lineno
        # Our own decorators are for the notebook; in a step the function runs plainly.
        for one in decorators:
            if self._is_ours(one):
                for index in range(one.lineno - 1, (one.end_lineno or one.lineno)):
                    lines[index] = "\n"
        cut = lines[first - 1 : last]
        while cut and not cut[0].strip():
            cut, first = cut[1:], first + 1
        block = "".join(cut)
        if not (source := _dedented(block, node)):
            source, first = f"if True:\n{block}", first - 1
        source = source.rstrip() + "\n"
        future = any(
            isinstance(one, ast.ImportFrom)
            and one.module == "__future__"
            and any(a.name == "annotations" for a in one.names)
            for one in _parse(text).body
        )
        return Piece(name=name, text=source, cell=self.label(file), line=first, future=future)


def _parse(text: str) -> ast.Module:
    """Return the tree of the text; an empty one where it is no Python.

    The collector rests meanwhile: Python 3.11 raises SystemError when a finalizer runs Python code inside the parser.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])
    finally:
        if collecting:
            gc.enable()


def _module_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield statements outside of functions and classes, also those under if, try and with."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _module_level(node)


def _definition(tree: ast.Module, code: types.CodeType) -> ast.stmt | None:
    """Return the statement that made this code object: a def, or ``name = lambda``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            lines = [node.lineno, *(one.lineno for one in node.decorator_list)]
            if code.co_firstlineno in lines:
                return node
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and code.co_name == "<lambda>":
            lambdas = [one for one in ast.walk(node) if isinstance(one, ast.Lambda)]
            if node.lineno == code.co_firstlineno and len(lambdas) == 1 and isinstance(node.targets[0], ast.Name):
                return node
    return None


def _binds(node: ast.Import | ast.ImportFrom, name: str, value: Any) -> str:
    for alias in node.names:
        if isinstance(node, ast.Import):
            bound = alias.asname or alias.name.partition(".")[0]
            target = sys.modules.get(alias.name if alias.asname else bound)
            if bound == name and target is value:
                return f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
        elif not node.level and node.module:
            module = sys.modules.get(node.module)
            wanted = name if alias.name == "*" else alias.name
            found = getattr(module, wanted, _binds) is value or sys.modules.get(f"{node.module}.{wanted}") is value
            if found and name in (alias.asname or alias.name, wanted if alias.name == "*" else ""):
                return f"from {node.module} import {wanted}" + (f" as {name}" if name != wanted else "")
    return ""


def _imported(tree: ast.Module) -> set[str]:
    """Return the names that stand for something of ours by an import."""
    found = set()
    for node in _module_level(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname or one.name for one in node.names if one.name.partition(".")[0] in OURS}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            found |= {one.asname or one.name for one in node.names}
    return found


def _dedented(block: str, node: ast.stmt) -> str:
    """Return an indented definition at the left edge, or nothing when that would change a text that has many lines."""
    source = textwrap.dedent(block)
    tree = _parse(source)
    return source if tree.body and _strings(tree) <= _strings(node) else ""


def _strings(tree: ast.AST) -> set[str]:
    return {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def _no_source(name: str) -> BadCode:
    return BadCode(
        f"The source of '{name}' cannot be found.",
        field=name,
        hint="Define it with def in a cell, or put it into a module beside the notebook.",
    )

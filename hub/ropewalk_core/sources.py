"""What stands at the top of a bundle's files: definitions, imports and plain values, parsed and never run. Pure.

Only up to a length for each bundle: whoever parses can do nothing else meanwhile. Not here: what a hint means
(``signatures``). Rejected: importing the files, and a symbol table of all scopes (hints name what is at the top).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_LONGEST = 32 * 2**10
"""Characters of a bundle that are read; a megabyte of hostile ones would take seconds and much memory."""
_LONGEST_VALUE = 1000
_HOPS = 10
_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Module:
    """The definitions and imports at the top of a file."""

    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)


class Sources:
    """The files of one bundle; counts what it has parsed.

    Parameters
    ----------
    files
        Their sources by path.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._left, self._quoted = _LONGEST, _LONGEST
        self._modules: dict[str, Module] = {}

    def module(self, name: str) -> Module:
        """Return what is known of a module; nothing of one that is not in the bundle or too long."""
        if name not in self._modules:
            path = name.replace(".", "/")
            package = f"{path}.py" not in self._files
            source = self._files.get(f"{path}/__init__.py" if package else f"{path}.py", "")
            self._left -= len(source)
            parents = (name if package else name.rpartition(".")[0]).split(".")
            self._modules[name] = _indexed(source, parents) if self._left >= 0 else Module()
        return self._modules[name]

    def find(self, hint: ast.expr, where: str) -> tuple[ast.ClassDef, str] | None:
        """Return the class of the bundle that a name stands for, and the module it is in."""
        if isinstance(hint, ast.Attribute) and isinstance(hint.value, ast.Name):
            module, name = self.module(where).imports.get(hint.value.id, ("", ""))
            where, name = (module, hint.attr) if not name else ("", "")
        else:
            name = hint.id if isinstance(hint, ast.Name) else ""
        for _ in range(_HOPS):
            known = self.module(where)
            if name in known.classes:
                return known.classes[name], where
            if name not in known.imports:
                return None
            where, name = known.imports[name]
        return None

    def quoted(self, hint: str) -> ast.expr | None:
        """Return a hint that is written as text."""
        self._quoted -= len(hint)
        tree = parsed(hint, "eval") if self._quoted >= 0 else None
        return tree.body if isinstance(tree, ast.Expression) else None


def parsed(source: str, mode: Literal["exec", "eval"] = "exec") -> ast.AST | None:
    """Return the tree of a source; None of what this Python's grammar does not know."""
    try:
        return ast.parse(source, mode=mode)
    except _UNREADABLE:
        return None


def literal(one: ast.expr) -> tuple[bool, Any]:
    """Say whether an expression is a value that JSON has and any page can show, and which."""
    try:
        value = ast.literal_eval(one)
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        same = json.loads(text)
    except _UNREADABLE:
        return False, None
    fits = len(text) <= _LONGEST_VALUE and text.isprintable()  # half of a surrogate pair cannot even be sent
    return fits and not _is_long(value) and same == _listed(value), same


def _is_long(value: Any) -> bool:
    """Say whether a number is too long for programs that read JSON."""
    return isinstance(value, int) and abs(value) >= 2**63


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def doc(made: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    """Return a docstring that can be sent: an escape may stand for half of a surrogate pair."""
    return (ast.get_docstring(made) or "").encode(errors="replace").decode()


def _indexed(source: str, parents: Sequence[str]) -> Module:
    """Return what stands at the top of a source; ``parents`` are what its relative imports start from."""
    tree = parsed(source)
    found = Module()
    for one in tree.body if isinstance(tree, ast.Module) else ():
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            found.functions[one.name] = one
        elif isinstance(one, ast.ClassDef):
            found.classes[one.name] = one
        elif isinstance(one, ast.ImportFrom):
            package = parents[: len(parents) + 1 - one.level] if one.level else []
            module = ".".join([*filter(None, package), *([one.module] if one.module else [])])
            found.imports.update({alias.asname or alias.name: (module, alias.name) for alias in one.names})
        elif isinstance(one, ast.Import):
            found.imports.update({alias.asname or alias.name: (alias.name, "") for alias in one.names})
    return found


def inside(hint: ast.expr) -> list[ast.expr]:
    """Return what stands in the brackets of a hint."""
    if not isinstance(hint, ast.Subscript):
        return []
    return list(hint.slice.elts) if isinstance(hint.slice, ast.Tuple) else [hint.slice]


def word(hint: ast.expr) -> str:
    """Return the last word of a name such as ``np.ndarray``."""
    if isinstance(hint, ast.Constant):
        return "None" if hint.value is None else "..." if hint.value is ... else ""
    return hint.attr if isinstance(hint, ast.Attribute) else hint.id if isinstance(hint, ast.Name) else ""

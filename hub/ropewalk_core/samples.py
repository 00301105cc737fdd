"""A call that fits a function, read from its captured source: what samples show and "Try it" starts with. Pure.

The source is parsed and never run, and only up to a length: whoever parses can do nothing else meanwhile. Only what a
call must give is sampled; a parameter without annotation gets 1. Not here: how a payload becomes arguments
(``ropewalk_runtime.handler``). Rejected: the payload of the latest call, which may hold anything.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Container
from typing import Any

from ropewalk_core.model import Bundle

_PLAIN: dict[str, Any] = {
    "int": 1,
    "float": 1.0,
    "complex": 1.0,
    "str": "text",
    "bytes": "text",
    "bool": True,
    "None": None,
    "dict": {"key": 1},
    "Dict": {"key": 1},
    "Mapping": {"key": 1},
    "DataFrame": [{"column": 1.0}],
}
_LISTS = frozenset({"list", "List", "tuple", "Tuple", "set", "Set", "frozenset", "Sequence", "Iterable", "Collection"})
_ARRAYS = frozenset({"ndarray", "NDArray", "ArrayLike", "Series", "Tensor"})
_FIRST = frozenset({"Optional", "Union", "Annotated", "Final"})
_DEEPEST = 10
_LONGEST = 32 * 2**10
"""Characters of source that are read; a megabyte of hostile ones would take seconds and much memory."""
_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)


def arguments(bundle: Bundle) -> dict[str, Any]:
    """Return a value for each parameter that a call must give, by name; empty when the source does not say."""
    return _call(bundle)[0]


def payload(bundle: Bundle) -> Any:
    """Return the same call as the JSON value of a payload."""
    values, bare = _call(bundle)
    if len(values) == 1 and all(one in bare for one in values):
        return next(iter(values.values()))  # it has no name from outside
    return values


def python(bundle: Bundle, name: str) -> str:
    """Return the same call as Python writes it."""
    values, bare = _call(bundle)
    words = [repr(value) if key in bare else f"{key}={value!r}" for key, value in values.items()]
    return f"{name}({', '.join(words)})"


def _call(bundle: Bundle) -> tuple[dict[str, Any], Container[str]]:
    """Return the sampled values by name, and which of them have no name from outside."""
    found = _definition(bundle)
    if found is None:
        return {}, ()
    args = found.args
    named = [*args.posonlyargs, *args.args]
    must = named[: len(named) - len(args.defaults)]
    must += [one for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default is None]
    return {one.arg: _value(one.annotation) for one in must}, {one.arg for one in args.posonlyargs}


def _definition(bundle: Bundle) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    module, _, name = bundle.entry.partition(":")
    path = module.replace(".", "/")
    source = bundle.files.get(f"{path}.py", bundle.files.get(f"{path}/__init__.py", ""))
    if len(source) > _LONGEST:
        return None
    try:
        body = ast.parse(source).body
    except _UNREADABLE:
        return None
    found = [one for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == name]
    return found[-1] if found else None


def _value(hint: ast.expr | None, depth: int = 0) -> Any:
    if hint is None or depth > _DEEPEST:
        return 1
    if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
        return _quoted(hint.value, depth)
    if isinstance(hint, ast.BinOp):
        return _value(hint.left if _name(hint.left) != "None" else hint.right, depth + 1)
    inner = _inner(hint)
    name = _name(hint.value if isinstance(hint, ast.Subscript) else hint)
    if name == "Literal" and inner:
        return _constant(inner[0])
    if name in _FIRST and inner:
        return _value(next((one for one in inner if _name(one) != "None"), None), depth + 1)
    if name in _ARRAYS:
        return [1.0, 2.0]
    if name in _LISTS:
        return [_value(inner[0] if inner else None, depth + 1)]
    if inner and name in _PLAIN:
        return {"key": _value(inner[-1], depth + 1)}
    return _PLAIN.get(name, 1)


def _quoted(text: str, depth: int) -> Any:
    try:
        return _value(ast.parse(text, mode="eval").body, depth + 1)
    except _UNREADABLE:
        return 1


def _constant(one: ast.expr) -> Any:
    """Return the value of a literal if JSON has it and any page can show it."""
    try:
        value = ast.literal_eval(one)
    except _UNREADABLE:
        return 1
    if isinstance(value, str):
        return value if value.isprintable() else "text"  # half of a surrogate pair cannot even be sent
    if isinstance(value, int):
        return value if abs(value) < 2**63 else 1
    return value if value is None or (isinstance(value, float) and math.isfinite(value)) else 1


def _inner(hint: ast.expr) -> list[ast.expr]:
    if not isinstance(hint, ast.Subscript):
        return []
    return list(hint.slice.elts) if isinstance(hint.slice, ast.Tuple) else [hint.slice]


def _name(hint: ast.expr) -> str:
    """Return the last word of a name such as ``np.ndarray``."""
    if isinstance(hint, ast.Constant):
        return "None" if hint.value is None else ""
    return hint.attr if isinstance(hint, ast.Attribute) else hint.id if isinstance(hint, ast.Name) else ""

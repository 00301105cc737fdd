"""Which global values may travel as text, and how each is written. Pure, but for the hub token that must not pass."""

from __future__ import annotations

import io
import logging
import math
import pathlib
import re
import sys
import types
from typing import Any

from ropewalk_core.settings import read_environment

LONGEST = 20_000
_PLAIN = (bool, int, str, bytes, type(None))


def literal(value: Any) -> tuple[str, str, str]:
    """Return the source text of a value, or why it cannot travel; and an import that the text needs."""
    if isinstance(value, logging.Logger):
        return f"logging.getLogger({value.name!r})", "", "import logging"
    if isinstance(value, pathlib.PurePath):
        return f"pathlib.Path({str(value)!r})", "", "import pathlib"
    if isinstance(value, re.Pattern):
        return f"re.compile({value.pattern!r}, {value.flags!r})", "", "import re"
    if not _simple(value, 0):
        return "", _why(value), ""
    text = _text(value)
    if len(text) > LONGEST:
        return "", f"is {len(text):,} characters long, which is too much to put into code", ""
    return text, "", ""


def is_typing(value: Any) -> bool:
    """Say whether the value only says something about types, such as ``list[int]`` or a ``TypeVar``."""
    return type(value).__module__ == "typing" or isinstance(value, types.GenericAlias | types.UnionType)


def public_module(module: str, value: Any) -> str:
    """Return the shortest public module that offers this value under its own name, or nothing."""
    name = getattr(value, "__name__", "")
    parts = module.split(".")
    candidates = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    public = [one for one in candidates if not any(part.startswith("_") for part in one.split("."))]
    for candidate in [*reversed(public), module]:
        if name and getattr(sys.modules.get(candidate), name, None) is value:
            return candidate
    return ""


def hub_token() -> str:
    """Return the token that must never leave in code; nothing outside a notebook server."""
    return read_environment("JUPYTERHUB_API_TOKEN")


def _simple(value: Any, depth: int) -> bool:
    if type(value) in _PLAIN or type(value) is float:
        return True
    if depth > 20:
        return False
    if type(value) in (list, tuple, set, frozenset):
        return all(_simple(one, depth + 1) for one in value)
    if type(value) is dict:
        return all(_simple(key, depth + 1) and _simple(one, depth + 1) for key, one in value.items())
    return False


def _text(value: Any) -> str:
    if type(value) is float and not math.isfinite(value):
        return f"float({str(value)!r})"
    if type(value) is dict:
        return "{" + ", ".join(f"{_text(key)}: {_text(one)}" for key, one in value.items()) + "}"
    if type(value) is list:
        return "[" + ", ".join(_text(one) for one in value) + "]"
    if type(value) is tuple:
        return "(" + "".join(f"{_text(one)}, " for one in value).rstrip(" ") + ")"
    if type(value) in (set, frozenset):
        inner = ", ".join(sorted(_text(one) for one in value))
        return f"{type(value).__name__}([{inner}])"
    return repr(value)


def _why(value: Any) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if isinstance(value, io.IOBase):
        return "is an open file, which cannot travel with the code; open it inside the function"
    if isinstance(value, types.GeneratorType | types.CoroutineType):
        return f"is a running {kind}, which cannot travel with the code"
    if any(word in kind.lower() for word in ("connection", "socket", "session", "client", "cursor")):
        return f"is a live {kind}, which cannot travel with the code; open it inside the function"
    return f"is a {kind}; only small plain values (numbers, text, lists, dicts) travel with the code"

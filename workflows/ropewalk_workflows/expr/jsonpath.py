"""``jsonpath(text, path)``: the paths that lead to one place, and those that list. Pure.

Argo uses a library of Go with a language of its own for filters and scripts; those are refused by name. Rejected: a
library for Python; each reads another dialect, and none is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.values import Value
from ropewalk_workflows.expr.work import Work

_KEY = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_NUMBER = r"-?\d{1,9}"
_STEP = re.compile(
    rf"\.(?P<name>\*|[^\s.\[\]*()?@$,:'\"]+)"
    rf"|\[\s*(?:(?P<all>\*)|(?P<range>(?:{_NUMBER})?\s*:[\s\d:-]*)|(?P<keys>(?:{_KEY}|{_NUMBER})(?:\s*,\s*(?:{_KEY}|{_NUMBER}))*))\s*\]"
)
_ONE = re.compile(rf"{_KEY}|{_NUMBER}")
Key: TypeAlias = "int | str"


def query(value: Value, path: str, work: Work) -> Value:
    """Return what lies at a path.

    Raises
    ------
    BadExpression
        If the path cannot be read, or nothing lies there.
    """
    if not path.startswith("$"):
        raise BadExpression(f"the path {path[:40]!r} does not begin with '$'")
    found, several, place = [value], False, 1
    while place < len(path):
        match = _STEP.match(path, place)
        if match is None:
            raise BadExpression(f"the path {path[:40]!r} cannot be used here from {path[place : place + 10]!r} on")
        place = match.end()
        work.step(len(found))
        found, more = _after(found, match, several)
        several = several or more
        work.make(len(found), members=True)
    return found if several else found[0]


def _after(values: list[Value], match: re.Match[str], several: bool) -> tuple[list[Value], bool]:
    """Return what one step leads to, and whether that is a list of places whatever it holds."""
    if match["all"] or match["name"] == "*":
        return [one for value in values for one in _members(value)], True
    if match["range"] is not None:
        return [one for value in values for one in _ranged(value, match["range"])], True
    keys: list[Key] = [_key(one[0]) for one in _ONE.finditer(match["keys"])] if match["keys"] else [match["name"]]
    found = []
    for value in values:
        try:
            found += [_child(value, key) for key in keys]
        except LookupError as error:
            if not several:
                raise BadExpression(f"there is nothing at {match[0]!r}") from error
    return found, len(keys) > 1


def _members(value: Value) -> list[Value]:
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    raise BadExpression("it has no members")


def _ranged(value: Value, text: str) -> list[Value]:
    parts = [one.strip() for one in text.split(":")]
    if not isinstance(value, list) or len(parts) > 3:
        raise BadExpression(f"[{text}] is no part of it")
    try:
        start, end, step = ([int(one) if one else None for one in parts] + [None])[:3]
        return value[start:end:step]
    except ValueError as error:
        raise BadExpression(f"[{text}] is no part of it") from error


def _key(text: str) -> Key:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[0] in "'\"" else int(text)


def _child(value: Value, key: Key) -> Value:
    fits = isinstance(value, list) if isinstance(key, int) else isinstance(value, Mapping)
    if not fits:
        raise LookupError(key)
    found: Value = value[key]
    return found

"""Plain Python values as JSON that gives them back exactly: tuples, sets, bytes, dates and the like. Pure.

JSON's own values stand for themselves; any other is ``{"$": its type, "of": ...}``, and only types of the tables below
are ever made from that, so reading runs nobody's code. What is none of them is the caller's to place (``leaf``). Not
here: files and arrays (``kinds``). Rejected: pickle, which can hold anything, and lists for tuples, which change types.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, TypeAlias

DEEPEST = 100
"""Levels of lists in lists; more of them are a value that holds itself."""
_LARGEST = 2**63
Leaf: TypeAlias = Callable[[Any, str], Any]


class TooDeep(ValueError):
    """A value holds itself, or lies too deep in itself; the message is its place."""


def take(value: Any, place: str, leaf: Leaf, depth: int = 0) -> Any:
    """Return a value as JSON.

    Parameters
    ----------
    value
        Any value.
    place
        What to call it, such as ``result``.
    leaf
        Returns the JSON that stands for a value of another type, and is told its place.
    depth
        How deep it lies.

    Raises
    ------
    TooDeep
        If it holds itself.
    """
    kind = type(value)
    if value is None or kind in (bool, str) or (kind is int and -_LARGEST < value < _LARGEST):
        return value
    if kind is float and math.isfinite(value):
        return value
    if depth > DEEPEST:
        raise TooDeep(place[:200])
    if kind is list:
        return [take(one, f"{place}[{at}]", leaf, depth + 1) for at, one in enumerate(value)]
    name = name_of(kind)
    if name in _MEMBERS:
        inside = sorted(value, key=repr) if name in _UNORDERED else value  # equal values make equal files
        members = [take(one, f"{place}[{at}]", leaf, depth + 1) for at, one in enumerate(inside)]
        return {"$": name, "of": [*_MEMBERS[name](value), members]}
    if name in _PAIRS:
        pairs = [
            [take(key, f"a key of {place}", leaf, depth + 1), take(one, f"{place}[{key!r}]", leaf, depth + 1)]
            for key, one in value.items()
        ]
        return {"$": name, "of": pairs}
    if name in _WRITTEN and (text := _WRITTEN[name][0](value)) is not None:
        return {"$": name, "of": text}
    return leaf(value, place)


def give(node: Any, leaf: Callable[[str, Any], Any]) -> Any:
    """Return the value of JSON that `take` made; ``leaf`` is given the type and the rest of what it placed itself."""
    if type(node) is list:
        return [give(one, leaf) for one in node]
    if type(node) is not dict:
        return node
    name: str = node["$"]
    inside: Any = node.get("of")
    if name in _MEMBERS:
        *facts, members = inside
        return _made(name)((give(one, leaf) for one in members), *facts)
    if name in _PAIRS:
        return _made(name)((give(key, leaf), give(one, leaf)) for key, one in inside)
    if name in _WRITTEN:
        return _WRITTEN[name][1](_made(name), inside)
    return leaf(name, inside)


def name_of(kind: type) -> str:
    """Return what a type is called, without private parts of modules: ``pathlib.PosixPath``."""
    module = kind.__module__.partition("._")[0]
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _made(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    return getattr(importlib.import_module(module or "builtins"), kind)


def _moment(value: Any) -> list[Any] | None:
    """Return a date's time as text and its zone by name; None for zones that have no name that all know."""
    zone = value.tzinfo
    if zone is None or (name_of(type(zone)) == "datetime.timezone" and len(zone.__getinitargs__()) == 1):
        return [value.isoformat(), "", value.fold]
    key = getattr(zone, "key", None)
    if name_of(type(zone)) != "zoneinfo.ZoneInfo" or not key:
        return None
    return [value.replace(tzinfo=None).isoformat(), key, value.fold]


def _at_moment(make: Any, written: list[Any]) -> Any:
    text, key, fold = written
    found = make.fromisoformat(text).replace(fold=fold)
    return found.replace(tzinfo=_made("zoneinfo.ZoneInfo")(key)) if key else found


def _texts(make: Any, written: str) -> Any:
    return make(written)


def _parts(make: Any, written: list[Any]) -> Any:
    return make(*written)


_MEMBERS: dict[str, Callable[[Any], list[Any]]] = {
    "tuple": lambda _: [],
    "set": lambda _: [],
    "frozenset": lambda _: [],
    "collections.deque": lambda value: [value.maxlen],
}
_UNORDERED = frozenset({"set", "frozenset"})
_PAIRS = frozenset({"dict", "collections.OrderedDict"})
_WRITTEN: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "int": (hex, lambda make, written: make(written, 16)),
    "float": (repr, _texts),
    "complex": (
        lambda value: [value.real.hex(), value.imag.hex()],
        lambda make, written: make(*map(float.fromhex, written)),
    ),
    "range": (lambda value: [value.start, value.stop, value.step], _parts),
    "datetime.date": (lambda value: value.isoformat(), lambda make, written: make.fromisoformat(written)),
    "datetime.time": (_moment, _at_moment),
    "datetime.datetime": (_moment, _at_moment),
    "datetime.timedelta": (lambda value: [value.days, value.seconds, value.microseconds], _parts),
    "decimal.Decimal": (str, _texts),
    "fractions.Fraction": (str, _texts),
    "uuid.UUID": (str, _texts),
    "pathlib.PosixPath": (str, _texts),
    "pathlib.PurePosixPath": (str, _texts),
}

"""The parts of an expression, frozen. Each knows where it begins in the text, so that whoever refuses it can say so.

Pure data. Not here: how text becomes parts (``building``), what they mean (``evaluating``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias


@dataclass(frozen=True, eq=False)
class Part:
    """Anything in an expression; ``at`` counts characters from 1."""

    at: int


@dataclass(frozen=True, eq=False)
class Literal(Part):
    """A number, a text, true, false or nil."""

    value: Any


@dataclass(frozen=True, eq=False)
class Name(Part):
    """A variable."""

    name: str


@dataclass(frozen=True, eq=False)
class Pointer(Part):
    """``#``, ``#index`` or ``#acc``: what a predicate is asked about."""

    name: str


@dataclass(frozen=True, eq=False)
class Unary(Part):
    """One operator before its operand."""

    operator: str
    operand: Part


@dataclass(frozen=True, eq=False)
class Binary(Part):
    """One operator between its operands."""

    operator: str
    left: Part
    right: Part


@dataclass(frozen=True, eq=False)
class Member(Part):
    """``value.key`` or ``value[key]``; ``optional`` with ``?.``."""

    value: Part
    key: Part
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Chain(Part):
    """How far a ``?.`` reaches: all of it is nil when one of its values is."""

    inner: Part


@dataclass(frozen=True, eq=False)
class Slice(Part):
    """``value[start:end]``."""

    value: Part
    start: Part | None
    end: Part | None


@dataclass(frozen=True, eq=False)
class Call(Part):
    """A function of the language, or of Argo's: ``len(x)``, ``asInt(x)``, ``sprig.trim(x)``."""

    function: str
    arguments: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Over(Part):
    """A function that asks a predicate about each member: ``filter(list, # > 1)``."""

    function: str
    value: Part
    predicate: Part | None
    more: Part | None


@dataclass(frozen=True, eq=False)
class Let(Part):
    """``let name = value; rest``."""

    name: str
    value: Part
    rest: Part


@dataclass(frozen=True, eq=False)
class Sequence(Part):
    """``a; b``: the last counts."""

    items: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Condition(Part):
    """``test ? yes : no``, and ``if``."""

    test: Part
    yes: Part
    no: Part


@dataclass(frozen=True, eq=False)
class ListOf(Part):
    """``[a, b]``."""

    items: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class MapOf(Part):
    """``{key: value}``."""

    pairs: tuple[tuple[Part, Part], ...]


Parts: TypeAlias = "tuple[Part, ...]"


def inside(part: Part) -> Iterator[Part]:
    """Yield the parts that a part is made of."""
    for one in fields(part):
        yield from _parts(getattr(part, one.name))


def _parts(value: Any) -> Iterator[Part]:
    if isinstance(value, Part):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _parts(one)

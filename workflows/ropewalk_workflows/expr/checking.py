"""What is wrong with an expression before anything has a value: unknown names, functions and places. Pure.

Names guarded by ``?.`` or ``??`` may be missing, as on Argo; their first word may not. Not here: what values do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ropewalk_workflows.expr.calling import FUNCTIONS, known
from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.patterns import compiled
from ropewalk_workflows.expr.tree import Binary, Call, Let, Literal, Member, Name, Over, Part, Pointer, inside
from ropewalk_workflows.expr.work import DEEPEST, MOST_PARTS


@dataclass(frozen=True)
class Wanted:
    """A name that an expression reads, as a tag would say it: ``inputs.parameters.n``."""

    path: str
    at: int
    guarded: bool


@dataclass(frozen=True)
class _Around:
    depth: int = 0
    local: frozenset[str] = frozenset()
    pointers: frozenset[str] = frozenset()
    guarded: bool = False


def check(part: Part) -> list[Wanted]:
    """Refuse what can have no value whatever its names are, and return the names.

    Raises
    ------
    BadExpression
        At the first part that is wrong.
    """
    found: list[Wanted] = []
    waiting: list[tuple[Part, _Around]] = [(part, _Around())]
    count = 0
    while waiting:
        one, around = waiting.pop()
        count += 1
        if count > MOST_PARTS:
            raise BadExpression(f"it has more than {MOST_PARTS:,} parts")
        if around.depth > DEEPEST:
            raise BadExpression("it is nested too deeply", one.at)
        try:
            waiting += reversed(list(_look(one, around, found)))
        except BadExpression as error:
            error.at = error.at or one.at
            raise
    return found


def _look(part: Part, around: _Around, found: list[Wanted]) -> Iterator[tuple[Part, _Around]]:
    """Look at one part, and yield those in it with what is around them."""
    within = replace(around, depth=around.depth + 1, guarded=False)
    path = _path(part)
    if path is not None:
        if path.partition(".")[0] not in around.local:
            found.append(Wanted(path, part.at, around.guarded))
        return
    if isinstance(part, Over):
        yield from _looked_over(part, within)
        return
    if isinstance(part, Let):
        yield from _looked_let(part, within)
        return
    _alone(part, around)
    for number, one in enumerate(inside(part)):
        if isinstance(part, Binary) and number == 0:  # a long sum is no deep one
            yield one, replace(within, depth=around.depth, guarded=part.operator == "??" or around.guarded)
        else:
            guarded = around.guarded or (isinstance(part, Member) and part.optional)
            yield one, replace(within, guarded=guarded and not isinstance(part, Binary))


def _alone(part: Part, around: _Around) -> None:
    """Refuse a part that means nothing here, whatever is in it."""
    if isinstance(part, Call):
        known(part.function, len(part.arguments))
    elif isinstance(part, Pointer) and part.name not in around.pointers:
        raise BadExpression(f"'#{part.name}' means nothing here")
    elif isinstance(part, Binary) and part.operator == "matches":
        pattern = part.right.value if isinstance(part.right, Literal) else None
        if isinstance(pattern, str):
            compiled(pattern)


def _looked_over(part: Over, within: _Around) -> Iterator[tuple[Part, _Around]]:
    if part.predicate is None and part.function not in ("count", "sum"):
        raise BadExpression(f"'{part.function}' needs to know what to ask of each member")
    if part.more is not None and part.function not in ("sortBy", "reduce"):
        raise BadExpression(f"'{part.function}' cannot take 3 arguments")
    yield part.value, within
    pointers = frozenset({"", "index"} | ({"acc"} if part.function == "reduce" else set()))
    if part.predicate is not None:
        yield part.predicate, replace(within, pointers=pointers)
    if part.more is not None:
        yield part.more, within


def _looked_let(part: Let, within: _Around) -> Iterator[tuple[Part, _Around]]:
    if part.name in FUNCTIONS or part.name in within.local or part.name in ("sprig", "true", "false", "nil"):
        raise BadExpression(f"'{part.name}' has a meaning already")
    yield part.value, within
    yield part.rest, replace(within, local=within.local | {part.name})


def _path(part: Part) -> str | None:
    """Return the name that a part is: ``a`` or ``a.b['c']``; nothing if it is none."""
    words: list[str] = []
    while isinstance(part, Member) and not part.optional:
        if not (isinstance(part.key, Literal) and isinstance(part.key.value, str)):
            return None
        words.append(part.key.value)
        part = part.value
    return ".".join([part.name, *reversed(words)]) if isinstance(part, Name) else None

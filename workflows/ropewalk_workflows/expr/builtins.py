"""The functions of the language itself, and Argo's own beside them. Pure.

What asks a predicate is in ``evaluating``. What depends on the clock (``now``, ``date``, ``timezone``) is refused by
name in ``calling``: a run is grown again from what is kept of it, and must come out the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cmp_to_key

from ropewalk_workflows.expr import operators, words
from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.functions import Function, Functions, text_of
from ropewalk_workflows.expr.jsonpath import query
from ropewalk_workflows.expr.values import (
    AnyKeys,
    Value,
    from_json,
    is_number,
    kind,
    marshalled,
    members,
    shown,
    to_whole,
    whole,
)
from ropewalk_workflows.expr.work import Work


def _length(_work: Work, value: Value) -> int:
    if not isinstance(value, (str, list, Mapping)):
        raise BadExpression(f"{kind(value)} has no length")
    return len(value)


def to_int(_work: Work, value: Value) -> int:
    """Return a number, or the number that a text is, as a whole one."""
    if is_number(value):
        return to_whole(value)
    found = words.whole_in(value) if isinstance(value, str) else None
    if found is None:
        raise BadExpression(f"{_short(value)} is no whole number")
    return found


def to_float(_work: Work, value: Value) -> float:
    """Return a number, or the number that a text is."""
    found = words.float_in(value) if isinstance(value, str) else float(value) if is_number(value) else None
    if found is None:
        raise BadExpression(f"{_short(value)} is no number")
    return found


def _short(value: Value) -> str:
    return repr(value[:40]) if isinstance(value, str) else kind(value)


def round_half_away(number: float) -> float:
    """Round as Go's ``math.Round`` does."""
    if not math.isfinite(number) or abs(number) >= 2**52:
        return number
    return math.copysign(math.floor(abs(number) + 0.5) if abs(number) != 0.49999999999999994 else 0.0, number)


def _rounding(rounded: Callable[[float], float]) -> Function:
    def one(_work: Work, number: Value) -> float:
        found = float(number)
        return math.copysign(rounded(found), found) if math.isfinite(found) else found

    return Function(one, "number")


def _joined(work: Work, texts: list[Value], between: str = "") -> str:
    return words.join(work, [text_of(one) for one in texts], between)


def _flat(work: Work, nested: list[Value]) -> list[Value]:
    found: list[Value] = []
    for one in nested:
        work.step()
        found += _flat(work, one) if isinstance(one, list) else [one]
    work.make(len(found), members=True)
    return found


def _extreme(name: str, wins: Callable[[Value, Value], bool]) -> Function:
    def one(work: Work, *arguments: Value) -> Value:
        if len(arguments) == 1 and not isinstance(arguments[0], list):
            return arguments[0]
        best: Value = None
        for number in _flat(work, list(arguments)):
            if not is_number(number):
                raise BadExpression(f"'{name}' takes numbers, not {kind(number)}")
            best = number if best is None or wins(number, best) else best
        return best

    return Function(one, "any any*")


def _numbers(work: Work, arguments: tuple[Value, ...]) -> list[float]:
    found = _flat(work, list(arguments))
    if not all(is_number(one) for one in found):
        raise BadExpression("it takes numbers")
    return [float(one) for one in found]


def _mean(work: Work, *arguments: Value) -> float:
    found = _numbers(work, arguments)
    total = 0.0
    for one in found:
        total += one
    return total / len(found) if found else 0.0


def _median(work: Work, *arguments: Value) -> float:
    found = sorted(_numbers(work, arguments))
    if not found:
        return 0.0
    middle = len(found) // 2
    return found[middle] if len(found) % 2 else (found[middle - 1] + found[middle]) / 2


def _edge(place: int) -> Function:
    def one(_work: Work, value: Value) -> Value:
        try:
            return operators.fetch(value, place)
        except BadExpression:
            return None

    return Function(one, "any")


def _got(_work: Work, value: Value, key: Value) -> Value:
    if isinstance(value, list) and not is_number(key):
        raise BadExpression(f"{kind(key)} is no index")
    try:
        return operators.fetch(value, key) if value is not None else None
    except BadExpression:
        return None


def _taken(_work: Work, values: list[Value], count: int) -> list[Value]:
    if count < 0:
        raise BadExpression(f"nobody can take {count}")
    return values[:count]


def _from_pairs(work: Work, pairs: list[Value]) -> AnyKeys:
    found = AnyKeys()
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadExpression("a pair is a list of two")
        found[found.key(pair[0])] = pair[1]
    return found


def _unique(work: Work, values: list[Value]) -> list[Value]:
    found: list[Value] = []
    for one in values:
        if not any(operators.equal(one, other, work) for other in found):
            found.append(one)
    return found


def _concatenated(work: Work, *lists: list[Value]) -> list[Value]:
    work.make(sum(map(len, lists)), members=True)
    return [one for values in lists for one in values]


def _in_order(work: Work, values: list[Value], order: str = "asc") -> list[Value]:
    if order not in ("asc", "desc"):
        raise BadExpression("an order is 'asc' or 'desc'")

    def compare(one: Value, other: Value) -> int:
        work.step()
        left, right = (other, one) if order == "desc" else (one, other)
        return -1 if operators.less(left, right) else int(operators.less(right, left))

    return sorted(values, key=cmp_to_key(compare))


def _bits(calculate: Callable[[int, int], int]) -> Function:
    return Function(lambda _work, one, other: whole(calculate(one, other)), "whole whole")


def _shifted(one: int, by: int, *, left: bool) -> int:
    if by < 0:
        raise BadExpression(f"nothing is shifted by {by}")
    return one << by if left and by < 64 else 0 if left else one >> min(by, 64)


def _of_text(calculate: Callable[..., Value], takes: str = "text") -> Function:
    return Function(lambda _work, *arguments: calculate(*arguments), takes)


BUILTINS: Functions = {
    "len": Function(_length, "any"),
    "type": Function(lambda _work, value: kind(value), "any"),
    "abs": Function(lambda _work, number: whole(abs(number)) if isinstance(number, int) else abs(number), "number"),
    "ceil": _rounding(lambda number: float(math.ceil(number))),
    "floor": _rounding(lambda number: float(math.floor(number))),
    "round": _rounding(round_half_away),
    "int": Function(to_int, "any"),
    "float": Function(to_float, "any"),
    "string": Function(lambda work, value: shown(value, work), "any"),
    "trim": _of_text(lambda text, letters=words.SPACE: text.strip(letters), "text text?"),
    "trimPrefix": _of_text(lambda text, prefix=" ": text.removeprefix(prefix), "text text?"),
    "trimSuffix": _of_text(lambda text, suffix=" ": text.removesuffix(suffix), "text text?"),
    "upper": _of_text(words.upper),
    "lower": _of_text(words.lower),
    "split": Function(words.split, "text text whole?"),
    "splitAfter": Function(lambda work, *given: words.split(work, *given, after=True), "text text whole?"),
    "replace": Function(words.replace, "text text text whole?"),
    "repeat": Function(words.repeat, "text whole"),
    "join": Function(_joined, "list text?"),
    "indexOf": _of_text(lambda text, part: _place(text, text.find(part)), "text text"),
    "lastIndexOf": _of_text(lambda text, part: _place(text, text.rfind(part)), "text text"),
    "hasPrefix": _of_text(lambda text, part: text.startswith(part), "text text"),
    "hasSuffix": _of_text(lambda text, part: text.endswith(part), "text text"),
    "max": _extreme("max", lambda one, other: one > other),
    "min": _extreme("min", lambda one, other: one < other),
    "mean": Function(_mean, "any any*"),
    "median": Function(_median, "any any*"),
    "toJSON": Function(lambda work, value: marshalled(value, work, indent="  "), "any"),
    "fromJSON": Function(lambda work, text: from_json(text, work), "text"),
    "toBase64": _of_text(words.base64_written),
    "fromBase64": _of_text(words.base64_read),
    "first": _edge(0),
    "last": _edge(-1),
    "get": Function(_got, "any any"),
    "take": Function(_taken, "list whole"),
    "keys": Function(lambda _work, value: [key for key, _ in members(value)], "map"),
    "values": Function(lambda _work, value: [one for _, one in members(value)], "map"),
    "toPairs": Function(lambda _work, value: [list(pair) for pair in members(value)], "map"),
    "fromPairs": Function(_from_pairs, "list"),
    "reverse": Function(lambda _work, values: values[::-1], "list"),
    "uniq": Function(_unique, "list"),
    "concat": Function(_concatenated, "list list*"),
    "flatten": Function(_flat, "list"),
    "sort": Function(_in_order, "list text?"),
    "bitand": _bits(lambda one, other: one & other),
    "bitor": _bits(lambda one, other: one | other),
    "bitxor": _bits(lambda one, other: one ^ other),
    "bitnand": _bits(lambda one, other: one & ~other),
    "bitshl": _bits(lambda one, by: _shifted(one, by, left=True)),
    "bitshr": _bits(lambda one, by: _shifted(one, by, left=False)),
    "bitushr": _bits(lambda one, by: _shifted(one % 2**64, by, left=False)),
    "bitnot": Function(lambda _work, one: ~one, "whole"),
}


def _place(text: str, found: int) -> int:
    """Return a place in bytes, as Go counts."""
    return len(text[:found].encode()) if found >= 0 else -1


ARGO: Functions = {
    "asInt": Function(to_int, "any"),
    "asFloat": Function(to_float, "any"),
    "toJson": Function(lambda work, value: marshalled(value, work), "any"),
    "jsonpath": Function(lambda work, text, path: query(from_json(text, work), path, work), "text text"),
}

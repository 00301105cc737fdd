"""``sprig.*``: numbers, lists, maps, defaults and JSON. Pure.

Numbers are read as leniently as sprig does: what is none counts as 0. What sprig changes in place (``set``, ``unset``)
gives a changed copy here: nothing else can see the difference but an expression that holds the first one too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, DivisionByZero, InvalidOperation, localcontext
from functools import reduce
from typing import Any

from ropewalk_workflows.expr import words
from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.functions import Function, Functions, text_of
from ropewalk_workflows.expr.operators import power, same
from ropewalk_workflows.expr.sprig_text import counted
from ropewalk_workflows.expr.values import Value, from_json, is_number, kind, marshalled, shown, to_whole, whole
from ropewalk_workflows.expr.work import Work

_OCTAL = re.compile(r"[+-]?[0-7]{1,30}", re.ASCII)
_FRACTION = re.compile(r"[+-]?\d*\.\d*", re.ASCII)


def _int(value: Value) -> int:
    """Return what sprig takes for a whole number."""
    if isinstance(value, bool) or is_number(value):
        return to_whole(value)
    if not isinstance(value, str):
        return 0
    text = value.partition(".")[0] if _FRACTION.fullmatch(value) else value
    try:
        found = int(text, 0) if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else int(text, _base(text))
    except ValueError:
        return 0
    return found if text == text.strip() and -(2**63) <= found < 2**63 else 0


def _base(text: str) -> int:
    digits = text.lstrip("+-")
    return 8 if len(digits) > 1 and digits.startswith("0") else 10


def _float(value: Value) -> float:
    if isinstance(value, str):
        return words.float_in(value) or 0.0
    return float(value) if isinstance(value, bool) or is_number(value) else 0.0


def empty(value: Value) -> bool:
    """Say whether sprig takes a value for none: nil, false, 0, and what has no members."""
    return not value  # Python agrees on all of these


def _divided(one: int, other: int) -> int:
    if not other:
        raise BadExpression("it divides by zero")
    found = abs(one) // abs(other)
    return whole(found if (one < 0) == (other < 0) else -found)


def _rest(one: int, other: int) -> int:
    if not other:
        raise BadExpression("it divides by zero")
    found = abs(one) % abs(other)
    return -found if one < 0 else found


def _whole(calculate: Callable[[int, int], int], start: int | None = None) -> Function:
    """Return a function over whole numbers, one after another."""

    def one(_work: Work, *values: Value) -> int:
        numbers = [_int(value) for value in values]
        numbers = numbers if start is None else [start, *numbers]
        return reduce(lambda left, right: whole(calculate(left, right)), numbers)

    return Function(one, "any*" if start is not None else "any any*")


def _decimal(calculate: Callable[[Decimal, Decimal], Decimal], start: float | None = None) -> Function:
    """Return a function over numbers with all their digits, as sprig's float functions are."""

    def one(_work: Work, *values: Value) -> float:
        numbers = [_float(value) for value in values]
        numbers = numbers if start is None else [start, *numbers]
        if not all(map(math.isfinite, numbers)):
            raise BadExpression("it takes finite numbers")
        try:
            with localcontext() as context:
                context.prec = 60
                return float(reduce(calculate, [Decimal(repr(number)) for number in numbers]))
        except (DivisionByZero, InvalidOperation) as error:
            raise BadExpression("it divides by zero") from error

    return Function(one, "any*" if start is not None else "any any*")


def _quotient(one: Decimal, other: Decimal) -> Decimal:
    """Divide to sixteen digits after the point, as the library that sprig uses does."""
    return (one / other).quantize(Decimal(1).scaleb(-16))


def _rounded(_work: Work, value: Value, places: int, up_from: float = 0.5) -> float:
    scale = power(10.0, float(places))
    digit = scale * _float(value)
    if not math.isfinite(digit):
        raise BadExpression("it takes finite numbers")
    return float(math.ceil(digit) if math.modf(digit)[0] >= float(up_from) else math.floor(digit)) / scale


def _float_edge(calculate: Callable[[float], int]) -> Function:
    def one(_work: Work, value: Value) -> float:
        found = _float(value)
        return math.copysign(float(calculate(found)), found) if math.isfinite(found) else found

    return Function(one, "any")


def _octal(work: Work, value: Value) -> int:
    text = shown(value, work)
    found = int(text, 8) if _OCTAL.fullmatch(text) else 0
    return found if -(2**63) <= found < 2**63 else 0


# Lists


def _list(calculate: Callable[..., Value], takes: str = "list") -> Function:
    return Function(lambda _work, *given: calculate(*given), takes)


def _has(work: Work, members: list[Value], value: Value) -> bool:
    return any(same(value, one, work) for one in members)


def _unique(work: Work, members: list[Value]) -> list[Value]:
    found: list[Value] = []
    for one in members:
        if not _has(work, found, one):
            found.append(one)
    return found


def _without(work: Work, members: list[Value], *left_out: Value) -> list[Value]:
    return [one for one in members if not _has(work, list(left_out), one)]


def _sliced(_work: Work, members: list[Value], *indices: Value) -> Value:
    if not members:
        return None
    start = _int(indices[0]) if indices else 0
    end = _int(indices[1]) if len(indices) > 1 else len(members)
    if not 0 <= start <= end <= len(members):
        raise BadExpression(f"there is nothing from {start} to {end}: its length is {len(members)}")
    return members[start:end]


def _chunks(_work: Work, size: int, members: list[Value]) -> list[Value]:
    if size < 1:
        raise BadExpression("a chunk has at least one member")
    return [members[place : place + size] for place in range(0, len(members), size)]


# Maps


def _made(work: Work, *values: Value) -> dict[str, Value]:
    keys = [shown(one, work) for one in values[::2]]
    return dict(zip(keys, [*values[1::2], ""], strict=False))


def _picked(_work: Work, value: Mapping[str, Value], *names: str) -> dict[str, Value]:
    return {one: value[one] for one in names if one in value}


def _omitted(_work: Work, value: Mapping[str, Value], *names: str) -> dict[str, Value]:
    return {key: value[key] for key in value if key not in names}


def _keys(_work: Work, *maps: Mapping[str, Value]) -> list[Value]:
    return [key for one in maps for key in sorted(one)]


def _dug(_work: Work, *given: Value) -> Value:
    if len(given) < 3:
        raise BadExpression("'dig' takes at least three arguments")
    *names, default, value = given
    for one in map(text_of, names):
        if not isinstance(value, Mapping):
            raise BadExpression(f"{kind(value)} has no member {one!r}")
        if one not in value:
            return default
        value = value[one]
    return value


def _merged(work: Work, overwrite: bool, first: Mapping[str, Value], *others: Mapping[str, Value]) -> dict[str, Value]:
    found = dict(first)
    for other in others:
        for key in other:
            work.step()
            if isinstance(found.get(key), Mapping) and isinstance(other[key], Mapping):
                found[key] = _merged(work, overwrite, found[key], other[key])
            elif empty(found.get(key)) or (overwrite and not empty(other[key])):
                found[key] = other[key]
    return found


def _quiet(text: str, work: Work) -> Value:
    try:
        return from_json(text, work)
    except BadExpression:
        work.step()
        return None


def _pretty(work: Work, value: Value) -> str:
    return marshalled(value, work, indent="  ")


def _first_full(_work: Work, *values: Value) -> Value:
    return next((one for one in values if not empty(one)), None)


def _kind_of(_work: Work, value: Value) -> str:
    names = {"nil": "invalid", "float": "float64", "array": "slice"}
    return names.get(kind(value), kind(value))


_EITHER: dict[str, Function] = {
    "append": _list(lambda members, value: [*members, value], "list any"),
    "push": _list(lambda members, value: [*members, value], "list any"),
    "prepend": _list(lambda members, value: [value, *members], "list any"),
    "first": _list(lambda members: members[0] if members else None),
    "last": _list(lambda members: members[-1] if members else None),
    "rest": _list(lambda members: members[1:] or (None if not members else [])),
    "initial": _list(lambda members: members[:-1] or (None if not members else [])),
    "reverse": _list(lambda members: members[::-1]),
    "uniq": Function(_unique, "list"),
    "without": Function(_without, "list any*"),
    "has": Function(lambda work, value, members: members is not None and _has(work, members, value), "any list"),
    "slice": Function(_sliced, "list any*"),
    "chunk": Function(_chunks, "whole list"),
    "compact": _list(lambda members: [one for one in members if not empty(one)]),
    "merge": Function(lambda work, *maps: _merged(work, False, *maps), "map map*"),
    "mergeOverwrite": Function(lambda work, *maps: _merged(work, True, *maps), "map map*"),
    "deepCopy": Function(lambda _work, value: value, "any"),
    "toPrettyJson": Function(_pretty, "any"),
    "toRawJson": Function(lambda work, value: marshalled(value, work, html=False), "any"),
    "toJson": Function(lambda work, value: marshalled(value, work), "any"),
}

DATA: Functions = {
    **_EITHER,
    **{f"must{name[0].upper()}{name[1:]}": one for name, one in _EITHER.items()},
    "fromJson": Function(lambda work, text: _quiet(text, work), "text"),
    "mustFromJson": Function(lambda work, text: from_json(text, work), "text"),
    "atoi": Function(lambda _work, text: words.whole_in(text) or 0, "text"),
    "int": Function(lambda _work, value: _int(value), "any"),
    "int64": Function(lambda _work, value: _int(value), "any"),
    "float64": Function(lambda _work, value: _float(value), "any"),
    "toDecimal": Function(_octal, "any"),
    "add": _whole(lambda one, other: one + other, 0),
    "add1": Function(lambda _work, value: whole(_int(value) + 1), "any"),
    "sub": _whole(lambda one, other: one - other),
    "mul": _whole(lambda one, other: one * other),
    "div": _whole(_divided),
    "mod": _whole(_rest),
    **dict.fromkeys(("max", "biggest"), _whole(max)),
    "min": _whole(min),
    "addf": _decimal(lambda one, other: one + other, 0.0),
    "add1f": Function(lambda work, value: DATA["addf"].run(work, value, 1), "any"),
    "subf": _decimal(lambda one, other: one - other),
    "mulf": _decimal(lambda one, other: one * other),
    "divf": _decimal(_quotient),
    "maxf": Function(lambda _work, *values: max(map(_float, values)), "any any*"),
    "minf": Function(lambda _work, *values: min(map(_float, values)), "any any*"),
    "ceil": _float_edge(math.ceil),
    "floor": _float_edge(math.floor),
    "round": Function(_rounded, "any whole number?"),
    "until": Function(lambda work, count: counted(work, 0, count, -1 if count < 0 else 1), "whole"),
    "untilStep": Function(counted, "whole whole whole"),
    **dict.fromkeys(("list", "tuple"), Function(lambda _work, *values: list(values), "any*")),
    "concat": Function(lambda _work, *lists: [one for members in lists for one in members], "list list*"),
    "dict": Function(_made, "any*"),
    "get": Function(lambda _work, value, key: value.get(key, ""), "map text"),
    "set": Function(lambda _work, value, key, member: {**value, key: member}, "map text any"),
    "unset": Function(lambda work, value, key: _omitted(work, value, key), "map text"),
    "hasKey": Function(lambda _work, value, key: key in value, "map text"),
    "pluck": Function(lambda _work, key, *maps: [one[key] for one in maps if key in one], "text map*"),
    "keys": Function(_keys, "map*"),
    "values": Function(lambda _work, value: [value[key] for key in sorted(value)], "map"),
    "pick": Function(_picked, "map text*"),
    "omit": Function(_omitted, "map text*"),
    "dig": Function(_dug, "any*"),
    "default": Function(
        lambda _work, default, *given: given[0] if given and not empty(given[0]) else default, "any any*"
    ),
    "empty": Function(lambda _work, value: empty(value), "any"),
    "coalesce": Function(_first_full, "any*"),
    "all": Function(lambda _work, *values: not any(map(empty, values)), "any*"),
    "any": Function(lambda _work, *values: not all(map(empty, values)), "any*"),
    "ternary": Function(lambda _work, yes, no, which: yes if which else no, "any any truth"),
    "kindOf": Function(_kind_of, "any"),
    "kindIs": Function(lambda work, name, value: name == _kind_of(work, value), "text any"),
    "deepEqual": Function(lambda work, one, other: same(one, other, work), "any any"),
    "fail": Function(lambda _work, message: _fail(message), "text"),
}
"""What sprig calls by two names gives the same by both: ``must...`` fails where the other one panics."""


def _fail(message: str) -> Any:
    raise BadExpression(f"it says: {message[:200]}")

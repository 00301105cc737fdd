"""What operators do with values, as Go's runtime of expr does it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.patterns import matches
from ropewalk_workflows.expr.values import AnyKeys, Value, is_number, kind, to_whole, whole
from ropewalk_workflows.expr.work import Work

_MOST_RANGE = 100_000


def unary(operator: str, value: Value) -> Value:
    """Return ``-value`` or ``!value``."""
    if operator in ("not", "!") and isinstance(value, bool):
        return not value
    if operator == "-" and is_number(value):
        return whole(-value) if isinstance(value, int) else -value
    if operator == "+" and is_number(value):
        return value
    raise BadExpression(f"'{operator}' cannot take {kind(value)}")


def binary(operator: str, left: Value, right: Value, work: Work) -> Value:
    """Return what an operator makes of two values that both count.

    Raises
    ------
    BadExpression
        If it is not defined on them.
    """
    return _BINARY[operator](left, right, work)


def equal(left: Value, right: Value, work: Work) -> bool:
    """Compare as ``==`` does: numbers by value, lists member by member, maps with the kinds of numbers in them."""
    work.step()
    if is_number(left) and is_number(right):
        return bool(left == right)
    if isinstance(left, str) and isinstance(right, str):
        work.read(left)
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(equal(one, other, work) for one, other in pairs)
    return same(left, right, work)


def same(left: Value, right: Value, work: Work) -> bool:
    """Compare as Go's ``reflect.DeepEqual`` does: 1 is not 1.0."""
    work.step()
    if kind(left) != kind(right):
        return False
    if isinstance(left, list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(same(one, other, work) for one, other in pairs)
    if isinstance(left, Mapping):
        return (
            isinstance(left, AnyKeys) == isinstance(right, AnyKeys)
            and len(left) == len(right)
            and all(key in right and same(left[key], right[key], work) for key in left)
        )
    work.read(left)
    return bool(left == right)


def less(left: Value, right: Value) -> bool:
    """Compare numbers, or texts."""
    if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return bool(left < right)
    raise BadExpression(f"{kind(left)} and {kind(right)} have no order")


def fetch(value: Value, key: Value) -> Value:
    """Return ``value[key]``; a map without the key gives nil.

    Raises
    ------
    BadExpression
        If there is no such member.
    """
    if isinstance(value, AnyKeys):
        return value.get(value.key(key))
    if isinstance(value, Mapping):
        return value.get(_named(key))
    if isinstance(value, (list, str)):
        if not is_number(key):
            raise BadExpression(f"{kind(value)} has no member {key!r}" if isinstance(key, str) else "it is no index")
        members = value if isinstance(value, list) else value.encode()
        place = to_whole(key)
        place += len(members) if place < 0 else 0
        if not 0 <= place < len(members):
            raise BadExpression(f"{to_whole(key)} is out of range: its length is {len(members)}")
        return members[place]
    raise BadExpression(f"{kind(value)} has no member {key!r}" if isinstance(key, str) else f"{kind(value)} has none")


def sliced(value: Value, start: Value, end: Value, work: Work) -> Value:
    """Return ``value[start:end]``; of text, its bytes are counted."""
    if not isinstance(value, (list, str)):
        raise BadExpression(f"{kind(value)} has no parts")
    work.read(value)
    members = value if isinstance(value, list) else value.encode()
    first = _edge(start, 0, len(members))
    last = min(_edge(end, len(members), len(members)), len(members))
    found = members[min(first, last) : last]
    return found if isinstance(found, list) else found.decode(errors="replace")


def _edge(value: Value, default: int, length: int) -> int:
    if value is None:
        return default
    if not is_number(value):
        raise BadExpression(f"{kind(value)} is no index")
    found = to_whole(value)
    return max(found + length, 0) if found < 0 else found


def _named(key: Value) -> str:
    """Return a key of a map; nil counts as no text."""
    if not isinstance(key, str) and key is not None:
        raise BadExpression(f"a map has no member by {kind(key)}")
    return key or ""


def _numbers(operator: str, left: Value, right: Value) -> None:
    if not (is_number(left) and is_number(right)):
        raise BadExpression(f"'{operator}' cannot take {kind(left)} and {kind(right)}")


def _add(left: Value, right: Value, work: Work) -> Value:
    if isinstance(left, str) and isinstance(right, str):
        work.make(len(left) + len(right))
        return left + right
    _numbers("+", left, right)
    found = left + right
    return whole(found) if isinstance(found, int) else found


def _arithmetic(operator: str, calculate: Callable[[Value, Value], Value]) -> Callable[[Value, Value, Work], Value]:
    def one(left: Value, right: Value, _work: Work) -> Value:
        _numbers(operator, left, right)
        found = calculate(left, right)
        return whole(found) if isinstance(found, int) else found

    return one


def _divide(left: Value, right: Value, _work: Work) -> float:
    _numbers("/", left, right)
    one, other = float(left), float(right)
    if other:
        return one / other
    if not one or math.isnan(one):
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1, other)


def _modulo(left: Value, right: Value, _work: Work) -> int:
    if type(left) is not int or type(right) is not int:
        raise BadExpression(f"'%' cannot take {kind(left)} and {kind(right)}")
    if not right:
        raise BadExpression("it divides by zero")
    found = abs(left) % abs(right)
    return -found if left < 0 else found


def power(left: float, right: float) -> float:
    """Return a power as Go's ``math.Pow`` does, which refuses nothing."""
    try:
        return math.pow(left, right)
    except OverflowError:
        odd = right == int(right) and int(right) % 2
        return -math.inf if left < 0 and odd else math.inf
    except ValueError:
        if left == 0:
            odd = right == int(right) and int(right) % 2
            return math.copysign(math.inf, left) if odd else math.inf
        return math.nan


def _power(left: Value, right: Value, _work: Work) -> float:
    _numbers("**", left, right)
    return power(float(left), float(right))


def _range(left: Value, right: Value, work: Work) -> list[int]:
    _numbers("..", left, right)
    first, last = to_whole(left), to_whole(right)
    length = max(last - first + 1, 0)
    if length > _MOST_RANGE:
        raise BadExpression(f"a range of {length:,} is longer than {_MOST_RANGE:,}")
    work.make(length, members=True)
    return list(range(first, last + 1))


def _in(left: Value, right: Value, work: Work) -> bool:
    if right is None:
        return False
    if isinstance(right, list):
        return any(equal(one, left, work) for one in right)
    if isinstance(right, AnyKeys):
        return right.key(left) in right
    if isinstance(right, Mapping):
        return _named(left) in right
    raise BadExpression(f"nothing is in {kind(right)}")


def _texts(operator: str, ask: Callable[[str, str, Work], bool]) -> Callable[[Value, Value, Work], bool]:
    def one(left: Value, right: Value, work: Work) -> bool:
        if left is None or right is None:
            return False
        if not (isinstance(left, str) and isinstance(right, str)):
            raise BadExpression(f"'{operator}' cannot take {kind(left)} and {kind(right)}")
        work.read(left, right)
        return ask(left, right, work)

    return one


_BINARY: dict[str, Callable[[Value, Value, Work], Value]] = {
    "+": _add,
    "-": _arithmetic("-", lambda left, right: left - right),
    "*": _arithmetic("*", lambda left, right: left * right),
    "/": _divide,
    "%": _modulo,
    "**": _power,
    "^": _power,
    "..": _range,
    "==": equal,
    "!=": lambda left, right, work: not equal(left, right, work),
    "<": lambda left, right, _work: less(left, right),
    ">": lambda left, right, _work: less(right, left),
    "<=": lambda left, right, _work: not_more(left, right),
    ">=": lambda left, right, _work: not_more(right, left),
    "in": _in,
    "contains": _texts("contains", lambda left, right, _work: right in left),
    "startsWith": _texts("startsWith", lambda left, right, _work: left.startswith(right)),
    "endsWith": _texts("endsWith", lambda left, right, _work: left.endswith(right)),
    "matches": _texts("matches", lambda left, right, work: matches(right, left, work)),
}


def not_more(left: Value, right: Value) -> bool:
    """Return ``left <= right``, which with NaN is no opposite of anything."""
    less(left, right)
    return bool(left <= right)

"""The parts of an expression and the names around it -> a value. Pure, and bounded by ``Work``.

The order in which parts are asked, what is left out, and what nil does are expr's. Not here: what functions do
(``calling``). Rejected: turning parts into Python and running that; a value could become code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cmp_to_key
from typing import Any

from ropewalk_workflows.expr import operators
from ropewalk_workflows.expr.calling import call
from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.tree import (
    Binary,
    Call,
    Chain,
    Condition,
    Let,
    ListOf,
    Literal,
    MapOf,
    Member,
    Name,
    Over,
    Part,
    Pointer,
    Sequence,
    Slice,
    Unary,
)
from ropewalk_workflows.expr.values import AnyKeys, Value, kind
from ropewalk_workflows.expr.work import Work


class _Nil(Exception):
    """A value before ``?.`` is nil: its chain is nil. Never leaves this module."""


def evaluate(part: Part, names: Mapping[str, Value], work: Work) -> Value:
    """Return the value of an expression.

    Parameters
    ----------
    part
        What ``building.build`` gave.
    names
        The variables.
    work
        What it may do.

    Raises
    ------
    BadExpression
        If it has none, or does too much.
    """
    try:
        return _Run(names, work).value(part)
    except RecursionError as error:
        raise BadExpression("it is nested too deeply") from error
    except ArithmeticError as error:
        raise BadExpression("a number is too large or too small") from error


class _Run:
    def __init__(self, names: Mapping[str, Value], work: Work) -> None:
        self._names, self._work = names, work
        self._local: dict[str, Value] = {}
        self._pointers: list[dict[str, Value]] = []
        self._ways: dict[type, Callable[[Any], Value]] = {
            Literal: lambda part: part.value,
            Name: self._name,
            Pointer: self._pointer,
            Unary: lambda part: operators.unary(part.operator, self.value(part.operand)),
            Binary: self._binary,
            Member: self._member,
            Chain: self._chain,
            Slice: self._slice,
            Call: lambda part: call(part.function, [self.value(one) for one in part.arguments], self._work),
            Over: self._over,
            Let: self._let,
            Sequence: lambda part: [self.value(one) for one in part.items][-1],
            Condition: lambda part: self.value(part.yes if self._holds(part.test) else part.no),
            ListOf: self._list,
            MapOf: self._map,
        }

    def value(self, part: Part) -> Value:
        self._work.step()
        try:
            return self._ways[type(part)](part)
        except BadExpression as error:
            error.at = error.at or part.at
            raise

    def _holds(self, part: Part) -> bool:
        return _truth(self.value(part), part)

    def _name(self, part: Name) -> Value:
        if part.name in self._local:
            return self._local[part.name]
        if part.name not in self._names:
            raise BadExpression(f"nothing is known as '{part.name}'")
        return self._names[part.name]

    def _pointer(self, part: Pointer) -> Value:
        if not self._pointers or part.name not in self._pointers[-1]:
            raise BadExpression(f"'#{part.name}' means nothing here")
        return self._pointers[-1][part.name]

    def _binary(self, part: Binary) -> Value:
        """Go down the left side in a loop: a long sum would overflow the stack."""
        spine = [part]
        while isinstance(spine[-1].left, Binary):
            spine.append(spine[-1].left)
        value = self.value(spine[-1].left)
        for one in reversed(spine):
            self._work.step()
            try:
                value = self._applied(one, value)
            except BadExpression as error:
                error.at = error.at or one.at
                raise
        return value

    def _applied(self, part: Binary, left: Value) -> Value:
        if part.operator in ("and", "&&"):
            return _truth(left, part.left) and self._holds(part.right)
        if part.operator in ("or", "||"):
            return _truth(left, part.left) or self._holds(part.right)
        if part.operator == "??":
            return left if left is not None else self.value(part.right)
        return operators.binary(part.operator, left, self.value(part.right), self._work)

    def _member(self, part: Member) -> Value:
        value = self.value(part.value)
        if part.optional and value is None:
            raise _Nil
        return operators.fetch(value, self.value(part.key))

    def _chain(self, part: Chain) -> Value:
        try:
            return self.value(part.inner)
        except _Nil:
            return None

    def _slice(self, part: Slice) -> Value:
        value, start, end = (self.value(one) if one is not None else None for one in (part.value, part.start, part.end))
        return operators.sliced(value, start, end, self._work)

    def _let(self, part: Let) -> Value:
        before = dict(self._local)
        self._local[part.name] = self.value(part.value)
        try:
            return self.value(part.rest)
        finally:
            self._local = before

    def _list(self, part: ListOf) -> Value:
        self._work.make(len(part.items), members=True)
        return [self.value(one) for one in part.items]

    def _map(self, part: MapOf) -> Value:
        self._work.make(len(part.pairs), members=True)
        found: dict[str, Value] = {}
        for key, value in part.pairs:
            name = self.value(key)
            if not isinstance(name, str):
                raise BadExpression(f"{kind(name)} is no key", key.at)
            found[name] = self.value(value)
        return found

    # Functions that ask about each member

    def _over(self, part: Over) -> Value:
        members = self.value(part.value)
        if not isinstance(members, list):
            raise BadExpression(f"'{part.function}' takes a list, not {kind(members)}")
        self._work.make(len(members), members=True)
        return _OVER[part.function](self, part, members)

    def ask(self, part: Over, member: Value, index: int, acc: Value = None) -> Value:
        """Return what the predicate says of a member."""
        if part.predicate is None:
            return member
        pointers = {"": member, "index": index}
        self._pointers.append({**pointers, "acc": acc} if part.function == "reduce" else pointers)
        try:
            return self.value(part.predicate)
        finally:
            self._pointers.pop()

    def wanted(self, part: Over, member: Value, index: int) -> bool:
        """Say whether the predicate holds of a member."""
        return _truth(self.ask(part, member, index), part.predicate or part)

    def order(self, part: Over) -> bool:
        """Return whether a sort goes down."""
        found = self.value(part.more) if part.more is not None else "asc"
        if found not in ("asc", "desc"):
            raise BadExpression("an order is 'asc' or 'desc'", part.at)
        return bool(found == "desc")

    def first(self, part: Over) -> Value:
        """Return what a reduction begins with."""
        return self.value(part.more) if part.more is not None else None

    @property
    def work(self) -> Work:
        """What is left of it."""
        return self._work


def _truth(value: Value, part: Part) -> bool:
    if isinstance(value, bool):
        return value
    raise BadExpression(f"{kind(value)} is neither true nor false", part.at)


_Members = list[Value]


def _found(run: _Run, part: Over, members: _Members, *, last: bool, place: bool) -> Value:
    order = range(len(members) - 1, -1, -1) if last else range(len(members))
    for index in order:
        if run.wanted(part, members[index], index):
            return index if place else members[index]
    return None


def _sum(run: _Run, part: Over, members: _Members) -> Value:
    total: Value = 0
    for index, one in enumerate(members):
        total = operators.binary("+", run.ask(part, one, index), total, run.work)
    return total


def _grouped(run: _Run, part: Over, members: _Members) -> Value:
    found: AnyKeys = AnyKeys()
    for index, one in enumerate(members):
        found.setdefault(found.key(run.ask(part, one, index)), []).append(one)
    return found


def _sorted(run: _Run, part: Over, members: _Members) -> Value:
    down = run.order(part)
    keyed = [(run.ask(part, one, index), one) for index, one in enumerate(members)]
    return [one for _, one in ordered(keyed, lambda pair: pair[0], down, run.work)]


def ordered(members: list[Any], key: Callable[[Any], Value], down: bool, work: Work) -> list[Any]:
    """Return members in order of their keys, which have one."""

    def compare(one: Any, other: Any) -> int:
        work.step()
        left, right = (key(other), key(one)) if down else (key(one), key(other))
        return -1 if operators.less(left, right) else int(operators.less(right, left))

    return sorted(members, key=cmp_to_key(compare))


def _reduced(run: _Run, part: Over, members: _Members) -> Value:
    start = 0
    if part.more is not None:
        acc = run.first(part)
    elif members:
        acc, start = members[0], 1
    else:
        raise BadExpression("there is nothing to reduce")
    for index in range(start, len(members)):
        acc = run.ask(part, members[index], index, acc)
    return acc


_OVER: dict[str, Callable[[_Run, Over, _Members], Value]] = {
    "all": lambda run, part, of: all(run.wanted(part, one, place) for place, one in enumerate(of)),
    "none": lambda run, part, of: not any(run.wanted(part, one, place) for place, one in enumerate(of)),
    "any": lambda run, part, of: any(run.wanted(part, one, place) for place, one in enumerate(of)),
    "one": lambda run, part, of: sum([run.wanted(part, one, place) for place, one in enumerate(of)]) == 1,
    "filter": lambda run, part, of: [one for place, one in enumerate(of) if run.wanted(part, one, place)],
    "map": lambda run, part, of: [run.ask(part, one, place) for place, one in enumerate(of)],
    "count": lambda run, part, of: sum([run.wanted(part, one, place) for place, one in enumerate(of)]),
    "sum": _sum,
    "find": lambda run, part, of: _found(run, part, of, last=False, place=False),
    "findIndex": lambda run, part, of: _found(run, part, of, last=False, place=True),
    "findLast": lambda run, part, of: _found(run, part, of, last=True, place=False),
    "findLastIndex": lambda run, part, of: _found(run, part, of, last=True, place=True),
    "groupBy": _grouped,
    "sortBy": _sorted,
    "reduce": _reduced,
}

"""1,700 expressions that nobody thought of, always the same.

They are grown at random from a small grammar over the names in ``names.json``, most of them without an error and some
with one. What they give is Argo's to say (``ask.py``). Not here: expressions that somebody thought of (``asked.txt``).
"""

from __future__ import annotations

import random

COUNT = 1700
_LEAVES = ("i", "f64", "str", "ok", "array", "list", "item", "0", "1", "7", "-2", "0.5", "1.0", "'a'", "''", "'str'")
_LEAVES += ("true", "false", "nil", "[]", "[1, 2]", "['a', 'b']", "{}", "{a: 1}", "asInt(retries)", "1..3", "nothing")
_BINARY = ("+", "-", "*", "/", "%", "**", "==", "!=", "<", ">=", "and", "or", "in", "not in", "??", "..")
_BINARY += ("startsWith", "endsWith", "contains")
_UNARY = ("-", "not ", "!")
_ONE = ("len", "type", "string", "int", "float", "abs", "ceil", "floor", "round", "upper", "lower", "trim", "first")
_ONE += ("last", "sum", "mean", "median", "min", "max", "reverse", "uniq", "flatten", "sort", "keys", "values")
_ONE += ("toPairs", "fromPairs", "toJSON", "toJson", "asInt", "asFloat")
_EACH = ("all", "any", "one", "none", "filter", "map", "count", "find", "findIndex", "groupBy", "sortBy", "findLast")
_WITHIN = ("[0]", "[-1]", "[1:]", "[:2]", "[5]", "[i]", "?.a", "[0]?.Bar", ".a", "['a']")
_WITH = ("#", "# > 1", "# == 'a'", "ok", "# != nil", ".Bar", ".Bar == 'bar'", "type(#)", "#index")


class Grown:
    """Expressions from one source of chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def one(self, depth: int = 3) -> str:
        """Return an expression of no more than this depth."""
        if depth == 0:
            return self._chance.choice(_LEAVES)
        shapes = (self._binary, self._called, self._each, self._chosen, self._within, self._unary, self._leaf)
        return self._chance.choices(shapes, (4, 4, 3, 1, 2, 1, 2))[0](depth - 1)

    def _leaf(self, depth: int) -> str:
        return self._chance.choice(_LEAVES)

    def _binary(self, depth: int) -> str:
        left, right = self.one(depth), self.one(depth)
        operator = self._chance.choice(_BINARY)
        return f"({left}) {operator} {right}" if self._chance.random() < 0.5 else f"{left} {operator} {right}"

    def _unary(self, depth: int) -> str:
        return f"{self._chance.choice(_UNARY)}({self.one(depth)})"

    def _called(self, depth: int) -> str:
        name, value = self._chance.choice(_ONE), self.one(depth)
        return f"{value} | {name}()" if self._chance.random() < 0.3 else f"{name}({value})"

    def _each(self, depth: int) -> str:
        source = self._chance.choice(("array", "list", "[1, 2, 'a']", "1..4", self.one(depth)))
        return f"{self._chance.choice(_EACH)}({source}, {self._chance.choice(_WITH)})"

    def _chosen(self, depth: int) -> str:
        test, yes, no = self.one(depth), self.one(depth), self.one(depth)
        if self._chance.random() < 0.3:
            return f"if {test} {{ {yes} }} else {{ {no} }}"
        return f"{test} ? {yes} : {no}"

    def _within(self, depth: int) -> str:
        value = self._chance.choice(("array", "list", "str", f"({self.one(depth)})"))
        return value + self._chance.choice(
            ("[0]", "[-1]", "[1:]", "[:2]", "[5]", "[i]", "?.a", "[0]?.Bar", ".a", "['a']")
        )


def expressions() -> list[str]:
    """Return them."""
    chance = random.Random(20261123)
    grown, found = Grown(chance), dict[str, None]()
    while len(found) < COUNT:
        found.setdefault(grown.one(chance.randint(1, 3)))
    return list(found)

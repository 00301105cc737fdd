"""Text of an expression -> its parts. The grammar is in ``grammar.lark``; here its pieces become parts.

Pure. An LALR parser reads in linear time and without recursion, so junk costs what its length costs. Not here: whether
names and functions exist (``checking``). Rejected: recursive descent by hand (it was shorter, and nobody could hold it
against expr's own language); Lark's Earley parser, which reads some texts in cubic time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import VisitError

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
from ropewalk_workflows.expr.work import DEEPEST, LONGEST

_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
_PIPE = "|"
_BINARY = {
    **dict.fromkeys((_PIPE,), 0),
    **dict.fromkeys(("or", "||"), 10),
    **dict.fromkeys(("and", "&&"), 15),
    **dict.fromkeys(("==", "!=", "<", ">", ">=", "<="), 20),
    **dict.fromkeys(("in", "matches", "contains", "startsWith", "endsWith"), 20),
    "..": 25,
    **dict.fromkeys(("+", "-"), 30),
    **dict.fromkeys(("*", "/", "%"), 60),
    **dict.fromkeys(("**", "^"), 100),
    "??": 500,
}
_COMPARISONS = ("<", ">", ">=", "<=")
_WORDS = {"true": True, "false": False, "nil": None}
_ESCAPES = dict(zip("abfnrtv\\'\"", "\a\b\f\n\r\t\v\\'\"", strict=True))
_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(
    rf"\\(?:u\{{({_HEX}{{1,6}})\}}|x({_HEX}{{2}})|u({_HEX}{{4}})|U({_HEX}{{8}})|([0-3][0-7]{{2}})|(.))"
)


def build(text: str) -> Part:
    """Return the parts of an expression.

    Raises
    ------
    BadExpression
        With the place of the first character that cannot be read.
    """
    if len(text) > LONGEST:
        raise BadExpression(f"it is longer than {LONGEST:,} characters")
    ended = text.rstrip()
    try:  # a last `;` may stand behind the whole, and nowhere else
        return _parser().parse(ended.removesuffix(";") if ended != ";" else ended)  # type: ignore[return-value]  # our own transformer made it
    except UnexpectedInput as error:
        raise _unread(error, text) from error
    except VisitError as error:
        if isinstance(error.orig_exc, BadExpression):
            raise error.orig_exc from error
        raise


def _unread(error: UnexpectedInput, text: str) -> BadExpression:
    token = getattr(error, "token", None)
    at = error.pos_in_stream
    if not text.strip():
        return BadExpression("it is empty")
    if at is None or at < 0 or (token is not None and token.type == "$END"):
        return BadExpression("it ends too early", len(text.rstrip()))
    return BadExpression(f"nothing was expected before {text[at : at + 20]!r}", at + 1)


@cache
def _parser() -> Lark:
    grammar = files("ropewalk_workflows.expr").joinpath("grammar.lark").read_text()
    return Lark(grammar, parser="lalr", lexer="contextual", transformer=_Builder(), maybe_placeholders=True)


def _at(token: Token) -> int:
    return (token.start_pos or 0) + 1


class _Operator:
    """One operator of a flat chain; a pipe brings the call that follows it."""

    def __init__(self, token: Token | None, negated: bool = False, call: Callable[[Part], Part] | None = None) -> None:
        self.text = str(token) if token is not None else _PIPE
        self.at = _at(token) if token is not None else 0
        self.negated, self.call = negated, call


class _Prefixed:
    """An operand with the operators before it."""

    def __init__(self, operators: list[Token], operand: Part) -> None:
        self.operators, self.operand = operators, operand


@v_args(inline=True)
class _Builder(Transformer[Token, Any]):
    """Makes parts while the parser reads."""

    def start(self, sequence: Part) -> Part:
        return sequence

    def sequence(self, *items: Part) -> Part:
        return items[0] if len(items) == 1 else Sequence(items[0].at, items)

    def let(self, _word: Token, name: Token, value: Part, rest: Part) -> Part:
        return Let(_at(name), str(name), value, rest)

    def ternary(self, test: Part, yes: Part, no: Part) -> Part:
        return Condition(test.at, test, yes, no)

    def elvis(self, test: Part, no: Part) -> Part:
        return Condition(test.at, test, test, no)

    def branch(self, word: Token, test: Part, yes: Part, _else: Token, no: Part) -> Part:
        return Condition(_at(word), test, yes, no)

    # Operators

    def operand(self, *parts: Any) -> _Prefixed:
        return _Prefixed(list(parts[:-1]), parts[-1])

    def pipe_call(self, name: Token, arguments: tuple[Part, ...]) -> _Operator:
        return _Operator(None, call=lambda left: Call(_at(name), str(name), (left, *arguments)))

    def pipe_predicate(self, name: Token, predicate: Part | None, more: Part | None) -> _Operator:
        return _Operator(None, call=lambda left: Over(_at(name), str(name), left, predicate, more))

    def chain(self, *parts: Any) -> Part:
        found: list[Any] = []
        negated = False
        for one in parts:
            if isinstance(one, Token) and one.type == "NOT":
                negated = True
                continue
            found.append(_Operator(one, negated) if isinstance(one, Token) else one)
            negated = False
        return _Climb(found).climb(0)

    # Operands

    def number(self, token: Token) -> Part:
        return Literal(_at(token), _number(token))

    def string(self, token: Token) -> Part:
        return Literal(_at(token), _unescaped(token))

    def raw(self, token: Token) -> Part:
        return Literal(_at(token), str(token)[1:-1].replace("``", "`"))

    def name(self, token: Token) -> Part:
        if token in _WORDS:
            return Literal(_at(token), _WORDS[str(token)])
        return Name(_at(token), str(token))

    def pointer(self, token: Token) -> Part:
        return Pointer(_at(token), str(token)[1:].strip())

    def pointer_member(self, field: Token) -> Part:
        return Member(_at(field), Pointer(_at(field), ""), Literal(_at(field), str(field)))

    def member(self, value: Part, field: Token) -> Part:
        return _member(value, field, optional=False)

    def maybe_member(self, value: Part, field: Token) -> Part:
        return _member(value, field, optional=True)

    def method(self, value: Part, field: Token, arguments: tuple[Part, ...]) -> Part:
        if isinstance(value, Name):
            return Call(value.at, f"{value.name}.{field}", arguments)
        raise BadExpression(f"'.{field}()' is not supported here", _at(field))

    def index(self, value: Part, key: Part) -> Part:
        return Member(key.at, value, key)

    def maybe_index(self, value: Part, key: Part) -> Part:
        return Chain(key.at, Member(key.at, value, key, optional=True))

    def slice(self, value: Part, start: Part | None, _colon: Token, end: Part | None) -> Part:
        return Slice(value.at, value, start, end)

    def list(self, *items: Part | None) -> Part:
        found = tuple(one for one in items if one is not None)
        return ListOf(found[0].at if found else 0, found)

    def map(self, *pairs: tuple[Part, Part] | None) -> Part:
        found = tuple(one for one in pairs if one is not None)
        return MapOf(found[0][0].at if found else 0, found)

    def pair(self, key: Part, value: Part) -> tuple[Part, Part]:
        return (key, value)

    def key(self, key: Token | Part) -> Part:
        if not isinstance(key, Token):
            return key
        if key.type == "STRING":
            return self.string(key)
        return self.raw(key) if key.type == "RAW" else Literal(_at(key), str(key))

    def args(self, *items: Part | None) -> tuple[Part, ...]:
        return tuple(one for one in items if one is not None)

    def call(self, name: Token, arguments: tuple[Part, ...]) -> Part:
        return Call(_at(name), str(name), arguments)

    builtin_call = call

    def predicate(self, *parts: Any) -> Part:
        found: Part = parts[-1]
        return found

    def predicate_call(self, name: Token, value: Part, predicate: Part | None, more: Part | None) -> Part:
        return Over(_at(name), str(name), value, predicate, more)


def _member(value: Part, field: Token, *, optional: bool) -> Part:
    """Return ``value.field``; what follows a ``?.`` belongs to its chain, as expr's parser has it."""
    key = Literal(_at(field), str(field))
    if isinstance(value, Chain):
        return Chain(_at(field), Member(_at(field), value.inner, key, optional))
    found = Member(_at(field), value, key, optional)
    return Chain(_at(field), found) if optional else found


class _Climb:
    """Puts a flat chain together by precedence, step for step as expr's own parser does."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts, self._place, self._depth = parts, 0, 0

    def climb(self, least: int) -> Part:
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadExpression("it is nested too deeply")
        left = self._operand()
        before = ""
        while (operator := self._next(least)) is not None:
            self._place += 1
            if operator.call is not None:
                left = operator.call(left)
            else:
                if before == "??" and operator.text != "??":
                    raise BadExpression(f"'{operator.text}' beside '??' needs brackets", operator.at)
                left = self._joined(left, operator)
            before = operator.text
        self._depth -= 1
        return left

    def _next(self, least: int) -> _Operator | None:
        found = self._parts[self._place] if self._place < len(self._parts) else None
        return found if isinstance(found, _Operator) and _BINARY[found.text] >= least else None

    def _operand(self) -> Part:
        """Return the operand here; an operator before it may reach over what follows it."""
        prefixed: _Prefixed = self._parts[self._place]
        if not prefixed.operators:
            self._place += 1
            return prefixed.operand
        token = prefixed.operators.pop(0)
        return Unary(_at(token), str(token), self.climb(_UNARY[str(token)]))

    def _joined(self, left: Part, operator: _Operator) -> Part:
        precedence = _BINARY[operator.text]
        if operator.negated and operator.text in ("and", "or"):
            raise BadExpression(f"nothing was expected before {operator.text!r}", operator.at)
        if operator.text in _COMPARISONS:
            return self._compared(left, operator, precedence)
        right = self.climb(precedence if operator.text in ("**", "^") else precedence + 1)
        found: Part = Binary(operator.at, operator.text, left, right)
        return Unary(operator.at, "not", found) if operator.negated else found

    def _compared(self, left: Part, operator: _Operator, precedence: int) -> Part:
        """Return ``a < b < c`` as ``a < b && b < c``."""
        found: Part | None = None
        while True:
            right = self.climb(precedence + 1)
            one = Binary(operator.at, operator.text, left, right)
            found = one if found is None else Binary(operator.at, "&&", found, one)
            following = self._next(precedence)
            if following is None or following.text not in _COMPARISONS:
                return found
            self._place += 1
            left, operator = right, following


def _number(token: Token) -> int | float:
    text = str(token).replace("_", "").lower()
    try:
        if text.startswith(("0x", "0o", "0b")):
            found: int | float = int(text, 0)
        else:
            found = float(text) if "." in text or "e" in text else int(text)
    except ValueError as error:
        raise BadExpression(f"{str(token)[:40]!r} is no number", _at(token)) from error
    if found > (2**63 - 1 if isinstance(found, int) else 1.7976931348623157e308):
        raise BadExpression(f"{str(token)[:40]!r} is too large", _at(token))
    return found


def _unescaped(token: Token) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3] or match[4]
        if code or match[5]:
            number = int(code, 16) if code else int(match[5], 8)
            if number > 0x10FFFF:
                raise BadExpression(f"{match[0]!r} is no character", _at(token))
            return "\ufffd" if 0xD800 <= number < 0xE000 else chr(number)
        if match[6] not in _ESCAPES or (match[6] in "'\"" and match[6] != token[0]):
            raise BadExpression(f"{match[0]!r} is no character", _at(token) + match.start() + 1)
        return _ESCAPES[match[6]]

    return _ESCAPE.sub(one, str(token)[1:-1].replace("\r\n", "\n").replace("\r", "\n"))

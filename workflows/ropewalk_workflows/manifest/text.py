"""The little languages inside a manifest: ``{{tags}}``, ``when``, ``depends``, durations. Pure.

Values are put in place of tags after the text around them was read, so a value can never become an operator. What
stands in an expression tag ``{{=...}}`` is read by ``expr``, which gets values by their names and never their text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from ropewalk_workflows.expr import BadExpression, Expression, read

_TAG = re.compile(r"\{\{(=|)\s*(.*?)\s*\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(\|\||&&|==|!=|>=|<=|=~|!~|[()!<>])|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([^\s()!<>=&|"']+))"""
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PHASES = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed")


_LONGEST_TIME = 10 * 365 * 86400.0
_MOST_FILLED = 4 * 2**20
_DEEPEST = 100
FORMAT = re.compile(r"[^%]{0,200}%0?\d{0,2}[dxXo][^%]{0,200}")
"""What a sequence's format may be: a wider one would fill the memory."""


class BadText(ValueError):
    """A text in the manifest cannot be read."""


@runtime_checkable
class Evaluates(Protocol):
    """Values of tags that know what an expression makes of them."""

    def expression(self, text: str) -> str:
        """Return what stands in place of ``{{=text}}``, or raise `BadText`."""


def tags(text: str) -> Iterator[str]:
    """Yield the tags in a text, without braces; not those that are expressions."""
    for match in _TAG.finditer(text):
        if not match[1]:
            yield match[2]


def expressions(text: str) -> Iterator[str]:
    """Yield the expressions in a text, without braces and ``=``."""
    for match in _TAG.finditer(text):
        if match[1]:
            yield match[2]


def fill(text: str, values: Mapping[str, str], *, lenient: bool = False) -> str:
    """Return the text with each known tag's value in its place; values are not read again.

    ``lenient`` leaves unknown tags as they are: a script's source may have braces of its own. An expression always
    needs a value.

    Raises
    ------
    BadText
        If a tag has no value.
    """

    length = 0

    def one(match: re.Match[str]) -> str:
        nonlocal length
        if match[1]:
            found = (
                values.expression(match[2]) if isinstance(values, Evaluates) else evaluated(match[2], nested(values))
            )
        elif match[2] in values:
            found = values[match[2]]
        elif lenient:
            return match[0]
        else:
            raise BadText(f"nothing is known as {match[0]}")
        length += len(found)
        if length > _MOST_FILLED:
            raise BadText(f"its values are longer than {_MOST_FILLED} characters")
        return found

    return _TAG.sub(one, text)


def expression(text: str) -> Expression:
    """Return the expression that a text is, checked as far as it can be without values.

    Raises
    ------
    BadText
        If it is none.
    """
    try:
        return read(text)
    except BadExpression as error:
        raise BadText(str(error)) from error


def _plainly(values: Mapping[str, str]) -> Callable[[str], str]:
    return lambda text: evaluated(text, nested(values))


def evaluated(text: str, names: Mapping[str, Any], *, shown: bool = False) -> str:
    """Return what stands in place of an expression.

    Parameters
    ----------
    text
        The expression.
    names
        The values around it, as a tree: ``names["inputs"]["parameters"]["n"]``.
    shown
        Whether it is written as Argo writes ``valueFrom.expression`` (Go's ``%v``) and not a tag (JSON).

    Raises
    ------
    BadText
        If it has no value.
    """
    try:
        found = expression(text)
        return found.shown(names) if shown else found.text(names)
    except BadExpression as error:
        raise BadText(f"the expression {text[:60]!r} has no value: {error}") from error


def holds(condition: str, names: Mapping[str, Any]) -> bool:
    """Say whether an expression that stands by itself is true; the names are a tree, as for ``evaluated``.

    Raises
    ------
    BadText
        If it is neither true nor false.
    """
    try:
        return expression(condition).holds(names)
    except BadExpression as error:
        raise BadText(f"the expression {condition[:60]!r} has no value: {error}") from error


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return tags as the tree that expressions see: of ``a`` and ``a.b`` only the second is left, as on Argo."""
    found: dict[str, Any] = {}
    for tag in sorted(values):
        *above, last = tag.split(".")
        here = found
        for one in above:
            if not isinstance(here.get(one), dict):
                here[one] = {}
            here = here[one]
        here[last] = values[tag]
    return found


def is_true(expression: str, values: Mapping[str, str]) -> bool:
    """Return whether a ``when`` holds.

    Raises
    ------
    BadText
        If it cannot be read.
    """
    return bool(_Parser(_tokens(expression), lambda word: fill(word, values)).all())


def depends(expression: str, phases: Callable[[str, str], bool]) -> bool:
    """Return whether a ``depends`` holds; ``phases(task, word)`` answers for one term such as ``A.Failed``."""

    def term(word: str) -> str:
        task, _, phase = word.partition(".")
        return "true" if phases(task, phase) else "false"

    return bool(_Parser(_tokens(expression), term).all())


def terms(expression: str) -> list[tuple[str, str]]:
    """Return the tasks and phases that a ``depends`` names.

    Raises
    ------
    BadText
        If it cannot be read.
    """
    found: list[tuple[str, str]] = []

    def term(word: str) -> str:
        task, _, phase = word.partition(".")
        if phase and phase not in _PHASES:
            raise BadText(f"{phase!r} is none of {', '.join(_PHASES)}")
        found.append((task, phase))
        return "true"

    _Parser(_tokens(expression), term).all()
    return found


def duration(text: str) -> float:
    """Return seconds from ``90``, ``1m30s`` or ``500ms``.

    Raises
    ------
    BadText
        If it is none.
    """
    stripped = text.strip()
    if not stripped or _DURATION.sub("", stripped):
        raise BadText(f"{text!r} is not a duration such as 30s or 1h")
    seconds = sum(float(match[1]) * _UNITS[match[2]] for match in _DURATION.finditer(stripped))
    if seconds > _LONGEST_TIME:
        raise BadText(f"{text[:40]!r} is longer than ten years")
    return seconds


def item_values(item: Any) -> dict[str, str]:
    """Return the tags that a loop's item gives: ``item``, and ``item.key`` for each key."""
    if isinstance(item, dict):
        found = {f"item.{key}": plain(value) for key, value in item.items()}
        return {"item": json.dumps(item), **found}
    return {"item": plain(item)}


def plain(value: Any) -> str:
    """Return a value as Argo puts it into text: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _tokens(expression: str) -> list[tuple[str, str]]:
    """Return (kind, text): operators, quoted texts, words; a tag is one word whatever is in it."""
    found: list[tuple[str, str]] = []
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(match[0])
        return f"\x00{len(held) - 1}\x00"

    text = _TAG.sub(hold, expression)
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if not match:
            raise BadText(f"{expression!r} cannot be read at {text[place:].strip()[:20]!r}")
        kind = "operator" if match[1] else "quoted" if match[2] else "word"
        raw = match[1] or match[2] or match[3]
        raw = raw[1:-1] if kind == "quoted" else raw
        found.append((kind, re.sub("\x00(\\d+)\x00", lambda one: held[int(one[1])], raw)))
        place = match.end()
    if not found:
        raise BadText("the condition is empty")
    if sum(kind == "operator" and raw in ("(", "!") for kind, raw in found) > _DEEPEST:
        raise BadText("the condition is nested too deeply")
    return found


class _Parser:
    """Recursive descent over ``||``, ``&&``, ``!``, comparisons and brackets."""

    def __init__(self, tokens: list[tuple[str, str]], value: Callable[[str], str]) -> None:
        self._tokens, self._value, self._place = tokens, value, 0

    def all(self) -> bool:
        result = self._or()
        if self._place < len(self._tokens):
            raise BadText(f"nothing was expected before {self._tokens[self._place][1]!r}")
        return result

    def _peek(self) -> str:
        if self._place < len(self._tokens) and self._tokens[self._place][0] == "operator":
            return self._tokens[self._place][1]
        return ""

    def _or(self) -> bool:
        result = self._and()
        while self._peek() == "||":
            self._place += 1
            result = self._and() or result
        return result

    def _and(self) -> bool:
        result = self._not()
        while self._peek() == "&&":
            self._place += 1
            result = self._not() and result
        return result

    def _not(self) -> bool:
        if self._peek() == "!":
            self._place += 1
            return not self._not()
        if self._peek() == "(":
            self._place += 1
            result = self._or()
            if self._peek() != ")":
                raise BadText("a bracket is not closed")
            self._place += 1
            return result
        return self._comparison()

    def _comparison(self) -> bool:
        left = self._operand()
        operator = self._peek()
        if operator in ("==", "!=", ">", "<", ">=", "<=", "=~", "!~"):
            self._place += 1
            return _compare(left, operator, self._operand())
        if left.lower() not in ("true", "false"):
            raise BadText(f"{left!r} is neither true nor false")
        return left.lower() == "true"

    def _operand(self) -> str:
        if self._place >= len(self._tokens) or self._tokens[self._place][0] == "operator":
            raise BadText("a value is missing")
        kind, text = self._tokens[self._place]
        self._place += 1
        return self._value(text) if kind == "word" or "{{" in text else text


def _compare(left: str, operator: str, right: str) -> bool:
    if operator in ("=~", "!~"):  # a person's pattern may take for ever, and this runs in the platform's own process
        raise BadText("patterns are not supported in conditions")
    try:
        one, other = float(left), float(right)
    except ValueError:
        if operator not in ("==", "!="):
            raise BadText(f"{left!r} and {right!r} are not both numbers") from None
        return (left == right) == (operator == "==")
    return {
        "==": one == other,
        "!=": one != other,
        ">": one > other,
        "<": one < other,
        ">=": one >= other,
        "<=": one <= other,
    }[operator]

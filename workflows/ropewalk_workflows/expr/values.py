"""Go's values in Python, and how Go writes them: ``nil`` is None, int64 an int, float64 a float, maps are mappings.

Pure. Not here: what operators do (``operators``). Rejected: ``json.dumps``; keys, numbers and ``<`` come out otherwise,
and a manifest must mean the same on Argo.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.work import Work

Value: TypeAlias = Any
"""None, bool, int, float, str, list or Mapping, in turn of such."""


class AnyKeys(dict[tuple[str, Any], Any]):
    """A map whose keys need not be text, as ``groupBy`` makes it; JSON has none such. 1 and 1.0 are two keys."""

    @staticmethod
    def key(value: Value) -> tuple[str, Any]:
        """Return what a value is kept under.

        Raises
        ------
        BadExpression
            If it cannot be a key.
        """
        if isinstance(value, (list, Mapping)):
            raise BadExpression(f"{kind(value)} is no key")
        return (kind(value), value)


def whole(number: int) -> int:
    """Return a whole number as 64 bits hold it."""
    return (number + 2**63) % 2**64 - 2**63


def to_whole(number: float) -> int:
    """Return a number without its fraction, as an amd64 converts it: what is out of reach becomes the least."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else -(2**63)


def kind(value: Value) -> str:
    """Return what the language calls a value's type."""
    if value is None:
        return "nil"
    for one, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "string"), (list, "array")):
        if isinstance(value, one):
            return name
    return "map"


def is_number(value: Value) -> bool:
    """Say whether it is a number; true and false are none."""
    return type(value) is int or type(value) is float


def clean(text: str) -> str:
    """Return text that UTF-8 can hold: what is half a character becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def written(value: Value, work: Work) -> str:
    """Return what stands in place of the tag: text as it is, everything else as Go's ``json.Marshal`` writes it.

    Raises
    ------
    BadExpression
        If it is nil, or nothing that JSON has.
    """
    if value is None:
        raise BadExpression("its value is nil")
    return clean(value) if isinstance(value, str) else marshalled(value, work)


def marshalled(value: Value, work: Work, *, indent: str = "", html: bool = True) -> str:
    """Return a value as Go's ``json.Marshal`` writes it.

    Parameters
    ----------
    indent
        What each level is moved in by; empty puts all on one line.
    html
        Whether ``<``, ``>`` and ``&`` are escaped, as Go does unless told otherwise.
    """
    return _Writer(work, indent, html).write(value, "")


class _Writer:
    def __init__(self, work: Work, indent: str, html: bool) -> None:
        self._work, self._indent, self._html = work, indent, html

    def write(self, value: Value, margin: str) -> str:
        text = self._written(value, margin)
        self._work.step(1 + len(text) // 64)
        self._work.make(len(text))
        return text

    def _written(self, value: Value, margin: str) -> str:
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return json_number(value)
        if isinstance(value, str):
            return self._text(value)
        inner = margin + self._indent
        if isinstance(value, list):
            return self._between("[", [self.write(one, inner) for one in value], "]", margin)
        if isinstance(value, AnyKeys):
            raise BadExpression("a map with keys that are no text cannot be written as JSON")
        colon = ": " if self._indent else ":"
        members = [f"{self._text(key)}{colon}{self.write(value[key], inner)}" for key in sorted(value)]
        return self._between("{", members, "}", margin)

    def _between(self, opened: str, members: list[str], closed: str, margin: str) -> str:
        if not members or not self._indent:
            return opened + ",".join(members) + closed
        line = "\n" + margin + self._indent
        return f"{opened}{line}{f',{line}'.join(members)}\n{margin}{closed}"

    def _text(self, text: str) -> str:
        found = json.dumps(clean(text), ensure_ascii=False)
        found = found.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        if self._html:
            found = found.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        return found


def json_number(number: float) -> str:
    """Return a number as Go's JSON writes it."""
    if not math.isfinite(number):
        raise BadExpression(f"its value is {shown(number, Work())}, which JSON has not")
    if number and not 1e-6 <= abs(number) < 1e21:
        return _scientific(number).replace("e-0", "e-")
    return _plain(number)


def _plain(number: float) -> str:
    text = f"{Decimal(repr(number)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scientific(number: float) -> str:
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    power = int(exponent) + len(digits) - 1
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


def shown(value: Value, work: Work) -> str:
    """Return a value as Go's ``%v`` writes it."""
    text = _shown(value, work)
    work.step(1 + len(text) // 64)
    work.make(len(text))
    return text


def _shown(value: Value, work: Work) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _shown_float(value)
    if isinstance(value, list):
        return f"[{' '.join(shown(one, work) for one in value)}]"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{shown(key, work)}:{shown(one, work)}' for key, one in members(value))}]"
    return str(value)


def _shown_float(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return _scientific(number) if number and not 1e-4 <= abs(number) < 1e6 else _plain(number)


def members(value: Mapping[Any, Value]) -> list[tuple[Value, Value]]:
    """Return keys and values in order of the keys; Go's order is chance, and a run must come out the same again."""
    if isinstance(value, AnyKeys):
        return [(key[1], value[key]) for key in sorted(value, key=lambda key: (key[0], str(key[1])))]
    return [(key, value[key]) for key in sorted(value)]


def from_json(text: str, work: Work) -> Value:
    """Return what JSON says; numbers are floats, as in Go.

    Raises
    ------
    BadExpression
        If it is no JSON.
    """
    work.read(text)
    work.make(len(text))
    try:
        return _cleaned(json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_constant))
    except (ValueError, RecursionError) as error:
        raise BadExpression("it is no JSON") from error


def _number(text: str) -> float:
    if math.isinf(found := float(text)):
        raise ValueError(text)
    return found


def _constant(text: str) -> Value:
    raise ValueError(text)


def _cleaned(value: Value) -> Value:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    return {clean(key): _cleaned(one) for key, one in value.items()} if isinstance(value, dict) else value

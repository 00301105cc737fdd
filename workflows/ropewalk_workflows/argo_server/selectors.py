"""Which workflows a list is to hold: Kubernetes' label and field selectors, read and applied. Pure.

Not here: Go's patterns; nobody here reads a pattern that somebody sent (see ``manifest.text``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ropewalk_core.errors import BadInput

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,315}[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9._-]{0,63}"
_ONE = re.compile(
    rf"\s*(?:(?P<without>!)\s*(?P<gone>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<sign>==|!=|=)\s*(?P<value>{_VALUE})"
    rf"|\s(?P<among>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)
_FIELD = re.compile(r"\s*(?P<key>[a-zA-Z.]+)\s*(?P<sign>==|!=|=)\s*(?P<value>[^,=!]*?)\s*(?:,|$)")
_LONGEST = 4096
FIELDS = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class Wants:
    """One demand on a label or field: that it is (not) among values, or is (not) there where there are none."""

    key: str
    values: frozenset[str] | None = None
    negated: bool = False

    def met(self, found: Mapping[str, str]) -> bool:
        """Say whether these labels meet it; what is not there is not among any values."""
        here = self.key in found if self.values is None else found.get(self.key) in self.values
        return here is not self.negated


_NODE = re.compile(
    r"(?P<key>displayName|templateName|name|id|phase|inputs\.parameters\.[^=!,]+\.value)(?P<sign>==?|!=)(?P<value>.*)"
)
Selector: TypeAlias = tuple[Wants, ...]


def labels(text: str) -> Selector:
    """Return a label selector: ``a=b,c!=d,e,!f,g in (h,i),j notin (k)``.

    Raises
    ------
    BadInput
        If it is none.
    """
    found, place = [], 0
    _check_length(text, "labelSelector")
    while text[place:].strip():
        match = _ONE.match(text, place)
        if match is None or match.end() == place:
            raise BadInput(f"{text[:100]!r} is no label selector.", field="labelSelector")
        place = match.end()
        found.append(_wants(match))
    return tuple(found)


def fields(text: str) -> Selector:
    """Return a field selector; Argo's clients ask for names and namespaces.

    Raises
    ------
    BadInput
        If it is none, or asks for another field.
    """
    found, place = [], 0
    _check_length(text, "fieldSelector")
    while text[place:].strip():
        match = _FIELD.match(text, place)
        if match is None or match["key"] not in FIELDS:
            hint = f"Fields that can be asked for are {' and '.join(FIELDS)}."
            raise BadInput(f"{text[:100]!r} is no field selector here.", field="fieldSelector", hint=hint)
        place = match.end()
        found.append(Wants(match["key"], frozenset({match["value"]}), match["sign"] == "!="))
    return tuple(found)


def of_nodes(text: str) -> Selector:
    """Return a selector of nodes: their names, template, phase, identifier and the values of their inputs.

    Raises
    ------
    BadInput
        If it is none, or asks for another field.
    """
    found = []
    _check_length(text, "nodeFieldSelector")
    for one in text.split(","):
        match = _NODE.fullmatch(one.strip())
        if match is None:
            hint = "Such as displayName=approve, or inputs.parameters.NAME.value=abc."
            raise BadInput(f"'{one[:100]}' chooses no nodes.", field="nodeFieldSelector", hint=hint)
        found.append(Wants(match["key"], frozenset({match["value"]}), match["sign"] == "!="))
    return tuple(found)


def met(selector: Selector, found: Mapping[str, str]) -> bool:
    """Say whether all of a selector is met."""
    return all(one.met(found) for one in selector)


def only(selector: Selector, key: str) -> str:
    """Return the one value that a field must have, or nothing if it may have several."""
    asked = [one.values for one in selector if one.key == key and one.values and not one.negated]
    return next(iter(asked[0])) if asked and len(asked[0]) == 1 else ""


def _check_length(text: str, field: str) -> None:
    if len(text) > _LONGEST:
        raise BadInput(f"A selector may have {_LONGEST} letters.", field=field)


def _wants(match: re.Match[str]) -> Wants:
    if match["without"]:
        return Wants(match["gone"], None, True)
    if match["sign"]:
        return Wants(match["key"], frozenset({match["value"]}), match["sign"] == "!=")
    if match["among"]:
        values = frozenset(one.strip() for one in match["values"].split(","))
        return Wants(match["key"], values, match["among"] == "notin")
    return Wants(match["key"])

"""A form made from a values schema, and its text turned back into values. Pure.

The catalogue decides whether values are right; here text becomes numbers and truths, and every field keeps what was
typed, so a refused form loses nothing. Rejected: a form library, which would know another schema language.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk_core.errors import BadInput, BadValues, RopewalkError
from ropewalk_core.placement import Inventory, Placement, format_size

PREFIX = "value."
PLACED = "placement."
_PLACEMENT = {"memory": "Memory", "cpu": "Cores", "accelerator": "Accelerator", "arch": "Architecture"}
_AGAIN = "Correct it and send the form again."


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a field or with the whole form, and the code that explains more."""

    text: str
    code: str


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Parameters
    ----------
    name
        Its name in the form.
    title, help
        What people read.
    kind
        ``text``, ``number``, ``check``, ``choice`` or ``json``.
    value
        The text it shows; for ``check`` it is ``on`` or empty.
    options
        What a choice offers: value and words.
    required
        Whether it may be left empty.
    step
        What a number moves by; ``any`` for fractions.
    error
        The complaint beside it.
    """

    name: str
    title: str
    help: str = ""
    kind: str = "text"
    value: str = ""
    options: tuple[tuple[str, str], ...] = ()
    required: bool = False
    step: str = ""
    least: str = ""
    most: str = ""
    placeholder: str = ""
    error: Complaint | None = None


def fields(
    schema: Mapping[str, Any],
    values: Mapping[str, Any],
    typed: Mapping[str, str] | None,
    errors: Mapping[str, Complaint],
) -> list[Field]:
    """Return the fields of a values schema.

    Parameters
    ----------
    schema
        The template's schema.
    values
        What to show first: defaults, or the values of last time.
    typed
        What was sent, when the form comes back.
    errors
        Complaints by value name.
    """
    required = set(schema.get("required", ()))
    made = []
    for name, one in schema.get("properties", {}).items():
        kind = _kind(one)
        shown = _shown(values.get(name)) if typed is None else typed.get(PREFIX + name, "")
        made.append(
            Field(
                name=PREFIX + name,
                title=str(one.get("title", name)),
                help=str(one.get("description", "")),
                kind=kind,
                value=shown,
                options=tuple((_shown(option), str(option)) for option in one.get("enum", ())),
                required=name in required,
                step="any" if one.get("type") == "number" else "1" if kind == "number" else "",
                least=_shown(one.get("minimum")),
                most=_shown(one.get("maximum")),
                error=errors.get(name),
            )
        )
    return made


def parse(schema: Mapping[str, Any], typed: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Complaint]]:
    """Return the values of a sent form, and complaints about text that cannot become a value."""
    values: dict[str, Any] = {}
    errors: dict[str, Complaint] = {}
    for name, one in schema.get("properties", {}).items():
        text = typed.get(PREFIX + name, "")
        kind = _kind(one)
        if kind == "check":
            values[name] = bool(text)
        elif kind == "choice":
            matching = [option for option in one["enum"] if _shown(option) == text]
            if text:
                values[name] = matching[0] if matching else text
        elif kind == "text":
            if text or name in schema.get("required", ()) or one.get("default") == "":
                values[name] = text
        elif text.strip():
            try:
                values[name] = _number(one, text.strip()) if kind == "number" else json.loads(text)
            except ValueError:
                what = "a whole number" if one.get("type") == "integer" else "a number" if kind == "number" else "JSON"
                said = f"'{one.get('title', name)}' must be {what}, not '{text.strip()[:60]}'."
                errors[name] = Complaint(f"{said} {_AGAIN}", BadValues.code)
    return values, errors


def placement_fields(
    inventory: Inventory, placement: Placement, typed: Mapping[str, str] | None, errors: Mapping[str, Complaint]
) -> list[Field]:
    """Return the fields that say where something runs; choices are what exists here."""
    accelerators = sorted({name for node in inventory.nodes for name, count in node.accelerators.items() if count})
    architectures = sorted({node.arch for node in inventory.nodes})
    shown = {
        "memory": format_size(placement.memory) if placement.memory else "",
        "cpu": f"{placement.cpu:g}" if placement.cpu else "",
        "accelerator": placement.accelerator[0] if placement.accelerator else "",
        "arch": placement.arch[0] if placement.arch else "",
    }
    text = {name: (shown[name] if typed is None else typed.get(PLACED + name, "")) for name in shown}
    here = "; ".join(node.describe() for node in inventory.nodes)
    return [
        Field(
            PLACED + "memory",
            _PLACEMENT["memory"],
            f"Such as 2Gi; empty takes the template's own. Here: {here}.",
            value=text["memory"],
            placeholder="2Gi",
            error=errors.get("memory"),
        ),
        Field(
            PLACED + "cpu",
            _PLACEMENT["cpu"],
            "Such as 2 or 0.5; empty means no wish.",
            value=text["cpu"],
            error=errors.get("cpu"),
        ),
        Field(
            PLACED + "accelerator",
            _PLACEMENT["accelerator"],
            "What there is here." if accelerators else "There is none here.",
            kind="choice",
            value=text["accelerator"],
            options=(("", "none needed"), *_choices(accelerators, text["accelerator"])),
            error=errors.get("accelerator"),
        ),
        Field(
            PLACED + "arch",
            _PLACEMENT["arch"],
            "What there is here; leave it open unless your program needs one.",
            kind="choice",
            value=text["arch"],
            options=(("", "any"), *_choices(architectures, text["arch"])),
            error=errors.get("arch"),
        ),
    ]


def _choices(offered: Sequence[str], shown: str) -> list[tuple[str, str]]:
    """Return what a choice offers, and what was chosen before even where it is gone: a form loses nothing."""
    gone = [(shown, f"{shown} (not here)")] if shown and shown not in offered else []
    return [*((name, name) for name in offered), *gone]


def placement_of(typed: Mapping[str, str]) -> dict[str, Any]:
    """Return the wish for a placement as sent; `parse_placement` judges it."""
    wish: dict[str, Any] = {name: typed.get(PLACED + name, "").strip() for name in _PLACEMENT}
    return {name: value for name, value in wish.items() if value}


def complaints(error: RopewalkError) -> dict[str, Complaint]:
    """Return the complaint of an error by the field it is about; an empty name is for the whole form.

    A field of the placement is called by the words beside it, and each complaint ends with what to do.
    """
    several = error.details.get("fields")
    found = several if isinstance(several, dict) else {error.field or "": error.message}
    usual = error.hint in (BadInput.default_hint, BadValues.default_hint)  # they speak of more than a form
    hint = _AGAIN if usual else error.hint
    return {str(name): Complaint(f"{_titled(str(name), str(text))} {hint}", error.code) for name, text in found.items()}


def _titled(field: str, text: str) -> str:
    title = _PLACEMENT.get(field.removeprefix(PLACED), field)
    return text.replace(f"'{field}'", f"'{title}'", 1) if field.startswith(PLACED) else text


def _kind(one: Mapping[str, Any]) -> str:
    if "enum" in one:
        return "choice"
    kinds = {"boolean": "check", "integer": "number", "number": "number", "string": "text"}
    return kinds.get(str(one.get("type", "string")), "json")


def _number(one: Mapping[str, Any], text: str) -> int | float:
    return int(text) if one.get("type") == "integer" else float(text)


def _shown(value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "on"
    return value if isinstance(value, str) else json.dumps(value)

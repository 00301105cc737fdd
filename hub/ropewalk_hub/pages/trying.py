"""The form that tries a function: a field for each parameter, and its text turned back into a payload. Pure.

Made from the same schemas as the function's OpenAPI document. The function decides whether values are right; here text
becomes values, and every field keeps what was typed. Not here: forms of services (``forms``), whose schemas are the
platform's own. Rejected: fields inside objects and lists (JSON says that shorter), and one option for None beside each
field (an empty one says it).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from ropewalk_core import samples
from ropewalk_core.errors import BadInput, RopewalkError
from ropewalk_core.signatures import Parameter, Schema, Signature
from ropewalk_hub.pages.forms import PREFIX, Complaint, Field

MOST = 40
"""Parameters that get a field each; a form of more is no help."""
_AGAIN = "Correct it and send it again."
_NULL: Schema = {"type": "null"}
_KINDS = {"integer": "number", "number": "number", "string": "text", "boolean": "choice"}
_HELP = {"integer": "A whole number.", "number": "A number.", "array": "JSON: a list.", "object": "JSON: an object."}
_TYPES: dict[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,)}


def shown(signature: Signature | None) -> tuple[Parameter, ...] | None:
    """Return the parameters that get fields; None where a payload has to be written by hand."""
    if signature is None or signature.named() is None:
        return None
    named = tuple(one for one in signature.parameters if not one.bare)
    return named if len(named) <= MOST else None


def fields(signature: Signature, typed: Mapping[str, str] | None, errors: Mapping[str, Complaint]) -> list[Field]:
    """Return the form's fields.

    Parameters
    ----------
    signature
        The function's.
    typed
        What was sent, when the form comes back; samples and defaults stand there otherwise.
    errors
        Complaints by parameter.
    """
    return [_field(signature, one, typed, errors.get(one.name)) for one in shown(signature) or ()]


def parse(signature: Signature, typed: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Complaint]]:
    """Return the arguments of a sent form by name, and complaints about text that cannot become a value."""
    values: dict[str, Any] = {}
    errors: dict[str, Complaint] = {}
    for one in shown(signature) or ():
        schema, empty = _plain(signature, one)
        kind, text = _kind(schema, one), typed.get(PREFIX + one.name, "")
        if kind == "check":
            values[one.name] = bool(text)
        elif text.strip() or (kind == "text" and (text or not empty)):
            try:
                values[one.name] = _value(kind, schema, text)
            except ValueError as error:
                errors[one.name] = Complaint(f"'{one.name}' must be {error}. {_AGAIN}", BadInput.code)
        elif one.required and empty:
            values[one.name] = None
    return values, errors


def complaints(signature: Signature | None, error: RopewalkError) -> dict[str, Complaint]:
    """Return what a function said about one of its parameters, to stand beside its field."""
    names = {one.name for one in shown(signature) or ()}
    if error.field not in names or not isinstance(error, BadInput):
        return {}
    return {error.field or "": Complaint(f"{error.message} {error.hint}", error.code)}


def _field(signature: Signature, one: Parameter, typed: Mapping[str, str] | None, error: Complaint | None) -> Field:
    schema, empty = _plain(signature, one)
    kind = _kind(schema, one)
    value = one.schema.get("default")
    if one.required:
        value = samples.sample(schema, signature)
    text = "null" if one.required and value is None else _text(kind, value)  # where nothing but None fits
    if typed is not None:
        text = typed.get(PREFIX + one.name, "")
    options: tuple[tuple[str, str], ...] = ()
    if kind == "choice":
        offered = [True, False] if schema.get("type") == "boolean" else schema["enum"]
        words = [(_json(option), option if isinstance(option, str) else _json(option)) for option in offered]
        options = (*((("", "-"),) if empty else ()), *words)
    help = _HELP.get(str(schema.get("type")), "JSON: any value." if kind == "json" else "")
    if not one.required and value is None:
        help = f"{help} Empty takes the default.".strip()
    elif empty and one.required:
        help = f"{help} Empty is None.".strip()
    return Field(
        name=PREFIX + one.name,
        title=one.name,
        help=help if kind != "check" else "",
        kind=kind,
        value=text,
        options=options,
        required=one.required and not empty and kind != "check",
        error=error,
    )


def _plain(signature: Signature, one: Parameter) -> tuple[Schema, bool]:
    """Return the schema of what a field holds, and whether an empty one says None or the function's own default."""
    schema = signature.resolve(one.schema)
    default = schema.get("default")
    rest = [kind for kind in schema.get("anyOf", ()) if kind != _NULL]
    nullable = len(rest) == 1
    if nullable:
        schema = signature.resolve(rest[0])
    own = not one.required and default in (None, "")
    return schema, own or (nullable and (one.required or default is None))


def _kind(schema: Schema, one: Parameter) -> str:
    """Return the kind of a field; one that could not show the default is JSON."""
    default, type_ = one.schema.get("default"), str(schema.get("type"))
    if "enum" in schema:
        offered = [_json(option) for option in schema["enum"]]  # as text: 1 is not True
        return "choice" if default is None or _json(default) in offered else "json"
    if default is not None and not _fits(type_, default):
        return "json"
    if type_ == "boolean" and "anyOf" not in one.schema and (one.required or default is not None):
        return "check"
    return _KINDS.get(type_, "json")


def _fits(type_: str, default: Any) -> bool:
    if isinstance(default, bool):
        return type_ == "boolean"
    one_line = not isinstance(default, str) or default.isprintable()  # a field of one line would change it
    return one_line and isinstance(default, _TYPES.get(type_, (object,)))


def _value(kind: str, schema: Schema, text: str) -> Any:
    """Return the value that a text stands for, or raise ValueError that says what it must be."""
    if kind == "text":
        return text
    if kind == "choice":
        offered = [True, False] if schema.get("type") == "boolean" else schema["enum"]
        chosen = [option for option in offered if _json(option) == text]
        return chosen[0] if chosen else _never("one of those offered")
    if kind == "number":
        return _number(text.strip(), whole=schema.get("type") == "integer")
    try:
        return json.loads(text, parse_constant=_never)
    except json.JSONDecodeError as error:
        where = f"JSON, and is not at line {error.lineno}, column {error.colno}"
        raise ValueError(f'{where}: text stands in double quotes, such as "Ada"') from error
    except (ValueError, RecursionError) as error:
        raise ValueError("JSON without NaN and Infinity, not too long and not too deep") from error


def _number(text: str, *, whole: bool) -> int | float:
    try:
        value = int(text) if whole or text.lstrip("+-").isdecimal() else float(text)  # 1 stays 1
    except ValueError as error:
        raise ValueError(f"{'a whole number' if whole else 'a number'}, not '{text[:60]}'") from error
    return value if isinstance(value, int) or math.isfinite(value) else _never("a number that JSON has")


def _never(wanted: str) -> NoReturn:
    raise ValueError(wanted)


def _text(kind: str, value: Any) -> str:
    if value is None:
        return ""
    if kind == "check":
        return "on" if value else ""
    return value if kind == "text" else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

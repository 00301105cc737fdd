"""What is wrong with data that does not fit a model, in the words of people and with the name of the field. Pure.

Every model is checked by pydantic, whose sentences are for programmers ("Input should be greater than 0"); what leaves
this module is ours. It takes the plain entries of ``errors()``, so that a web framework's own failure, which wraps
them, reads the same. Not here: limits of our own rules, which raise their errors themselves. Rejected: repeating the
value in the message (it may be a password, or a whole file).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ropewalk_core.errors import BadInput

_WHOLE, _NUMBER, _TRUTH = "must be a whole number", "must be a number", "must be true or false"
_LIST, _OBJECT, _TEXT = "must be a list", "must be an object", "must be text"
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "none_required": "must be left out",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE + " of a usual size",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": _TEXT,
    "string_unicode": _TEXT,
    "string_pattern_mismatch": "has not the form that is needed",
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "json_invalid": "is not JSON",
    "json_type": "is not JSON",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "may have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "may have at most {max_length} entries",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}
_PLACES = frozenset({"body", "query", "path", "header", "cookie"})


def wrong(entries: Iterable[Any], *, within: str = "", whole: str = "body") -> BadInput:
    """Return the error for the entries of a failed check; it names the first field, its details name all.

    Parameters
    ----------
    entries
        What ``ValidationError.errors()`` gives.
    within
        The name of the thing that was checked, such as ``placement``; fields are named inside of it.
    whole
        What to call the thing when no field of it is wrong but all of it.
    """
    said: dict[str, str] = {}
    for one in entries:
        field = field_of(one, within) or within or whole
        said.setdefault(field, f"'{field}' {words(one)}.")
    said = said or {within or whole: f"'{within or whole}' cannot be read."}
    field, message = next(iter(said.items()))
    return BadInput(message, field=field, details={"fields": said} if len(said) > 1 else None)


def field_of(entry: Mapping[str, Any], within: str = "") -> str:
    """Return the name of the field of one entry, such as ``placement.arch[1]``; empty for the whole."""
    parts = list(entry.get("loc", ()))
    if parts and parts[0] in _PLACES:
        parts = parts[1:]
    if entry.get("type") == "json_invalid":
        parts = []  # it names the byte at which reading stopped
    name = within
    for part in parts:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


def words(entry: Mapping[str, Any]) -> str:
    """Return what is wrong by one entry, to be read after the name of the field."""
    kind, facts = str(entry.get("type", "")), entry.get("ctx") or {}
    if kind in ("value_error", "assertion_error") and "error" in facts:
        return f"is wrong: {facts['error']}"
    facts = {name: f"{one:g}" if isinstance(one, float) else one for name, one in facts.items()}
    try:
        return _WORDS.get(kind, "cannot be used").format_map(facts)
    except (KeyError, ValueError):  # a fact that this kind had in another version
        return "cannot be used"

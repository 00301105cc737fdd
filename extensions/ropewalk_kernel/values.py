"""Python values on their way to a function: numpy, pandas and friends become plain JSON. Pure.

Not here: step values, which may be any Python object and travel as files (``ropewalk_runtime.values``). Nothing is
imported for this; a value is recognized by what it can do. Rejected: pickle, which the platform must never load.
"""

from __future__ import annotations

import json
from typing import Any

from ropewalk_core.errors import BadInput
from ropewalk_runtime import handler

_SHOWN = 400


def encode(value: Any, *, exact: bool = True) -> bytes:
    """Return a value as JSON.

    Parameters
    ----------
    value
        What to send.
    exact
        Whether NaN and Infinity may be in it, as Python's own `json` spells them. Other programs do not read that.

    Raises
    ------
    BadInput
        If something inside has no JSON form; the message names its type or its place.
    """
    try:
        text = json.dumps(value, default=plain)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"This value cannot be sent as JSON: {error}.", field="value") from error
    if not exact and (found := handler.not_finite(json.loads(text), "value")):
        place, number = found
        raise BadInput(f"{place} is {number}, which JSON does not have.", field=place, hint="Send a number or None.")
    return text.encode()


def decode(body: bytes) -> Any:
    """Return an answer as a Python value; what is not JSON stays bytes."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


def plain(value: Any) -> Any:
    """Return the JSON form of one value that `json` does not know: what a function's answer would be turned into."""
    try:
        return handler.plain(value)
    except TypeError as error:
        raise BadInput(
            f"This value cannot be sent as JSON: {error}",
            field="value",
            hint="Send numbers, text, lists, dictionaries, numpy arrays or data frames; pass larger data as a file.",
        ) from None


def shown(value: Any) -> str:
    """Return a short text of any value for a card."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

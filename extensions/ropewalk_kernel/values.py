"""Python values on their way to a function: numpy, pandas and friends become plain JSON. Pure.

Not here: step values, which may be any Python object and travel as files (``ropewalk_runtime.values``). Nothing is
imported for this; a value is recognized by what it can do. Rejected: pickle, which the platform must never load.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk_core.errors import BadInput

_SHOWN = 400


def encode(value: Any) -> bytes:
    """Return a value as JSON.

    Raises
    ------
    BadInput
        If something inside has no JSON form; the message names its type.
    """
    try:
        return json.dumps(value, default=plain).encode()
    except ValueError as error:
        raise BadInput(f"This value cannot be sent as JSON: {error}.", field="value") from error


def decode(body: bytes) -> Any:
    """Return an answer as a Python value; what is not JSON stays bytes."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


def plain(value: Any) -> Any:
    """Return the JSON form of one value that `json` does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if type(value).__name__ == "DataFrame":
        return value.to_dict(orient="records")
    if hasattr(value, "tolist"):  # numpy arrays and scalars, pandas series and indexes, torch tensors
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise BadInput(
        f"A value of type {kind} cannot be sent as JSON.",
        field="value",
        hint="Send numbers, text, lists, dictionaries, numpy arrays or data frames; pass larger data as a file.",
    )


def shown(value: Any) -> str:
    """Return a short text of any value for a card."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

"""Values of secrets taken out of what a worker tells: what a call printed, and its failure. Once for each worker.

It saves from accidents, such as an address with a password in a traceback: the code has its secrets and can write them
in any other form. What a call answers is never changed. Not here: where values come from (the environment).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

SHORTEST = 4
"""Characters that a value must have, because shorter ones stand in any text."""
_values: list[str] = []


def know(names: Iterable[str]) -> None:
    """Hide the values of these variables from now on, the longest first, as one may hold another.

    A key of several lines is hidden as a dictionary or JSON shows it too.
    """
    values = {os.environ.get(name, "").strip() for name in names}
    found = {form for one in values for form in (one, repr(one)[1:-1], json.dumps(one)[1:-1])}
    _values[:] = sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)


def knows() -> bool:
    """Say whether there is anything to hide."""
    return bool(_values)


def hidden_bytes(data: bytes) -> bytes:
    """Return what was printed with stars for each hidden value."""
    return _pattern().sub(b"***", data) if _values else data


def passed(data: bytes) -> tuple[bytes, bytes]:
    """Return what may be shown of the output so far, and its end that may be the beginning of a value."""
    cut = len(data) - max((_begun(data, one.encode()) for one in _values), default=0)
    for match in _pattern().finditer(data):
        if match.start() < cut < match.end():
            cut = match.start()
    return hidden_bytes(data[:cut]), data[cut:]


def _begun(data: bytes, value: bytes) -> int:
    """Return how many bytes at the end are a beginning of the value."""
    return next((size for size in range(min(len(value) - 1, len(data)), 0, -1) if data.endswith(value[:size])), 0)


def _pattern() -> re.Pattern[bytes]:
    return re.compile(b"|".join(re.escape(one.encode()) for one in _values))


def hide(told: Any) -> Any:
    """Return a text, or an object with texts, with stars for each hidden value."""
    if not _values:
        return told
    if isinstance(told, str):
        for value in _values:
            told = told.replace(value, "***")
        return told
    if isinstance(told, dict):
        return {key: hide(one) for key, one in told.items()}
    return told

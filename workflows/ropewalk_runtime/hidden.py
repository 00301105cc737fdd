"""Values of secrets taken out of what a worker tells: what a call printed, and its failure. Once for each worker.

It saves from accidents, such as an address with a password in a traceback: the code has its secrets and can write them
in any other form. What a call answers is never changed. Not here: where values come from (the environment).
"""

from __future__ import annotations

import json
import os
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

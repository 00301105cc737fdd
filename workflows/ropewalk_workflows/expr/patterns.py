"""Patterns, by RE2: the engine that Argo's own are written for, whose time is bounded by the text's length.

Rejected: Python's ``re``; one pattern of a person's may take for ever, and this runs in the platform's own process.
Where RE2 is not installed a pattern is refused by name.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.work import Work

_LONGEST, _MEMORY = 1_000, 2**20


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Any:
    """Return a pattern, ready.

    Raises
    ------
    BadExpression
        If it is none, is too large, or there is no RE2 here.
    """
    try:
        import re2
    except ImportError as error:
        raise BadExpression("patterns are not supported on this machine: google-re2 is not installed") from error
    if len(pattern) > _LONGEST:
        raise BadExpression(f"a pattern is longer than {_LONGEST:,} characters")
    options = re2.Options()
    options.max_mem, options.log_errors = _MEMORY, False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        raise BadExpression(f"{pattern[:40]!r} is no pattern") from error


def matches(pattern: str, text: str, work: Work) -> bool:
    """Say whether a pattern is found in a text."""
    found = compiled(pattern)
    work.step(1 + len(text) * (1 + len(pattern) // 16) // 64)
    return found.search(text) is not None

"""Whose trace a call belongs to: the headers ``traceparent`` and ``tracestate`` of W3C Trace Context, read and kept.

What is valid is passed on as it came: to the worker, into the call's record, and back with the answer. We are no span
of our own, and where a caller sends none, none is made: there is nobody here who could export it. A later version of
the format is passed on too, as the recommendation asks. Pure. Not here: the headers of a request (the gateway), what a
handler sees of it (``context``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_STATE = 512
"""Characters of a tracestate; the recommendation asks for so many, and a longer one is left out."""
_MEMBERS = 32
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]{0,200})?")
_KEY = re.compile(r"[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


@dataclass(frozen=True)
class Trace:
    """A valid trace context."""

    parent: str
    state: str = ""

    @property
    def id(self) -> str:
        """The trace's identifier, 32 hexadecimal digits."""
        return self.parent[3:35]

    def headers(self) -> dict[str, str]:
        """Return it as headers."""
        return {"traceparent": self.parent} | ({"tracestate": self.state} if self.state else {})


def read(parents: Sequence[str], states: Sequence[str] = ()) -> Trace | None:
    """Return the trace context of a request, None if it has none that is valid.

    Parameters
    ----------
    parents, states
        The values of its headers ``traceparent`` and ``tracestate``, in their order.
    """
    if len(parents) != 1 or not _is_parent(parents[0].strip(" \t")):
        return None
    return Trace(parents[0].strip(" \t"), _state(states))


def _is_parent(text: str) -> bool:
    found = _PARENT.fullmatch(text)
    if found is None:
        return False
    version, trace, parent, _, more = found.groups()
    return version != "ff" and (version != "00" or not more) and trace.strip("0") != "" and parent.strip("0") != ""


def _state(values: Sequence[str]) -> str:
    """Return the members of a tracestate as one list; nothing if it is not valid, which spoils no traceparent."""
    members = [one.strip(" \t") for value in values for one in value.split(",")]
    members = [one for one in members if one]
    keys = [one.partition("=")[0] for one in members]
    whole = ",".join(members)
    valid = all(
        _KEY.fullmatch(key) and _VALUE.fullmatch(one[len(key) + 1 :]) for key, one in zip(keys, members, strict=True)
    )
    fits = len(members) <= _MEMBERS and len(set(keys)) == len(keys) and len(whole) <= LONGEST_STATE
    return whole if valid and fits else ""

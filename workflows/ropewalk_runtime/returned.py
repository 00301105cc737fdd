"""What a handler returns, as bytes: for Python with data frames and arrays as such, for everybody else as JSON.

An answer that is large leaves in pieces, as a generator's values do, so that nobody on its way holds all of it. Pure.
Not here: sending it (``serving``), JSON and its rules (``handler``), what frames look like (``formats``). Rejected: a
file beside the answer (who reads the answer would have to say when it may go).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ropewalk_runtime import formats, handler, missing
from ropewalk_runtime.formats import ARROW, NPY, Unformed
from ropewalk_runtime.handler import CALL_TYPE, BadAnswer, TooLong
from ropewalk_runtime.packed import PACKED, Packing

WHOLE = 2**20
"""Bytes of frames and arrays up to which an answer leaves as one piece."""


@dataclass(frozen=True)
class Large:
    """An answer that leaves in pieces."""

    type: str
    pieces: Iterator[memoryview]


def answered(value: Any, *, content_type: str = "", accept: str = "", limit: int) -> tuple[bytes, str] | Large:
    """Return the body and content type for a result, or how it leaves in pieces.

    Parameters
    ----------
    value
        What the handler returned.
    content_type, accept
        Of the call: one in Python's envelope is answered to Python; others get Arrow or npy where they ask for it.
    limit
        Bytes that an answer in one piece may have; frames and arrays leave in pieces and may have more.

    Raises
    ------
    BadAnswer
        If it has no form in which it could travel; ``field`` is the place.
    TooLong
        If it is over the limit.
    """
    try:
        kind = content_type.split(";")[0].strip().lower()
        if kind in (CALL_TYPE, PACKED):
            return _to_python(value, limit)
        if formats.library(value) and formats.type_of(value) in (wanted := _wanted(accept)):
            return _sent(wanted[0], formats.pieces(value), formats.about(value), limit)
    except Unformed as error:
        raise unsent(error) from None
    return handler.answer(value, content_type=content_type, limit=limit)


def one(value: Any) -> tuple[bytes, str]:
    """Return one of several values for Python whole, and its content type. Raises `BadAnswer`."""
    said = answered(value, content_type=CALL_TYPE, limit=sys.maxsize)
    return (b"".join(said.pieces), said.type) if isinstance(said, Large) else said


def unsent(error: Unformed) -> BadAnswer:
    """Return the failure of a handler whose answer has no form, with the line that brings a package that lacks."""
    if error.lacks is None:
        return BadAnswer(f"The answer cannot be sent: {error}", hint=error.hint)
    return BadAnswer(f"The answer cannot be sent: {error} The function has it not.", hint=missing.fix(error.lacks))


def _to_python(value: Any, limit: int) -> tuple[bytes, str] | Large:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return handler.answer(value, limit=limit)
    try:  # what almost every call returns
        return _checked(json.dumps(value, separators=(",", ":")).encode(), limit), CALL_TYPE
    except (TypeError, ValueError):
        packing = Packing()
    text = _text(value, packing)
    if not packing.parts:
        return _checked(text.encode(), limit), CALL_TYPE
    _checked(text.encode(), limit)
    return _sent(PACKED, packing.pieces(text), packing.size + len(text), limit)


def _text(value: Any, packing: Packing) -> str:
    """Return a value as JSON, in Python's own spelling, with its frames and arrays left out."""
    try:
        return json.dumps(handler.plain(value, packing.take), separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadAnswer(f"The answer cannot be sent as JSON: {error}") from None


def _sent(kind: str, pieces: Iterator[memoryview], size: int, limit: int) -> tuple[bytes, str] | Large:
    if size <= min(WHOLE, limit):
        return b"".join(pieces), kind
    return Large(kind, pieces)


def _checked(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise TooLong(f"The answer is {len(body)} bytes, over the limit of {limit}.")
    return body


def _wanted(accept: str) -> list[str]:
    """Return those of Arrow and npy that an Accept names."""
    named = [one.partition(";")[0].strip().lower() for one in accept.split(",")]
    return [one for one in named if one in (ARROW, NPY)]

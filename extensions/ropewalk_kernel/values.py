"""Python values on their way to a function and back: JSON, and data frames and arrays as Arrow and npy beside it.

Nothing is imported for this before a value needs it, and nothing that comes back is ever unpickled, whoever sent it.
Not here: step values, which may be any Python object and travel as files (``ropewalk_runtime.values``); the bytes of
frames (``ropewalk_runtime.formats``); sending large ones ahead (``sending``). Rejected: pickle, which the platform must
never load; lists for frames and arrays (types are lost, and two gigabytes of digits are five of text).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk_core.errors import BadInput
from ropewalk_runtime import formats, handler, packed
from ropewalk_runtime.formats import ARROW, NPY, Unformed
from ropewalk_runtime.packed import PACKED, Packing

_SHOWN = 400
_JSON = frozenset({handler.CALL_TYPE, "application/json"})
_BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Received:
    """An answer and what it is. ``mapped`` says that it lies in a file and takes no memory."""

    body: bytes | memoryview
    kind: str = ""
    mapped: bool = False

    def __len__(self) -> int:
        return 0 if self.mapped else len(self.body)


NOTHING = Received(b"")


def encode(value: Any, *, exact: bool = True) -> bytes:
    """Return a value as JSON alone, in which frames and arrays are lists: for other programs than Python.

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
    text = _json(value, Packing(), plain)
    if not exact and (found := handler.not_finite(json.loads(text), "value")):
        place, number = found
        raise BadInput(f"{place} is {number}, which JSON does not have.", field=place, hint="Send a number or None.")
    return text.encode()


def envelope(args: Sequence[Any], kwargs: Mapping[str, Any], packing: Packing | None = None) -> bytes:
    """Return the arguments of a call as they travel: JSON, or of the type `PACKED` if any is a frame or an array.

    Parameters
    ----------
    args, kwargs
        The arguments.
    packing
        Says which of them go ahead as files; left out, all lie in what is returned.

    Raises
    ------
    BadInput
        If something inside has no form in which it could travel, or needs a package that is not here.
    """
    packing = packing or Packing()
    try:
        text = _json({"args": list(args), "kwargs": dict(kwargs)}, packing, lambda one: plain(one, packing))
        return b"".join(packing.pieces(text)) if packing.parts else text.encode()
    except Unformed as error:
        raise lacking(error, "value") from None


def decode(received: Received | bytes, kind: str = "") -> Any:
    """Return an answer as a Python value.

    Raises
    ------
    BadInput
        If it is a data frame or an array for which a package is not here, or is none.
    """
    one = received if isinstance(received, Received) else Received(received, kind)
    if one.kind in _JSON:
        return _from_json(bytes(one.body))
    form = one.kind.partition(";")[0].strip().lower()
    try:
        if form == PACKED:
            return packed.read(memoryview(one.body), {}, mapped=one.mapped)
        if form in (ARROW, NPY):
            return formats.read(form, "", memoryview(one.body), mapped=one.mapped)
    except Unformed as error:
        raise lacking(error, "answer") from None
    body = bytes(one.body)
    return body if form == _BYTES and body else _from_json(body)


def plain(value: Any, packing: Packing | None = None) -> Any:
    """Return the JSON form of one value that `json` does not know, with what of it travels beside the JSON left out."""
    try:
        return handler.plain(value, packing.take if packing is not None else None)
    except TypeError as error:
        raise BadInput(
            f"This value cannot be sent as JSON: {error}",
            field="value",
            hint="Send numbers, text, lists, dictionaries, numpy arrays or data frames; pass larger data as a file.",
        ) from None


def lacking(error: Unformed, field: str) -> BadInput:
    """Return why a value could not be written or read in this kernel, with the line that brings what lacks."""
    if error.lacks is None:
        whose = "answer" if field == "answer" else "value"
        return BadInput(f"The {whose} cannot travel: {error}", field=field, hint=error.hint or None)
    return BadInput(
        f"{error} This notebook has it not.",
        field=field,
        hint=f"Install it: %pip install {error.lacks.distribution}",
    )


def shown(value: Any) -> str:
    """Return a short text of any value for a card."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _json(value: Any, packing: Packing, default: Any) -> str:
    try:
        return json.dumps(value, default=default)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"This value cannot be sent as JSON: {error}.", field="value") from error


def _from_json(body: bytes) -> Any:
    """Return what a program wrote; what is not JSON stays bytes."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body

"""What a handler yields, as bytes: each value as it comes, in the form that the caller and the first value choose.

* Between Python and Python (`PARTS_TYPE`): a line of JSON for each, ``{"value": ...}``, ``{"bytes": BASE64}`` or, with
  data frames and arrays in it, ``{"packed": BASE64}`` (see that module); at the end ``{"end": true}`` or
  ``{"error": {...}}``. Nothing that a handler yields can be taken for the end.
* Server-Sent Events, when ``Accept`` names them: ``data:`` is text as it is, or JSON; the last event is ``end`` or
  ``error``.
* Else text as it is when the first value is text, bytes as they are when it is bytes, and NDJSON otherwise. When a
  handler fails in the middle, NDJSON ends with a line ``{"error": {...}}``, and in all three the connection breaks off.

Pure. Not here: how parts travel (``streams``, ``serving``).
"""

from __future__ import annotations

import base64
import json
from typing import Any

from ropewalk_runtime import returned
from ropewalk_runtime.handler import CALL_TYPE, BadAnswer, TooLong, answer
from ropewalk_runtime.packed import PACKED

PARTS_TYPE = "application/vnd.ropewalk.parts+json"
NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"
TEXT, BYTES = "text/plain; charset=utf-8", "application/octet-stream"
_BINARY = (bytes, bytearray, memoryview)


def chosen(accept: str, content_type: str, first: Any = None) -> str:
    """Return the content type of a stream.

    Parameters
    ----------
    accept, content_type
        Of the call.
    first
        The first value; None when there is none.
    """
    if content_type.split(";")[0].strip().lower() in (CALL_TYPE, PACKED) or PARTS_TYPE in accept:
        return PARTS_TYPE
    for one in (EVENTS, NDJSON):
        if one in accept:
            return one
    return BYTES if isinstance(first, _BINARY) else TEXT if isinstance(first, str) else NDJSON


def encode(kind: str, value: Any, limit: int) -> bytes:
    """Return one value in a form.

    Raises
    ------
    BadAnswer
        If it has none.
    TooLong
        If it is over the limit, in bytes.
    """
    data = _encoded(kind, value)
    if len(data) > limit:
        raise TooLong(f"One part of the answer is {len(data)} bytes, over the limit of {limit}.")
    return data


def tail(kind: str, error: dict[str, Any] | None) -> tuple[bytes, bool]:
    """Return what comes after the last value, and whether the answer ends whole with it."""
    said = None if error is None else json.dumps(error, separators=(",", ":"))
    if kind == PARTS_TYPE:
        return (b'{"end":true}\n' if said is None else f'{{"error":{said}}}\n'.encode()), True
    if kind == EVENTS:
        return (b"event: end\ndata: {}\n\n" if said is None else f"event: error\ndata: {said}\n\n".encode()), True
    if kind == NDJSON and said is not None:
        return f'{{"error":{said}}}\n'.encode(), False
    return b"", said is None


def read(line: bytes | str) -> tuple[str, Any]:
    """Return what a line between Python and Python is: ``value``, ``packed``, ``error`` or ``end``, and what it holds.

    Raises
    ------
    ValueError
        If it is no such line.
    """
    try:
        found = json.loads(line)
    except RecursionError as error:
        raise ValueError("This is no part of an answer.") from error
    if isinstance(found, dict) and len(found) == 1:
        [(key, value)] = found.items()
        if key == "bytes" and isinstance(value, str):
            return "value", base64.b64decode(value, validate=True)
        if key == "packed" and isinstance(value, str):
            return key, base64.b64decode(value, validate=True)
        if key == "value" or key == "end" or (key == "error" and isinstance(value, dict)):
            return key, value
    raise ValueError("This is no part of an answer.")


def _encoded(kind: str, value: Any) -> bytes:
    binary = isinstance(value, _BINARY)
    if kind == BYTES and (binary or isinstance(value, str)):
        return bytes(value) if binary else value.encode(errors="replace")
    if kind == TEXT and isinstance(value, str):
        return value.encode(errors="replace")
    if kind == PARTS_TYPE and binary:
        return b'{"bytes":"%s"}\n' % base64.b64encode(value)
    if kind in (BYTES, TEXT) or binary:
        what = "bytes" if kind == BYTES else "text" if kind == TEXT else "JSON"
        hint = "Yield values of one kind, or none that are bytes among others."
        raise BadAnswer(f"The answer began as {what}, and {type(value).__name__} cannot follow.", hint=hint)
    if kind == EVENTS:
        text = value if isinstance(value, str) else answer(value)[0].decode()
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return ("".join(f"data: {line}\n" for line in lines) + "\n").encode(errors="replace")
    if kind == PARTS_TYPE:
        body, form = returned.one(value)
        return b'{"packed":"%s"}\n' % base64.b64encode(body) if form == PACKED else b'{"value":%s}\n' % body
    return answer(value)[0] + b"\n"

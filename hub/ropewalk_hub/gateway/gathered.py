"""An answer in parts as one answer, for durable calls: nobody reads it as it comes, so its values are kept as a list.

Not here: what parts look like (``ropewalk_runtime.parts``), where they come from (``flow``).
"""

from __future__ import annotations

from typing import Any

from ropewalk_core.durable.machine import too_long
from ropewalk_core.errors import RopewalkError, TooLarge, UserCodeFailed, from_problem
from ropewalk_hub.gateway.flow import Streamed
from ropewalk_runtime.handler import BadAnswer, TooLong, answer
from ropewalk_runtime.packed import PACKED
from ropewalk_runtime.parts import PARTS_TYPE, read


async def gathered(parts: Streamed, kind: str, content_type: str, limit: int) -> tuple[bytes, str]:
    """Return all values of an answer, and what that is: a list in JSON; bytes alone are joined.

    Parameters
    ----------
    parts
        The answer; whatever happens, it is over when this returns.
    kind
        Its content type.
    content_type
        Of the call.
    limit
        Bytes that the whole may have.

    Raises
    ------
    RopewalkError
        What it failed with; or it is too large, or makes no list.
    """
    if kind == PACKED:
        return await _one_value(parts, limit), kind
    found, size, rest = list[Any](), 0, b""
    try:
        while (data := await parts.next()) is not None and parts.failure is None:
            *lines, rest = (rest + data).split(b"\n")
            size += len(data)
            for line in lines:
                value, over = _value(line) if kind == PARTS_TYPE else (None, True)
                if over:
                    continue
                found.append(value)
                size -= len(b'{"value":}\n')
            if size > 2 * limit:  # bytes travel in a form that is longer; what remains is counted as it will be kept
                raise _too_large(limit)
    finally:
        parts.close()
    if parts.failure is not None:
        raise from_problem(parts.failure)
    if kind != PARTS_TYPE or not parts.whole:
        raise UserCodeFailed("The function's answer cannot be read.", hint="Yield values, and leave the socket alone.")
    return _as_one(found, content_type, limit)


async def _one_value(parts: Streamed, limit: int) -> bytes:
    """Return one value that comes in pieces."""
    found = bytearray()
    try:
        while (data := await parts.next()) is not None:
            found += data
            if len(found) > limit:
                raise too_long(len(found), limit)
    finally:
        parts.close()
    if parts.failure is not None:
        raise from_problem(parts.failure)
    return bytes(found)


def _value(line: bytes) -> tuple[Any, bool]:
    """Return a value, or that there is none in this line. A failure is told beside the parts, never in one."""
    try:
        what, value = read(line)
    except ValueError as error:
        raise UserCodeFailed("The function's answer cannot be read.") from error
    if what == "packed":
        hint = "Return them as one value, such as a list, or write files and yield their paths."
        raise UserCodeFailed("It yields data frames or arrays, which a durable call cannot keep.", hint=hint)
    if what == "error":
        raise UserCodeFailed("The function's answer cannot be read.")
    return value, what != "value"


def _as_one(found: list[Any], content_type: str, limit: int) -> tuple[bytes, str]:
    binary = [isinstance(one, bytes) for one in found]
    if any(binary) and not all(binary):
        hint = "Yield values of one kind, or encode the bytes as text."
        raise UserCodeFailed("It yields bytes among other values, which make no list.", hint=hint)
    try:
        return answer(b"".join(found) if any(binary) else found, content_type=content_type, limit=limit)
    except BadAnswer as error:  # NaN, which JSON does not have
        raise UserCodeFailed(str(error), field=error.field, hint=error.hint) from None
    except TooLong:
        raise _too_large(limit) from None


def _too_large(limit: int) -> RopewalkError:
    return TooLarge(
        f"What it yields is over the {limit} bytes that a durable call may give.",
        field="limits.durable_payload",
        hint="Write it to a file and yield its path.",
    )

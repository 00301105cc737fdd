"""Go's own functions of text, which both tables use: ``strings``, ``strconv``, base64. Pure."""

from __future__ import annotations

import base64
import binascii
import math
import re

from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.work import Work

SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity)|nan", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,40}", re.ASCII)


def upper(text: str) -> str:
    """Return each letter as a capital where there is one such."""
    return text.upper() if text.isascii() else "".join(one.upper() if len(one.upper()) == 1 else one for one in text)


def lower(text: str) -> str:
    """Return each letter as a small one."""
    return text.lower() if text.isascii() else "".join(one.lower()[0] for one in text)


def split(work: Work, text: str, separator: str, most: int = -1, *, after: bool = False) -> list[str]:
    """Return the pieces of a text, at most so many; an empty separator gives its letters."""
    if most == 0:
        return []
    count = len(text) if not separator else text.count(separator) + 1
    work.make(min(count, most) if most > 0 else count, members=True)
    if separator:
        found = text.split(separator, most - 1 if most > 0 else -1)
    elif 0 < most < len(text):
        found = [*text[: most - 1], text[most - 1 :]]
    else:
        found = list(text)
    return [one + separator for one in found[:-1]] + found[-1:] if after else found


def replace(work: Work, text: str, old: str, new: str, most: int = -1) -> str:
    """Return a text with one piece put in place of another, at most so often."""
    count = text.count(old) if old else len(text) + 1
    times = min(count, most) if most >= 0 else count
    work.make(len(text) + times * len(new))
    return text.replace(old, new, times)


def repeat(work: Work, text: str, times: int) -> str:
    """Return a text so many times over."""
    if not 0 <= times <= 1_000_000:
        raise BadExpression(f"nothing can be repeated {times} times")
    work.make(len(text) * times)
    return text * times


def join(work: Work, texts: list[str], between: str) -> str:
    """Return texts with another between them."""
    work.make(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def whole_in(text: str) -> int | None:
    """Return the whole number that a text is, or nothing."""
    if not _WHOLE.fullmatch(text):
        return None
    found = int(text)
    return found if -(2**63) <= found < 2**63 else None


def float_in(text: str) -> float | None:
    """Return the number that a text is, or nothing."""
    if not _FLOAT.fullmatch(text):
        return None
    found = float(text)
    return None if math.isinf(found) and "inf" not in text.lower() else found


def base64_written(text: str) -> str:
    """Return a text's bytes in base64."""
    return base64.b64encode(text.encode()).decode()


def base64_read(text: str) -> str:
    """Return the text that base64 holds.

    Raises
    ------
    BadExpression
        If it is none.
    """
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True).decode(errors="replace")
    except (binascii.Error, ValueError) as error:
        raise BadExpression("it is no base64") from error

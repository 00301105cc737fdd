"""``sprig.*``: the functions of text, paths and digests whose result follows from their arguments. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import re
import zlib
from collections.abc import Callable

from ropewalk_workflows.expr import patterns, words
from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.functions import Function, Functions
from ropewalk_workflows.expr.values import Value, shown
from ropewalk_workflows.expr.work import Work


def texts(work: Work, value: Value) -> list[str]:
    """Return a list's members as text, without those that are nil."""
    if value is None:
        return []
    members = value if isinstance(value, list) else [value]
    return [shown(one, work) for one in members if one is not None]


def _substring(start: int, end: int, text: str) -> str:
    data = text.encode()
    if start < 0:
        start = 0
    elif end < 0 or end > len(data):
        end = len(data)
    if not 0 <= start <= end <= len(data):
        raise BadExpression(f"there is nothing from {start} to {end}: its length is {len(data)}")
    return data[start:end].decode(errors="replace")


def _truncated(length: int, text: str) -> str:
    data = text.encode()
    if length < 0:
        return (data[length:] if len(data) + length > 0 else data).decode(errors="replace")
    return data[:length].decode(errors="replace")


def _title(text: str) -> str:
    return re.sub(r"(?<!\w)[^\W\d_]", lambda match: words.upper(match[0]), text)


def _untitled(text: str) -> str:
    return re.sub(r"(^|\s)(\S)", lambda match: match[1] + words.lower(match[2]), text)


def _quoted(text: str) -> str:
    marks = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
    marks |= {"\\": r"\\", '"': r"\""}

    def one(letter: str) -> str:
        if letter in marks:
            return marks[letter]
        if letter == " " or letter.isprintable():
            return letter
        code = ord(letter)
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(map(one, text)) + '"'


def _quote(work: Work, *values: Value) -> str:
    return words.join(work, [_quoted(shown(one, work)) for one in values if one is not None], " ")


def _single_quoted(work: Work, *values: Value) -> str:
    return words.join(work, [f"'{shown(one, work)}'" for one in values if one is not None], " ")


def _beside(work: Work, *values: Value) -> str:
    return words.join(work, [shown(one, work) for one in values if one is not None], " ")


def _indented(work: Work, spaces: int, text: str) -> str:
    pad = words.repeat(work, " ", spaces)
    return pad + words.replace(work, text, "\n", "\n" + pad)


def _swapped(text: str) -> str:
    return "".join(words.lower(one) if one.isupper() else words.upper(one) for one in text)


def _extension(path: str) -> str:
    last = path.rpartition("/")[2]
    return last[last.rindex(".") :] if "." in last else ""


def _base(path: str) -> str:
    return (path.rstrip("/").rpartition("/")[2] or "/") if path else "."


def _clean(path: str) -> str:
    found = posixpath.normpath(path) if path else "."
    return found[1:] if found.startswith("//") else found


def _dir(path: str) -> str:
    return _clean(path[: path.rfind("/") + 1])


def _read_base64(text: str) -> str:
    """Return what base64 holds; of what is none, the position that Go's sentence names is not known here."""
    return words.base64_read(text)


def _read_base32(text: str) -> str:
    try:
        return base64.b32decode(text.replace("\r", "").replace("\n", "")).decode(errors="replace")
    except (binascii.Error, ValueError) as error:
        raise BadExpression("it is no base32") from error


def _parts(work: Work, separator: str, text: str, most: int = -1) -> dict[str, Value]:
    return {f"_{place}": one for place, one in enumerate(words.split(work, text, separator, most))}


def _seq(work: Work, *numbers: int) -> str:
    if not 1 <= len(numbers) <= 3:
        return ""
    start, end = (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[-1])
    down = end < start
    step = numbers[1] if len(numbers) == 3 else -1 if down else 1
    if down and len(numbers) == 3 and step > 0:
        return ""
    return words.join(work, [str(one) for one in counted(work, start, end + (-1 if down else 1), step)], " ")


def counted(work: Work, start: int, stop: int, step: int) -> list[int]:
    """Return the numbers from one up to, and without, another."""
    if (stop < start and step >= 0) or (stop >= start and step <= 0):
        return []
    found = range(start, stop, step)
    work.make(len(found), members=True)
    return list(found)


def _digest(name: str) -> Function:
    return Function(lambda _work, text: hashlib.new(name, text.encode()).hexdigest(), "text")


def _text(calculate: Callable[..., Value], takes: str = "text") -> Function:
    return Function(lambda _work, *given: calculate(*given), takes)


def _checked(calculate: Callable[[str, str], Value]) -> Function:
    return _text(calculate, "text text")


_SPACES = re.compile(rf"[{re.escape(words.SPACE)}]+")

TEXT: Functions = {
    "trim": _text(lambda text: text.strip(words.SPACE)),
    "upper": _text(words.upper),
    "lower": _text(words.lower),
    "title": _text(_title),
    "untitle": _text(_untitled),
    "swapcase": _text(_swapped),
    "nospace": _text(lambda text: _SPACES.sub("", text)),
    "substr": _text(_substring, "whole whole text"),
    "trunc": _text(_truncated, "whole text"),
    "repeat": Function(lambda work, times, text: words.repeat(work, text, times), "whole text"),
    "trimAll": _checked(lambda letters, text: text.strip(letters) if letters else text),
    "trimall": _checked(lambda letters, text: text.strip(letters) if letters else text),
    "trimPrefix": _checked(lambda prefix, text: text.removeprefix(prefix)),
    "trimSuffix": _checked(lambda suffix, text: text.removesuffix(suffix)),
    "contains": _checked(lambda part, text: part in text),
    "hasPrefix": _checked(lambda part, text: text.startswith(part)),
    "hasSuffix": _checked(lambda part, text: text.endswith(part)),
    "replace": Function(lambda work, old, new, text: words.replace(work, text, old, new), "text text text"),
    "quote": Function(_quote, "any*"),
    "squote": Function(_single_quoted, "any*"),
    "cat": Function(_beside, "any*"),
    "indent": Function(_indented, "whole text"),
    "nindent": Function(lambda work, spaces, text: "\n" + _indented(work, spaces, text), "whole text"),
    "plural": _text(lambda one, many, count: one if count == 1 else many, "text text whole"),
    "toString": Function(lambda work, value: shown(value, work), "any"),
    "toStrings": Function(texts, "any"),
    "split": Function(_parts, "text text"),
    "splitn": Function(lambda work, separator, most, text: _parts(work, separator, text, most), "text whole text"),
    "splitList": Function(lambda work, separator, text: words.split(work, text, separator), "text text"),
    "join": Function(lambda work, between, value: words.join(work, texts(work, value), between), "text any"),
    "sortAlpha": Function(lambda work, value: sorted(texts(work, value)), "any"),
    "sha1sum": _digest("sha1"),
    "sha256sum": _digest("sha256"),
    "sha512sum": _digest("sha512"),
    "adler32sum": _text(lambda text: str(zlib.adler32(text.encode()))),
    "b64enc": _text(words.base64_written),
    "b64dec": _text(_read_base64),
    "b32enc": _text(lambda text: base64.b32encode(text.encode()).decode()),
    "b32dec": _text(_read_base32),
    **dict.fromkeys(("base", "osBase"), _text(_base)),
    **dict.fromkeys(("dir", "osDir"), _text(_dir)),
    **dict.fromkeys(("clean", "osClean"), _text(_clean)),
    **dict.fromkeys(("ext", "osExt"), _text(_extension)),
    **dict.fromkeys(("isAbs", "osIsAbs"), _text(lambda path: path.startswith("/"))),
    "seq": Function(_seq, "whole*"),
    "regexMatch": Function(lambda work, pattern, text: patterns.matches(pattern, text, work), "text text"),
    "mustRegexMatch": Function(lambda work, pattern, text: patterns.matches(pattern, text, work), "text text"),
}

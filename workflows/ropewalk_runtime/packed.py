"""Arguments and answers that hold data frames or arrays: JSON, with each of those beside it as its own bytes.

A body of the type `PACKED` is ``RWP1``, two lengths (4 bytes each, the larger digit first), the list of parts as JSON,
the value as JSON in which a part stands as ``{"$ropewalk.part": 0}``, and the bytes of the parts one after another. A
part of which the list gives a digest has no bytes here: it is a file that was sent before, and which files a message
may name says whoever passes it on, never the message. Pure but for opening those files. Not here: what parts look like
(``formats``), where files are kept (the gateway). Rejected: base64 inside the JSON (a third more, and three copies),
multipart (a border must be searched for in the bytes), pickle.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ropewalk_runtime import formats
from ropewalk_runtime.formats import ARROW, NPY, Unformed

PACKED = "application/vnd.ropewalk.packed"
MOST_PARTS = 1000
MAGIC, _LENGTHS = b"RWP1", struct.Struct("!II")
_HEAD = len(MAGIC) + _LENGTHS.size
_LONGEST_LIST = 2**18
_LARGEST = 2**63
_MARK = "$ropewalk.part"
_MARKED = f'"{_MARK}":'
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """One frame or array of a message: inside of it, or a file by its SHA-256."""

    type: str
    of: str
    size: int
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        facts: dict[str, Any] = {"type": self.type, "of": self.of, "size": self.size}
        return facts | {"digest": self.digest} if self.digest else facts


@dataclass
class Packing:
    """The parts of a value that is being written down.

    Parameters
    ----------
    elsewhere
        Sends a frame or an array as a file and returns its part; None where it shall lie inside, beside so many bytes
        that do already. Not given, all do.
    """

    elsewhere: Callable[[Any, int], Part | None] | None = None
    parts: list[Part] = field(default_factory=list)
    inside: list[Any] = field(default_factory=list)

    def take(self, value: Any) -> dict[str, int] | None:
        """Return what stands for a value in the JSON if it is a frame or an array, else None.

        Raises
        ------
        Unformed
            If it is one that cannot be written, or one too many.
        """
        if not (of := formats.library(value)):
            return None
        if len(self.parts) == MOST_PARTS:  # now, and not when all of them were sent ahead
            raise Unformed(
                f"It holds more than the {MOST_PARTS} frames and arrays of one message.",
                hint="Send them in several calls, or as one.",
            )
        part = self.elsewhere(value, self.size) if self.elsewhere is not None else None
        if part is None:
            size = sum(map(len, formats.pieces(value)))
            part = Part(formats.type_of(value), of, size)
            self.inside.append(value)
        self.parts.append(part)
        return {_MARK: len(self.parts) - 1}

    @property
    def size(self) -> int:
        """Bytes of the parts that lie inside."""
        return sum(one.size for one in self.parts if not one.digest)

    def pieces(self, text: str) -> Iterator[memoryview]:
        """Yield the message.

        Parameters
        ----------
        text
            The value as JSON.

        Raises
        ------
        Unformed
            If the value has what stands for a part as a key of its own.
        """
        if text.count(_MARKED) != len(self.parts):
            raise Unformed(f"A dictionary has the key {_MARK!r}, which is ours.", hint="Rename the key.")
        listed, body = json.dumps([one.as_dict() for one in self.parts]).encode(), text.encode()
        yield memoryview(MAGIC + _LENGTHS.pack(len(listed), len(body)) + listed + body)
        for value in self.inside:
            yield from formats.pieces(value)


def files(body: bytes) -> list[str]:
    """Return the digests of the files that a message names; none of one that is broken, which its reader refuses."""
    try:
        return [one.digest for one in _listed(memoryview(body))[0] if one.digest]  # its text may be long, and is left
    except Unformed:
        return []


def read(body: memoryview, named: Mapping[str, str], *, mapped: bool = False) -> Any:
    """Return the value of a message, whoever wrote it.

    Parameters
    ----------
    body
        The message.
    named
        Where the files lie that it may name, by digest.
    mapped
        Whether ``body`` is a file's: what lies inside is then not copied, and read-only.

    Raises
    ------
    Unformed
        If it is no message, or a package lacks.
    """
    parts, begin, at = _listed(body)
    text, values = body[begin:at], list[Any]()
    for part in parts:
        if part.digest:
            values.append(_file(part, named))
            continue
        if part.size > len(body) - at:
            raise Unformed("The value did not come whole.")
        values.append(formats.read(part.type, part.of, body[at : at + part.size], mapped=mapped))
        at += part.size
    if at != len(body):
        raise Unformed("The value has bytes that belong to nothing.")
    return _placed(text, values)


def outline(body: bytes) -> bytes:
    """Return a message as JSON for people, in which a frame or an array is a few words."""
    try:
        parts, begin, end = _listed(memoryview(body))
        words = [f"{'an array' if one.type == NPY else 'a data frame'} of {one.size} bytes" for one in parts]
        return json.dumps(_placed(memoryview(body)[begin:end], words)).encode()
    except Unformed as error:
        return str(error).encode()


def _placed(text: memoryview, values: list[Any]) -> Any:
    """Return the value of the JSON, with its parts in their places."""

    def placed(found: dict[str, Any]) -> Any:
        if len(found) != 1 or _MARK not in found:
            return found
        number = found[_MARK]
        if not isinstance(number, int) or not 0 <= number < len(values):
            raise Unformed("The value names a part that it has not.")
        return values[number]

    try:
        return json.loads(bytes(text).decode(), object_hook=placed)
    except (ValueError, RecursionError):
        raise Unformed("The value is not JSON.") from None


def _listed(body: memoryview) -> tuple[list[Part], int, int]:
    """Return the parts, where the JSON begins, and where it ends and the bytes of the parts begin."""
    if body[: len(MAGIC)] != MAGIC or len(body) < _HEAD:
        raise Unformed("The value does not begin as one.")
    listed, text = _LENGTHS.unpack(body[len(MAGIC) : _HEAD])
    end = _HEAD + listed + text
    if listed > _LONGEST_LIST or end > len(body):
        raise Unformed("The value did not come whole.")
    try:
        found = json.loads(bytes(body[_HEAD : _HEAD + listed]))
    except (ValueError, RecursionError):
        raise Unformed("The value is not JSON.") from None
    if not isinstance(found, list) or len(found) > MOST_PARTS:
        raise Unformed("The list of parts is none.")
    return [_part(one) for one in found], _HEAD + listed, end


def _part(facts: Any) -> Part:
    if isinstance(facts, dict):
        kind, of, size, digest = (facts.get(name) for name in ("type", "of", "size", "digest"))
        whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _LARGEST and isinstance(of, str)
        known = digest is None or (isinstance(digest, str) and _DIGEST.fullmatch(digest))
        if kind in (ARROW, NPY) and whole and known:
            return Part(str(kind), str(of), int(str(size)), str(digest or ""))
    raise Unformed("A part is neither an Arrow stream nor an array.", hint="Nothing else is read; no pickle is.")


def _file(part: Part, named: Mapping[str, str]) -> Any:
    path = named.get(part.digest)
    if path is None:
        raise Unformed("The call names a file that was not sent with it.")
    try:
        data = mapped(path)
    except OSError:
        raise Unformed("The file of an argument is gone.", hint="Call again; it is sent anew then.") from None
    if len(data) != part.size:
        raise Unformed("The file of an argument has another size than was said.")
    return formats.read(part.type, part.of, data, mapped=True)


def mapped(path: str | os.PathLike[str]) -> memoryview:
    """Return a file as memory that nobody can write through; it takes none before it is read, and outlives its name.

    Raises
    ------
    OSError
        If it is not there, or is empty.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        return memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ)) if size else memoryview(b"")
    finally:
        os.close(file)

"""Kinds of values that steps write without pickles of their own, and the file that holds several of them.

A kind says whether a value is one of its own, writes it, and reads it back. What one of them writes is a file that its
own library reads; a value of several (a tuple of a model and two arrays) is one file that ends with a table of
contents: ``RWV1``, the parts at multiples of 64 bytes, so that they are used as they lie, JSON that says what stands
where, its length (8 bytes, the larger digit first) and ``RWV1``. Libraries are imported when a value is theirs. Not
here: who may pickle (``values``), plain values (``tree``). Rejected: zip (a checksum over every byte, and headers that
are not aligned), a media type beside the file (Argo hands steps nothing but the file).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

from ropewalk_runtime import columns, formats, own, tensors, tree
from ropewalk_runtime.formats import ARROW, NPY, Unformed
from ropewalk_runtime.storing import Out

VALUE = "application/vnd.ropewalk.value"
_MAGIC, _LENGTH, _ALIGNED = b"RWV1", struct.Struct("!Q"), 64
_END = _LENGTH.size + len(_MAGIC)
BEGIN = 16
"""Bytes at the start of a file that tell whether it is one of these."""
_NPY, _ARROW = b"\x93NUMPY", b"\xff\xff\xff\xff"
_PART = "part"
_MAIN = b"__main__"
_POLARS = "A polars data frame travels with the package pyarrow."
Writer: TypeAlias = Callable[[Out], None]


class Entangled(Exception):
    """A part turned out to hold what its kind cannot write, such as a class of the person's own in an estimator."""


@dataclass(frozen=True)
class Kind:
    """A kind of values.

    Parameters
    ----------
    media_type
        Of a file with one such value and nothing else; nothing where that would not say what it is.
    takes
        Returns what a value is called and what writes it, or None if it is not of this kind.
    reads
        Makes the value of memory, which it may keep, and of what it was called.
    """

    media_type: str
    takes: Callable[[Any], tuple[str, Writer] | None]
    reads: Callable[[memoryview, str], Any]


@dataclass
class Part:
    """A value inside a file."""

    kind: str
    of: str
    write: Writer


@dataclass
class Plan:
    """How a value is to be written: what stands for it as JSON, its parts, and what no kind takes, by place."""

    node: Any = None
    parts: list[Part] = field(default_factory=list)
    foreign: list[tuple[str, Any, Unformed | None]] = field(default_factory=list)
    _known: dict[int, int] = field(default_factory=dict)

    @property
    def media_type(self) -> str:
        """The media type of the file."""
        if self.node == {"$": _PART, "of": 0} and (only := self.parts[0]).of != "polars" and only.of != "pyarrow":
            return KINDS[only.kind].media_type or VALUE
        return VALUE

    def leaf(self, value: Any, place: str) -> Any:
        """Return what stands for a value that is not plain."""
        if (known := self._known.get(id(value))) is not None:  # the same array twice is written once
            return {"$": _PART, "of": known}
        try:
            found = self._taken(value)
            if found is None and (apart := columns.take(value)) is not None:
                inside = tree.take(apart[1], place, lambda one, _: self.leaf(one, place))
                return {"$": apart[0], "of": inside}
        except Unformed as error:
            self.foreign.append((place, value, error))
            return None
        if found is None:
            self.foreign.append((place, value, None))
            return None
        self.parts.append(found)
        self._known[id(value)] = len(self.parts) - 1
        return {"$": _PART, "of": len(self.parts) - 1}

    def _taken(self, value: Any) -> Part | None:
        for name, kind in KINDS.items():
            if (found := kind.takes(value)) is not None:
                return Part(name, *found)
        return None

    def write(self, file: Out) -> None:
        """Write the file.

        Raises
        ------
        Entangled
            If it must be pickled after all.
        """
        if self.media_type != VALUE:
            self.parts[0].write(file)
            return
        file.write(_MAGIC.ljust(_ALIGNED, b"\0"))
        listed = []
        for part in self.parts:
            at = file.tell()
            part.write(file)
            listed.append({"kind": part.kind, "of": part.of, "at": at, "size": file.tell() - at})
            file.write(bytes(-file.tell() % _ALIGNED))
        head = json.dumps({"value": self.node, "parts": listed}).encode()
        file.write(head + _LENGTH.pack(len(head)) + _MAGIC)


def plan(value: Any, place: str) -> Plan:
    """Say how a value is written.

    Raises
    ------
    TooDeep
        If it holds itself.
    """
    found = Plan()
    found.node = tree.take(value, place, found.leaf)
    return found


def read(data: memoryview) -> Any:
    """Return the value of a file.

    Parameters
    ----------
    data
        The file. Arrays and tensors use it as it lies: they are read-only where it is.

    Raises
    ------
    Unformed
        If it is none, or a package lacks.
    """
    first = bytes(data[:BEGIN])
    if first.startswith(_NPY):
        return KINDS["npy"].reads(data, "numpy")
    if first.startswith(_ARROW):
        return KINDS["arrow"].reads(data, "pandas")
    if tensors.is_begin(first):
        return KINDS["tensor"].reads(data, "")
    if not first.startswith(_MAGIC) or bytes(data[-len(_MAGIC) :]) != _MAGIC:
        raise Unformed("The file holds no whole value that a step wrote.", hint="Run the step that made it again.")
    return _several(data)


def is_begin(first: bytes) -> bool:
    """Say whether a file that begins so is one for `read`."""
    return first.startswith((_NPY, _ARROW, _MAGIC)) or tensors.is_begin(first)


def _several(data: memoryview) -> Any:
    (length,) = _LENGTH.unpack(data[-_END : -len(_MAGIC)])
    head = json.loads(bytes(data[-_END - length : -_END]))
    parts = head["parts"]
    made: dict[int, Any] = {}

    def leaf(name: str, inside: Any) -> Any:
        if name != _PART:
            return columns.give(name, tree.give(inside, leaf))
        if inside not in made:
            facts = parts[inside]
            view = data[facts["at"] : facts["at"] + facts["size"]]
            made[inside] = KINDS[facts["kind"]].reads(view, facts["of"])
        return made[inside]

    return tree.give(head["value"], leaf)


# The kinds


def _pieces(pieces: Iterable[Any]) -> Writer:
    def write(file: Out) -> None:
        for one in pieces:
            file.write(one)

    return write


def _bytes(value: Any) -> tuple[str, Writer] | None:
    return (type(value).__name__, _pieces([value])) if type(value) in (bytes, bytearray) else None


def _array(value: Any) -> tuple[str, Writer] | None:
    return ("numpy", _pieces(formats.pieces(value))) if formats.library(value) == "numpy" else None


def _frame(value: Any) -> tuple[str, Writer] | None:
    """Take a frame where pyarrow is installed; one of pandas that has no Arrow form is taken apart by ``columns``."""
    of = formats.library(value)
    if of not in ("pandas", "polars", "pyarrow"):
        return None
    if not formats.installed("pyarrow"):
        if of == "pandas":
            return None
        raise Unformed(_POLARS, hint="Install it: %pip install pyarrow.")
    pieces = formats.pieces(value)
    try:
        first = next(pieces)
    except Unformed:
        if of == "pandas":
            return None
        raise
    return of, _pieces(chain([first], pieces))


def _tensor(value: Any) -> tuple[str, Writer] | None:
    return ("torch", _pieces(tensors.pieces(value))) if tensors.fits(value) else None


def _of_scikit_learn(kind: type) -> bool:
    """Say whether a class is one that scikit-learn's own files hold: estimators, its data sets, sparse matrices."""
    return kind.__module__.startswith(("sklearn.", "scipy.sparse."))


def _estimator(value: Any) -> tuple[str, Writer] | None:
    if type(value).__module__ == "__main__" or not any(map(_of_scikit_learn, type(value).__mro__)):
        return None

    def write(file: Out) -> None:
        try:
            formats.needed("joblib", "an estimator").dump(value, _Watched(file))
        except (OSError, MemoryError, Entangled, Unformed):
            raise
        except Exception as error:  # a function in it, perhaps: only cloudpickle writes those of a notebook
            raise Entangled(str(error)) from error

    return "scikit-learn", write


class _Watched:
    """A file for joblib, which writes names of a notebook's classes that nobody else could look up."""

    def __init__(self, file: Out) -> None:
        self._file, self.tell = file, file.tell

    def write(self, data: Any) -> int:
        if len(view := memoryview(data).cast("B")) < formats.PIECE and _MAIN in bytes(view):
            raise Entangled("It holds a class of the notebook.")
        return self._file.write(data)


def _read_bytes(data: memoryview, of: str) -> Any:
    return bytearray(data) if of == "bytearray" else bytes(data)


def _read_estimator(data: memoryview, _: str) -> Any:
    return formats.needed("joblib", "an estimator").load(io.BytesIO(data))


KINDS: dict[str, Kind] = {
    "own": Kind("", own.takes, own.reads),
    "bytes": Kind("", _bytes, _read_bytes),
    "npy": Kind(NPY, _array, lambda data, of: formats.read(NPY, of, data, mapped=True)),
    "arrow": Kind(ARROW, _frame, lambda data, of: formats.read(ARROW, of, data)),
    "tensor": Kind(tensors.SAFETENSORS, _tensor, lambda data, _: tensors.read(data)),
    "joblib": Kind("", _estimator, _read_estimator),
}
"""In the order in which they are asked."""

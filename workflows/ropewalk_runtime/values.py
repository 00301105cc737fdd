"""Values between steps: JSON when it comes back exactly, else a pickle within the account. Standard library only.

A value is one file of the account's content-addressed store (the same layout as the platform's: ``<2>/<SHA-256>``).
The first byte tells the kind: a pickle of protocol 2 or later starts with 0x80, which no JSON text does. Only the
account's own code ever unpickles; the platform never does. cloudpickle is used when it is there, because classes of a
notebook live in ``__main__``. Such a class travels with the value, and gives way to the class of the same name where
the code around has one: ``Mode.FAST is Mode.FAST`` and ``isinstance`` hold from step to step.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import math
import os
import pickle
import secrets
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

JSON, PICKLE = "application/json", "application/x-python-pickle"
INLINE = 64 * 1024
_CHUNK = 1 << 20


class Unsavable(TypeError):
    """The value can be written neither as JSON nor as a pickle."""


@dataclass(frozen=True)
class Saved:
    """A value in the store. ``json`` is its text when it is JSON and small."""

    digest: str
    size: int
    media_type: str
    type: str
    preview: str
    json: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON."""
        return asdict(self)


def is_exact(value: Any, depth: int = 0) -> bool:
    """Say whether JSON gives back exactly this value: same types, same numbers."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return value.isascii() or _encodable(value)
    if value is None or kind is bool or kind is int:
        return True
    if depth > 100:
        return False
    if kind is list:
        return all(is_exact(one, depth + 1) for one in value)
    if kind is dict:
        return all(type(key) is str and is_exact(key) and is_exact(one, depth + 1) for key, one in value.items())
    return False


def inexact(value: Any, place: str) -> str:
    """Return in words what of a value JSON would not give back, such as ``result[3] is NaN``."""
    for depth in range(100):
        inside = list(value.items()) if type(value) is dict else list(enumerate(value)) if type(value) is list else []
        found = next(((key, one) for key, one in inside if not is_exact(one, depth)), None)
        if found is None:
            break
        place, value = f"{place}[{found[0]!r}]", found[1]
    if type(value) is float:
        return f"{place} is {'NaN' if math.isnan(value) else 'Infinity' if value > 0 else '-Infinity'}"
    what = "has keys or text that JSON has not" if type(value) in (dict, str) else f"is of type {_type(value)}"
    return f"{place[:200]} {what}"


def text_of(value: Any) -> str:
    """Return JSON in which no template tag can hide: ``{{`` stands only inside of texts, and is escaped there."""
    return json.dumps(value).replace("{{", "{\\u007b")


def encode(value: Any) -> tuple[bytes, str]:
    """Return the bytes of a value and their media type, for a value that is sent along.

    Raises
    ------
    Unsavable
        If it cannot be pickled.
    """
    if is_exact(value):
        return json.dumps(value).encode(), JSON
    content = io.BytesIO()
    _dump(value, content)
    return content.getvalue(), PICKLE


def save(value: Any, store: Path) -> Saved:
    """Write a value into the store, whole or not at all.

    Raises
    ------
    Unsavable
        If it cannot be pickled.
    OSError
        If the disk is full.
    """
    with _Partial(store) as (file, partial):
        text = json.dumps(value) if is_exact(value) else None
        if text is not None:
            file.write(text.encode())
        else:
            _dump(value, file)
        file.flush()
        os.fsync(file.fileno())
        digest, size = _settle(partial, store)
    inline = text if text is not None and len(text) <= INLINE else ""
    return Saved(digest, size, JSON if text is not None else PICKLE, _type(value), _preview(value), inline)


def keep_file(path: Path, store: Path) -> tuple[str, int]:
    """Copy a regular file into the store and return its digest and size."""
    with path.open("rb") as source, _Partial(store) as (file, partial):
        while chunk := source.read(_CHUNK):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        return _settle(partial, store)


def load(path: str | os.PathLike[str]) -> Any:
    """Return the value in a file of the store. Only for files of the own account: a pickle runs code."""
    with Path(path).open("rb") as file:
        first = file.read(1)
        file.seek(0)
        if first == b"\x80":
            return pickle.load(file)  # noqa: S301 - the account's own value, inside its own sandbox
        return json.load(file)


def decode(content: bytes) -> Any:
    """Return the value of bytes that a run of the own account made."""
    if content[:1] == b"\x80":
        return pickle.loads(content)  # noqa: S301 - the account's own value, in its own kernel
    return json.loads(content)


class _Partial:
    """A file beside the store's content; gone when it was not settled."""

    def __init__(self, store: Path) -> None:
        self.path = store / f".partial-{secrets.token_hex(8)}"

    def __enter__(self) -> tuple[BinaryIO, Path]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("xb")
        return self._file, self.path

    def __exit__(self, *_: object) -> None:
        # A full disk may speak up again when the rest of the buffer is written; the first error is the one to show.
        with contextlib.suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)


def _settle(partial: Path, store: Path) -> tuple[str, int]:
    seen, size = hashlib.sha256(), 0
    with partial.open("rb") as file:
        while chunk := file.read(_CHUNK):
            seen.update(chunk)
            size += len(chunk)
    digest = seen.hexdigest()
    final = store / digest[:2] / digest
    final.parent.mkdir(exist_ok=True)
    partial.replace(final)
    for folder in (final.parent, store):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return digest, size


def _dump(value: Any, file: BinaryIO) -> None:
    try:
        _pickler()(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise Unsavable(f"{_type(value)} cannot be saved: {error}") from error


@functools.cache
def _pickler() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return pickle.Pickler

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, type) and value.__module__ == "__main__" and _of_main(value.__qualname__) is value:
                return _named, (value.__qualname__, cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
            return super().reducer_override(value)

    return Pickler


def _of_main(name: str) -> Any:
    return vars(sys.modules["__main__"]).get(name)


def _named(name: str, content: bytes) -> Any:
    """Return the class of this name of the code around, else the one that came with the value."""
    found = _of_main(name)
    return found if isinstance(found, type) else pickle.loads(content)  # noqa: S301 - inside a pickle already


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _type(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.").removeprefix("__main__.")


def _preview(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a person's __repr__ may raise anything; the value is fine
        text = f"<{_type(value)}: {type(error).__name__} in repr>"
    return text if len(text) <= 400 else text[:399] + "…"

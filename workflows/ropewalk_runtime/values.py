"""Values between steps: JSON when it comes back exactly, else as their kind is written; a pickle only where allowed.

A value is one file of the account's content-addressed store. Its first bytes tell what it is, because a step in an
image is handed nothing but the file: a pickle of protocol 2 or later starts with 0x80, which no JSON text does, and
each kind has a beginning of its own (``kinds``). Pickles are for classes of the person's own code, which travels
anyway, and for steps that say ``pickle=True``. Only the account's own code ever unpickles; the platform never does.
cloudpickle is used when it is there, because classes of a notebook live in ``__main__``. Such a class travels with the
value, and gives way to the class of the same name where the code around has one: ``Mode.FAST is Mode.FAST`` and
``isinstance`` hold from step to step. Standard library only.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import mmap
import os
import pickle
import sys
import types
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ropewalk_runtime import bundle, kinds, previews, tree
from ropewalk_runtime.kinds import Entangled, Plan
from ropewalk_runtime.storing import Out, Partial

JSON, PICKLE = "application/json", "application/x-python-pickle"
INLINE = 64 * 1024
SHORT = 8 * 1024
"""Characters of JSON that is not synced: whoever accepts it keeps the text as well."""
_PICKLED = b"\x80"
_LIBRARIES = ("site-packages", "dist-packages")
_ADVICE = (
    "Use plain values, arrays, data frames or tensors, say how it is written: ropewalk.serialiser(type, write, read), "
    "or allow pickles: @step(pickle=True)."
)


class Unsavable(TypeError):
    """The value cannot be written, or must not be; ``said`` is what is wrong and ``hint`` what to do."""

    def __init__(self, said: str, hint: str = "") -> None:
        super().__init__(f"{said} {hint}".strip())
        self.said, self.hint = said, hint


@dataclass(frozen=True)
class Saved:
    """A value in the store. ``json`` is its text when it is JSON and small, ``look`` what `previews.look` returned."""

    digest: str
    size: int
    media_type: str
    type: str
    preview: str
    json: str = ""
    look: dict[str, Any] = field(default_factory=dict)

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


def encode(value: Any, place: str = "value", *, pickles: bool = False) -> tuple[bytes, str]:
    """Return the bytes of a value and their media type, for a value that is sent along.

    Parameters
    ----------
    value
        Any value.
    place
        What to call it where it cannot be written.
    pickles
        Whether it may be pickled, whatever it is.

    Raises
    ------
    Unsavable
        If it has no form, or only that of a pickle, which is not allowed.
    """
    try:
        content = io.BytesIO()
        media_type, _ = _write(value, place, pickles, content)
    except Entangled:
        content = io.BytesIO()
        media_type = _pickled(value, place, content)
    return content.getvalue(), media_type


def save(value: Any, store: Path, place: str = "result", *, pickles: bool = False) -> Saved:
    """Write a value into the store, whole or not at all; see `encode` for the rest.

    Raises
    ------
    Unsavable
        As `encode`.
    OSError
        If the disk is full.
    """
    try:
        with Partial(store) as file:
            media_type, text = _write(value, place, pickles, file)
            digest, size = file.settle()
    except Entangled:
        with Partial(store) as file:
            media_type, text = _pickled(value, place, file), ""
            digest, size = file.settle()
    inline = text if len(text) <= INLINE else ""
    return Saved(digest, size, media_type, _type(value), previews.words(value), inline, previews.look(value))


def save_short(value: Any, store: Path) -> Saved | None:
    """Write a value that is short JSON without waiting for the disk; return None where `save` must write it.

    A power cut may take the file and not what is returned, which has the text.
    """
    text = json.dumps(value) if is_exact(value) else None
    if text is None or len(text) > SHORT:
        return None
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    final = store / digest[:2] / digest
    if not final.parent.is_dir():  # it must last as soon as it is there: others sync only what they put into it
        return None
    if not (final.is_file() and final.stat().st_size == len(content)):  # else it may be synced already
        with Partial(store) as file:
            file.write(content)
            file.settle(synced=False)
    return Saved(digest, len(content), JSON, _type(value), previews.words(value), text, previews.look(value))


def keep_file(path: Path, store: Path) -> tuple[str, int]:
    """Copy a regular file into the store and return its digest and size.

    It is never linked: what the program left running could still write into it.
    """
    with path.open("rb") as source, Partial(store) as file:
        file.fill(source)
        return file.settle()


def load(path: str | os.PathLike[str]) -> Any:
    """Return the value in a file of the store. Only for files of the own account: a pickle runs code.

    Arrays use the file as it lies and take memory only where they are changed, which nobody else sees. Where the limit
    of memory leaves no room for that they are read-only.
    """
    with Path(path).open("rb") as file:
        first = file.read(kinds.BEGIN)
        file.seek(0)
        if first.startswith(_PICKLED):
            return pickle.load(file)  # noqa: S301 - the account's own value, inside its own sandbox
        if not kinds.is_begin(first):
            return json.load(file)
        size = os.fstat(file.fileno()).st_size
        try:
            held = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        except OSError:  # private pages count as memory, whether they are ever written or not
            held = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    return kinds.read(memoryview(held))


def decode(content: bytes) -> Any:
    """Return the value of bytes that a run of the own account made."""
    if content.startswith(_PICKLED):
        return pickle.loads(content)  # noqa: S301 - the account's own value, in its own kernel
    return kinds.read(memoryview(bytearray(content))) if kinds.is_begin(content) else json.loads(content)


def is_own(value: Any) -> bool:
    """Say whether a value is code of the person's own, or of a class in it: a cell's, or a module's beside them.

    Libraries are none, wherever they are installed.
    """
    code = isinstance(value, type | types.FunctionType)
    module = str(getattr(value if code else type(value), "__module__", ""))
    if module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(file, str) or any(one in file.split(os.sep) for one in _LIBRARIES):
        return False
    return bundle.holds(file) or (len(here := _here()) > 1 and file.startswith(here + os.sep))


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _write(value: Any, place: str, pickles: bool, file: Out) -> tuple[str, str]:
    """Write a value as what it is, and return its media type and, if it is that, its JSON."""
    if is_exact(value):
        text = json.dumps(value)
        file.write(text.encode())
        return JSON, text
    plan = _planned(value, place, pickles)
    if plan is None:
        return _pickled(value, place, file), ""
    plan.write(file)
    return plan.media_type, ""


def _planned(value: Any, place: str, pickles: bool) -> Plan | None:
    """Return how a value is written; None where it is pickled whole, because something in it must be and may be.

    Raises
    ------
    Unsavable
        If something in it must be pickled and may not be.
    """
    try:
        plan = kinds.plan(value, place)
    except tree.TooDeep as error:
        if pickles:
            return None
        said = f"{error} holds itself, or lies too deep in itself, and cannot be saved."
        raise Unsavable(said, "Allow pickles: @step(pickle=True).") from None
    if not plan.foreign:
        return plan
    for where, one, why in plan.foreign:
        if not pickles and not is_own(one):
            said = f"{where[:200]} is of the type {_type(one)} and cannot be saved as it is."
            raise Unsavable(f"{said} {why or ''}".strip(), f"{why.hint if why is not None else ''} {_ADVICE}".strip())
    return None


def _pickled(value: Any, place: str, file: Out) -> str:
    try:
        _pickler()(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise Unsavable(f"{place} is of the type {_type(value)} and cannot be saved: {error}") from error
    return PICKLE


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

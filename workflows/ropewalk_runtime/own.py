"""Serialisers of a person's own: how values of one type are written and read, said once, used by all steps.

They are registered in the notebook and travel beside the code of each step, one module for each type, which is loaded
when a value of that type is met. Not here: what travels (``capture``), the file around such a value (``kinds``).
Rejected: a method on the class (classes of libraries have none), pickled functions (nobody can read what is sent).
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from ropewalk_runtime import bundle
from ropewalk_runtime.formats import Unformed
from ropewalk_runtime.storing import CHUNK, Out
from ropewalk_runtime.tree import name_of

_SPOOLED = 8 << 20


@dataclass(frozen=True)
class Serialiser:
    """How values of one type are written to a binary file, and read from one."""

    write: Callable[[Any, BinaryIO], object]
    read: Callable[[BinaryIO], Any]


_registered: dict[str, Serialiser] = {}
_absent: set[str] = set()


def serialiser(kind: type, write: Callable[[Any, BinaryIO], object], read: Callable[[BinaryIO], Any]) -> None:
    """Say how values of a type pass from step to step, instead of as pickles.

    Parameters
    ----------
    kind
        The type; values of types that derive from it are others.
    write
        Called with a value and a binary file that is open for writing and can be sought in.
    read
        Called with a binary file that is open for reading; returns the value.

    Raises
    ------
    TypeError
        If ``kind`` is no class, or the functions have no names by which they could travel.
    """
    if not isinstance(kind, type):
        raise TypeError(f"serialiser(...) takes a class first, not {kind!r}.")
    for one in (write, read):
        if not isinstance(one, types.FunctionType) or one.__name__ == "<lambda>":
            raise TypeError(f"serialiser(...) takes functions that are made with def, not {one!r}.")
    _registered[name_of(kind)] = made = Serialiser(write, read)
    if kind.__module__ == write.__module__:  # the code of that module is a step's ``__main__``
        _registered[f"__main__.{kind.__qualname__}"] = made


def registered() -> dict[str, Serialiser]:
    """Return what was registered in this process, by the name of the type."""
    return dict(_registered)


def file_of(name: str) -> str:
    """Return what the module of a type's serialiser is called in a bundle."""
    return f"ropewalk_own_{hashlib.sha256(name.encode()).hexdigest()[:16]}.py"


def find(name: str) -> Serialiser | None:
    """Return the serialiser of the type of this name: registered here, or one that came with the code."""
    if (known := _registered.get(name)) is not None or name in _absent:
        return known
    if (path := bundle.found(file_of(name))) is None:
        if bundle.is_loaded():  # in a notebook it may be registered any moment
            _absent.add(name)
        return None
    found = _registered[name] = _load(path)
    return found


def takes(value: Any) -> tuple[str, Callable[[Out], None]] | None:
    """Return what a value of a registered type is called and what writes it."""
    name = name_of(type(value))
    if (known := find(name)) is None:
        return None

    def write(out: Out) -> None:
        with tempfile.SpooledTemporaryFile(_SPOOLED) as file:
            known.write(value, file)  # type: ignore[arg-type]
            file.seek(0)
            while chunk := file.read(CHUNK):
                out.write(chunk)

    return name, write


def reads(data: memoryview, name: str) -> Any:
    """Return the value in some bytes.

    Raises
    ------
    Unformed
        If its serialiser is not here.
    """
    if (known := find(name)) is None:
        hint = "Run the cell with ropewalk.serialiser(...) first."
        raise Unformed(f"A value of the type {name} was written by a serialiser that is not here.", hint=hint)
    return known.read(io.BytesIO(data))


def _load(path: str) -> Serialiser:
    """Return the serialiser of a module; its classes give way to those of the same name in the code around."""
    module = types.ModuleType(path.rpartition("/")[2].removesuffix(".py"))
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), module.__dict__)  # noqa: S102 - it came with the step's code
    around = vars(sys.modules["__main__"])
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == module.__name__ and isinstance(around.get(name), type):
            setattr(module, name, around[name])
    return Serialiser(module.WRITE, module.READ)

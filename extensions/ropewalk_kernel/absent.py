"""Stand-ins for modules that only a function's own environment has, so that its cell can be run and captured here.

`%%function -r duckdb` runs its cell in the notebook first, where `import duckdb` need not work. Inside of `standing_in`
such an import gives a module whose names are there and do nothing: they can be written in annotations, be decorators'
arguments and base classes, and say where they are when they are called. Not here: installing anything. Rejected:
leaving the cell's imports out (what is captured would lack them), and installing into the notebook unasked.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any


class _Named(type):
    """The type of every name of a module that is not here."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _name(cls.__module__, f"{cls.__qualname__}.{name}")
        setattr(cls, name, made)
        return made

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        absent = next(one for one in reversed(cls.__mro__) if isinstance(one, _Named))
        raise _Absent(absent.__module__)  # of its own base, where a cell made a class of it


class _Absent(ModuleNotFoundError):
    """A module is used here that only the function's own environment has."""

    def __init__(self, module: str) -> None:
        top = module.partition(".")[0]
        super().__init__(
            f"{top} is only in the function's environment, not in this notebook. Call the deployed function, or "
            f"install it here too: %pip install {top}",
            name=top,
        )


def _name(module: str, qualified: str) -> type:
    return _Named(qualified.rpartition(".")[2], (), {"__module__": module, "__qualname__": qualified})


class _Module(types.ModuleType):
    """A module that is not here."""

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":  # a library asks for it that would use the module if it were here
            raise _Absent(self.__name__)
        if name.startswith("__"):
            raise AttributeError(name)
        made = _name(self.__name__, name)
        setattr(self, name, made)
        return made


_Named.__module__ = _Module.__module__ = "builtins"  # capture looks through things of ours, as through our decorators


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last, and finds what nobody else has of some packages, for one cell alone.

    Libraries try imports of their own at the same time: one that believed to have found what it can do without would
    be broken for as long as the notebook runs.
    """

    def __init__(self, packages: frozenset[str], file: str) -> None:
        self._packages, self._file = packages, file
        self.made: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in self._packages or _importing() != self._file:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        self.made.append(spec.name)
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        return


@contextlib.contextmanager
def standing_in(source: str, file: str) -> Iterator[None]:
    """Let imports of a cell succeed meanwhile although what it imports is not here; later ones fail as ever.

    Parameters
    ----------
    source
        The cell as Python; empty changes nothing.
    file
        What its code says that it is from.
    """
    finder = _Finder(frozenset(one for one in _imported(source) if not _here(one)), file)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


def _importing() -> str:
    """Return the file of the code whose import is being carried out."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((__file__, "<frozen importlib")):
        frame = frame.f_back
    return frame.f_code.co_filename if frame is not None else ""


def _imported(source: str) -> Iterator[str]:
    """Yield the packages that a cell imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _here(package: str) -> bool:
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return True  # it is there, and broken: its own error says more

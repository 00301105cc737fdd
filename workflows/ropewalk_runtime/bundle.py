"""A bundle on disk: write it, load it, and show the person's own lines when it fails.

A bundle is a folder of captured source files and `bundle.json` (entry, origin, digest). `origin` says which lines of a
file came from which cell, so that each statement is compiled under the cell's own name and line: a traceback reads
``File "cell [3]", line 2`` with the text of that line. Standard library only; it must not know where bundles come from.
Rejected: unpickling functions (code that nobody can read, tied to one Python version).
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import fcntl
import importlib
import json
import linecache
import os
import secrets
import shutil
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FILE = "bundle.json"
PYTHON, ASGI, PROGRAM, SERVER = "python", "asgi", "program", "server"
"""How code is run: a function, a generator or a class; an ASGI app; a program for each call, or one that listens."""
RAW = frozenset({ASGI, SERVER})
"""Forms that get the request as it came."""
RUNTIME = os.path.dirname(os.path.abspath(__file__)) + os.sep
_loaded: set[str] = set()
"""Folders of the bundles that this process loaded; people know their files by the path inside."""


def write(folder: str | os.PathLike[str], bundle: dict[str, Any]) -> Path:
    """Write a bundle whole or not at all, and return its folder.

    Parameters
    ----------
    folder
        Where; when it holds the same digest already, only where the lines came from is written again.
    bundle
        The JSON form of ``model.Bundle``.

    Raises
    ------
    ValueError
        If a file's path leaves the folder.
    """
    target = Path(folder)
    facts = json.dumps({key: bundle.get(key) for key in ("entry", "origin", "imports", "digest", "form")})
    if _known(target, bundle, facts):
        return target
    fresh = _beside(target)
    try:
        fresh.mkdir(parents=True)
        for name, source in bundle["files"].items():
            path = fresh / inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        (fresh / FILE).write_text(facts, encoding="utf-8")
        _place(fresh, target, bundle)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _known(target: Path, bundle: dict[str, Any], facts: str) -> bool:
    if not _holds(target, bundle):
        return False
    with _alone(target.parent):
        if held := _holds(target, bundle):
            _replace(target / FILE, facts)
    return held


def _holds(target: Path, bundle: dict[str, Any]) -> bool:
    return bool(bundle.get("digest")) and read(target).get("digest") == bundle["digest"]


def read(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of the bundle in the folder; nothing when there is none. Other troubles are raised."""
    try:
        with open(os.path.join(folder, FILE), encoding="utf-8") as file:
            facts = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def load(
    folder: str | os.PathLike[str], facts: dict[str, Any] | None = None, *, install: bool = True
) -> Callable[..., Any]:
    """Run the bundle's modules and return its entry.

    Parameters
    ----------
    folder
        The bundle's folder; its local modules become importable.
    facts
        What `read` returned, if that was asked already.
    install
        Make the cells' module this process's ``__main__``, as it is in a notebook. A kernel that opens a failed step
        must say False.
    """
    root = os.path.realpath(folder)
    facts = read(root) if facts is None else facts
    module_name, _, name = str(facts.get("entry", "")).partition(":")
    if not name:
        raise ValueError(f"{os.path.join(root, FILE)} names no entry")
    _loaded.add(f"{root}{os.sep}")
    if root not in sys.path:
        sys.path.insert(0, root)
        importlib.invalidate_caches()
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    if install:
        sys.modules["__main__"] = module
    file = inside(f"{module_name.replace('.', '/')}.py").as_posix()
    for code in _compile(os.path.join(root, file), file, facts.get("origin") or {}):
        exec(code, module.__dict__)  # noqa: S102 - this is what a sandbox is for
    return module.__dict__[name]  # type: ignore[no-any-return]


def holds(file: str) -> bool:
    """Say whether a file belongs to a bundle that this process loaded."""
    return any(file.startswith(one) for one in _loaded)


def found(name: str) -> str | None:
    """Return where a file of a bundle lies that this process loaded."""
    paths = (one + name for one in _loaded)
    return next((path for path in paths if os.path.isfile(path)), None)


def is_loaded() -> bool:
    """Say whether this process loaded a bundle at all."""
    return bool(_loaded)


def user_traceback(error: BaseException) -> str:
    """Return the traceback without our own frames: what the person wrote, and what that called.

    A module that travelled with the code has the path that it has beside the notebook, not the bundle's.
    """
    lines = traceback.TracebackException.from_exception(error, capture_locals=False)
    _strip(lines, set())
    return "".join(lines.format())


def message(error: BaseException) -> str:
    """Return what an error says, also if the person's class cannot say it."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - their code may raise anything
        return "(its message cannot be read)"


def _strip(lines: traceback.TracebackException, seen: set[int]) -> None:
    if id(lines) in seen:
        return
    seen.add(id(lines))
    lines.stack = traceback.StackSummary.from_list([one for one in lines.stack if not one.filename.startswith(RUNTIME)])
    for frame in lines.stack:
        frame.filename = _known_as(frame.filename)
    if getattr(lines, "filename", None):  # of a SyntaxError
        lines.filename = _known_as(lines.filename)
    for other in (lines.__cause__, lines.__context__, *(lines.exceptions or ())):
        if other is not None:
            _strip(other, seen)


def _known_as(file: str) -> str:
    return next((file.removeprefix(one) for one in _loaded if file.startswith(one)), file)


def _compile(path: str, name: str, origin: dict[str, str]) -> list[types.CodeType]:
    """Return one code object for each run of statements that came from the same cell."""
    with open(path, encoding="utf-8") as file:
        source = file.read()
    tree = ast.parse(source, path)
    flags = _future(tree)
    starts = sorted((int(key.rpartition(":")[2]), value) for key, value in origin.items() if key.startswith(f"{name}:"))
    groups: dict[int, list[ast.stmt]] = {}
    for statement in tree.body:
        first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", []))])
        groups.setdefault(max([start for start, _ in starts if start <= first], default=0), []).append(statement)
    codes, lines = [], source.splitlines(keepends=True)
    for start, statements in groups.items():
        cell, _, line = dict(starts).get(start, f"{path}:1").rpartition(":")
        shift = int(line) - (start or 1)
        last = max(one.end_lineno or one.lineno for one in statements)
        _remember(cell, lines[(start or 1) - 1 : last], int(line))
        body = ast.Module(body=statements, type_ignores=[])
        for one in statements if shift else ():
            ast.increment_lineno(one, shift)
        codes.append(compile(body, cell, "exec", flags=flags, dont_inherit=True))
    return codes


def _remember(cell: str, lines: list[str], first: int) -> None:
    """Put lines of a cell where tracebacks and debuggers look for them; what was not captured stays blank."""
    have = linecache.cache.get(cell)
    text = list(have[2]) if have is not None and len(have) == 4 else []
    text += ["\n"] * (first - 1 + len(lines) - len(text))
    text[first - 1 : first - 1 + len(lines)] = lines
    linecache.cache[cell] = (sum(map(len, text)), None, text, cell)


def _future(tree: ast.Module) -> int:
    flags = 0
    for one in tree.body:
        if isinstance(one, ast.ImportFrom) and one.module == "__future__":
            for alias in one.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    return flags


def inside(name: str) -> Path:
    """Return the path of a bundle's file, relative to its folder. Raises `ValueError` if it leads out of that."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or path == Path(FILE):
        raise ValueError(f"{name!r} is not a path inside a bundle")
    return path


def _replace(path: Path, text: str) -> None:
    fresh = _beside(path)
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Return a name nobody else uses; a process id is no such name, since each worker is the first process it sees."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _place(fresh: Path, target: Path, bundle: dict[str, Any]) -> None:
    """Put the folder in its place, unless another worker was faster, whose folder may be in use already."""
    with _alone(target.parent):
        if _holds(target, bundle):
            return
        old = _beside(target)
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no other worker moves away what this one, or a faster one, has put there."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)

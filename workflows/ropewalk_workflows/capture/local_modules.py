"""Modules that lie beside the notebook: they travel by source, with the local modules that they import in turn."""

from __future__ import annotations

import ast
import sys
from collections.abc import Container, Iterator
from pathlib import Path

from ropewalk_core.errors import BadCode

_SKIPPED = {"site-packages", "dist-packages", "__pycache__", "node_modules"}


def sources(name: str, root: Path, have: Container[str]) -> dict[str, str]:
    """Return path and source of a local module and of what it imports below the root; nothing for a library."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        wanted = waiting.pop()
        top = wanted.partition(".")[0]
        unit = top if (root / top / "__init__.py").is_file() else wanted  # a package travels whole
        if unit in seen:
            continue
        seen.add(unit)
        for path in _files(wanted, root):
            key = path.relative_to(root).as_posix()
            if key in found or key in have:
                continue
            found[key] = _read(path, key)
            waiting += _imports(found[key], key)
    return found


def _files(name: str, root: Path) -> Iterator[Path]:
    """Yield the file of a module, or the files of its package; of a folder without ``__init__.py`` what is named."""
    top = name.partition(".")[0]
    single, package = root / f"{top}.py", root / top
    if not top.isidentifier() or _lives_elsewhere(top, root):
        return
    if (package / "__init__.py").is_file():
        yield from _package(package)
    elif single.is_file():
        yield single
    elif package.is_dir() and len(parts := name.split(".")) > 1 and all(one.isidentifier() for one in parts):
        yield from _beneath(package, parts[1:])


def _package(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if not _SKIPPED.intersection(path.relative_to(folder).parts) and not path.is_symlink():
            yield path


def _beneath(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the file of a module in a folder that is no package of the old kind, or all files of a package in it."""
    for part in parts:
        if (folder / part / "__init__.py").is_file():
            yield from _package(folder / part)
            return
        if (single := folder / f"{part}.py").is_file():
            if not single.is_symlink():
                yield single
            return
        folder = folder / part


def _lives_elsewhere(top: str, root: Path) -> bool:
    """Say whether the module that this process imported is not the one below the root."""
    file = getattr(sys.modules.get(top), "__file__", None)
    return isinstance(file, str) and not Path(file).resolve().is_relative_to(root)


def _read(path: Path, key: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        ast.parse(text, key)
    except SyntaxError as error:
        raise BadCode(f"{key} does not compile: {error.msg}.", field=f"{key}, line {error.lineno}") from error
    except (OSError, ValueError) as error:
        raise BadCode(f"{key} cannot be read: {error}.", field=key) from error
    return text


def _imports(text: str, key: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(text, key)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = key.split("/")[:-1]
            above = above[: len(above) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{one.name}" for one in node.names)]
    return names

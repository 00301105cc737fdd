"""Writes ``docs/settings.md`` and ``docs/errors.md`` from the words in the code: ``python -m tests.reference``.

Tests compare them.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ropewalk_core import errors, settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
ERRORS = PAGE.with_name("errors.md")
_ERRORS_HEAD = """# Errors

Every failure that you see has a code, one sentence that says what is wrong, and a next step. The codes never change
their meaning. Over REST an error is JSON with `code`, `message`, `hint`, `field`, `details`, and `type`, the address of
its explanation; the status of each is below. The command line leaves with 2 for wrong use, 3 for refused, 4 for not
found, 75 for "try later" and 1 for all else.

A running platform shows this page at `/help/errors`. This file is written by `python -m tests.reference` from
`hub/ropewalk_core/errors.py`.
"""
_HEAD = """# Settings

Every knob of a home. In brackets: the default, and the name in the environment. A value is taken from, in this order:
the default; `<home>/ropewalk.toml`; the environment; what a command says (`ropewalk up --port 9000`). Each process
reads them once, when it starts.

In `ropewalk.toml`, settings of a group stand under its name:

    [door]
    port = 9000

The same in the environment: `ROPEWALK_DOOR_PORT=9000`. The home itself is `--home` or `ROPEWALK_HOME`.
An unknown name in the file, or a value of the wrong type anywhere, is refused by name when Ropewalk starts.

This page is written by `python -m tests.reference`.
"""


def words(cls: type) -> dict[str, str]:
    """Return the documentation under each field of a settings class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            text = following.value.value if is_text else ""  # type: ignore[union-attr]
            found[node.target.id] = " ".join(str(text).split()).replace("<", "&lt;")
    return found


def fields(cls: Any = settings.Settings, group: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield group, name, default and documentation of every setting."""
    hints, documented = typing.get_type_hints(cls), words(cls)
    for one in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[one.name]):
            yield from fields(hints[one.name], one.name)
        else:
            yield group, one.name, default(one), documented[one.name]


def default(one: Any) -> str:
    """Return a field's default in words; one that depends on the machine is described in its documentation."""
    if one.name == "home":
        return "`~/.local/state/ropewalk`"
    if one.name == "base":
        return "beside the platform's environment, with `-user` at its name"
    value = one.default if one.default is not dataclasses.MISSING else one.default_factory()
    if isinstance(value, dict):
        return ", ".join(f"`{name}` = `{text}`" for name, text in value.items())
    if value is None or value in ("", ()):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{int(value) if isinstance(value, float) and value.is_integer() else value}`"


def page() -> str:
    """Return the whole page."""
    hints = typing.get_type_hints(settings.Settings)
    text, seen = _HEAD, None
    for group, name, value, explained in sorted(fields(), key=lambda row: row[0]):
        if group != seen:
            text += f"\n## {group or 'The home'}\n\n"
            text += f"{inspect.getdoc(hints[group])}\n\n" if group else ""
            seen = group
        variable = f"ROPEWALK_{group}_{name}".upper().replace("__", "_")
        text += f"- **`{f'{group}.' if group else ''}{name}`** ({value}; `{variable}`) {explained}\n"
    return text


def errors_page() -> str:
    """Return the page of all codes."""
    text = _ERRORS_HEAD
    for one in errors.documented():
        words = " ".join((inspect.getdoc(one) or "").split())
        text += f"\n## {one.code}\n\nStatus {one.status}. {words}\n\n> {one.example}\n\n"
        text += f"**Next:** {one.default_hint}\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
    ERRORS.write_text(errors_page())

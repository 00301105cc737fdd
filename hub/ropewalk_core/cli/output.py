"""What the command line says: tables that fit the terminal, JSON for programs, errors with a next step.

`echo` is the project's only way to standard output. Not here: what is shown (``nouns.py``).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel

from ropewalk_core.errors import (
    BadInput,
    Denied,
    Limited,
    NotFound,
    RopewalkError,
    Unauthenticated,
    Unavailable,
    help_address,
)
from ropewalk_core.model import LogLine, Status

T = TypeVar("T")
Columns: TypeAlias = Mapping[str, Callable[[T], str]]
_NARROWEST = 8
_CODES: tuple[tuple[type[RopewalkError], int], ...] = (
    (NotFound, 4),
    (Denied, 3),
    (Unauthenticated, 3),
    (Unavailable, 75),
    (Limited, 75),
    (BadInput, 2),
)


def echo(text: str, *, end: str = "\n", error: bool = False) -> None:
    """Write text to standard output, or to standard error."""
    stream = sys.stderr if error else sys.stdout
    stream.write(text + end)
    stream.flush()


def echo_answer(body: bytes) -> None:
    """Write what a function returned: for a person without what could drive a terminal, for a program as it is."""
    if sys.stdout.isatty():
        echo(clean(body.decode(errors="replace"), lines=True))
    else:
        sys.stdout.buffer.write(body)
        echo("")


def exit_code(error: RopewalkError) -> int:
    """Return 2 for wrong use, 3 for refused, 4 for not found, 75 for later, 1 for any other failure."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def fail(error: RopewalkError, *, as_json: bool, origin: str = "") -> int:
    """Say what went wrong, what to do and where more is said, and return the exit code."""
    if as_json:
        echo(json.dumps(error.problem(origin=origin)), error=True)
    else:
        problem = error.problem()
        echo(f"ropewalk: {clean(problem['message'])} [{problem['code']}]\n  {clean(problem['hint'])}", error=True)
        if origin:
            echo(f"  {help_address(origin, error.code)}", error=True)
        if trace := problem["details"].get("traceback"):
            echo(clean(str(trace), lines=True), error=True)
    return exit_code(error)


def show(things: Sequence[T], columns: Columns[T], *, as_json: bool, empty: str) -> None:
    """Write a table, or a JSON list; ``empty`` is the line for nothing."""
    if as_json:
        echo(json.dumps([plain(one) for one in things], indent=2))
    elif not things:
        echo(empty)
    else:
        rows = [[clean(column(one)) for column in columns.values()] for one in things]
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        echo("\n".join(table(list(columns), rows, width)))


def show_one(thing: BaseModel, fields: Mapping[str, str], *, as_json: bool) -> None:
    """Write one thing as lines of name and value, or as JSON."""
    if as_json:
        echo(json.dumps(plain(thing), indent=2))
        return
    longest = max(len(name) for name in fields)
    echo("\n".join(f"{name:<{longest}}  {clean(value, lines=True)}" for name, value in fields.items() if value))


def say(thing: BaseModel, words: str, *, as_json: bool) -> int:
    """Write a sentence about a thing that was changed, or the thing as JSON, and return the exit code of success."""
    echo(json.dumps(plain(thing), indent=2) if as_json else clean(words))
    return 0


def show_line(line: LogLine, *, as_json: bool, prefix: str = "") -> None:
    """Write a line of a log, for a person with what it is of before it."""
    echo(line.model_dump_json() if as_json else prefix + clean(line.text.rstrip("\n"), lines=True))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table; over ``width`` (0: no limit), the widest columns are cut, with a mark."""
    cells = [list(heads), *[list(row) for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(heads))]
    while width and sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return ["  ".join(_cell(text, size) for text, size in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cell(text: str, width: int) -> str:
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)


def clean(text: str, *, lines: bool = False) -> str:
    """Return text without what could drive a terminal; on one line, unless ``lines`` keeps line ends and tabs."""
    kept = "\n\t" if lines else ""
    return "".join(one if one.isprintable() or one in kept else " " if one in "\n\t" else "?" for one in text)


def plain(thing: Any) -> Any:
    """Return a model as what JSON holds."""
    return thing.model_dump(mode="json") if isinstance(thing, BaseModel) else thing


def age(since: float | None, now: float | None = None) -> str:
    """Return how long ago a moment was, in a word."""
    if since is None:
        return ""
    seconds = max(0, int((time.time() if now is None else now) - since))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def state(status: Status) -> str:
    """Return a state and, where there is one, its cause."""
    return status.state.value + (f": {status.why.cause}" if status.why else "")

"""Run a program as a step: fill values into its words, hand it files, and give back what it wrote.

A word that holds a value stays one word, whatever is in the value, and no shell reads it: values never become source.
What a program prints for people goes to the step's log as it comes. Standard library only; it must not know workflows.
Rejected: one line for a shell (a value with a quote in it would be a program), and values as environment variables
(each is bounded at 128 KiB, and a list of arguments is what programs of all kinds read).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

FILE, OUT = "file", "out"
"""What a place in a word says of its value: it is in a file; or the program writes a file, which is the result."""
TEXT, JSON, BYTES = "text", "json", "bytes"
"""As what standard output is read."""


class ProgramFailed(RuntimeError):
    """The program cannot be started, or said by its exit code that it failed."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Parameters
    ----------
    words
        The program and its arguments, with ``{name}``, ``{name:file}`` and ``{name:out}`` where values go.
    script
        A program's own text, which ``words`` are the arguments of; its first line says what reads it.
    stdin
        The name of what it reads from standard input.
    returns
        As what its standard output is read, where no word has ``{name:out}``.
    """

    words: list[str]
    script: str = ""
    stdin: str = ""
    returns: str = TEXT
    _places: list[tuple[str, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = [place for word in self.words for _, *place in pieces(word) if place[0]]
        object.__setattr__(self, "_places", [(name, how) for name, how in places])

    @property
    def takes(self) -> list[str]:
        """Names of the values, in the order in which they are first met."""
        given = [name for name, how in self._places if how != OUT]
        return list(dict.fromkeys([*given, *([self.stdin] if self.stdin else [])]))

    @property
    def gives(self) -> list[str]:
        """Names of the files that it writes."""
        return list(dict.fromkeys(name for name, how in self._places if how == OUT))


def pieces(word: str) -> list[tuple[str, str, str]]:
    """Return a word as text, the name of the value after it, and how that is given; without a value both are empty.

    Raises
    ------
    ValueError
        If a place in it is none of ``{name}``, ``{name:file}``, ``{name:out}``.
    """
    found = []
    for text, name, how, conversion in Formatter().parse(word):
        if name is not None and (not name.isidentifier() or conversion or how not in ("", FILE, OUT)):
            raise ValueError(f"{word!r} has a place that is none of {{name}}, {{name:file}} and {{name:out}}")
        found.append((text, name or "", how or ""))
    return found


def run(plan: Plan, given: Mapping[str, Any]) -> Any:
    """Run the program with these values and return its result.

    Returns
    -------
    What it printed; or the bytes of the file that it wrote, of several a dict by name.

    Raises
    ------
    ProgramFailed
        If it cannot be started, ends with a code other than 0, or leaves out a file.
    TypeError
        If a value is no text or number and its place does not say ``:file``.
    """
    with tempfile.TemporaryDirectory(prefix="ropewalk-program-") as name:
        folder = Path(name)
        words = [_filled(word, given, folder) for word in plan.words]
        if plan.script:
            words = [*_interpreter(plan.script, folder), *words]
        out = _ran(words, _content(given[plan.stdin]) if plan.stdin else None, keep=not plan.gives)
        if plan.gives:
            files = {one: _written(folder / OUT / one, one) for one in plan.gives}
            return next(iter(files.values())) if len(files) == 1 else files
    return _read(out, plan.returns, words[0])


def _filled(word: str, given: Mapping[str, Any], folder: Path) -> str:
    """Return the word with its values; it stays one word."""
    parts = []
    for text, name, how in pieces(word):
        parts.append(text)
        if how:
            path = folder / how / name
            path.parent.mkdir(exist_ok=True)
            if how == FILE:
                path.write_bytes(_content(given[name]))
            parts.append(str(path))
        elif name:
            parts.append(_word(name, given[name]))
    return "".join(parts)


def _word(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float | os.PathLike):
        kind = type(value).__name__
        raise TypeError(
            f"{name} is a {kind}, which is no word of a command: write {{{name}:file}} to give it as a file"
        )
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if "\0" in text:
        raise ValueError(f"{name} has a NUL character, which no word of a command may have: write {{{name}:file}}")
    return str(text)


def _content(value: Any) -> bytes:
    """Return what a file holds: text and bytes as they are, all else as JSON."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _interpreter(script: str, folder: Path) -> list[str]:
    from ropewalk_runtime.programs import NotRunnable, command  # only who runs a script pays

    path = folder / "script"
    path.write_text(script, encoding="utf-8")
    try:
        return command(str(path))
    except NotRunnable as error:
        raise ProgramFailed(str(error)) from None


def _ran(words: list[str], given: bytes | None, *, keep: bool) -> bytes:
    """Run it to its end; what it prints for people is not kept here but goes where ours goes."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
    out = subprocess.PIPE if keep else _stream(sys.stdout)
    try:
        process = subprocess.Popen(words, stdin=stdin, stdout=out, stderr=_stream(sys.stderr))
    except OSError as error:
        raise ProgramFailed(f"The program {words[0]!r} cannot be started: {error.strerror}.") from None
    with process:
        try:
            said, _ = process.communicate(given)
        except BaseException:
            process.kill()
            raise
    if code := process.returncode:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise ProgramFailed(f"The program {words[0]!r} {how}.")
    return said or b""


def _stream(stream: Any) -> Any:
    """Return where a program may write: the stream itself if it is a file, else the process's own."""
    try:
        stream.fileno()
    except (OSError, AttributeError, ValueError):  # a notebook's
        return None
    return stream


def _written(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise ProgramFailed(f"The program wrote no file at {{{name}:out}}.")
    return path.read_bytes()


def _read(out: bytes, how: str, program: str) -> Any:
    if how == BYTES:
        return out
    try:
        text = out.decode()
        return json.loads(text) if how == JSON else text.rstrip("\n")
    except ValueError as error:
        raise ProgramFailed(f"What the program {program!r} printed is not {how}: {error}.") from None


def called(words: Iterable[str]) -> str:
    """Return what people call a program: the last part of its first word."""
    return next(iter(words), "").rpartition("/")[2]

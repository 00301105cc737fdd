"""All that a process and its children print, without the values of secrets: what they write passes through a pipe.

Replacing ``sys.stdout`` would not do: programs that a step starts write to its descriptors. Not here: which values, and
how they are replaced in a text (``hidden``). Standard library only. Only a step that has secrets pays for the threads.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress

from ropewalk_runtime import hidden

_PIECE = 64 * 1024
_TO_END = 2.0
"""Seconds in which the rest is read when a process that was left behind holds the pipe open."""


class Veil:
    """Hides values of variables in what is printed, until it is lifted.

    Parameters
    ----------
    names
        Of the variables.
    """

    def __init__(self, names: Iterable[str]) -> None:
        hidden.know(names)
        self._real: dict[int, int] = {}
        self._threads: list[threading.Thread] = []
        if not hidden.knows():
            return
        together = _same(1, 2)
        for number in (1, 2):
            self._real[number] = os.dup(number)
            if number == 2 and together:  # one pipe keeps the order of the two
                os.dup2(1, 2)
                continue
            reading, writing = os.pipe()
            os.dup2(writing, number)
            os.close(writing)
            passing = threading.Thread(target=_pass, args=(reading, self._real[number]), daemon=True)
            passing.start()
            self._threads.append(passing)

    def lift(self) -> None:
        """Print what was held back, and let the rest through as it is."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        for number, real in self._real.items():
            os.dup2(real, number)
        for one in self._threads:
            one.join(_TO_END)
        self._real = {}


def _same(one: int, other: int) -> bool:
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _pass(reading: int, real: int) -> None:
    kept = b""
    while piece := os.read(reading, _PIECE):
        shown, kept = hidden.passed(kept + piece)
        _write(real, shown)
    _write(real, hidden.hidden_bytes(kept))


def _write(real: int, data: bytes) -> None:
    with suppress(OSError):  # nobody reads the log
        while data:
            data = data[os.write(real, data) :]

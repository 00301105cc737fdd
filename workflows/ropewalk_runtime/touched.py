"""What a step touched besides its inputs, from which its result follows too: files, the network, other programs.

Python itself tells of them (PEP 578). A library that opens files by its own means is not seen, nor is what is only
looked for; so this is a reason not to keep a result, and never a proof that one may be kept. Not here: what follows
from it (the engine). Standard library only. Rejected: tracing system calls (another process at every step).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LONGEST = 200
_PROGRAMS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec")


class Touched:
    """What was touched first; ``said`` is how a sentence names it, empty for nothing."""

    def __init__(self) -> None:
        self.said = ""
        self._home = os.path.realpath(os.environ.get("HOME") or os.getcwd()) + os.sep

    def heard(self, event: str, given: tuple[Any, ...]) -> None:
        """Take in what Python tells."""
        if event == "open":
            self._opened(given[0])
        elif event == "socket.connect" and isinstance(given[1], tuple):  # a path is a socket of this machine
            self.said = "the network"
        elif event in _PROGRAMS:
            self.said = "another program"

    def _opened(self, path: Any) -> None:
        if isinstance(path, int):
            return
        name = os.path.abspath(os.fsdecode(path))
        if name.startswith(self._home) and not name[len(self._home) :].startswith("."):  # libraries keep things there
            self.said = name[len(self._home) :][:_LONGEST]


@contextmanager
def watched() -> Iterator[Touched]:
    """Watch what is done meanwhile. Python never forgets who listens, so this is for a process that soon ends."""
    found, listening = Touched(), True

    def hear(event: str, given: tuple[Any, ...]) -> None:
        nonlocal listening
        if listening and not found.said:
            listening = False  # what is done here is nobody's
            try:
                found.heard(event, given)
            except Exception:  # noqa: BLE001 - it would end the person's own call
                found.said = "something that has no name"
            finally:
                listening = True

    sys.addaudithook(hear)
    try:
        yield found
    finally:
        listening = False

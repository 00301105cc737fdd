"""A line of progress: a card under the cell, a line in a terminal, else nothing. A run has a card of its own.

Not here: how it looks (``cards``), what is counted (``mapping``). Rejected: tqdm (kernels start sooner without it).
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from IPython import display as screen
from IPython import get_ipython

from ropewalk_kernel import cards
from ropewalk_kernel.cards import Picture

EVERY = 0.2
_display: Any = screen.display


class Line:
    """A line that is written over in a terminal; where there is none, nothing."""

    def __init__(self) -> None:
        self._begun = False

    def show(self, text: str) -> None:
        """Write a text over the one before it."""
        if (stream := _terminal()) is not None:
            self._begun = True
            stream.write(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K")
            stream.flush()

    def end(self) -> None:
        """Leave the line as it is and go on below it."""
        if self._begun and (stream := _terminal()) is not None:
            stream.write("\n")
        self._begun = False


class Bar:
    """One line of progress; it is drawn some times a second at most.

    Parameters
    ----------
    name
        What is called.
    total
        How many calls there will be; None where nobody knows.
    shown
        False shows nothing.
    """

    def __init__(self, name: str, total: int | None, *, shown: bool = True) -> None:
        self._name, self._total, self._shown = name, total, shown
        self._began: float | None = None
        self._drawn = float("-inf")
        self._handle: Any = None
        self._line = Line()

    def show(self, done: int, *, failed: int = 0, held_back: int = 0) -> None:
        """Show how many calls are over, unless it was shown a moment ago."""
        now = time.monotonic()
        if not self._shown or now - self._drawn < EVERY:
            return
        self._began = now if self._began is None else self._began
        self._drawn = now
        took = now - self._began
        self._draw(self._picture(done, took, failed=failed, held_back=held_back))

    def end(self, done: int, *, failed: int = 0, over: bool) -> None:
        """Show the last state, which stays; ``over`` says that nothing was left out."""
        if not self._shown or self._began is None:
            return
        took = time.monotonic() - self._began
        ended = "done" if over or done == self._total else "stopped"
        self._draw(self._picture(done, took, failed=failed, ended=ended))
        self._line.end()

    def _picture(self, done: int, took: float, *, failed: int = 0, held_back: int = 0, ended: str = "") -> Picture:
        return cards.progress(self._name, done, self._total, took, failed=failed, held_back=held_back, ended=ended)

    def _draw(self, picture: Picture) -> None:
        if _terminal() is not None:
            self._line.show(picture.text)
        elif get_ipython() is None:
            return
        elif self._handle is None:
            self._handle = _display(picture, display_id=True)
        else:
            self._handle.update(picture)


class SendingBar(Bar):
    """The same for the bytes of one argument."""

    def _picture(self, done: int, took: float, *, failed: int = 0, held_back: int = 0, ended: str = "") -> Picture:
        return cards.sending(self._name, done, self._total or done, took, ended=ended)


def _terminal() -> TextIO | None:
    """Return the terminal, where a line can be written over; a notebook has none, though its kernel may."""
    shell = get_ipython()
    in_terminal = shell is None or any(one.__module__.startswith("IPython.terminal") for one in type(shell).__mro__)
    return sys.stderr if in_terminal and sys.stderr is not None and sys.stderr.isatty() else None

"""The command line: ``ropewalk <noun> <verb>``, a thin face of the client.

This module is imported first, so it imports nothing: who presses Ctrl-C while the rest is loaded (a second on a slow
machine) must not read where. Not here: the commands (``program.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

__all__ = ["INTERRUPTED", "main", "unheard"]

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        with unheard():
            from ropewalk_core.cli.program import build_parser, run

            parser = build_parser()
        return run(parser, list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return INTERRUPTED


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """End this process at once and quietly at Ctrl-C, while it has nothing to give back yet.

    An exception would do less: raised in the middle of somebody's import, it may be swallowed or turned into another.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # the caller has decided: it ignores it, or runs us in a program
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

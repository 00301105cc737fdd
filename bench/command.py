"""The command line that benches share: parts, rounds, a smoke run, and an end by Ctrl-C that leaves nothing.

Not here: what is measured, and how much of it (``promised``, ``flows``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from bench.report import Row, publish

S = TypeVar("S")


def say(text: str) -> None:
    """Say what is done now."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def options(module: str, words: str | None, parts: Iterable[str], rounds: int) -> argparse.ArgumentParser:
    """Return the options that all have.

    Parameters
    ----------
    module, words
        What it is started as, and what it says of itself.
    parts
        What ``--only`` may name.
    rounds
        How many there are unless somebody asks for others.
    """
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=words)
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    made.add_argument("--only", action="append", choices=parts, metavar="PART", help=f"of {', '.join(parts)}; repeat")
    made.add_argument("--rounds", type=int, help=f"pairs of ours and the peer, begun in turn ({rounds})")
    made.add_argument("--smoke", action="store_true", help="so little that the figures mean nothing: does it run?")
    return made


def sizes_of(chosen: argparse.Namespace, usual: S, smoke: S) -> S:
    """Return the sizes that a command line asks for; its other options are named as they are."""
    names = {"json", "only", "smoke"}
    given = {name: value for name, value in vars(chosen).items() if name not in names and value is not None}
    return replace(smoke if chosen.smoke else usual, **given)  # type: ignore[type-var]


def run(chosen: argparse.Namespace, measured: Callable[[], list[Row]]) -> int:
    """Measure, and print what came of it; return the exit code."""
    try:
        rows = measured()
    except KeyboardInterrupt:
        say("interrupted; nothing of it stays")
        return 130
    publish(rows, as_json=chosen.json)
    return 0

"""The figures of workflows beside their peers, in one run: `python -m bench.workflows [--json] [--only PART ...]`.

Each part starts a platform in a scratch home, with authentication, limits and journal on, measures in it and ends it;
ours and a peer take turns in who begins a pair. What is done is told on standard error, a line for each step. However
it ends, by Ctrl-C or `kill -9` too, no process of it stays. Needs `make setup`; run it on a quiet machine with two
cores or more.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from bench.flows import MEASURES, PARTS, SMOKE, Sizes
from bench.functions import say
from bench.parts import Bench
from bench.report import Row, publish
from bench.scratch import scratch


def sizes_of(chosen: argparse.Namespace) -> Sizes:
    """Return the sizes that a command line asks for."""
    given = {name: value for name in ("rounds", "steps", "widest") if (value := getattr(chosen, name)) is not None}
    return replace(SMOKE if chosen.smoke else Sizes(), **given)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(prog="python -m bench.workflows", description=__doc__)
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    made.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; repeat")
    made.add_argument("--rounds", type=int, help="pairs of ours and the peer, begun in turn (6)")
    made.add_argument("--steps", type=int, help="of a chain and of the usual fan-out (100)")
    made.add_argument("--widest", type=int, help="steps of the wide fan-out (10,000)")
    made.add_argument("--smoke", action="store_true", help="so little that the figures mean nothing: does it run?")
    return made


def measured(parts: list[str], sizes: Sizes) -> list[Row]:
    """Return the rows of these parts, each from a scratch folder of its own."""
    found: list[Row] = []
    for part in parts:
        with scratch() as ground:
            bench = Bench(ground, sizes, lambda text, part=part: say(f"[{part}] {text}"))
            found += MEASURES[part](bench)
    return found


def main() -> int:
    """Measure what was asked for and print it."""
    chosen = parser().parse_args()
    try:
        rows = measured(chosen.only or list(PARTS), sizes_of(chosen))
    except KeyboardInterrupt:
        say("interrupted; nothing of it stays")
        return 130
    publish(rows, as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

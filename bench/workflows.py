"""The figures of workflows beside their peers, in one run: `python -m bench.workflows [--json] [--only PART ...]`.

Each part starts a platform in a scratch home, with authentication, limits and journal on, measures in it and ends it;
ours and a peer take turns in who begins a pair. What is done is told on standard error, a line for each step. However
it ends, by Ctrl-C or `kill -9` too, no process of it stays. Needs `make setup`; run it on a quiet machine with two
cores or more.
"""

from __future__ import annotations

import argparse
import sys

from bench import command
from bench.flows import MEASURES, PARTS, SMOKE, Sizes
from bench.parts import Bench
from bench.report import Row
from bench.scratch import scratch


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = command.options("bench.workflows", __doc__, PARTS, Sizes().rounds)
    made.add_argument("--steps", type=int, help="of a chain and of the usual fan-out (100)")
    made.add_argument("--widest", type=int, help="steps of the wide fan-out (10,000)")
    return made


def measured(parts: list[str], sizes: Sizes) -> list[Row]:
    """Return the rows of these parts, each from a scratch folder of its own."""
    found: list[Row] = []
    for part in parts:
        with scratch() as ground:
            bench = Bench(ground, sizes, lambda text, part=part: command.say(f"[{part}] {text}"))
            found += MEASURES[part](bench)
    return found


def main() -> int:
    """Measure what was asked for and print it."""
    chosen = parser().parse_args()
    sizes = command.sizes_of(chosen, Sizes(), SMOKE)
    return command.run(chosen, lambda: measured(chosen.only or list(PARTS), sizes))


if __name__ == "__main__":
    sys.exit(main())

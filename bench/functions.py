"""The figures of functions beside their peers, in one run: `python -m bench.functions [--json] [--only PART ...]`.

Each part starts a platform in a scratch home, with authentication, limits and journal on, measures in it and ends it;
ours and a peer take turns in who begins a pair. What is done is told on standard error, a line for each step. However
it ends, by Ctrl-C or `kill -9` too, no process of it stays. Needs `make setup` and a C compiler; run it on a quiet
machine with two cores or more.
"""

from __future__ import annotations

import argparse
import os
import sys

from bench import changes, cold, command, crowd, fit, many_calls, warm
from bench.parts import Bench, Part
from bench.promised import PARTS, SMOKE, Sizes
from bench.report import Row
from bench.scratch import scratch

MEASURES: dict[str, Part] = {
    "warm": warm.rows,
    "cold": cold.rows,
    "zygotes": cold.zygotes,
    "deploy": changes.deploy,
    "idle": changes.idle,
    "map": many_calls.mapped,
    "durable": many_calls.durable,
    "many": crowd.many,
    "flood": crowd.flood,
    "fit": fit.rows,
}


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = command.options("bench.functions", __doc__, PARTS, Sizes().rounds)
    made.add_argument("--seconds", type=float, help="that each load takes (2)")
    made.add_argument("--calls", type=int, help="items of one map, more than 1,000 (10,000)")
    return made


def measured(parts: list[str], sizes: Sizes) -> list[Row]:
    """Return the rows of these parts, each from a scratch folder of its own."""
    found: list[Row] = []
    for part in parts:
        with scratch() as ground:
            bench = Bench(ground, sizes, lambda text, part=part: command.say(f"[{part}] {text}"))
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {bench.loading})
            try:
                found += MEASURES[part](bench)
            finally:
                os.sched_setaffinity(0, before)
    return found


def main() -> int:
    """Measure what was asked for and print it."""
    chosen = parser().parse_args()
    sizes = command.sizes_of(chosen, Sizes(), SMOKE)
    return command.run(chosen, lambda: measured(chosen.only or list(PARTS), sizes))


if __name__ == "__main__":
    sys.exit(main())

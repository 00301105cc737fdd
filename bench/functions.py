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
from dataclasses import replace

from bench import changes, cold, crowd, fit, many_calls, warm
from bench.parts import Bench, Part
from bench.promised import PARTS, SMOKE, Sizes
from bench.report import Row, publish
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


def say(text: str) -> None:
    """Say what is done now."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def sizes_of(chosen: argparse.Namespace) -> Sizes:
    """Return the sizes that a command line asks for."""
    given = {name: value for name in ("rounds", "calls", "seconds") if (value := getattr(chosen, name)) is not None}
    return replace(SMOKE if chosen.smoke else Sizes(), **given)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(prog="python -m bench.functions", description=__doc__)
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    made.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; repeat")
    made.add_argument("--rounds", type=int, help="pairs of ours and the peer, begun in turn (10)")
    made.add_argument("--seconds", type=float, help="that each load takes (2)")
    made.add_argument("--calls", type=int, help="items of one map, more than 1,000 (10,000)")
    made.add_argument("--smoke", action="store_true", help="so little that the figures mean nothing: does it run?")
    return made


def measured(parts: list[str], sizes: Sizes) -> list[Row]:
    """Return the rows of these parts, each from a scratch folder of its own."""
    found: list[Row] = []
    for part in parts:
        with scratch() as ground:
            bench = Bench(ground, sizes, lambda text, part=part: say(f"[{part}] {text}"))
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
    try:
        rows = measured(chosen.only or list(PARTS), sizes_of(chosen))
    except KeyboardInterrupt:
        say("interrupted; nothing of it stays")
        return 130
    publish(rows, as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The figures of functions beside their peers, in one run: `python -m bench.functions [--json]`.

It starts a platform in a scratch home, has a person's programs (`bench/mapped.py`, `bench/durable.py`) measure in it,
and ends it. So far: many calls by `f.map`, and durable calls.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.embedded import CHECKOUT, Platform, platform
from bench.report import Row, alone, paired, publish


def program(running: Platform, name: str, *words: str) -> dict[str, Any]:
    """Run a person's program on this home and return its figures."""
    environment = os.environ | {"ROPEWALK_HOME": str(running.home), "ROPEWALK_DOOR_PORT": str(running.port)}
    command = [sys.executable, "-m", name, *words]
    done = subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def rows_of(figures: dict[str, Any], calls: int) -> list[Row]:
    """Return the rows of `f.map`."""
    peer = f"a tight client, {figures['connections']} connections"
    pairs = [(ours, theirs) for ours, theirs in figures["pairs"]]
    return [
        paired(f"f.map over {calls:,} items, in order", "s", peer, pairs, "<= 1.3"),
        alone(f"f.map, growth of memory from item 1,000 to {calls:,}", "MiB", [figures["growth"]], "<= 20"),
    ]


def durable_rows(figures: dict[str, Any]) -> list[Row]:
    """Return the rows of durable calls."""
    count = figures["connections"]
    rates, bare = ([pair[side] for pair in figures["pairs"]] for side in (0, 1))
    return [
        alone(f"durable spawn, {count} connections, on disk before its 202", "1/s", rates, ">= 3000"),
        alone(f"bare SQLite insert, one commit for {count}, same disk", "1/s", bare),
        alone("durable spawn, 1 connection, p50", "ms", [figures["p50"]]),
        alone("durable calls carried out, from spawn to result, one worker", "1/s", [figures["carried"]]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.functions", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--calls", type=int, default=10_000, help="items of one map, more than 1,000")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of ours and the peer, begun in turn")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ropewalk-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with platform(folder) as running:
            rounds = ("--rounds", str(chosen.rounds))
            figures = program(running, "bench.mapped", "--calls", str(chosen.calls), *rounds)
            durable = program(running, "bench.durable", *rounds)
    publish([*rows_of(figures, chosen.calls), *durable_rows(durable)], as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

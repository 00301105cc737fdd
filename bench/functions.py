"""The figures of functions beside their peers, in one run: `python -m bench.functions [--json]`.

It starts a platform in a scratch home, has a person's program (`bench/mapped.py`) measure in it, and ends it. So far:
many calls by `f.map`.
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


def mapped(running: Platform, calls: int, rounds: int) -> dict[str, Any]:
    """Run `bench/mapped.py` on this home and return its figures."""
    environment = os.environ | {"ROPEWALK_HOME": str(running.home), "ROPEWALK_DOOR_PORT": str(running.port)}
    command = [sys.executable, "-m", "bench.mapped", "--calls", str(calls), "--rounds", str(rounds)]
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
            figures = mapped(running, chosen.calls, chosen.rounds)
    publish(rows_of(figures, chosen.calls), as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What `bench.functions` runs as a person's program: a function, `f.map` and the tight client; JSON at the end.

They take turns in who begins a pair. The home comes from ``ROPEWALK_HOME``. A shell is there, so that the line of
progress is drawn as in a notebook. Memory is this process's resident size: growth from item 1,000 to item 10,000 of the
first map, which keeps no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

import ropewalk
from bench import tight
from bench.report import in_turn
from ropewalk_core import sync
from ropewalk_kernel import places
from ropewalk_kernel.functions import FunctionHandle
from ropewalk_runtime.handler import CALL_TYPE

FROM = 1_000


def echo(value: int) -> int:
    return value


def resident() -> float:
    """Return this process's resident memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 2**10
    raise RuntimeError("the kernel says nothing about this process's memory")


def growth(function: FunctionHandle, count: int) -> float:
    """Return by how many MiB the process grows from item 1,000 to the last."""
    before = 0.0
    for at, answer in enumerate(function.map(range(count))):
        if answer != at:
            raise RuntimeError(f"item {at} was answered with {answer!r}")
        if at == FROM:
            before = resident()
    return resident() - before


def ours(function: FunctionHandle, items: range) -> float:
    """Return the seconds that `f.map` takes."""
    begin = time.perf_counter()
    answers = list(function.map(items))
    taken = time.perf_counter() - begin
    if answers != list(items):
        raise RuntimeError("the answers are not in order")
    return taken


def theirs(function: FunctionHandle, items: range, connections: int) -> float:
    """Return the seconds that the tight client takes for the same."""
    place, _, host = places.where(function.url)
    token = sync.wait(sync.client().token("functions")).text
    headers = {"Host": host, "Authorization": f"Bearer {token}", "Content-Type": CALL_TYPE}
    begin = time.perf_counter()
    answers = asyncio.run(tight.calls(place.port, headers, items, connections))
    taken = time.perf_counter() - begin
    if answers != list(items):
        raise RuntimeError("the peer's answers are not in order")
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    InteractiveShell.instance()
    function = ropewalk.functions.deploy(echo)
    spec = function.info().revision.spec
    items, connections = range(chosen.calls), spec.max_workers * spec.concurrency
    grown = growth(function, chosen.calls)
    theirs(function, items, connections)
    pairs = in_turn(lambda: ours(function, items), lambda: theirs(function, items, connections), chosen.rounds)
    sys.stdout.write("\n" + json.dumps({"growth": grown, "pairs": pairs, "connections": connections}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

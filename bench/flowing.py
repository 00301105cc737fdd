"""What `bench.workflows` runs as a person's program: submits a run, waits for it, and prints its figures as JSON.

Usage: ``flowing.py WHAT [--count=100] [--kept]``. The home comes from ``ROPEWALK_HOME``. A step's time is by the
engine's own clock, from the moment a run was accepted to its end, divided by the steps; nothing is asked that a
notebook would not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy
import pandas
from sklearn.linear_model import LinearRegression

from ropewalk_core import sync
from ropewalk_core.flows import KEPT, Run
from ropewalk_core.model import State
from ropewalk_workflows.dag import Workflow, step, workflow

POLL = 0.5


@step
def add(value: int) -> int:
    return value + 1


@step
def heavy(value: int) -> int:
    return value + 1 if pandas.DataFrame and LinearRegression else 0


@step
def array(size: int) -> Any:
    return numpy.ones(size // 8)


@step
def length(values: Any) -> int:
    return len(values)


@step
def now() -> float:
    import time

    return time.time()


@workflow
def chain(count: int) -> object:
    value = add(0)
    for _ in range(count - 1):
        value = add(value)
    return value


@workflow
def wide(count: int) -> None:
    add.map(range(count))


@workflow
def libraries(count: int) -> None:
    heavy.map(range(count))


@workflow
def passed(count: int) -> object:
    return length(array(count))


@workflow
def first(count: int) -> object:
    return now()


FLOWS: dict[str, Workflow] = {"chain": chain, "wide": wide, "libraries": libraries, "passed": passed, "first": first}


def done(run: Run) -> Run:
    """Return the run once it is done."""
    client = sync.client()
    while not run.status.state.terminal:
        time.sleep(POLL)
        run = sync.wait(client.workflows.get(run.id))
    if run.status.state is not State.DONE:
        raise RuntimeError(f"the run ended as {run.status}")
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=FLOWS)
    parser.add_argument("--count", type=int, default=100, help="steps, or bytes that one step hands to the next")
    parser.add_argument("--kept", action="store_true", help="another run of it, whose steps take earlier results")
    chosen = parser.parse_args()
    spec = FLOWS[chosen.what].spec(chosen.count, fresh=not chosen.kept)
    if chosen.kept:
        spec = spec.model_copy(update={"name": f"{spec.name}-{time.time_ns()}"})
    sync.wait(sync.client().workflows.list(limit=1))  # the person is signed in, and connected
    begin = time.time()
    run = done(sync.wait(sync.client().workflows.submit(spec)))
    steps = [one for one in run.steps if one.kind == "step"]
    facts = run.outputs.get("result")
    if chosen.kept and any(one.status.note != KEPT for one in steps):
        raise RuntimeError("a step ran")
    figures: dict[str, Any] = {"run": run.id, "whole": ((run.ended or 0) - run.created) * 1e3}
    figures["ms"] = figures["whole"] / max(1, len(steps))
    if chosen.what == "first" and isinstance(facts, dict):
        store = sync.wait(_text(run.id, str(facts["digest"])))
        figures["first"] = (json.loads(store) - begin) * 1e3
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
    return 0


async def _text(run: str, digest: str) -> bytes:
    return b"".join([part async for part in sync.client().workflows.artifact(run, digest)])


if __name__ == "__main__":
    sys.exit(main())

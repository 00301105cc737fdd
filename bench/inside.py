"""What `bench.embedded` runs as a person's program: deploys a function, submits workflows, prints its figures as JSON.

The home comes from ``ROPEWALK_HOME``, as for the command line; nothing is measured that a notebook would not do too.
"""

from __future__ import annotations

import json
import sys
import time

from ropewalk_core import sync
from ropewalk_core.model import FunctionSpec, State
from ropewalk_workflows import compile as compiler
from ropewalk_workflows.capture import capture
from ropewalk_workflows.dag import step, workflow

COUNT = 100


def echo(value: int) -> int:
    return value


@step
def add(value: int) -> int:
    return value + 1


@workflow
def chain():
    value = add(0)
    for _ in range(COUNT - 1):
        value = add(value)
    return value


@workflow
def wide():
    return [add(number) for number in range(COUNT)]


def deploy_to_answer() -> float:
    """Return the milliseconds from a deploy to its first answer."""
    client = sync.client()
    begin = time.perf_counter()
    sync.wait(client.functions.deploy(FunctionSpec(name="echo", bundle=capture(echo))))
    answer = json.loads(sync.wait(client.functions.call("echo", b'{"value": 3}')))
    taken = (time.perf_counter() - begin) * 1e3
    if answer != 3:
        raise RuntimeError(f"echo answered {answer!r}")
    return taken


def per_step(flow: object) -> float:
    """Return the milliseconds of a step: from the run's start to its end by the engine's own clock."""
    client = sync.client()
    spec = compiler.from_object(flow).model_copy(update={"fresh": True})
    run = sync.wait(client.workflows.submit(spec))
    while not run.status.state.terminal:
        time.sleep(0.1)
        run = sync.wait(client.workflows.get(run.id))
    if run.status.state is not State.DONE or run.ended is None:
        raise RuntimeError(f"the run ended as {run.status}")
    return (run.ended - run.created) / COUNT * 1e3


if __name__ == "__main__":
    figures = {"deploy_ms": deploy_to_answer(), "warm_up": per_step(wide)}
    figures |= {"chain_ms": per_step(chain), "wide_ms": per_step(wide)}
    sys.stdout.write(json.dumps(figures) + "\n")

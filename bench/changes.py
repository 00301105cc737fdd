"""A deploy from a cell to its first answer, and what an idle function leaves: no process, and one parked worker."""

from __future__ import annotations

import time

from bench import peers
from bench.parts import Bench, Caller
from bench.promised import DEPLOY, IDLE, PARKED
from bench.report import Row, alone, middle, paired

_KINDS = {"bare": "", "heavy": ", pandas and scikit-learn imported in the cell"}
_IDLE = 1.0


def deploy(bench: Bench) -> list[Row]:
    """Measure deploys beside a start of functions-framework."""
    peers.install(*peers.FRAMEWORK)
    found: list[Row] = []
    with bench.platform() as running:
        for kind, more in _KINDS.items():

            def ours(kind: str = kind) -> float:
                words = (kind, "--samples", bench.sizes.starts)
                return middle(bench.person(running, "bench.celled", *words)["taken"])

            pairs = bench.in_turn(f"deploy, {kind}", ours, lambda: framework(bench))
            samples = [one for one, _ in pairs]
            name = f"{DEPLOY.name}{more}"
            found.append(DEPLOY.alone(bench.sizes, samples) if not more else alone(name, "ms", samples, DEPLOY.target))
            if not more:
                found.append(paired(name, "ms", "functions-framework, start to first answer", pairs))
    return found


def framework(bench: Bench) -> float:
    """Return the milliseconds from the start of functions-framework to its first answer."""
    begin = time.perf_counter()
    with peers.functions_framework(bench.ground, [bench.serving]) as port:
        peers.warm_calls(port, 1)
        return (time.perf_counter() - begin) * 1e3


def idle(bench: Bench) -> list[Row]:
    """Count what is left of functions past their idle time, and weigh a worker that waits for work."""
    left, parked, spares = [], [], []
    with bench.platform() as running:
        url = bench.deploy(running, "bare", idle=_IDLE, max_workers=1)[0]
        kept = bench.deploy(running, "wide", idle=600.0, max_workers=1)[0]
        caller = Caller(running.port + 1, running.token())
        caller.call(kept)
        for turn in range(bench.sizes.rounds):
            bench.say(f"idle: round {turn + 1} of {bench.sizes.rounds}")
            caller.call(url)
            time.sleep(_IDLE + 3.0)
            workers = running.busy()
            left.append(float(len(workers) - 1))  # the other function is not past its time
            parked += [one.memory for one in workers]
            spares += [one.memory for one in running.of_kind("worker") if one.spare]
    if not spares:
        bench.say("idle: no spare worker is kept, so an idle one is weighed")
    return [
        IDLE.alone(bench.sizes, left),
        PARKED.alone(bench.sizes, spares or parked),
        alone("a bare worker within its idle time, memory", "MiB", parked),
    ]

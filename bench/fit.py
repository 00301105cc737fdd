"""A model's fit inside a function beside the same fit in its owner's notebook: are the thread pools as large?

Here the platform has all cores, as people's notebooks do. Each side says itself how long its fit took.
"""

from __future__ import annotations

import json

from bench.parts import Bench, Caller
from bench.platforms import start_notebook
from bench.promised import FIT_LOOPS, FIT_MATRIX, Promise
from bench.report import Row
from bench.scratch import CHECKOUT
from tests.platform_rig import Kernel

_BOTH: tuple[tuple[str, Promise], ...] = (("fit-loops", FIT_LOOPS), ("fit-matrix", FIT_MATRIX))


def rows(bench: Bench) -> list[Row]:
    """Measure both kinds of threads."""
    found = []
    with bench.platform(cores=bench.all_cores) as running:
        urls = {kind: bench.deploy(running, kind, idle=600.0, max_workers=1)[0] for kind, _ in _BOTH}
        caller = Caller(running.port + 1, running.token())
        bench.say("fit: starting a notebook")
        start_notebook(running)
        kernel = Kernel(running, running.account)  # type: ignore[arg-type] - of a house it asks home and port alone
        try:
            kernel.run(f"import sys\nsys.path.append({str(CHECKOUT)!r})\nfrom bench.deployed import KINDS")
            for kind, promise in _BOTH:
                _inside(caller, urls[kind]), _in_notebook(kernel, kind)  # both have loaded what they need
                pairs = bench.in_turn(
                    kind,
                    lambda kind=kind: _inside(caller, urls[kind]),
                    lambda kind=kind: _in_notebook(kernel, kind),
                )
                found.append(promise.paired(bench.sizes, "the same in the notebook", pairs))
        finally:
            kernel.close()
    return found


def _inside(caller: Caller, url: str) -> float:
    return float(json.loads(caller.ask(url)[2]))


def _in_notebook(kernel: Kernel, kind: str) -> float:
    said = kernel.run(f"print('took', KINDS[{kind!r}](None))")
    if not said.startswith("took "):
        raise RuntimeError(said[-2000:])
    return float(said.split()[1])

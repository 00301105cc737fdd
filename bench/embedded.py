"""The figures of the embedded platform beside its peers, in one run: `python -m bench.embedded [--json]`.

Each part starts what it measures in a scratch home, measures ours and the peer in turn, and ends both. Needs
`make setup`; it installs functions-framework into `.cache/bench` from `locks/bench.txt`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench import peers
from bench.platforms import Platform, platform, start_notebook
from bench.report import Row, middle, publish
from bench.scratch import Scratch, scratch


def idle_memory(running: Platform) -> float:
    """Return the proportional set size of the platform's own processes, in MiB."""
    time.sleep(5)
    return sum(one["memory"] for one in running.run("status")["processes"]) / 2**20


def our_notebook(running: Platform) -> float:
    """Start the person's notebook; return the seconds until it answers, and stop it again."""
    taken = start_notebook(running)
    running.run("notebooks", "stop")
    return taken


def notebooks(running: Platform, ground: Scratch) -> list[Row]:
    """Measure a first and further starts of a notebook beside a stock hub."""
    with peers.stock_hub(ground) as port:
        first = (our_notebook(running), peers.stock_notebook(port, "bench"))
        pairs = [(our_notebook(running), peers.stock_notebook(port, "bench")) for _ in range(3)]
    second = tuple(middle(side) for side in zip(*pairs, strict=True))
    return [
        Row(f"notebook, click to usable, {name}", ours, "s", ("stock JupyterHub, local process", stock), "<= 1.1")
        for name, (ours, stock) in (("first time", first), ("later (median of 3)", second))
    ]


IN_NOTEBOOK = Path(__file__).with_name("inside.py")


def inside(running: Platform, ground: Scratch) -> dict[str, Any]:
    """Run `bench/inside.py` on this home: it deploys, submits and returns its figures, and a token for calls."""
    variables = {"ROPEWALK_HOME": str(running.home), "ROPEWALK_DOOR_PORT": str(running.port)}
    text = ground.call("inside", [sys.executable, IN_NOTEBOOK], env=variables)
    figures: dict[str, Any] = json.loads(text.splitlines()[-1])
    return figures | {"call_token": running.token()}


def functions(running: Platform, figures: dict[str, Any], ground: Scratch) -> list[Row]:
    """Measure the first answer after a deploy, and warm calls, beside functions-framework."""
    host = f"echo--fn--{running.account}.localhost:{running.port + 1}"
    begin = time.perf_counter()
    with peers.functions_framework(ground) as port:
        peer_first = time.perf_counter() - begin
        peers.warm_calls(port, 50)
        peers.warm_calls(running.port + 1, 50, host=host, token=figures["call_token"])
        rounds = [
            (
                middle(peers.warm_calls(running.port + 1, 200, host=host, token=figures["call_token"])),
                middle(peers.warm_calls(port, 200)),
            )
            for _ in range(5)
        ]
    ours, peer = (middle(side) * 1e3 for side in zip(*rounds, strict=True))
    return [
        Row("function, deploy to first answer", figures["deploy_ms"], "ms",
            ("functions-framework, start to first answer", peer_first * 1e3)),
        Row("function, warm call, 1 connection, p50", ours, "ms", ("functions-framework", peer)),
    ]  # fmt: skip


def workflows(figures: dict[str, Any]) -> list[Row]:
    """Compare a step's cost with a bare loop of subprocesses."""
    chain, wide = peers.bare_loop(100, wide=False), peers.bare_loop(100, wide=True)
    return [
        Row("workflow, 100-step chain, per step", figures["chain_ms"], "ms", ("loop of `python -c pass`", chain)),
        Row("workflow, 100-wide fan-out, per step", figures["wide_ms"], "ms", ("the same, one per core", wide)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.embedded", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    peers.install(*peers.FRAMEWORK)
    with scratch() as ground, platform(ground) as running:
        rows = [
            Row("up, empty home, to the sign-in page", running.seconds, "s", None, "<= 4"),
            Row("idle platform, memory of all its processes", idle_memory(running), "MiB", None, "<= 400"),
        ]
        rows += notebooks(running, ground)
        figures = inside(running, ground)
        rows += functions(running, figures, ground) + workflows(figures)
    publish(rows, as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Cold calls: from no worker at all to the whole answer, over HTTP, with the zygote there; and with that gone too.

A sample is the median of a few functions that are called one after another, once none has a worker any more. Beside
them stand what else starts a function from nothing: a container, and a Python that imports what it needs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from bench import container
from bench.parts import Bench, Caller
from bench.platforms import PERSON, Platform
from bench.promised import COLD_BARE, COLD_HEAVY, ZYGOTE_BARE, ZYGOTE_HEAVY, ZYGOTES_MANY, ZYGOTES_ONE
from bench.report import Row, alone, middle, paired
from bench.scratch import until

IDLE = 3.0
"""Seconds after which workers of these functions end: longer than one sample takes, so that none ends meanwhile."""
PAUSE = 0.25
"""Seconds between two calls, for what a call leaves to be done behind it."""
IMPORTS = {"bare": "pass", "heavy": "import pandas; from sklearn.linear_model import LinearRegression"}
PEERS = {"bare": "python -c pass", "heavy": "python -c, the same imports"}


def rows(bench: Bench) -> list[Row]:
    """Measure cold calls, bare and with libraries preloaded, beside containers and plain Pythons."""
    found: list[Row] = []
    with bench.platform() as running:
        for kind, promise in (("bare", COLD_BARE), ("heavy", COLD_HEAVY)):
            urls = bench.deploy(running, kind, count=bench.sizes.starts, idle=IDLE, max_workers=1)
            pairs = bench.in_turn(
                f"cold, {kind}", lambda urls=urls: cold(running, urls), lambda kind=kind: python(bench, kind)
            )
            found.append(promise.alone(bench.sizes, [ours for ours, _ in pairs]))
            found.append(paired(promise.name, "ms", PEERS[kind], pairs))
        if why := container.missing():
            bench.say(f"without containerd and runc: {why}")
            return found
        urls = bench.deploy(running, "bare", count=bench.sizes.starts, idle=IDLE, max_workers=1)
        with container.containers(bench) as containers:
            pairs = bench.in_turn("cold, containers", lambda: cold(running, urls), containers.start)
        found.append(paired(COLD_BARE.name, "ms", "containerd and runc, a static server", pairs))
    return found


def cold(running: Platform, urls: Sequence[str]) -> float:
    """Return the milliseconds of a cold call, the median of some."""
    running.wait_until_idle()
    caller, taken = Caller(running.port + 1, running.token()), []
    for url in urls:
        time.sleep(PAUSE)
        taken.append(caller.cold(url))
    return middle(taken)


def python(bench: Bench, kind: str) -> float:
    """Return the milliseconds of a Python that imports what the function needs, and ends."""
    argv = ["taskset", "-c", str(bench.serving), PERSON, "-c", IMPORTS[kind]]
    begin = time.perf_counter()
    subprocess.run(argv, check=True, timeout=120)
    return (time.perf_counter() - begin) * 1e3


def zygotes(bench: Bench) -> list[Row]:
    """Measure cold calls whose zygote must be started too, and what zygotes weigh for one account and for many."""
    with bench.platform() as running:
        bare, heavy = (bench.deploy(running, kind, idle=IDLE, max_workers=1)[0] for kind in ("bare", "heavy"))
        one, kept = weight(running)
        samples = {url: _again(bench, running, url) for url in (bare, heavy)}
        for number in range(1, bench.sizes.accounts):
            bench.say(f"zygotes: account {number + 1} of {bench.sizes.accounts}")
            name = f"bench-{number}"
            running.add_account(name)
            for kind in ("bare", "heavy"):
                bench.deploy(running, kind, idle=IDLE, max_workers=1, account=name)
        many, keepers = weight(running)
    return [
        ZYGOTE_BARE.alone(bench.sizes, samples[bare]),
        ZYGOTE_HEAVY.alone(bench.sizes, samples[heavy]),
        ZYGOTES_ONE.alone(bench.sizes, [one]),
        ZYGOTES_MANY.alone(bench.sizes, [many]),
        alone("memory of the keepers beside them, 1 account", "MiB", [kept]),
        alone(f"memory of the keepers beside them, {bench.sizes.accounts} accounts", "MiB", [keepers]),
    ]


def weight(running: Platform) -> tuple[float, float]:
    """Return the memory of all zygotes and of all keepers, once nothing else is there, in MiB."""
    running.wait_until_idle()
    found: tuple[float, float] = tuple(  # type: ignore[assignment]
        sum(one.memory for one in running.of_kind(kind)) for kind in ("zygote", "keeper")
    )
    return found


def _again(bench: Bench, running: Platform, url: str) -> list[float]:
    """Return the milliseconds of calls before each of which the account's zygotes were ended."""
    taken = []
    for turn in range(bench.sizes.rounds):
        bench.say(f"zygotes: {url.partition('--')[0].rpartition('/')[2]}, start {turn + 1} of {bench.sizes.rounds}")
        running.wait_until_idle()
        before = {one.pid for one in running.of_kind("zygote")}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(_gone(running, before), "the end of the zygotes", 10)
        time.sleep(PAUSE)
        taken.append(Caller(running.port + 1, running.token()).cold(url))
    return taken


def _gone(running: Platform, pids: set[int]) -> Callable[[], bool]:
    return lambda: not pids & {one.pid for one in running.inside()}

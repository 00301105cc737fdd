"""The rows that were promised of workflows, with their units and targets, and the parts that measure them.

Ours is what a person's program sees of a running platform, with authentication, limits and journal on and each step in
the full sandbox: process, IPC and mount namespaces of its own, limits, no capability. The floor beside it spawns
``/bin/true`` for each step and commits one row for as many as have ended (``floor_of``). All processes may use all
cores, as where people work. Not here: how a bench is run (``workflows``).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers
from bench.parts import Bench
from bench.platforms import ROPEWALK, Platform
from bench.promised import Promise
from bench.report import Row, paired
from bench.scratch import CHECKOUT
from ropewalk_core.journal import Journal, Operation, Put
from ropewalk_core.processes import Processes

LUIGI = (CHECKOUT / "build" / "bench-luigi", Path(__file__).with_name("luigi.txt"))
FLOOR_NAME = "spawn of /bin/true and one FULL write"
_ROW = b"x" * 400


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The defaults are those of the published figures."""

    rounds: int = 6
    seconds: float = 0.0
    steps: int = 100
    widest: int = 10_000
    big: int = 100 * 10**6
    """Bytes of the large artifact."""
    runs: int = 10_000
    """Runs that a list is of."""
    nodes: int = 5_000
    """Steps of the run that is opened."""
    heavy: bool = True
    """Whether peers that must be installed run too."""


SMOKE = Sizes(rounds=1, steps=3, widest=6, big=10**6, runs=30, nodes=4, heavy=False)
"""Enough to see that a part runs; its figures mean nothing."""

CHAIN = Promise("chain", "{steps}-step chain, full sandbox, per step", "ms", "<= 2.5")
WIDE = Promise("wide", "{steps}-wide fan-out, full sandbox, per step", "ms", "<= 2.5")
WIDEST = Promise("widest", "{widest:,}-wide fan-out, per step", "ms", "<= 1.3")
WIDEST_MEMORY = Promise("widest", "memory of the engine, {widest:,}-wide fan-out", "MiB", "<= 200")
LIBRARIES = Promise("libraries", "a step with numpy, pandas and scikit-learn, per step", "ms", "<= 5")
BIG = Promise("artifacts", "two steps, an array of {big:,} bytes between them", "ms", "<= 1.5")
SMALL = Promise("artifacts", "two steps, an array of 1,000,000 bytes, beyond a number", "ms", "<= 3")
FIRST = Promise("submit", "submit to first step running", "ms", "<= 20")
FIRST_EVER = Promise("submit", "submit to first step running, the first ever", "ms")
LIST = Promise("pages", "list of {runs:,} runs, one page", "ms", "<= 100")
OPEN = Promise("pages", "a run of {nodes:,} steps, its answer", "ms", "<= 1000")

ALL = tuple(one for one in vars().copy().values() if isinstance(one, Promise))
PARTS = tuple(dict.fromkeys(one.part for one in ALL))


def flow(bench: Bench, running: Platform, what: str, count: int) -> dict[str, Any]:
    """Submit one of `bench.flowing`'s workflows as a person's program; return its figures once it is done."""
    return bench.person(running, "bench.flowing", what, f"--count={count}", seconds=3600.0)


def chain(bench: Bench) -> list[Row]:
    """Measure a chain beside the floor, a shell's loop and Luigi."""
    return _beside(bench, "chain", CHAIN)


def wide(bench: Bench) -> list[Row]:
    """Measure a fan-out beside the same."""
    return _beside(bench, "wide", WIDE)


def _beside(bench: Bench, what: str, promise: Promise) -> list[Row]:
    count, spread = bench.sizes.steps, what == "wide"
    others: dict[str, Callable[[], float]] = {
        FLOOR_NAME: lambda: asyncio.run(floor_of(bench.ground.folder, count, wide=spread)),
        "a loop of `python -c pass`": lambda: peers.bare_loop(count, wide=spread),
    }
    if not spread:
        others["a shell's loop of /bin/true"] = lambda: shell_loop(count)
    if bench.sizes.heavy and has_luigi(bench):
        others["Luigi, 2 workers"] = lambda: luigi(bench, count, wide=spread)
    found = []
    with bench.platform(cores=bench.all_cores) as running:
        flow(bench, running, what, count)
        for name, other in others.items():
            pairs = bench.in_turn(f"{what}, {name}", lambda: flow(bench, running, what, count)["ms"], other)
            if name == FLOOR_NAME:
                found.append(promise.paired(bench.sizes, name, pairs))
            else:
                found.append(paired(found[0].name, "ms", name, pairs))
    return found


def widest(bench: Bench) -> list[Row]:
    """Measure a wide fan-out beside the usual one, and what the engine needs for it."""
    sizes = bench.sizes
    with bench.platform(cores=bench.all_cores) as running:
        flow(bench, running, "wide", sizes.steps)
        usual = flow(bench, running, "wide", sizes.steps)["ms"]
        bench.say(f"widest: {sizes.widest:,} steps")
        ours = flow(bench, running, "wide", sizes.widest)["ms"]
        memory = peak(running, "platform.engine")
    row = WIDEST.paired(sizes, f"the {sizes.steps}-wide fan-out", [(ours, usual)])
    return [row, WIDEST_MEMORY.alone(sizes, [memory])]


def libraries(bench: Bench) -> list[Row]:
    """Measure steps that import what a zygote has loaded."""
    count = bench.sizes.steps
    with bench.platform(cores=bench.all_cores) as running:
        flow(bench, running, "libraries", 2)
        samples = [flow(bench, running, "libraries", count)["ms"] for _ in range(bench.sizes.rounds)]
    return [LIBRARIES.alone(bench.sizes, samples)]


def artifacts(bench: Bench) -> list[Row]:
    """Measure what an array between two steps takes: a large one beside `cp` and fsync, a small one beside a number."""
    sizes, number = bench.sizes, 8
    with bench.platform(cores=bench.all_cores) as running:

        def passed(count: int) -> float:
            return float(flow(bench, running, "passed", count)["whole"])

        passed(number)
        big = bench.in_turn("artifacts", lambda: passed(sizes.big), lambda: copied(bench.ground.folder, sizes.big))
        small = bench.in_turn("artifacts", lambda: passed(10**6), lambda: passed(number))
    return [
        BIG.paired(sizes, "cp and fsync", big),
        SMALL.alone(sizes, [ours - other for ours, other in small]),
    ]


def submit(bench: Bench) -> list[Row]:
    """Measure from a submit to the first line of its step."""
    with bench.platform(cores=bench.all_cores) as running:
        ever = flow(bench, running, "first", 1)["first"]
        samples = [flow(bench, running, "first", 1)["first"] for _ in range(bench.sizes.rounds)]
    return [FIRST.alone(bench.sizes, samples), FIRST_EVER.alone(bench.sizes, [ever])]


def pages(bench: Bench) -> list[Row]:
    """Measure a page of a long list, and a run of many steps; the other runs are copies of one."""
    sizes = bench.sizes
    with bench.platform(cores=bench.all_cores) as running:
        first = flow(bench, running, "first", 1)["run"]
        bench.say(f"pages: a run of {sizes.nodes:,} steps")
        many = flow(bench, running, "wide", sizes.nodes)["run"]
    copy_runs(running.home, running.account, first, sizes.runs)
    with _again(bench, running):
        home = f"/api/v1/workflows/{running.account}"
        listed = [answer(running, f"{home}?limit=50") for _ in range(max(3, sizes.rounds))]
        opened = [answer(running, f"{home}/{many}") for _ in range(max(3, sizes.rounds))]
    return [LIST.alone(sizes, listed[1:]), OPEN.alone(sizes, opened[1:])]


MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "chain": chain,
    "wide": wide,
    "widest": widest,
    "libraries": libraries,
    "artifacts": artifacts,
    "submit": submit,
    "pages": pages,
}


# What stands beside ours


async def floor_of(folder: Path, count: int, *, wide: bool) -> float:
    """Return the milliseconds of a spawn of ``/bin/true`` and of its row in a journal, synchronous as ours is.

    In a chain each is on disk before the next is spawned. In a fan-out one commit takes all that have ended, and as
    many run at a time as there are cores.
    """
    path = folder / "floor.db"
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE steps (name TEXT PRIMARY KEY, body BLOB)")

    def keep(rows: list[str]) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO steps VALUES (?, ?)", [(one, _ROW) for one in rows])
        database.execute("COMMIT")

    async def spawned(number: int) -> str:
        await (await asyncio.create_subprocess_exec("/bin/true")).wait()
        return str(number)

    begin = time.perf_counter()
    if wide:
        await _in_groups(count, spawned, keep)
    else:
        for number in range(count):
            await asyncio.to_thread(keep, [await spawned(number)])
    taken = (time.perf_counter() - begin) / count * 1e3
    database.close()
    for one in folder.glob("floor.db*"):
        one.unlink()
    return taken


async def _in_groups(count: int, spawned: Callable[[int], Any], keep: Callable[[list[str]], None]) -> None:
    places, ended = asyncio.Semaphore(len(os.sched_getaffinity(0))), asyncio.Queue[str]()

    async def one(number: int) -> None:
        async with places:
            ended.put_nowait(await spawned(number))

    running = [asyncio.create_task(one(number)) for number in range(count)]
    left = count
    while left:
        group = [await ended.get()]
        while not ended.empty():
            group.append(ended.get_nowait())
        await asyncio.to_thread(keep, group)
        left -= len(group)
    await asyncio.gather(*running)


def shell_loop(count: int) -> float:
    """Return the milliseconds of one of so many ``/bin/true`` in a shell's loop."""
    begin = time.perf_counter()
    subprocess.run(["bash", "-c", f"for i in $(seq {count}); do /bin/true; done"], check=True, timeout=300)
    return (time.perf_counter() - begin) / count * 1e3


def copied(folder: Path, size: int) -> float:
    """Return the milliseconds of a copy of a file by `cp`, and of its fsync."""
    source, target = folder / "big", folder / "copy"
    if not source.exists() or source.stat().st_size != size:
        source.write_bytes(os.urandom(size))
    begin = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True, timeout=120)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    taken = (time.perf_counter() - begin) * 1e3
    target.unlink()
    return taken


LUIGI_FLOW = """
import logging
import pathlib
import sys
import time

import luigi

folder, count, wide = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "wide"


class Add(luigi.Task):
    number = luigi.IntParameter()

    def requires(self):
        return [Add(self.number - 1)] if self.number and not wide else []

    def output(self):
        return luigi.LocalTarget(str(folder / str(self.number)))

    def run(self):
        with self.output().open("w") as file:
            file.write(str(self.number + 1))


logging.disable(logging.CRITICAL)
tasks = [Add(number) for number in range(count)] if wide else [Add(count - 1)]
begin = time.perf_counter()
assert luigi.build(tasks, local_scheduler=True, workers=2, log_level="CRITICAL")
print((time.perf_counter() - begin) / count * 1e3)
"""


def has_luigi(bench: Bench) -> bool:
    """Say whether Luigi is there, installed if need be; a line says so where it cannot be."""
    try:
        peers.install(*LUIGI)
    except (OSError, subprocess.SubprocessError) as error:
        bench.say(f"without Luigi: {error}")
        return False
    return True


def luigi(bench: Bench, count: int, *, wide: bool) -> float:
    """Return the milliseconds of a task of Luigi's, each in a process forked for it."""
    folder, program = bench.ground.folder / "luigi", bench.ground.folder / "luigi_flow.py"
    program.write_text(LUIGI_FLOW)
    folder.mkdir()
    try:
        said = bench.ground.call(
            "luigi", [LUIGI[0] / "bin" / "python", program, folder, count, "wide" if wide else "chain"]
        )
    finally:
        shutil.rmtree(folder)
    return float(said.split()[-1])


# Looking at the platform


def peak(running: Platform, name: str) -> float:
    """Return the most memory that one of the platform's own processes had, in MiB."""
    found = Processes(running.home / "run" / "processes").find(name)
    assert found is not None
    lines = Path(f"/proc/{found.pid}/status").read_text().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith("VmHWM")) / 1024


def answer(running: Platform, path: str) -> float:
    """Return the milliseconds of a whole answer of the platform's API."""
    headers = {"Authorization": f"Bearer {running.token(audience='api')}"}
    begin = time.perf_counter()
    status = peers.request(running.port, "GET", path, host=f"localhost:{running.port}", headers=headers)
    taken = (time.perf_counter() - begin) * 1e3
    if status != 200:
        raise RuntimeError(f"{path} answered {status}")
    return taken


def copy_runs(home: Path, owner: str, run: str, count: int) -> None:
    """Copy a run's records in the journal of a platform that does not run, until there are so many."""
    journal = Journal(home / "journal.db")
    try:
        records = {kind: journal.get(kind, owner, run) for kind in ("run", "run-spec")}
        for start in range(0, count, 500):
            journal.write_now(*_copies(records, owner, run, range(start, min(start + 500, count))))
    finally:
        journal.close()


def _copies(records: dict[str, Any], owner: str, run: str, numbers: range) -> Iterator[Operation]:
    for number in numbers:
        name = f"{run[:-6]}{number:06d}"
        for kind, record in records.items():
            yield Put(kind, owner, name, json.loads(json.dumps(record.body).replace(run, name)))


@contextmanager
def _again(bench: Bench, running: Platform) -> Iterator[None]:
    argv = [ROPEWALK, "up", "--home", running.home, "--port", running.port, "--json"]
    with bench.ground.running("up-again", argv, grace=60.0):
        peers.wait_for(running.port, "/sign-in", (200,), host=f"localhost:{running.port}")
        yield

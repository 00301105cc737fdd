"""Warm calls of a function beside the floors and the peers.

The floors are an echo in C with epoll, and uvloop with httptools; both only answer. Ours looks at a token, a limit and
who may call, and keeps a record. The heavy peers run one after another beside ours, because some of them keep the core
busy while they are idle.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from bench import peers
from bench.parts import FLOOR, Bench, Figures, headers_of
from bench.promised import WARM_MANY, WARM_ONE, WARM_PEER
from bench.report import Row, paired
from bench.scratch import Scratch

Pairs = list[tuple[Figures, Figures]]
Peer = Callable[[Scratch, Sequence[int]], AbstractContextManager[int]]
HEAVY: tuple[tuple[str, Peer, str], ...] = (
    ("BentoML", peers.bentoml, "/echo"),
    ("Ray Serve", peers.ray_serve, "/"),
)
MANY = 64


def rows(bench: Bench) -> list[Row]:
    """Measure everything in turn."""
    peers.install(*peers.FRAMEWORK)
    with bench.platform() as running:
        urls: dict[str, str] = bench.person(running, "bench.warmed")

        def ours(connections: int) -> Figures:
            url = urls["one" if connections == 1 else "many"]
            return bench.load(running.port + 1, connections, headers_of(url, running.token()))

        found = _beside_floors(bench, ours)
        for name, peer, path in HEAVY if bench.sizes.heavy else ():
            found += _beside(bench, name, peer, path, ours)
    return found


def _beside_floors(bench: Bench, ours: Callable[[int], Figures]) -> list[Row]:
    raw = [sys.executable, FLOOR / "raw.py"]
    with contextlib.ExitStack() as stack:
        floor = stack.enter_context(served(bench, "echo", [bench.compiled("echo")]))
        python = stack.enter_context(served(bench, "raw", raw))
        stock = stack.enter_context(peers.functions_framework(bench.ground, [bench.serving]))
        single = _pairs(bench, "warm, 1 connection", lambda: ours(1), lambda: bench.load(floor, 1))
        crowd = _pairs(bench, "warm, 64 connections", lambda: ours(MANY), lambda: bench.load(python, MANY))
        framework = _pairs(bench, "warm, functions-framework", lambda: ours(MANY), lambda: bench.load(stock, MANY))
    one, many, peer = "echo in C, epoll", "uvloop and httptools", "functions-framework"
    return [
        WARM_ONE.paired(bench.sizes, one, _of(single, "p50")),
        paired("warm call, 1 connection, p99", "us", one, _of(single, "p99")),
        WARM_MANY.paired(bench.sizes, many, _of(crowd, "rate")),
        paired("warm calls, 64 connections, p99", "us", many, _of(crowd, "p99")),
        WARM_PEER.paired(bench.sizes, peer, _of(framework, "rate")),
    ]


def _beside(bench: Bench, name: str, peer: Peer, path: str, ours: Callable[[int], Figures]) -> list[Row]:
    """Measure beside a peer that may be missing here; without it there are no rows of it, and a line says why."""
    try:
        peers.install(*peers.HEAVY)
        with peer(bench.ground, [bench.serving]) as port:
            single = _pairs(
                bench, f"warm, 1 connection, {name}", lambda: ours(1), lambda: bench.load(port, 1, path=path)
            )
            crowd = _pairs(bench, f"warm, {name}", lambda: ours(MANY), lambda: bench.load(port, MANY, path=path))
    except (OSError, RuntimeError, peers.subprocess.SubprocessError) as error:
        bench.say(f"without {name}: {str(error).strip().splitlines()[-1][:300]}")
        return []
    return [
        paired("warm call, 1 connection, p50", "us", name, _of(single, "p50")),
        paired("warm calls, 64 connections", "1/s", name, _of(crowd, "rate")),
    ]


@contextlib.contextmanager
def served(bench: Bench, name: str, argv: Sequence[object]) -> Iterator[int]:
    """Run a floor on the servers' core; yields its port."""
    port = peers.free_port()
    with bench.ground.running(name, [*argv, port], cores=[bench.serving]):
        peers.wait_for(port, "/", range(200, 600), seconds=20)
        yield port


def _pairs(bench: Bench, what: str, ours: Callable[[], Figures], theirs: Callable[[], Figures]) -> Pairs:
    """Return pairs of all figures, each side beginning every other one."""
    ourselves: list[Figures] = []
    others: list[Figures] = []

    def kept(figures: Figures, side: list[Figures]) -> float:
        side.append(figures)
        return figures["rate"]

    bench.in_turn(what, lambda: kept(ours(), ourselves), lambda: kept(theirs(), others))
    return list(zip(ourselves, others, strict=True))


def _of(found: Pairs, name: str) -> list[tuple[float, float]]:
    return [(one[name], other[name]) for one, other in found]

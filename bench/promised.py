"""The rows that were promised of functions: their names, units and targets, each with the part that measures it.

A part that measures more adds rows of its own. A target holds for the ratio where a row has a peer, else for our own
figure; a row without one is only printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.report import Row, alone, paired


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The defaults are those of the published figures."""

    rounds: int = 10
    """Pairs of ours and the peer; each begins every other one."""
    seconds: float = 2.0
    """That one load takes."""
    starts: int = 5
    """Cold starts in one sample, which is their median."""
    calls: int = 10_000
    """Items of one map."""
    spawned: int = 4_000
    """Durable calls of one sample."""
    accounts: int = 20
    deployed: int = 1_000
    """Functions that one account has."""
    flooding: int = 64
    """Connections of who floods."""
    heavy: bool = True
    """Whether the peers that take long to install and to start run too."""


SMOKE = Sizes(rounds=1, seconds=0.2, starts=1, calls=1_200, spawned=64, accounts=2, deployed=3, flooding=8, heavy=False)
"""Enough to see that a part runs; its figures mean nothing."""


@dataclass(frozen=True)
class Promise:
    """A row as it was promised; ``name`` may hold sizes, as ``{accounts}``."""

    part: str
    name: str
    unit: str
    target: str | None = None

    def alone(self, sizes: Sizes, samples: Sequence[float]) -> Row:
        """Return the row of samples that have no peer."""
        return alone(self._named(sizes), self.unit, samples, self.target)

    def paired(self, sizes: Sizes, peer: str, pairs: Sequence[tuple[float, float]]) -> Row:
        """Return the row of samples taken in turn, ours and the peer's."""
        return paired(self._named(sizes), self.unit, peer, pairs, self.target)

    def _named(self, sizes: Sizes) -> str:
        return self.name.format(**asdict(sizes))


WARM_ONE = Promise("warm", "warm call, 1 connection, p50", "us", "<= 1.8")
WARM_MANY = Promise("warm", "warm calls, 64 connections", "1/s", ">= 0.7")
WARM_PEER = Promise("warm", "warm calls, 64 connections", "1/s", ">= 20")
COLD_BARE = Promise("cold", "cold call, bare, p50", "ms", "<= 4")
COLD_HEAVY = Promise("cold", "cold call, pandas and scikit-learn preloaded, p50", "ms", "<= 8")
ZYGOTE_BARE = Promise("zygotes", "cold call, its zygote too, bare, p50", "ms")
ZYGOTE_HEAVY = Promise("zygotes", "cold call, its zygote too, pandas and scikit-learn, p50", "ms")
ZYGOTES_ONE = Promise("zygotes", "memory of all zygotes, 1 account", "MiB")
ZYGOTES_MANY = Promise("zygotes", "memory of all zygotes, {accounts} accounts", "MiB")
DEPLOY = Promise("deploy", "deploy from a cell to its first answer, p50", "ms", "<= 50")
IDLE = Promise("idle", "processes of a function past its idle time", "", "<= 0")
PARKED = Promise("idle", "the account's spare bare worker, memory", "MiB", "<= 4")
MAP = Promise("map", "f.map over {calls:,} items, in order", "s", "<= 1.3")
GROWTH = Promise("map", "f.map, growth of memory from item 1,000 to {calls:,}", "MiB", "<= 20")
DURABLE = Promise("durable", "durable spawn, 64 connections, on disk before its 202", "1/s", ">= 3000")
DURABLE_ONE = Promise("durable", "durable spawn, 1 connection, p50", "ms")
MANY_MEMORY = Promise("many", "memory of the gateway, {deployed:,} functions, all idle", "MiB", "<= 150")
MANY_COLD = Promise("many", "cold call, {deployed:,} functions deployed, p50", "ms", "<= 1.1")
FLOOD = Promise("flood", "a user's calls while another floods, p99", "us", "<= 2")
FIT_LOOPS = Promise("fit", "a model's fit, OpenMP (gradient boosting)", "s", "<= 1.1")
FIT_MATRIX = Promise("fit", "a model's fit, BLAS (principal components)", "s", "<= 1.1")

ALL = tuple(one for one in vars().copy().values() if isinstance(one, Promise))
PARTS = tuple(dict.fromkeys(one.part for one in ALL))

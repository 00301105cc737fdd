"""What the benches run as a person's program to deploy functions; their addresses as JSON at the end.

Usage: ``deployed.py KIND [--count=1] [--account=...] [--idle=60] [--max-workers=4]``. Each function of a run is named
``KIND`` with its number. The home comes from ``ROPEWALK_HOME``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy
import pandas
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression

from ropewalk_core.client import connect
from ropewalk_core.model import Access
from ropewalk_kernel.functions import specification

AT_A_TIME = 4


def bare(value: object) -> object:
    return value


async def wide(value: object) -> object:
    return value


def heavy(value: object) -> object:
    return value if pandas.DataFrame and LinearRegression else None


def fit_loops(value: object) -> float:
    """Return the seconds of a fit whose threads are OpenMP's."""
    chance = numpy.random.default_rng(7)
    features = chance.normal(size=(20_000, 20))
    begin = time.perf_counter()
    HistGradientBoostingClassifier(max_iter=60, early_stopping=False).fit(features, features[:, 0] > 0)
    return time.perf_counter() - begin


def fit_matrix(value: object) -> float:
    """Return the seconds of a fit whose threads are those of BLAS."""
    data = numpy.random.default_rng(7).normal(size=(3_000, 800))
    begin = time.perf_counter()
    PCA(n_components=50, svd_solver="full").fit(data)
    return time.perf_counter() - begin


KINDS: dict[str, Callable[..., Any]] = {
    "bare": bare, "wide": wide, "heavy": heavy, "fit-loops": fit_loops, "fit-matrix": fit_matrix,
}  # fmt: skip


async def deployed(kind: str, count: int, account: str, shared: str, options: dict[str, Any]) -> list[str]:
    """Deploy so many and return their addresses in order."""
    turn = asyncio.Semaphore(AT_A_TIME)

    async with connect(account=account) as client:

        async def one(number: int) -> str:
            name = f"{kind}-{number}" if number else kind
            async with turn:
                spec = specification(KINDS[kind], name, None, dict(options))
                function = await client.functions.deploy(spec)
                if shared:
                    await client.functions.access(name, Access(who="shared", accounts=(shared,)))
                return function.address

        first = await one(0)  # it makes the sandbox and the zygote; the others would wait for it side by side
        return [first, *await asyncio.gather(*(one(number) for number in range(1, count)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--account", default="")
    parser.add_argument("--shared", default="", help="an account that may call them too")
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--max-workers", type=int, default=4)
    chosen = parser.parse_args()
    options = {"idle": chosen.idle, "concurrency": chosen.concurrency, "max_workers": chosen.max_workers}
    urls = asyncio.run(deployed(chosen.kind, chosen.count, chosen.account, chosen.shared, options))
    sys.stdout.write("\n" + json.dumps({"urls": urls}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Many functions of one account, and somebody who floods: what they cost everybody else.

Two platforms run side by side for the many: one with a few functions, which is the cold row, and one with all of them.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

from bench.cold import IDLE, cold
from bench.parts import Bench, Figures, figures_of, headers_of, start_load
from bench.platforms import Platform
from bench.promised import FLOOD, MANY_COLD, MANY_MEMORY
from bench.report import Row, alone

_LEAD = 1.0
"""Seconds that a flood runs before the other one's calls are measured, and after."""


def many(bench: Bench) -> list[Row]:
    """Measure the gateway's memory and cold calls with many functions deployed."""
    count, few = bench.sizes.deployed, bench.sizes.starts
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(bench.platform("home"))
        some = bench.deploy(plain, "bare", count=few, idle=IDLE, max_workers=1)
        crowded = stack.enter_context(bench.platform("crowded"))
        bench.say(f"many: deploying {count} functions")
        all_of_them = bench.deploy(crowded, "bare", count=count, idle=IDLE, max_workers=1)
        chosen = all_of_them[:: max(1, count // few)][:few]
        pairs = bench.in_turn("many, cold", lambda: cold(crowded, chosen), lambda: cold(plain, some))
        crowded.wait_until_idle()
        memory, least = crowded.memory("gateway"), plain.memory("gateway")
    return [
        MANY_MEMORY.alone(bench.sizes, [memory]),
        alone(f"memory of the gateway, {few} functions", "MiB", [least]),
        MANY_COLD.paired(bench.sizes, f"the same with {few} functions deployed", pairs),
    ]


def flood(bench: Bench) -> list[Row]:
    """Measure a user's calls while another user floods, beside the same calls without; and what the flood gets.

    First each calls a function of their own, then both call the same one.
    """
    found: list[Row] = []
    with bench.platform() as running:
        running.add_account("flood")
        calm = bench.deploy(running, "bare", idle=600.0)[0]
        own = bench.deploy(running, "bare", account="flood", idle=600.0)[0]
        shared = bench.deploy(running, "wide", shared="flood", idle=600.0)[0]
        for mine, flooded, more in ((calm, own, ""), (shared, shared, ", of the same function")):
            during: list[Figures] = []
            of_flood: list[Figures] = []

            def loud(mine: str = mine, flooded: str = flooded, kept: Any = (during, of_flood)) -> float:
                both = _with_flood(bench, running, mine, flooded)
                for list_of, one in zip(kept, both, strict=True):
                    list_of.append(one)
                return both[0]["p99"]

            def quiet(mine: str = mine) -> float:
                return bench.load(running.port + 1, 1, headers_of(mine, running.token()))["p99"]

            quiet()  # the first calls find no worker
            pairs = bench.in_turn(f"flood{more}", loud, quiet)
            found += _rows(bench, more, pairs, during, of_flood)
    return found


def _rows(
    bench: Bench, more: str, pairs: list[tuple[float, float]], during: list[Figures], of_flood: list[Figures]
) -> list[Row]:
    peer, many = "the same calls with no flood", f"{bench.sizes.flooding} connections"
    first = FLOOD.paired(bench.sizes, peer, pairs)
    return [
        replace(first, name=f"{first.name}{more}"),
        alone(f"a user's calls while another floods, p50{more}", "us", [one["p50"] for one in during]),
        alone(f"answers to who floods, {many}{more}", "1/s", [one["rate"] for one in of_flood]),
        alone(f"of them refusals{more}", "", [float(one["wrong"]) for one in of_flood]),
    ]


def _with_flood(bench: Bench, running: Platform, calm: str, url: str) -> tuple[Figures, Figures]:
    """Return the figures of one connection's calls during a flood, and those of the flood."""
    port, seconds = running.port + 1, bench.sizes.seconds + 2 * _LEAD
    mine, theirs = headers_of(calm, running.token()), headers_of(url, running.token("flood"))
    flooding = start_load(bench, port, bench.sizes.flooding, seconds, theirs)
    try:
        time.sleep(_LEAD)
        figures = bench.load(port, 1, mine)
    finally:
        of_flood = figures_of(flooding, seconds, refusals=True)
    return figures, of_flood

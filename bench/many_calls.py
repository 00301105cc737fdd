"""Many calls of one function by a person's program: `f.map` beside a tight client, and durable calls."""

from __future__ import annotations

from bench.parts import Bench
from bench.promised import DURABLE, DURABLE_ONE, GROWTH, MAP
from bench.report import Row, alone


def mapped(bench: Bench) -> list[Row]:
    """Have `bench.mapped` measure a map."""
    with bench.platform() as running:
        bench.say(f"map: {bench.sizes.rounds} rounds of {bench.sizes.calls} items")
        words = ("--calls", bench.sizes.calls, "--rounds", bench.sizes.rounds)
        figures = bench.person(running, "bench.mapped", *words)
    pairs = [(ours, theirs) for ours, theirs in figures["pairs"]]
    return [
        MAP.paired(bench.sizes, f"a tight client, {figures['connections']} connections", pairs),
        GROWTH.alone(bench.sizes, [figures["growth"]]),
    ]


def durable(bench: Bench) -> list[Row]:
    """Have `bench.durable` measure durable calls."""
    with bench.platform() as running:
        bench.say(f"durable: {bench.sizes.rounds} rounds of {bench.sizes.spawned} calls")
        words = ("--calls", bench.sizes.spawned, "--rounds", bench.sizes.rounds)
        figures = bench.person(running, "bench.durable", *words)
    rates, bare = ([pair[side] for pair in figures["pairs"]] for side in (0, 1))
    return [
        DURABLE.alone(bench.sizes, rates),
        alone("bare SQLite insert, one commit for 64, same disk", "1/s", bare),
        DURABLE_ONE.alone(bench.sizes, figures["singles"]),
        alone("durable calls carried out, from spawn to result, one worker", "1/s", [figures["carried"]]),
    ]

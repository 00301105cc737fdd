"""The commands of what became of calls: figures of a function, and what calls cost.

Not here: the calls themselves (``work``).
"""

from __future__ import annotations

import argparse
import json
import time

from ropewalk_core import plots
from ropewalk_core.cli.output import echo, plain, show
from ropewalk_core.cli.parsing import Subparsers, verb
from ropewalk_core.client import Client
from ropewalk_core.model import Figure, Spent

_COSTS = {
    "DAY": lambda one: one.day,
    "CALLS": lambda one: str(one.calls),
    "CPU": lambda one: f"{one.cpu:.3f} s",
    "MEMORY": lambda one: f"{one.gb_seconds:.1f} GB-s",
}


def register(verbs: Subparsers) -> None:
    """Declare the commands."""
    one = verb(
        verbs,
        "figures",
        "show how many calls a function had, how long they took and how many failed",
        run=_figures,
        example="ropewalk functions figures digits --window day",
    )
    one.add_argument("name")
    one.add_argument(
        "--window", choices=("hour", "day"), default="hour", help="the last hour by minute, or day by quarter hour"
    )
    one = verb(
        verbs,
        "costs",
        "show what the calls of a function, or of all of yours, cost by day",
        run=_costs,
        example="ropewalk functions costs digits",
    )
    one.add_argument("name", nargs="?", default="", help="left out: all functions, also removed ones")


async def _figures(client: Client, arguments: argparse.Namespace) -> int:
    found = await client.functions.figures(arguments.name, window=arguments.window)
    if arguments.json:
        echo(json.dumps(plain(found), indent=2))
        return 0
    echo(f"{plots.moment(found).removeprefix('in ').capitalize()}: {plots.said(found.total)}")
    clock = "%H:%M" if found.window == "hour" else "%a %H:%M"
    columns = {
        "FROM": lambda one: time.strftime(clock, time.localtime(one.at)),
        "CALLS": lambda one: str(one.calls),
        "ERRORS": lambda one: str(one.errors),
        "COLD": lambda one: str(one.cold),
        "P50": lambda one: plots.span(one.p50),
        "P95": lambda one: plots.span(one.p95),
        "P99": lambda one: plots.span(one.p99),
        "CPU": lambda one: f"{one.cpu:.3f} s",
        "MEMORY": lambda one: f"{one.gb_seconds:.1f} GB-s",
    }
    listed: list[Figure] = list(plots.rows(found))
    if listed:
        show(listed, columns, as_json=False, empty="")
    return 0


async def _costs(client: Client, arguments: argparse.Namespace) -> int:
    found = await client.functions.costs(arguments.name)
    if arguments.json:
        echo(json.dumps(plain(found), indent=2))
        return 0
    days: list[Spent] = list(found.days)
    show(days, _COSTS, as_json=False, empty="No calls in the last month.")
    return 0

"""The commands of who may call a function: show and choose it, and its keys.

A key's secret is written once, by itself on standard output, so that it can be piped to where it is kept. Not here:
what may be chosen (``access.py`` of the core).
"""

from __future__ import annotations

import argparse

from ropewalk_core.access import checked, chosen, said
from ropewalk_core.cli.output import age, clean, echo, show, show_one
from ropewalk_core.cli.parsing import Subparsers, verb
from ropewalk_core.client import Client


def register(verbs: Subparsers) -> None:
    """Declare the commands."""
    one = verb(
        verbs,
        "access",
        "show or choose who may call a function",
        run=_access,
        example="ropewalk functions access digits bob eve",
    )
    one.add_argument("name")
    one.add_argument("who", nargs="*", help="private, public (anybody, without signing in), or names of accounts")
    one.add_argument("--origin", action="append", metavar="ORIGIN", help="web pages that may call it; may be repeated")
    one.add_argument("--no-origins", action="store_true", help="no web page of another origin may call it")
    one = verb(verbs, "keys", "list the keys of a function", run=_keys, example="ropewalk functions keys digits --json")
    one.add_argument("name")
    one = verb(
        verbs,
        "add-key",
        "make a key of a function; its secret is shown once",
        run=_add,
        example="ropewalk functions add-key digits --label website --calls 1000 --seconds 3600",
    )
    one.add_argument("name")
    one.add_argument("--label", default="", help="what it is for")
    one.add_argument("--calls", type=int, default=1000, help="calls that it is good for in each window")
    one.add_argument("--seconds", type=int, default=3600, help="how long a window is")
    one = verb(
        verbs,
        "revoke-key",
        "end a key of a function",
        run=_revoke,
        example="ropewalk functions revoke-key digits 4f0c1a9b2e",
    )
    one.add_argument("name")
    one.add_argument("key", help="its identifier, as `keys` lists it")


async def _access(client: Client, arguments: argparse.Namespace) -> int:
    function = await client.functions.get(arguments.name)
    origins = () if arguments.no_origins else arguments.origin
    if arguments.who or origins is not None:
        before = function.access
        who = arguments.who or (before.accounts if before.who == "shared" else before.who)
        access = checked(chosen(who, origins, before=before), function.owner)
        function = await client.functions.access(arguments.name, access)
    fields = {"who": said(function.access), "origins": " ".join(function.access.origins) or "none"}
    show_one(function, fields, as_json=arguments.json)
    return 0


async def _keys(client: Client, arguments: argparse.Namespace) -> int:
    columns = {
        "ID": lambda one: one.id,
        "LABEL": lambda one: one.label,
        "QUOTA": lambda one: f"{one.calls} calls in {one.seconds} s",
        "MADE": lambda one: f"{age(one.created)} ago",
    }
    found = (await client.functions.keys(arguments.name)).items
    show(found, columns, as_json=arguments.json, empty="No keys. `ropewalk functions add-key` makes one.")
    return 0


async def _add(client: Client, arguments: argparse.Namespace) -> int:
    made = await client.functions.add_key(
        arguments.name, label=arguments.label, calls=arguments.calls, seconds=arguments.seconds
    )
    if arguments.json:
        echo(made.model_dump_json(indent=2))
        return 0
    echo(f"Key {made.key.id}; keep it now, it is not shown again. Send it as X-Ropewalk-Key.", error=True)
    echo(made.secret)
    return 0


async def _revoke(client: Client, arguments: argparse.Namespace) -> int:
    ended = await client.functions.revoke_key(arguments.name, arguments.key)
    echo(ended.model_dump_json(indent=2) if arguments.json else f"Key {clean(ended.id)} opens nothing any more.")
    return 0

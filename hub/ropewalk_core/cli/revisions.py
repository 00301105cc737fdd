"""The commands of a function's revisions: list them, compare two, go back to one, split calls between them.

Not here: what changed, which ``revisions.py`` of the core says for every surface.
"""

from __future__ import annotations

import argparse
import json

from ropewalk_core.cli.output import age, clean, echo, plain, show, show_one
from ropewalk_core.cli.parsing import Subparsers, verb
from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Function, Revision
from ropewalk_core.revisions import changed, difference, environment, pair, previous, stories
from ropewalk_core.traffic import LATEST, weights


def register(verbs: Subparsers) -> None:
    """Declare the commands."""
    one = verb(
        verbs,
        "versions",
        "list the revisions of a function that are kept",
        run=_versions,
        example="ropewalk functions versions digits",
    )
    one.add_argument("name")
    one = verb(
        verbs,
        "diff",
        "show what changed between two revisions of a function",
        run=_diff,
        example="ropewalk functions diff digits 3 5",
    )
    one.add_argument("name")
    one.add_argument("older", nargs="?", type=int, default=0, help="number (default: the revision before)")
    one.add_argument("newer", nargs="?", type=int, default=0, help="number (default: the current revision)")
    one = verb(
        verbs,
        "rollback",
        "deploy an earlier revision of a function again",
        run=_rollback,
        example="ropewalk functions rollback digits 3",
    )
    one.add_argument("name")
    one.add_argument("number", nargs="?", type=int, default=0, help="number (default: the revision before)")
    one = verb(
        verbs,
        "traffic",
        "show who takes the calls of a function, or split them between revisions",
        run=_traffic,
        example="ropewalk functions traffic digits 3=90 latest=10",
    )
    one.add_argument("name")
    one.add_argument("shares", nargs="*", metavar="REVISION=SHARE", help="of 100 calls; 0 gives it an address only")


async def _known(client: Client, name: str) -> tuple[Function, tuple[Revision, ...]]:
    return await client.functions.get(name), (await client.functions.revisions(name)).items


async def _versions(client: Client, arguments: argparse.Namespace) -> int:
    function, kept = await _known(client, arguments.name)
    said = {one.number: story for one, story in zip(kept, stories(kept), strict=True)}
    columns = {
        "REVISION": lambda one: str(one.number),
        "": lambda one: "current" if one.number == function.revision.number else "",
        "DEPLOYED": lambda one: f"{age(one.created)} ago",
        "CHANGED": lambda one: said[one.number],
        "ENVIRONMENT": environment,
        "ID": lambda one: one.id,
    }
    show(kept, columns, as_json=arguments.json, empty="No revision has been accepted yet.")
    return 0


async def _diff(client: Client, arguments: argparse.Namespace) -> int:
    function, kept = await _known(client, arguments.name)
    numbers = pair(arguments.older, arguments.newer, function.revision, kept)
    older, newer = [await client.functions.revision(arguments.name, one) for one in numbers]
    text = difference(older, newer)
    if arguments.json:
        facts = {"older": older.number, "newer": newer.number, "changed": changed(older, newer), "diff": text}
        echo(json.dumps(facts, indent=2))
    else:
        echo(clean(text, lines=True) or f"Nothing differs between revisions {older.number} and {newer.number}.")
    return 0


async def _rollback(client: Client, arguments: argparse.Namespace) -> int:
    number = arguments.number
    if not number:
        function, kept = await _known(client, arguments.name)
        number = previous(function.revision, kept)
    function = await client.functions.rollback(arguments.name, number)
    if arguments.json:
        echo(json.dumps(plain(function), indent=2))
    elif function.unchanged:
        echo(f"{clean(function.name)} is what revision {number} was already, and that takes all calls.")
    else:
        now = f"revision {function.revision.number}, which takes all calls"
        echo(f"{clean(function.name)} is what revision {number} was, as {now}.")
    return 0


async def _traffic(client: Client, arguments: argparse.Namespace) -> int:
    if arguments.shares:
        wish = dict(map(_share, arguments.shares))
        weights(wish)  # refused here already, before anything is sent
        function = await client.functions.traffic(arguments.name, wish)
    else:
        function = await client.functions.get(arguments.name)
    traffic, number = function.traffic, function.revision.number
    said_of = {f"revision {one.number}": f"{one.weight} of 100  {one.address}".rstrip() for one in traffic.shares}
    fields = {f"latest (now {number})": f"{traffic.latest} of 100  {function.address}", **said_of}
    show_one(function, fields, as_json=arguments.json)
    return 0


def _share(text: str) -> tuple[str, int]:
    number, _, share = text.partition("=")
    if not (share.isascii() and share.isdigit()):
        raise BadInput(f"{text!r} is not REVISION=SHARE.", field="shares", hint=f"Write 3=90 {LATEST}=10, for example.")
    return number, int(share[:9])

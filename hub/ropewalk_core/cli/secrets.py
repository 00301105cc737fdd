"""The commands of secrets: set, list and remove. A value comes from standard input or is asked for without an echo."""

from __future__ import annotations

import argparse
import getpass
import json
import sys

from ropewalk_core.cli.output import age, clean, echo, plain, show
from ropewalk_core.cli.parsing import Subparsers, noun, verb
from ropewalk_core.client import Client

_SECRETS = {"NAME": lambda one: one.name, "STORED": lambda one: f"{age(one.stored)} ago"}


def register(subparsers: Subparsers) -> None:
    """Declare the commands."""
    verbs = noun(subparsers, "secrets", "passwords and tokens that functions use by name")
    one = verb(
        verbs,
        "set",
        "store a secret; its value is asked for, or read from standard input",
        run=_set,
        example="ropewalk secrets set DB_PASSWORD",
    )
    one.add_argument("name", help="also the name of the variable that a function finds it in")
    verb(verbs, "list", "list the names of your secrets", run=_list, example="ropewalk secrets list")
    one = verb(verbs, "remove", "remove a secret", run=_remove, example="ropewalk secrets remove DB_PASSWORD")
    one.add_argument("name")


async def _set(client: Client, arguments: argparse.Namespace) -> int:
    value = getpass.getpass(f"{clean(arguments.name)}: ") if sys.stdin.isatty() else _piped(sys.stdin.read())
    stored = await client.secrets.set(arguments.name, value)
    hint = f"a function gets it with `--secret {clean(stored.name)}`"
    echo(json.dumps(plain(stored), indent=2) if arguments.json else f"{clean(stored.name)} is stored; {hint}")
    return 0


def _piped(text: str) -> str:
    """Return what was piped in, without the one end of line that ``echo`` adds."""
    return text.removesuffix("\n").removesuffix("\r")


async def _list(client: Client, arguments: argparse.Namespace) -> int:
    page = await client.secrets.list()
    show(page.items, _SECRETS, as_json=arguments.json, empty="No secrets yet. Store one: ropewalk secrets set NAME.")
    return 0


async def _remove(client: Client, arguments: argparse.Namespace) -> int:
    removed = await client.secrets.remove(arguments.name)
    echo(json.dumps(plain(removed), indent=2) if arguments.json else f"{clean(removed.name)} is removed")
    return 0

"""The commands of files, accounts, templates, accelerators and the token."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

from ropewalk_core.beneath import PARTIAL
from ropewalk_core.cli.output import age, clean, echo, plain, show
from ropewalk_core.cli.parsing import Subparsers, common, noun, verb
from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput, StorageFull
from ropewalk_core.placement import Node

_FILES = {
    "NAME": lambda one: one.path.rsplit("/", 1)[-1] + ("/" if one.kind == "folder" else ""),
    "SIZE": lambda one: f"{one.size}" if one.kind == "file" else "",
    "CHANGED": lambda one: f"{age(one.modified)} ago",
}
_ACCOUNTS = {
    "NAME": lambda one: one.name,
    "FULL NAME": lambda one: one.full_name,
    "STATE": lambda one: one.state,
    "ROLE": lambda one: "administrator" if one.administrator else "",
    "AGE": lambda one: age(one.created),
}
_TEMPLATES = {
    "NAME": lambda one: one.name,
    "TITLE": lambda one: one.title,
    "RUNS HERE": lambda one: "yes" if one.local else "needs a cluster",
    "DESCRIPTION": lambda one: one.description,
}
_NODES = {
    "NODE": lambda one: one.name,
    "ARCH": lambda one: one.arch,
    "CORES": lambda one: f"{one.cpu:g}",
    "MEMORY": lambda one: f"{one.memory / 2**30:.1f} GiB",
    "ACCELERATORS": lambda one: ", ".join(_counted(one, name) for name in sorted(one.accelerators)),
    "IN USE BY": lambda one: ", ".join(f"{each.holder} ({each.accelerator})" for each in one.leases or ()),
}


def register(subparsers: Subparsers) -> None:
    """Declare the commands."""
    _files(noun(subparsers, "files", "your files"))
    verbs = noun(subparsers, "accounts", "people's accounts; for administrators")
    verb(verbs, "list", "list the accounts", run=_list_accounts, example="ropewalk accounts list")
    for name, help_text, run in (
        ("approve", "let a waiting or deactivated account in", _approve),
        ("deactivate", "end every token and server of an account; its files stay", _deactivate),
    ):
        one = verb(verbs, name, help_text, run=run, example=f"ropewalk accounts {name} ada")
        one.add_argument("name")
    verbs = noun(subparsers, "templates", "what services can be launched from")
    verb(verbs, "list", "list the templates", run=_list_templates, example="ropewalk templates list")
    verbs = noun(subparsers, "accelerators", "the machines and accelerators that exist")
    verb(verbs, "list", "list them", run=_list_accelerators, example="ropewalk accelerators list")
    one = verb(
        subparsers,
        "token",
        "print a token, good for ten minutes",
        run=_token,
        example="""curl -H "Authorization: Bearer $(ropewalk token)" ADDRESS""",
    )
    one.add_argument(
        "--audience",
        choices=("functions", "api"),
        default="functions",
        help="functions: to call yours; api: for the REST interface under /api/v1 (default functions)",
    )
    parser = subparsers.add_parser("version", help="print the version")
    common(parser)
    parser.set_defaults(run=_version)


def _files(verbs: Subparsers) -> None:
    one = verb(verbs, "list", "list a folder", run=_list_files, example="ropewalk files list data")
    one.add_argument("path", nargs="?", default="")
    one = verb(
        verbs, "get", "copy a file here", run=_get_file, example="ropewalk files get data/train.csv -o train.csv"
    )
    one.add_argument("path")
    one.add_argument("-o", "--output", help="where to (default: the file's name here; - is standard output)")
    one = verb(verbs, "put", "copy a file there", run=_put_file, example="ropewalk files put train.csv data/train.csv")
    one.add_argument("file", help="a file here; - is standard input")
    one.add_argument("path", nargs="?", help="where to (default: the file's name)")
    one = verb(verbs, "remove", "remove a file or a folder", run=_remove_file, example="ropewalk files remove data/old")
    one.add_argument("path")


async def _list_files(client: Client, arguments: argparse.Namespace) -> int:
    found = [one async for one in client.files.all(arguments.path)]
    show(found, _FILES, as_json=arguments.json, empty="Nothing here.")
    return 0


async def _get_file(client: Client, arguments: argparse.Namespace) -> int:
    name = arguments.path.rstrip("/").rsplit("/", 1)[-1]
    if arguments.output == "-":
        async for chunk in client.files.read(arguments.path):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return 0
    target = Path(arguments.output or name)
    size = await _save(client, arguments.path, target)
    echo(json.dumps({"file": str(target), "size": size}) if arguments.json else f"{target}: {size} bytes")
    return 0


async def _save(client: Client, path: str, target: Path) -> int:
    """Write what arrives beside the target and move it there when it is whole."""
    partial = target.with_name(f"{PARTIAL}{target.name}")
    try:
        with partial.open("wb") as file:
            async for chunk in client.files.read(path):
                file.write(chunk)
        size = partial.stat().st_size
        partial.replace(target)
    except OSError as error:
        raise StorageFull(f"{target} cannot be written: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return size


async def _put_file(client: Client, arguments: argparse.Namespace) -> int:
    path = arguments.path or (Path(arguments.file).name if arguments.file != "-" else "")
    if not path:
        raise BadInput("Name the file to write.", field="path")
    try:
        content = sys.stdin.buffer.read() if arguments.file == "-" else Path(arguments.file).read_bytes()
    except OSError as error:
        raise BadInput(f"{arguments.file} cannot be read: {error.strerror}.", field="file") from error
    entry = await client.files.write(path, content)
    echo(json.dumps(plain(entry)) if arguments.json else f"{clean(entry.path)}: {entry.size} bytes")
    return 0


async def _remove_file(client: Client, arguments: argparse.Namespace) -> int:
    await client.files.remove(arguments.path)
    echo(json.dumps({"removed": arguments.path}) if arguments.json else f"{clean(arguments.path)} is removed.")
    return 0


async def _list_accounts(client: Client, arguments: argparse.Namespace) -> int:
    found = [one async for one in client.accounts.all()]
    show(found, _ACCOUNTS, as_json=arguments.json, empty="No accounts yet.")
    return 0


async def _approve(client: Client, arguments: argparse.Namespace) -> int:
    account = await client.accounts.approve(arguments.name)
    echo(json.dumps(plain(account)) if arguments.json else f"{account.name} is {account.state}.")
    return 0


async def _deactivate(client: Client, arguments: argparse.Namespace) -> int:
    account = await client.accounts.deactivate(arguments.name)
    echo(json.dumps(plain(account)) if arguments.json else f"{account.name} is {account.state}.")
    return 0


async def _list_templates(client: Client, arguments: argparse.Namespace) -> int:
    show((await client.templates()).items, _TEMPLATES, as_json=arguments.json, empty="No templates.")
    return 0


async def _list_accelerators(client: Client, arguments: argparse.Namespace) -> int:
    nodes: tuple[Node, ...] = (await client.inventory()).nodes
    show(nodes, _NODES, as_json=arguments.json, empty="No machines.")
    if nodes and not any(node.accelerators for node in nodes) and not arguments.json:
        echo("No accelerators here; work that asks for one is refused.", error=True)
    return 0


def _counted(node: Node, name: str) -> str:
    """Return how many a machine has of an accelerator, and how many of them are free where that is known."""
    count = node.accelerators[name]
    if node.leases is None:
        return f"{count} x {name}"
    return f"{count} x {name} ({count - sum(one.accelerator == name for one in node.leases)} free)"


async def _token(client: Client, arguments: argparse.Namespace) -> int:
    token = await client.token(arguments.audience)
    body = {"token": token.text, "expires": token.expires, "audience": arguments.audience}
    echo(json.dumps(body) if arguments.json else token.text)
    return 0


def _version(arguments: argparse.Namespace) -> int:
    number = version("ropewalk")
    echo(json.dumps({"version": number}) if arguments.json else number)
    return 0

"""The commands of saved workflows: save, saved, launch, forget, and those of their triggers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk_core.cli import triggers
from ropewalk_core.cli.output import age, clean, echo, plain, say, show
from ropewalk_core.cli.parsing import Subparsers, load_yaml, read_text, verb
from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput
from ropewalk_core.flows import RunSpec, SavedSpec

_SAVED = {
    "NAME": lambda one: one.name,
    "ARGUMENTS": lambda one: ", ".join(each.name for each in one.spec.arguments),
    "VERSION": lambda one: str(one.version),
    "SAVED": lambda one: f"{age(one.changed)} ago",
}


def register(verbs: Subparsers) -> None:
    """Declare the commands."""
    one = verb(
        verbs,
        "save",
        "keep an Argo workflow from a file, to be launched later",
        run=_save,
        example="ropewalk workflows save train.yaml --name train",
    )
    one.add_argument("file", help="an Argo Workflow as YAML; - is standard input")
    one.add_argument("--name", default="", help="what it will be called (default: as the file says)")
    verb(verbs, "saved", "list your saved workflows", run=_list, example="ropewalk workflows saved")
    one = verb(
        verbs,
        "launch",
        "start a run of a saved workflow",
        run=_launch,
        example="ropewalk workflows launch train -p rate=0.1",
    )
    one.add_argument("name", help="of the saved workflow")
    one.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="an argument")
    one.add_argument("--fresh", action="store_true", help="run every step, without results of earlier runs")
    one = verb(
        verbs,
        "forget",
        "remove a saved workflow with its triggers; its runs stay",
        run=_forget,
        example="ropewalk workflows forget train",
    )
    one.add_argument("name", help="of the saved workflow")
    triggers.register(verbs, triggers.WORKFLOWS)


async def _save(client: Client, arguments: argparse.Namespace) -> int:
    manifest = load_yaml(read_text(arguments.file), arguments.file)
    if not isinstance(manifest, dict):
        raise BadInput(f"{arguments.file} is not an Argo Workflow.", field="kind", hint="Its kind must be Workflow.")
    metadata = manifest.get("metadata") or {}
    name = str(metadata.get("name") or metadata.get("generateName") or Path(arguments.file).stem).strip("-")
    run = RunSpec(name=name, manifest=manifest, source="argo")
    saved = await client.saved.save(SavedSpec(name=arguments.name or name, run=run))
    return say(saved, f"{saved.name} is saved, version {saved.version}.", as_json=arguments.json)


async def _list(client: Client, arguments: argparse.Namespace) -> int:
    found = [one async for one in client.saved.all()]
    empty = "No saved workflows. Save one from a notebook with .save(), or a file: ropewalk workflows save FILE."
    show(found, _SAVED, as_json=arguments.json, empty=empty)
    return 0


async def _launch(client: Client, arguments: argparse.Namespace) -> int:
    saved = await client.saved.get(arguments.name)
    takes = {one.name: one.takes for one in saved.spec.arguments}
    given = dict(_pair(word, takes) for word in arguments.parameter)
    run = await client.saved.launch(arguments.name, given, fresh=arguments.fresh)
    echo(json.dumps(plain(run), indent=2) if arguments.json else clean(run.id))
    return 0


def _pair(word: str, takes: Mapping[str, Mapping[str, Any]]) -> tuple[str, Any]:
    """Return an argument and its value: text where it takes text, else JSON, else the text as it stands."""
    name, equals, text = word.partition("=")
    if not equals or not name:
        raise BadInput(f"'{word}' is not NAME=VALUE.", field="--parameter")
    if takes.get(name, {}).get("type") == "string":
        return name, text
    try:
        return name, json.loads(text)
    except (ValueError, RecursionError):
        return name, text


async def _forget(client: Client, arguments: argparse.Namespace) -> int:
    saved = await client.saved.remove(arguments.name)
    return say(saved, f"{saved.name} is not saved any more; its runs stay.", as_json=arguments.json)

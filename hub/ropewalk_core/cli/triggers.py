"""The commands of triggers of functions and saved workflows: add, list, remove, pause, resume, and fire one by hand."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from pydantic import ValidationError

from ropewalk_core.cli.output import age, clean, echo, plain, show
from ropewalk_core.cli.parsing import Subparsers, noun, verb
from ropewalk_core.client import Client, TriggersClient
from ropewalk_core.model import Trigger, TriggerSpec
from ropewalk_core.triggers.words import coming, said, standing
from ropewalk_core.wrong import wrong

_TRIGGERS = {
    "TRIGGER": lambda one: one.id,
    "FIRES": lambda one: said(one.spec),
    "NEXT": lambda one: coming(one),
    "LAST": lambda one: f"{age(one.fired)} ago" if one.fired else "",
    "STATE": lambda one: standing(one),
    "MADE": lambda one: one.call,
}


@dataclass(frozen=True)
class _Kind:
    """What triggers of a kind call, in words, and the part of the client that knows them."""

    noun: str
    what: str
    name: str
    port: str
    call: str


FUNCTIONS = _Kind("functions", "a function", "digits", "triggers", "call")
WORKFLOWS = _Kind("workflows", "a saved workflow", "train", "saved_triggers", "run")


def register(verbs: Subparsers, kind: _Kind) -> None:
    """Declare the commands of one kind."""
    verbs = noun(verbs, "trigger", f"what calls {kind.what} by itself: a schedule, an end, a file")
    one = verb(
        verbs,
        "add",
        f"have {kind.what} called by itself",
        run=_add,
        example=f"ropewalk {kind.noun} trigger add {kind.name} --every '0 2 * * mon-fri' --zone Europe/Athens",
    )
    one.set_defaults(kind=kind)
    one.add_argument("name")
    one.add_argument("--every", default="", metavar="SCHEDULE", help="cron's five fields, or @hourly, @daily, @weekly")
    one.add_argument("--zone", default="UTC", help="time zone of the schedule (default UTC)")
    one.add_argument("--after", default="", metavar="NAME", help="a function whose calls end, or workflow:NAME")
    one.add_argument("--when", choices=("success", "failure", "always"), default="success", help="after which ends")
    one.add_argument("--on-file", default="", metavar="PATTERN", help="a new file in a folder, as in 'inbox/*.csv'")
    one.add_argument("--existing", action="store_true", help="files that are there already count as new")
    example = f"ropewalk {kind.noun} trigger list {kind.name}"
    one = verb(verbs, "list", f"list the triggers of {kind.what}", run=_list, example=example)
    one.set_defaults(kind=kind)
    one.add_argument("name")
    words = {
        "remove": (f"remove a trigger; each {kind.call} that it made goes on", _remove),
        "pause": ("pause a trigger; what happens meanwhile fires nothing", _pause),
        "resume": ("resume a trigger that was paused, from now on", _resume),
        "fire": (f"make the {kind.call} that a trigger would make, now", _fire),
    }
    for name, (help_text, run) in words.items():
        example = f"ropewalk {kind.noun} trigger {name} {kind.name} t-5k2m9qv0w3"
        one = verb(verbs, name, help_text, run=run, example=example)
        one.set_defaults(kind=kind)
        one.add_argument("name")
        one.add_argument("trigger", help="its identifier, as `list` shows it")


def _port(client: Client, arguments: argparse.Namespace) -> TriggersClient:
    port: TriggersClient = getattr(client, arguments.kind.port)
    return port


async def _add(client: Client, arguments: argparse.Namespace) -> int:
    given = {word: getattr(arguments, word) for word in TriggerSpec.model_fields}
    try:
        spec = TriggerSpec.model_validate(given)
    except ValidationError as error:
        raise wrong(error.errors()) from error
    return _told(await _port(client, arguments).add(arguments.name, spec), arguments.json)


async def _list(client: Client, arguments: argparse.Namespace) -> int:
    found = (await _port(client, arguments).list(arguments.name)).items
    add = f"ropewalk {arguments.kind.noun} trigger add {clean(arguments.name)}"
    empty = f"No triggers. Make one with `{add} --every @hourly`."
    show(found, _TRIGGERS, as_json=arguments.json, empty=empty)
    if not arguments.json:
        for one in found:
            if one.why is not None:
                echo(clean(f"{one.id}: {one.why.cause} {one.why.next}"), error=True)
    return 0


async def _remove(client: Client, arguments: argparse.Namespace) -> int:
    gone = await _port(client, arguments).remove(arguments.name, arguments.trigger)
    echo(json.dumps(plain(gone), indent=2) if arguments.json else f"{clean(gone.id)} is removed.")
    return 0


async def _pause(client: Client, arguments: argparse.Namespace) -> int:
    return _told(await _port(client, arguments).pause(arguments.name, arguments.trigger), arguments.json)


async def _resume(client: Client, arguments: argparse.Namespace) -> int:
    return _told(await _port(client, arguments).resume(arguments.name, arguments.trigger), arguments.json)


async def _fire(client: Client, arguments: argparse.Namespace) -> int:
    call = await _port(client, arguments).fire(arguments.name, arguments.trigger)
    echo(json.dumps(plain(call), indent=2) if arguments.json else clean(call.id))
    return 0


def _told(one: Trigger, as_json: bool) -> int:
    if as_json:
        echo(json.dumps(plain(one), indent=2))
        return 0
    then = f" Next: {coming(one)}." if one.next else " It is paused." if one.paused else ""
    echo(clean(f"{one.id} fires {said(one.spec)}.{then}"))
    return 0

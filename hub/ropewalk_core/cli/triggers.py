"""The commands of a function's triggers: add, list, remove, pause, resume, and fire one by hand."""

from __future__ import annotations

import argparse
import json

from pydantic import ValidationError

from ropewalk_core.cli.output import age, clean, echo, plain, show
from ropewalk_core.cli.parsing import Subparsers, noun, verb
from ropewalk_core.client import Client
from ropewalk_core.model import Trigger, TriggerSpec
from ropewalk_core.triggers.words import coming, said, standing
from ropewalk_core.wrong import wrong

_TRIGGERS = {
    "TRIGGER": lambda one: one.id,
    "FIRES": lambda one: said(one.spec),
    "NEXT": lambda one: coming(one),
    "LAST": lambda one: f"{age(one.fired)} ago" if one.fired else "",
    "STATE": lambda one: standing(one),
    "CALL": lambda one: one.call,
}


def register(verbs: Subparsers) -> None:
    """Declare the commands."""
    verbs = noun(verbs, "trigger", "what calls a function by itself: a schedule, an end, a file")
    one = verb(
        verbs,
        "add",
        "have a function called by itself",
        run=_add,
        example="ropewalk functions trigger add digits --every '0 2 * * mon-fri' --zone Europe/Athens",
    )
    one.add_argument("name")
    one.add_argument("--every", default="", metavar="SCHEDULE", help="cron's five fields, or @hourly, @daily, @weekly")
    one.add_argument("--zone", default="UTC", help="time zone of the schedule (default UTC)")
    one.add_argument("--after", default="", metavar="NAME", help="a function whose calls end, or workflow:NAME")
    one.add_argument("--when", choices=("success", "failure", "always"), default="success", help="after which ends")
    one.add_argument("--on-file", default="", metavar="PATTERN", help="a new file in a folder, as in 'inbox/*.csv'")
    one.add_argument("--existing", action="store_true", help="files that are there already count as new")
    one = verb(
        verbs, "list", "list the triggers of a function", run=_list, example="ropewalk functions trigger list digits"
    )
    one.add_argument("name")
    words = {
        "remove": ("remove a trigger; calls that it made go on", _remove),
        "pause": ("pause a trigger; what happens meanwhile fires nothing", _pause),
        "resume": ("resume a trigger that was paused, from now on", _resume),
        "fire": ("make the call that a trigger would make, now", _fire),
    }
    for name, (help_text, run) in words.items():
        example = f"ropewalk functions trigger {name} digits t-5k2m9qv0w3"
        one = verb(verbs, name, help_text, run=run, example=example)
        one.add_argument("name")
        one.add_argument("trigger", help="its identifier, as `list` shows it")


async def _add(client: Client, arguments: argparse.Namespace) -> int:
    given = {word: getattr(arguments, word) for word in TriggerSpec.model_fields}
    try:
        spec = TriggerSpec.model_validate(given)
    except ValidationError as error:
        raise wrong(error.errors()) from error
    return _told(await client.triggers.add(arguments.name, spec), arguments.json)


async def _list(client: Client, arguments: argparse.Namespace) -> int:
    found = (await client.triggers.list(arguments.name)).items
    empty = f"No triggers. Make one with `ropewalk functions trigger add {clean(arguments.name)} --every @hourly`."
    show(found, _TRIGGERS, as_json=arguments.json, empty=empty)
    if not arguments.json:
        for one in found:
            if one.why is not None:
                echo(clean(f"{one.id}: {one.why.cause} {one.why.next}"), error=True)
    return 0


async def _remove(client: Client, arguments: argparse.Namespace) -> int:
    gone = await client.triggers.remove(arguments.name, arguments.trigger)
    echo(json.dumps(plain(gone), indent=2) if arguments.json else f"{clean(gone.id)} is removed.")
    return 0


async def _pause(client: Client, arguments: argparse.Namespace) -> int:
    return _told(await client.triggers.pause(arguments.name, arguments.trigger), arguments.json)


async def _resume(client: Client, arguments: argparse.Namespace) -> int:
    return _told(await client.triggers.resume(arguments.name, arguments.trigger), arguments.json)


async def _fire(client: Client, arguments: argparse.Namespace) -> int:
    call = await client.triggers.fire(arguments.name, arguments.trigger)
    echo(json.dumps(plain(call), indent=2) if arguments.json else clean(call.id))
    return 0


def _told(one: Trigger, as_json: bool) -> int:
    if as_json:
        echo(json.dumps(plain(one), indent=2))
        return 0
    then = f" Next: {coming(one)}." if one.next else " It is paused." if one.paused else ""
    echo(clean(f"{one.id} fires {said(one.spec)}.{then}"))
    return 0

"""The commands of durable calls: spawn one, list, look, take its result, cancel, replay, forget."""

from __future__ import annotations

import argparse
import json

from ropewalk_core.cli.output import age, clean, echo, echo_answer, plain, show, show_one, state
from ropewalk_core.cli.parsing import Subparsers, noun, payload_of, verb
from ropewalk_core.client import Client
from ropewalk_core.model import DurableCall, State
from ropewalk_runtime.packed import PACKED, outline

_CALLS = {
    "CALL": lambda one: one.id,
    "STATE": lambda one: state(one.status),
    "AGE": lambda one: age(one.created),
    "TOOK": lambda one: age(one.created, one.ended) if one.ended else "",
    "ATTEMPTS": lambda one: str(one.attempt),
}


def register(subparsers: Subparsers) -> None:
    """Declare the commands."""
    verbs = noun(subparsers, "durable", "calls of functions that are carried out whatever is killed")
    one = verb(
        verbs,
        "spawn",
        "accept a call of a function; it is on disk when this returns",
        run=_spawn,
        example="""ropewalk durable spawn digits '{"image": [0, 1]}' --key monday""",
    )
    one.add_argument("function")
    one.add_argument("payload", nargs="?", default="null", help="JSON; @FILE or - read it from elsewhere")
    one.add_argument("--key", default="", help="the same key again gives the same call")
    one.add_argument("--wait", action="store_true", help="wait for its end and print its result")
    one = verb(
        verbs,
        "list",
        "list the durable calls of a function, newest first",
        run=_list,
        example="ropewalk durable list digits --shelf failed",
    )
    one.add_argument("function")
    one.add_argument("--shelf", choices=("open", "failed", "ended"), default="", help="which (default: all)")
    one.add_argument("--limit", type=int, default=20, help="how many (default 20)")
    one.add_argument("--after", default="", metavar="CALL", help="go on after this one")
    words = {
        "get": ("show one durable call", _get),
        "result": ("wait for the end of a call, and print its result", _result),
        "cancel": ("stop a call; one that has ended stays as it is", _cancel),
        "replay": ("try a failed call again, with the arguments that it kept", _replay),
        "forget": ("remove a call that has ended, and its result", _forget),
    }
    for name, (said, run) in words.items():
        one = verb(verbs, name, said, run=run, example=f"ropewalk durable {name} digits.1jxk3v0a9zqm4t7rcd")
        one.add_argument("call")


async def _spawn(client: Client, arguments: argparse.Namespace) -> int:
    call = await client.durable.spawn(arguments.function, payload_of(arguments.payload), key=arguments.key)
    if arguments.wait:
        return await _print_result(client, call.id)
    echo(json.dumps(plain(call), indent=2) if arguments.json else clean(call.id))
    return 0


async def _list(client: Client, arguments: argparse.Namespace) -> int:
    limit = max(1, min(arguments.limit, 200))
    page = await client.durable.list(arguments.function, shelf=arguments.shelf, after=arguments.after, limit=limit)
    empty = f"No durable calls. Make one with `ropewalk durable spawn {clean(arguments.function)}`."
    show(list(page.items), _CALLS, as_json=arguments.json, empty=empty)
    if page.next and not arguments.json:
        echo(f"More follow: --after {clean(page.next)}", error=True)
    return 0


async def _get(client: Client, arguments: argparse.Namespace) -> int:
    call = await client.durable.get(arguments.call)
    fields = {
        "call": call.id,
        "function": call.function,
        "state": state(call.status),
        "next": call.status.why.next if call.status.why else "",
        "accepted": f"{age(call.created)} ago" + (f" by trigger {call.trigger}" if call.trigger else ""),
        "attempts": str(call.attempt),
        "revision": call.revision,
        "kept for": age(0, max(0.0, call.expires - call.ended)) if call.expires and call.ended else "",
        "traceback": str(call.problem.get("details", {}).get("traceback", "")),
    }
    show_one(call, fields, as_json=arguments.json)
    return 1 if call.status.state is State.FAILED else 0


async def _result(client: Client, arguments: argparse.Namespace) -> int:
    return await _print_result(client, arguments.call)


async def _print_result(client: Client, call: str) -> int:
    found = await client.durable.result(call)
    while found.body is None:
        found = await client.durable.result(call)
    echo_answer(outline(found.body) if found.content_type == PACKED else found.body)
    return 0


async def _cancel(client: Client, arguments: argparse.Namespace) -> int:
    return _said(await client.durable.cancel(arguments.call), arguments.json)


async def _replay(client: Client, arguments: argparse.Namespace) -> int:
    return _said(await client.durable.replay(arguments.call), arguments.json)


async def _forget(client: Client, arguments: argparse.Namespace) -> int:
    call = await client.durable.forget(arguments.call)
    echo(json.dumps(plain(call), indent=2) if arguments.json else f"{clean(call.id)} is forgotten.")
    return 0


def _said(call: DurableCall, as_json: bool) -> int:
    echo(json.dumps(plain(call), indent=2) if as_json else clean(f"{call.id} is {call.status.state}."))
    return 0

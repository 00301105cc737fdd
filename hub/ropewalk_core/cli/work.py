"""The commands of services, functions and notebooks. Each is a call of the client and a table."""

from __future__ import annotations

import argparse
import asyncio
import json

from ropewalk_core import access, plots, traffic, workers
from ropewalk_core.cli import bring, durable, observing, revisions, secrets, sharing, triggers, workflows
from ropewalk_core.cli.output import age, echo, echo_answer, say, show, show_line, show_one, state
from ropewalk_core.cli.parsing import (
    Subparsers,
    add_placement,
    load_yaml,
    noun,
    pairs,
    payload_of,
    placement_of,
    read_text,
    verb,
)
from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Call, Function, Notebook, Service, ServiceSpec, State

_SERVICES = {
    "NAME": lambda one: one.spec.name,
    "TEMPLATE": lambda one: one.spec.template,
    "STATE": lambda one: state(one.status),
    "AGE": lambda one: age(one.created),
    "ADDRESS": lambda one: one.address,
}
_FUNCTIONS = {
    "NAME": lambda one: one.name,
    "REVISION": lambda one: str(one.revision.number),
    "STATE": lambda one: state(one.status),
    "AGE": lambda one: age(one.created),
    "ADDRESS": lambda one: one.address,
}
_CALLS = {
    "CALL": lambda one: one.id,
    "CAME": lambda one: f"{age(one.queued or one.started)} ago",
    "WAITED": lambda one: plots.span(one.waited) if one.waited else "",
    "TOOK": lambda one: plots.span(one.took),
    "STATE": lambda one: one.state.value,
    "STATUS": lambda one: str(one.status or ""),
    "START": lambda one: "cold" if one.cold else "warm" if one.worker else "",
    "ON": lambda one: one.accelerator,
    "ERROR": lambda one: one.error,
}
_NOTEBOOKS = {
    "NAME": lambda one: one.name or "(default)",
    "STATE": lambda one: state(one.status),
    "ADDRESS": lambda one: one.address,
}


def register(subparsers: Subparsers) -> None:
    """Declare the commands."""
    _services(noun(subparsers, "services", "programs with a page, launched from templates"))
    _functions(noun(subparsers, "functions", "functions deployed from notebook cells"))
    durable.register(subparsers)
    secrets.register(subparsers)
    workflows.register(subparsers)
    _notebooks(noun(subparsers, "notebooks", "notebook servers"))


def _services(verbs: Subparsers) -> None:
    verb(verbs, "list", "list your services", run=_list_services, example="ropewalk services list --json")
    one = verb(verbs, "get", "show one service", run=_get_service, example="ropewalk services get board")
    one.add_argument("name")
    one = verb(
        verbs,
        "launch",
        "launch a service from a template",
        run=_launch,
        example="ropewalk services launch tensorboard --name board --set logdir=runs",
    )
    one.add_argument("template", help="see `ropewalk templates list`")
    one.add_argument("--name", help="name of the service (default: the template's)")
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value of the template")
    one.add_argument("--values", metavar="FILE", help="values as YAML; - is standard input")
    one.add_argument("--wait", action="store_true", help="return when it runs or has failed")
    add_placement(one)
    one = verb(
        verbs,
        "remove",
        "stop and remove a service; its files stay",
        run=_remove,
        example="ropewalk services remove board",
    )
    one.add_argument("name")
    one = verb(verbs, "logs", "print a service's log", run=_service_logs, example="ropewalk services logs board -f")
    one.add_argument("name")
    one.add_argument("-f", "--follow", action="store_true", help="go on while it grows")


def _functions(verbs: Subparsers) -> None:
    verb(verbs, "list", "list your functions", run=_list_functions, example="ropewalk functions list --json")
    one = verb(verbs, "get", "show one function", run=_get_function, example="ropewalk functions get digits")
    one.add_argument("name")
    one = verb(
        verbs, "call", "call a function", run=_call, example="""ropewalk functions call digits '{"image": [0, 1]}'"""
    )
    one.add_argument("name")
    one.add_argument("payload", nargs="?", default="null", help="JSON; @FILE or - read it from elsewhere")
    one = verb(
        verbs,
        "openapi",
        "print the OpenAPI document of a function, made from its type hints",
        run=_openapi,
        example="ropewalk functions openapi digits > digits.json",
    )
    one.add_argument("name")
    one = verb(verbs, "remove", "remove a function", run=_remove_function, example="ropewalk functions remove digits")
    one.add_argument("name")
    one = verb(
        verbs,
        "logs",
        "list the latest calls of a function, or print what they print",
        run=_calls,
        example="ropewalk functions logs digits -f",
    )
    one.add_argument("name")
    one.add_argument("--limit", type=int, default=20, help="how many calls (default 20)")
    one.add_argument("--call", default="", metavar="CALL", help="print what this one call printed")
    one.add_argument("-f", "--follow", action="store_true", help="print what calls print from now on, or this one")
    observing.register(verbs)
    revisions.register(verbs)
    sharing.register(verbs)
    triggers.register(verbs, triggers.FUNCTIONS)
    bring.register(verbs)


def _notebooks(verbs: Subparsers) -> None:
    verb(verbs, "list", "list your notebook servers", run=_list_notebooks, example="ropewalk notebooks list")
    one = verb(verbs, "start", "start your notebook server", run=_start, example="ropewalk notebooks start")
    add_placement(one)
    verb(verbs, "stop", "stop your notebook server", run=_stop, example="ropewalk notebooks stop")


async def _list_services(client: Client, arguments: argparse.Namespace) -> int:
    found = [one async for one in client.services.all()]
    show(found, _SERVICES, as_json=arguments.json, empty="No services. Launch one: ropewalk services launch TEMPLATE")
    return 0


async def _get_service(client: Client, arguments: argparse.Namespace) -> int:
    return _service(await client.services.get(arguments.name), arguments.json)


def _service(service: Service, as_json: bool) -> int:
    fields = {
        "name": service.spec.name,
        "template": service.spec.template,
        "state": state(service.status),
        "next": service.status.why.next if service.status.why else "",
        "address": service.address,
        "placement": service.spec.placement.describe(),
        "values": json.dumps(service.spec.values),
        "age": age(service.created),
    }
    show_one(service, fields, as_json=as_json)
    return 1 if service.status.state is State.FAILED else 0


async def _launch(client: Client, arguments: argparse.Namespace) -> int:
    values = load_yaml(read_text(arguments.values), arguments.values) if arguments.values else {}
    if not isinstance(values, dict):
        raise BadInput("The values are not a mapping of names to values.", field="values")
    spec = ServiceSpec(
        name=arguments.name or arguments.template,
        template=arguments.template,
        values=values | pairs(arguments.set, "--set"),
        placement=placement_of(arguments),
    )
    service = await client.services.apply(spec)
    if arguments.wait:
        service = await _settled(client, service)
    return _service(service, arguments.json)


async def _remove(client: Client, arguments: argparse.Namespace) -> int:
    return say(await client.services.remove(arguments.name), f"{arguments.name} is stopping.", as_json=arguments.json)


async def _service_logs(client: Client, arguments: argparse.Namespace) -> int:
    async for line in client.services.logs(arguments.name, follow=arguments.follow):
        show_line(line, as_json=arguments.json)
    return 0


async def _openapi(client: Client, arguments: argparse.Namespace) -> int:
    echo(json.dumps(await client.functions.openapi(arguments.name), indent=2))
    return 0


async def _list_functions(client: Client, arguments: argparse.Namespace) -> int:
    found = [one async for one in client.functions.all()]
    show(found, _FUNCTIONS, as_json=arguments.json, empty="No functions. Deploy one from a cell with %%function.")
    return 0


async def _get_function(client: Client, arguments: argparse.Namespace) -> int:
    function: Function = await client.functions.get(arguments.name)
    spec = function.revision.spec
    asks = bool(spec.placement.accelerator) and not arguments.json
    latest = (await client.functions.calls(arguments.name, limit=1)).items if asks else ()
    fields = {
        "name": function.name,
        "revision": f"{function.revision.number} ({function.revision.id})",
        "state": state(function.status),
        "next": function.status.why.next if function.status.why else "",
        "address": function.address,
        "access": access.said(function.access),
        "traffic": traffic.said(function),
        "placement": spec.placement.describe(),
        "last ran on": latest[0].accelerator if latest else "",
        "timeout": f"{spec.timeout:g} s",
        "surroundings": workers.said(spec),
        "requirements": ", ".join(spec.requirements),
        "files": ", ".join(spec.bundle.files),
        "deployed": f"{age(function.revision.created)} ago",
    }
    show_one(function, fields, as_json=arguments.json)
    return 0


async def _call(client: Client, arguments: argparse.Namespace) -> int:
    answer = await client.functions.call(arguments.name, payload_of(arguments.payload))
    echo_answer(answer)
    return 0


async def _remove_function(client: Client, arguments: argparse.Namespace) -> int:
    return say(await client.functions.remove(arguments.name), f"{arguments.name} is removed.", as_json=arguments.json)


async def _calls(client: Client, arguments: argparse.Namespace) -> int:
    if arguments.call or arguments.follow:
        async for line in client.functions.logs(arguments.name, call=arguments.call, follow=arguments.follow):
            show_line(line, as_json=arguments.json)
        return 0
    page = await client.functions.calls(arguments.name, limit=arguments.limit)
    found: list[Call] = list(page.items)
    show(found, _CALLS, as_json=arguments.json, empty="No calls yet.")
    return 0


async def _list_notebooks(client: Client, arguments: argparse.Namespace) -> int:
    page = await client.notebooks.list()
    show(list(page.items), _NOTEBOOKS, as_json=arguments.json, empty="No notebook server has run yet.")
    return 0


async def _start(client: Client, arguments: argparse.Namespace) -> int:
    notebook: Notebook = await client.notebooks.start(placement=placement_of(arguments))
    return say(notebook, f"{state(notebook.status)}  {notebook.address}", as_json=arguments.json)


async def _stop(client: Client, arguments: argparse.Namespace) -> int:
    notebook = await client.notebooks.stop()
    return say(notebook, state(notebook.status), as_json=arguments.json)


async def _settled(client: Client, service: Service) -> Service:
    """Look again until the service runs or has ended."""
    while not service.status.state.terminal and service.status.state not in (State.RUNNING, State.IDLE):
        await asyncio.sleep(0.3)
        service = await client.services.get(service.spec.name)
    return service

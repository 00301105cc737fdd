"""The commands of runs: submit, list, get, logs, compare, cancel, suspend, resume, retry, remove and lineage."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

from ropewalk_core import comparison, lineage
from ropewalk_core.cli import saved
from ropewalk_core.cli.output import age, clean, echo, say, show, show_line, show_one, state
from ropewalk_core.cli.parsing import Subparsers, load_yaml, noun, pairs, read_text, verb
from ropewalk_core.client import Client
from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.flows import Compared, Run, RunSpec, Step
from ropewalk_core.model import State

_RUNS = {
    "RUN": lambda one: one.id,
    "NAME": lambda one: one.name,
    "STATE": lambda one: _standing(one),
    "AGE": lambda one: age(one.created),
}
_STEPS = {
    "STEP": lambda one: one.name,
    "STATE": lambda one: state(one.status),
    "TOOK": lambda one: age(one.started, one.ended) if one.ended else "",
    "ERROR": lambda one: one.error,
}

_ORIGINS = {
    "STEP": lambda one: "  " * one.depth + one.step.name + (" (see above)" if one.again else ""),
    "GAVE": lambda one: one.argument,
    "WAS GIVEN": lambda one: lineage.words(one),
    "STATE": lambda one: one.step.status.state.value,
}


def register(subparsers: Subparsers) -> None:
    """Declare the commands."""
    verbs = noun(subparsers, "workflows", "runs of workflows, and saved workflows")
    one = verb(verbs, "list", "list your latest runs", run=_list_runs, example="ropewalk workflows list --limit 5")
    one.add_argument("--limit", type=int, default=20, help="how many runs (default 20)")
    one = verb(
        verbs,
        "submit",
        "run an Argo workflow from a file",
        run=_submit,
        example="ropewalk workflows submit train.yaml -p epochs=3 --wait",
    )
    one.add_argument("file", help="an Argo Workflow as YAML; - is standard input")
    one.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="an argument")
    one.add_argument("--wait", action="store_true", help="return when the run has ended")
    for name, help_text, run in (
        ("get", "show one run with its steps", _get_run),
        ("cancel", "stop a run", _cancel),
        ("suspend", "have no further step of a run start; those that run go on", _suspend),
        ("resume", "have a suspended run go on, and end its pauses", _resume),
        ("retry", "run failed steps again", _retry),
        ("remove", "forget a run that has ended, with its logs and working files", _remove),
    ):
        one = verb(verbs, name, help_text, run=run, example=f"ropewalk workflows {name} run-5k2m9qv0w3")
        one.add_argument("run", help="identifier, or `last`")
        if name == "cancel":
            one.add_argument("--on-exit", action="store_true", help="run the workflow's last step all the same")
    one = verb(
        verbs,
        "answer",
        "end one pause at which a run stands",
        run=_answer,
        example="ropewalk workflows answer last approve --message 'looks good'",
    )
    one.add_argument("run", help="identifier, or `last`")
    one.add_argument("step", help="name or identifier of the pause")
    one.add_argument("--fail", action="store_true", help="the pause failed, and what needs it does not run")
    one.add_argument("--message", default="", help="why")
    one = verb(
        verbs,
        "lineage",
        "show what a step's result comes from",
        run=_lineage,
        example="ropewalk workflows lineage last best",
    )
    one.add_argument("run", help="identifier, or `last`")
    one.add_argument("step", help="name or identifier of the step")
    one = verb(
        verbs,
        "compare",
        "compare runs of a workflow: what they were given, and the numbers that they returned",
        run=_compare,
        example="ropewalk workflows compare train --step evaluate --sort=-accuracy",
    )
    one.add_argument("name", help="of the workflow")
    one.add_argument("--step", action="append", default=[], metavar="NAME", help="a step whose numbers are shown too")
    one.add_argument("--sort", default="", metavar="COLUMN", help="order by a column; =-COLUMN from the largest")
    one.add_argument("--column", action="append", default=[], metavar="NAME", help="show these columns (default: all)")
    one.add_argument("--limit", type=int, default=20, help="how many rows are shown (default 20)")
    one = verb(
        verbs, "logs", "print a run's logs", run=_run_logs, example="ropewalk workflows logs last --step 'train(2)' -f"
    )
    one.add_argument("run", help="identifier, or `last`")
    one.add_argument("--step", help="name or identifier of one step (default: all of them)")
    one.add_argument("-f", "--follow", action="store_true", help="go on while it grows")
    saved.register(verbs)


async def _list_runs(client: Client, arguments: argparse.Namespace) -> int:
    page = await client.workflows.list(limit=arguments.limit)
    show(list(page.items), _RUNS, as_json=arguments.json, empty="No runs. Start one from a notebook, or submit a file.")
    return 0


async def _compare(client: Client, arguments: argparse.Namespace) -> int:
    found = await client.workflows.compare(arguments.name, steps=arguments.step)
    known = comparison.columns(found.rows)
    comparison.check(arguments.column, known)
    rows = comparison.ordered(found.rows, arguments.sort, known)[: max(1, arguments.limit)]
    heads = {one: _cell(one) for one in arguments.column or [one.name for one in known]}
    columns = {"RUN": lambda one: one.run, "STATE": lambda one: one.status.state.value} | heads
    show(rows, columns, as_json=arguments.json, empty="")
    return 0


def _cell(name: str) -> Callable[[Compared], str]:
    return lambda one: comparison.words(comparison.value(one, name))


async def _submit(client: Client, arguments: argparse.Namespace) -> int:
    manifest = load_yaml(read_text(arguments.file), arguments.file)
    if not isinstance(manifest, dict) or manifest.get("kind") != "Workflow":
        raise BadInput(f"{arguments.file} is not an Argo Workflow.", field="kind", hint="Its kind must be Workflow.")
    metadata = manifest.get("metadata") or {}
    name = str(metadata.get("name") or metadata.get("generateName") or Path(arguments.file).stem).strip("-")
    spec = RunSpec(name=name, manifest=manifest, arguments=pairs(arguments.parameter, "--parameter"), source="argo")
    run = await client.workflows.submit(spec)
    if arguments.wait:
        run = await _ended(client, run)
    return _run(run, arguments.json)


def _standing(run: Run) -> str:
    return f"{state(run.status)}, suspended" if run.suspended else state(run.status)


def _run(run: Run, as_json: bool) -> int:
    fields = {
        "run": run.id,
        "name": run.name,
        "state": _standing(run),
        "next": run.status.why.next if run.status.why else "",
        "age": age(run.created),
    }
    show_one(run, fields, as_json=as_json)
    if run.steps and not as_json:
        echo("")
        show(run.steps, _STEPS, as_json=False, empty="")
    return 1 if run.status.state is State.FAILED else 0


async def _run_named(client: Client, name: str) -> Run:
    if name != "last":
        return await client.workflows.get(name)
    page = await client.workflows.list(limit=1)
    if not page.items:
        raise NotFound("There is no run yet.", field="run")
    return await client.workflows.get(page.items[0].id)


async def _get_run(client: Client, arguments: argparse.Namespace) -> int:
    return _run(await _run_named(client, arguments.run), arguments.json)


async def _cancel(client: Client, arguments: argparse.Namespace) -> int:
    named = await _run_named(client, arguments.run)
    run = await client.workflows.cancel(named.id, on_exit=arguments.on_exit)
    return say(run, f"{run.id} is {run.status.state}.", as_json=arguments.json)


async def _suspend(client: Client, arguments: argparse.Namespace) -> int:
    run = await client.workflows.suspend((await _run_named(client, arguments.run)).id)
    return say(run, f"{run.id} is suspended: no further step starts.", as_json=arguments.json)


async def _resume(client: Client, arguments: argparse.Namespace) -> int:
    run = await client.workflows.resume((await _run_named(client, arguments.run)).id)
    return say(run, f"{run.id} goes on.", as_json=arguments.json)


async def _answer(client: Client, arguments: argparse.Namespace) -> int:
    run = await _run_named(client, arguments.run)
    steps = [one.id for one in run.steps if arguments.step in (one.id, one.name)] or [arguments.step]
    run = await client.workflows.answer(run.id, steps, ok=not arguments.fail, message=arguments.message)
    said = "has failed" if arguments.fail else "is over"
    return say(run, f"The pause {arguments.step} of {run.id} {said}.", as_json=arguments.json)


async def _retry(client: Client, arguments: argparse.Namespace) -> int:
    run = await client.workflows.retry((await _run_named(client, arguments.run)).id)
    return say(run, f"{run.id} is {run.status.state}.", as_json=arguments.json)


async def _remove(client: Client, arguments: argparse.Namespace) -> int:
    run = await client.workflows.remove((await _run_named(client, arguments.run)).id)
    return say(run, f"{run.id} is removed.", as_json=arguments.json)


async def _lineage(client: Client, arguments: argparse.Namespace) -> int:
    run = await _run_named(client, arguments.run)
    for step in run.steps:
        if arguments.step in (step.id, step.name):
            show(lineage.origins(run, step), _ORIGINS, as_json=arguments.json, empty="")
            return 0
    raise NotFound("There is no such step in this run.", field="step")


async def _run_logs(client: Client, arguments: argparse.Namespace) -> int:
    run = await _run_named(client, arguments.run)
    steps = [one for one in run.steps if arguments.step in (None, one.id, one.name)]
    if not steps:
        raise NotFound("There is no such step in this run.", field="step")
    for step in steps:
        async for line in client.workflows.logs(run.id, step.id, follow=arguments.follow):
            show_line(line, as_json=arguments.json, prefix="" if len(steps) == 1 else _label(step))
    return 0


def _label(step: Step) -> str:
    return f"[{clean(step.name)}] "


async def _ended(client: Client, run: Run) -> Run:
    """Look again until the run has ended."""
    while not run.status.state.terminal:
        await asyncio.sleep(0.3)
        run = await client.workflows.get(run.id)
    return run

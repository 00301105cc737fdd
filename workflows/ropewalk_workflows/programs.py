"""`program`: a step that runs a program, called in a workflow like every other step.

It is a step of ours whose code is a few lines that name the program, so retries, limits, places, fan-outs and kept
results are those of steps, on one machine as on a cluster. Not here: how it is run (``ropewalk_runtime.commands``).
Rejected: a container template for each program (what goes in and comes out would be texts only, and a value would have
to be made part of a script).
"""

from __future__ import annotations

import inspect
import pprint
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.placement import Placement
from ropewalk_runtime import commands
from ropewalk_workflows import dag, names
from ropewalk_workflows.capture import sealed

_KINDS = (commands.TEXT, commands.JSON, commands.BYTES)
_ENTRY = "call"
_HINT = "Write {name}, {name:file} or {name:out}, and {{ and }} for braces."
_CODE = """\
from ropewalk_runtime.commands import Plan, run

PLAN = Plan(
{fields}
)


def {entry}(**given):
    return run(PLAN, given)
"""


def program(
    command: str | Sequence[str] = (),
    /,
    *,
    script: str = "",
    stdin: str = "",
    returns: str = commands.TEXT,
    name: str = "",
    placement: Placement | dict[str, Any] | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    cache: bool | float | None = None,
    secrets: Sequence[str] = (),
    requirements: Sequence[str] = (),
) -> dag.Step:
    """Make a program a step: ``wc = program("wc -l {text:file}")``, then ``wc(text)`` in a workflow.

    Parameters
    ----------
    command
        The program and its arguments: a list, or one text that is taken apart at its spaces before any value is in it.
        ``{name}`` is a text or number as it is, always within one argument; ``{name:file}`` the path of a file that
        holds the value (text and bytes as they are, all else as JSON); ``{name:out}`` the path at which the program
        writes a file, which is the result. Braces themselves are doubled.
    script
        The text of a program, whose first line says what reads it (``#!/usr/bin/env bash``); ``command`` is then its
        arguments.
    stdin
        The name of a value that it reads from standard input.
    returns
        As what its standard output is the result, if it writes no file: ``"text"``, ``"json"`` or ``"bytes"``.
    name
        What people call it; the program's own name by default.
    placement, retries, backoff, timeout, cache, secrets, requirements
        As of `step`. As nobody can say what a program reads, its result is kept only with ``cache=True`` or a number.

    Raises
    ------
    BadWorkflow
        If one of these is wrong.
    """
    plan = _plan(command, script, stdin, returns)
    name = name or ("script" if script else commands.called(plan.words))
    code = _CODE.format(fields=_fields(plan), entry=_ENTRY)
    bundle = sealed({f"{names.PROGRAM}.py": code}, f"{names.PROGRAM}:{_ENTRY}", {}, ("ropewalk_runtime",))
    made = dag.Made(bundle, f"program({_written(plan)}, name={name!r})")
    decorate = dag.step(
        name=name,
        placement=placement,
        retries=retries,
        backoff=backoff,
        timeout=timeout,
        cache=cache,
        secrets=secrets,
        requirements=requirements,
        made=made,
    )
    return decorate(_function(plan, name))


def _plan(command: str | Sequence[str], script: str, stdin: str, returns: str) -> commands.Plan:
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
        if not all(isinstance(one, str) for one in words):
            raise BadWorkflow("Each word of a command is a text; values come in at {name}.", field="command")
        plan = commands.Plan(words, script, stdin, returns)
        if any("\0" in one for one in [*words, script]):
            raise BadWorkflow("A command has no NUL characters.", field="command")
    except ValueError as error:
        raise BadWorkflow(f"The command cannot be read: {error}.", field="command", hint=_HINT) from error
    if not script and (not words or not words[0] or commands.pieces(words[0])[0][1]):
        raise BadWorkflow("The first word of a command is a program, which no value names.", field="command")
    if script and not script.startswith("#!"):
        raise BadWorkflow("The first line of a script says what reads it: #!/bin/sh", field="script")
    if stdin and not stdin.isidentifier():
        raise BadWorkflow("stdin is the name of a value.", field="stdin")
    if returns not in _KINDS:
        raise BadWorkflow(f"returns is one of {', '.join(_KINDS)}.", field="returns")
    if both := set(plan.takes) & set(plan.gives):
        raise BadWorkflow(f"'{min(both)}' is given to the program and written by it.", field="command")
    return plan


def _fields(plan: commands.Plan) -> str:
    named = {"words": plan.words, "script": plan.script, "stdin": plan.stdin, "returns": plan.returns}
    return "\n".join(
        f"    {name}={pprint.pformat(value, width=100)}," for name, value in named.items() if value or name == "words"
    )


def _written(plan: commands.Plan) -> str:
    """Return the arguments with which `program` makes it again."""
    named = {"script": plan.script, "stdin": plan.stdin}
    more = [f"{name}={value!r}" for name, value in named.items() if value]
    more += [f"returns={plan.returns!r}"] if plan.returns != commands.TEXT else []
    return ", ".join([repr(plan.words), *more])


def _function(plan: commands.Plan, name: str) -> Callable[..., Any]:
    """Return what runs the program here, where its step is called outside of a workflow."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(one, kind) for one in plan.takes])

    def call(*args: Any, **kwargs: Any) -> Any:
        return commands.run(plan, signature.bind(*args, **kwargs).arguments)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Run {' '.join(plan.words) or 'the script'}."
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call

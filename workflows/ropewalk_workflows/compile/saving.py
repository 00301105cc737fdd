"""What is sent to save a workflow: a run of it whose arguments are open, and what each of them takes.

The function of a `@workflow` runs once, here, with a stand-in for each argument; so one that it must know to put the
steps together (a loop's count, say) is given when it is saved, and is fixed. Not here: what a launch makes of it
(``saved.launching``). Rejected: tracing the function anew for each launch (a schedule would need the person's Python,
and a failure of it would come at night).
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import Argument, RunSpec, SavedSpec
from ropewalk_core.model import Bundle
from ropewalk_core.signatures import Signature, read
from ropewalk_runtime import values
from ropewalk_workflows.compile.foreign import from_object
from ropewalk_workflows.compile.manifests import compile_workflow
from ropewalk_workflows.dag import Workflow
from ropewalk_workflows.graph import Given
from ropewalk_workflows.saved.launching import LONGEST, arguments_of, parameter_text

_OPEN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def to_save(workflow: Any, name: str = "", fixed: Mapping[str, Any] | None = None) -> SavedSpec:
    """Return what saves a workflow.

    Parameters
    ----------
    workflow
        A `@workflow`, a ``hera.workflows.Workflow``, or an Argo manifest as text or dictionary.
    name
        What people will call it; its own name if empty.
    fixed
        Arguments that no launch gives, by name. Those of a manifest only get another default.

    Raises
    ------
    BadWorkflow
        If it cannot be saved so, with the argument's name.
    """
    fixed = dict(fixed or {})
    if isinstance(workflow, Workflow):
        return _of_workflow(workflow, name, fixed)
    run = from_object(workflow, **fixed)
    return SavedSpec(name=_named(name or run.name), run=run, arguments=arguments_of(run.manifest))


def _of_workflow(workflow: Workflow, name: str, fixed: dict[str, Any]) -> SavedSpec:
    known = {key: one for key, one in workflow.signature.parameters.items() if one.kind in _OPEN}
    if unknown := sorted(set(fixed) - set(known)):
        raise BadWorkflow(
            f"The workflow '{workflow.name}' has no argument '{unknown[0]}'.",
            field=unknown[0],
            hint=f"It has {', '.join(known) or 'none'}.",
        )
    read_of_it = _signature(workflow)
    takes = {one.name: one.schema for one in read_of_it.parameters}
    given: dict[str, Any] = {key: _value(one, fixed) for key, one in known.items()}
    arguments = [_argument(known[key], takes.get(key, {})) for key, one in given.items() if isinstance(one, Given)]
    positional = [given.pop(key) for key, one in known.items() if one.kind is inspect.Parameter.POSITIONAL_ONLY]
    run = compile_workflow(workflow, tuple(positional), given)
    run = run.model_copy(update={"manifest": _with_defaults(run, arguments)})
    return SavedSpec(
        name=_named(name or workflow.name),
        run=run,
        arguments=tuple(arguments),
        types=read_of_it.types,
        doc=read_of_it.doc[:10_000],
    )


def _value(one: inspect.Parameter, fixed: Mapping[str, Any]) -> Any:
    """Return the value of an argument, or its stand-in; a default that no form could show is fixed too."""
    if one.name in fixed:
        return fixed[one.name]
    return Given(one.name) if one.default is one.empty or _is_plain(one.default) else one.default


def _is_plain(value: Any) -> bool:
    return values.is_exact(value) and len(values.text_of(value)) <= LONGEST


def _argument(one: inspect.Parameter, schema: dict[str, Any]) -> Argument:
    takes = {key: value for key, value in schema.items() if key != "default"}
    required = one.default is one.empty
    return Argument(name=one.name, takes=takes if required else {**takes, "default": one.default}, required=required)


def _with_defaults(run: RunSpec, arguments: list[Argument]) -> dict[str, Any]:
    """Return the manifest with the defaults as values of its parameters."""
    spec = run.manifest["spec"]
    if "arguments" not in spec:
        return run.manifest
    defaults = {one.name: one.takes["default"] for one in arguments if not one.required}
    parameters = [
        {**one, **({"value": text} if (text := parameter_text(one["name"], defaults)) is not None else {})}
        for one in spec["arguments"]["parameters"]
    ]
    return {**run.manifest, "spec": {**spec, "arguments": {"parameters": parameters}}}


def _signature(workflow: Workflow) -> Signature:
    """Return what the source says that the workflow takes; nothing where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(workflow.function))
    except (OSError, TypeError):
        return Signature()
    function = workflow.function.__name__
    return read(Bundle(files={"workflow.py": source}, entry=f"workflow:{function}")) or Signature()


def _named(name: str) -> str:
    """Return a name as it is kept: letters and digits, with dots, dashes and underscores between them."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)
    kept = kept.strip("._-")[:60].strip("._-")
    if not kept:
        raise BadWorkflow(
            f"{name[:60]!r} is no name for a saved workflow.",
            field="name",
            hint='Give it one of letters, digits and dashes: save(name="train").',
        )
    return kept

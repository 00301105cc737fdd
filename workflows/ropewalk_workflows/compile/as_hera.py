"""A manifest as a Hera program that makes an equal one: for whoever goes on with it in Hera.

Graphs and containers are written as people write them, with ``DAG``, ``Task`` and ``Container``; what those cannot say
is written with Hera's own models, so that nothing is lost. Every value is a literal, and nothing is run here. Rejected:
``Workflow.from_yaml`` around the text, which is no program that anybody could change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hera.workflows import models as m
from pydantic import BaseModel, RootModel, ValidationError

from ropewalk_core.errors import BadWorkflow

_WIDE = 100
_DAG = {"name", "inputs", "outputs", "dag"}
_CONTAINER = {
    "name", "inputs", "outputs", "container", "metadata", "retry_strategy", "active_deadline_seconds", "node_selector",
}  # fmt: skip
_INSIDE = {"image", "command", "args", "working_dir"}
_TASK = {
    "arguments", "continue_on", "dependencies", "depends", "name", "template", "when", "with_items", "with_param",
}  # fmt: skip
_METADATA = {"annotations", "labels"}
Named = Iterable[tuple[str, str]]


def hera_program(manifest: dict[str, Any]) -> str:
    """Return the program; ``w`` in it is the workflow.

    Raises
    ------
    BadWorkflow
        If Hera does not know something in the manifest.
    """
    try:
        model = m.Workflow.model_validate(manifest)
    except ValidationError as error:
        first, *_ = error.errors()
        where = ".".join(str(part) for part in first["loc"])
        raise BadWorkflow("Hera has no word for a part of this manifest.", field=where) from error
    spec = model.spec
    templates = [_template(one) for one in spec.templates or []]
    used = {"Workflow"} | {name for name in ("DAG", "Task", "Container") if any(f"{name}(" in one for one in templates)}
    arguments = [*_fields(model.metadata), *_fields(spec, without={"templates"})]
    body = "\n".join(_indented(one) for one in templates) or "    pass"
    head = f"from hera.workflows import {', '.join(sorted(used))}\nfrom hera.workflows import models as m\n"
    return f"{head}\nwith {_call('Workflow', arguments)} as w:\n{body}\n"


def _template(one: m.Template) -> str:
    fields = _set(one)
    if one.dag is not None and fields <= _DAG and _set(one.dag) == {"tasks"} and all(_plain(t) for t in one.dag.tasks):
        tasks = [_call("Task", _fields(task)) for task in one.dag.tasks] or ["pass"]
        inside = "\n".join(_indented(task) for task in tasks)
        return f"with {_call('DAG', _fields(one, without={'dag'}))}:\n{inside}"
    if one.container is not None and fields <= _CONTAINER and _set(one.container) <= _INSIDE and _labelled(one):
        outer = _fields(one, without={"container", "metadata"})
        labels = [] if one.metadata is None else _fields(one.metadata)
        return _call("Container", [*outer, *labels, *_fields(one.container)])
    return _call("w.templates.append", [("", _text(one))])


def _plain(task: m.DAGTask) -> bool:
    return _set(task) <= _TASK


def _labelled(one: m.Template) -> bool:
    return one.metadata is None or _set(one.metadata) <= _METADATA


def _set(model: BaseModel) -> set[str]:
    return {name for name in model.model_fields_set if getattr(model, name) is not None}


def _fields(model: Any, without: Iterable[str] = ()) -> list[tuple[str, str]]:
    if model is None:
        return []
    names = [name for name in type(model).model_fields if name in _set(model) and name not in set(without)]
    names.sort(key=lambda name: name not in ("name", "generate_name"))
    return [(name, _text(getattr(model, name))) for name in names]


def _text(value: Any) -> str:
    """Return a value as source."""
    if isinstance(value, RootModel):
        return _text(value.root)
    if isinstance(value, BaseModel):
        return _call(f"m.{type(value).__name__}", _fields(value))
    if isinstance(value, list):
        return _wrapped("[", [_text(one) for one in value], "]")
    if isinstance(value, dict):
        return _wrapped("{", [f"{key!r}: {_text(one)}" for key, one in value.items()], "}")
    if isinstance(value, str) and "\n" in value.strip("\n"):
        lines = value.splitlines(keepends=True)
        return "(\n" + "".join(f"    {line!r}\n" for line in lines) + ")"
    return repr(value)


def _call(name: str, arguments: Named) -> str:
    return _wrapped(f"{name}(", [f"{key}={text}" if key else text for key, text in arguments], ")")


def _wrapped(start: str, parts: list[str], end: str) -> str:
    """Return parts on one line where that is short, else each on its own."""
    line = f"{start}{', '.join(parts)}{end}"
    if len(line) <= _WIDE and "\n" not in line:
        return line
    inside = "\n".join(f"{_indented(part)}," for part in parts)
    return f"{start}\n{inside}\n{end}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else line for line in text.split("\n"))

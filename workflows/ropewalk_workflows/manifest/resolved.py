"""Writes a manifest plainly: what only saves its author typing is solved here, before anything else reads it.

That is `inline`: a template that stands in the call that uses it gets a place and a name of its own; and
`templateDefaults`, which are merged into every template (``defaults``). Pure, and
the same for a plain manifest, so the engine, the checks and Argo see one Workflow. Not here: whether what comes out is
right (``check``); what has a wrong form is left as it is, for the model to refuse. Rejected: a second kind of call in
the engine, and sending `inline` to Argo, whose trees would then name no template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.manifest import defaults, text

_LONGEST = 100
_OF_THE_CALLER = ("item", "tasks", "steps")


def plain(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the manifest without `inline` and `templateDefaults`; the very same object if it holds neither.

    Parameters
    ----------
    manifest
        Plain data, as it came; it is not changed.

    Raises
    ------
    BadWorkflow
        If a template that stands in a call could mean something else there than on its own, or the defaults cannot be
        used.
    """
    return defaults.merged(_moved(manifest))


def _moved(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = manifest.get("spec") if isinstance(manifest, Mapping) else None
    templates = spec.get("templates") if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(templates, list):
        return manifest
    if not any("inline" in call for one in templates for _, call in calls(one)):
        return manifest
    moved: list[Any] = []
    taken = {str(one["name"]) for one in templates if isinstance(one, Mapping) and "name" in one}
    kept = [_without(one, taken, moved) for one in templates]
    return {**manifest, "spec": {**spec, "templates": kept + moved}}


def calls(template: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the calls of a template with their places in it."""
    if not isinstance(template, Mapping):
        return
    dag, groups = template.get("dag"), template.get("steps")
    tasks = dag.get("tasks") if isinstance(dag, Mapping) else None
    for call in tasks if isinstance(tasks, list) else ():
        if isinstance(call, Mapping):
            yield f"dag.tasks[{call.get('name')}]", call
    for number, group in enumerate(groups if isinstance(groups, list) else ()):
        for call in group if isinstance(group, list) else ():
            if isinstance(call, Mapping):
                yield f"steps[{number}][{call.get('name')}]", call


def _without(template: Any, taken: set[str], moved: list[Any]) -> Any:
    """Return a template whose calls all name theirs; what stood in them is added to ``moved``."""
    changed: dict[int, Any] = {}
    for place, call in calls(template):
        if "inline" in call:
            _check(template, call, f"spec.templates[{template.get('name')}].{place}.inline")
            name = free(f"{template.get('name')}-{call.get('name')}", taken)
            moved.append({**call["inline"], "name": name})
            changed[id(call)] = {**{key: one for key, one in call.items() if key != "inline"}, "template": name}
    return replaced(template, changed) if changed else template


def replaced(template: Mapping[str, Any], changed: Mapping[int, Any]) -> dict[str, Any]:
    """Return a template with other calls in the places of those, by their identity."""

    def new(calls: Any) -> Any:
        return [changed.get(id(one), one) for one in calls] if isinstance(calls, list) else calls

    result = dict(template)
    if isinstance(result.get("dag"), Mapping):
        result["dag"] = {**result["dag"], "tasks": new(result["dag"].get("tasks"))}
    if isinstance(result.get("steps"), list):
        result["steps"] = [new(group) for group in result["steps"]]
    return result


def free(wanted: str, taken: set[str]) -> str:
    """Return a name that no other template has, and note it in ``taken``."""
    name, number = wanted[:_LONGEST], 2
    while name in taken:
        name, number = f"{wanted[:_LONGEST]}-{number}", number + 1
    taken.add(name)
    return name


def _check(template: Mapping[str, Any], call: Mapping[str, Any], where: str) -> None:
    inner = call["inline"]
    if call.get("template"):
        raise BadWorkflow("A call has a template's name or an inline template, not both.", field=where)
    if not isinstance(inner, Mapping):
        raise BadWorkflow("An inline template must be an object.", field=where)
    if inner.get("dag") is not None or inner.get("steps") is not None:
        raise BadWorkflow(
            "Only a single step can be inline.", field=where, hint="Give it a place in 'templates', and its name here."
        )
    # Argo first fills in what the call's surroundings know, inside of the template as well: names would be confused
    twice = sorted(_parameters(template) & _parameters(inner))
    if twice:
        raise BadWorkflow(
            f"The parameter '{twice[0]}' is one of the inline template and of the one around it.",
            field=where,
            hint="Give one of them another name.",
        )
    for tag in _tags(inner):
        if tag.partition(".")[0] in _OF_THE_CALLER:
            raise BadWorkflow(
                f"An inline template cannot use '{{{{{tag}}}}}' here.",
                field=where,
                hint="Hand it over as an argument, and use it as an input.",
            )


def _parameters(template: Mapping[str, Any]) -> set[str]:
    inputs = template.get("inputs")
    given = inputs.get("parameters") if isinstance(inputs, Mapping) else None
    return {str(one.get("name")) for one in given if isinstance(one, Mapping)} if isinstance(given, list) else set()


def _tags(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield from text.tags(one)
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one

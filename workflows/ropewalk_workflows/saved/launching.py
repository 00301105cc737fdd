"""What a launch makes of a saved workflow: values of its arguments become parameters of a run. Pure.

Arguments of a `@workflow` are JSON in the manifest's parameters, as everything that its steps take; those of a plain
manifest are its own text. No value becomes source. Not here: where saved workflows lie (``desk``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ropewalk_core import samples
from ropewalk_core.errors import BadInput, BadWorkflow
from ropewalk_core.flows import Argument, RunSpec, SavedSpec
from ropewalk_core.signatures import Parameter, Signature
from ropewalk_runtime import values
from ropewalk_runtime.step import items_text
from ropewalk_workflows import names

LONGEST = 16 * 1024
"""Characters of one argument; a cluster keeps all of them in one object."""
_MOST_TYPES = 100 * 1024
_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_WORDS = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
_WORDS |= {"array": "a list", "object": "an object", "null": "empty"}


def signature(spec: SavedSpec) -> Signature:
    """Return what a saved workflow takes, as forms and samples read it."""
    parameters = tuple(Parameter(one.name, one.takes, one.required) for one in spec.arguments)
    return Signature(parameters=parameters, types=spec.types, doc=spec.doc)


def arguments_of(manifest: Mapping[str, Any]) -> tuple[Argument, ...]:
    """Return the arguments that a plain manifest's own parameters are; they are all text."""
    return tuple(_of_parameter(one) for one in _parameters(manifest) if "name" in one)


def _of_parameter(one: Mapping[str, Any]) -> Argument:
    takes: dict[str, Any] = {"type": "string"}
    if isinstance(offered := one.get("enum"), list) and offered:
        takes["enum"] = [str(each) for each in offered]
    if one.get("description"):
        takes["description"] = str(one["description"])
    value = one.get("value", one.get("default"))
    takes |= {} if value is None else {"default": str(value)}
    return Argument(name=str(one["name"])[:100], takes=takes, required=value is None)


def check(spec: SavedSpec) -> None:
    """Refuse a saved workflow whose arguments cannot be shown or are not those of its manifest.

    Raises
    ------
    BadWorkflow
        Naming the field.
    """
    told = [one.name for one in spec.arguments]
    if len(set(told)) < len(told):
        raise BadWorkflow("Two arguments have the same name.", field="arguments")
    if len(json.dumps([one.takes for one in spec.arguments]) + json.dumps(spec.types)) > _MOST_TYPES:
        raise BadWorkflow("What the arguments take is too long to be shown.", field="arguments")
    from jsonschema import Draft202012Validator, SchemaError  # slow to import, and few notebooks save a workflow

    for name, schema in [*((one.name, one.takes) for one in spec.arguments), *spec.types.items()]:
        try:
            Draft202012Validator.check_schema(schema)
        except (SchemaError, RecursionError, TypeError) as error:
            raise BadWorkflow(f"What '{name}' takes is no JSON Schema.", field=f"arguments[{name}]") from error
    for one in _parameters(spec.run.manifest):
        if base_of(str(one.get("name"))) not in told:
            raise BadWorkflow(f"The parameter '{one.get('name')}' is no argument of it.", field="arguments")


def trial(spec: SavedSpec) -> RunSpec:
    """Return a run with values that fit, by which a backend can say whether it would accept one."""
    looped = {base_of(one) for one in _names(spec) if one.startswith(names.ITEMS)}
    return launched(spec, {one.name: _fitting(spec, one, looped) for one in spec.arguments if one.required})


def launched(spec: SavedSpec, given: Mapping[str, Any], *, fresh: bool = False, chain: int = 0) -> RunSpec:
    """Return the run of a launch.

    Parameters
    ----------
    spec
        The saved workflow.
    given
        Values by argument; others are at their defaults.
    fresh
        Whether every step is to run, without results of earlier runs.
    chain
        How many ends had fired one another up to it.

    Raises
    ------
    BadInput
        If a value is missing, unknown, or not what the argument takes; the field is the argument.
    """
    run, own = spec.run, spec.run.source == "workflow"
    given = given if own else {name: _as_text(value) for name, value in given.items()}
    _check_names(spec, given)
    _check_values(spec, given)
    texts = {name: parameter_text(name, given, own=own) for name in _names(spec)}
    parameters = [
        {**one, **({"value": texts[one["name"]]} if texts[one["name"]] is not None else {})}
        for one in _parameters(run.manifest)
    ]
    manifest = run.manifest
    if parameters:
        arguments = {**manifest["spec"]["arguments"], "parameters": parameters}
        manifest = {**manifest, "spec": {**manifest["spec"], "arguments": arguments}}
    shown = {one.name: given.get(one.name, one.takes.get("default")) for one in spec.arguments}
    update = {"name": spec.name, "manifest": manifest, "arguments": {**run.arguments, **shown}, "saved": spec.name}
    return run.model_copy(update={**update, "fresh": fresh, "chain": chain})


def told(spec: SavedSpec, event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a firing gives: those named like what it tells, and `event`, which is all of it."""
    known = {one.name for one in spec.arguments}
    found = {name: value for name, value in event.items() if name in known}
    return {**found, **({"event": dict(event)} if "event" in known else {})}


def untold(spec: SavedSpec, event: Iterable[str]) -> str:
    """Return the first argument that neither a firing with these facts nor a default gives; empty if there is none."""
    facts = {*event, "event"}
    return next((one.name for one in spec.arguments if one.required and one.name not in facts), "")


def parameter_text(name: str, given: Mapping[str, Any], *, own: bool = True) -> str | None:
    """Return what stands in a parameter of the manifest; None where its argument is not given.

    Raises
    ------
    BadInput
        If it has no such form: a fan-out needs a list.
    """
    base = base_of(name)
    if base not in given:
        return None
    value = given[base]
    if not own:
        return _as_text(value)
    if name.startswith(names.ITEMS):
        if not isinstance(value, list):
            raise BadInput(
                f"'{base}' is fanned out over, so it must be a list.", field=base, hint="Give a list, such as [1, 2]."
            )
        return items_text(value)
    return values.text_of(value)


def _as_text(value: Any) -> str:
    """Return a value as Argo reads one that is given as a number or the like."""
    return value if isinstance(value, str) else json.dumps(value)


def base_of(parameter: str) -> str:
    """Return the argument that a parameter of the manifest comes from."""
    return parameter.removeprefix(names.ITEMS)


def _names(spec: SavedSpec) -> list[str]:
    return [str(one.get("name")) for one in _parameters(spec.run.manifest)]


def _parameters(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = manifest.get("spec")
    given = spec.get("arguments") if isinstance(spec, dict) else None
    found = given.get("parameters") if isinstance(given, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _check_names(spec: SavedSpec, given: Mapping[str, Any]) -> None:
    known = [one.name for one in spec.arguments]
    if unknown := sorted(set(given) - set(known)):
        hint = f"It has {', '.join(known) or 'none'}."
        raise BadInput(f"'{spec.name}' has no argument '{unknown[0][:60]}'.", field=unknown[0][:60], hint=hint)
    for one in spec.arguments:
        if one.required and one.name not in given:
            raise BadInput(f"The argument '{one.name}' is missing.", field=one.name, hint="Give it a value.")


def _check_values(spec: SavedSpec, given: Mapping[str, Any]) -> None:
    arguments = {one.name: one for one in spec.arguments}
    for name, value in given.items():
        if not values.is_exact(value):
            raise BadInput(
                f"The argument {values.inexact(value, name)}.",
                field=name,
                hint="Give numbers, text, True, False, None, lists and dicts; pass larger things as a file's name.",
            )
        if len(values.text_of(value)) > LONGEST:
            hint = "Keep it in a file and give its name."
            raise BadInput(f"'{name}' is longer than {LONGEST} characters.", field=name, hint=hint)
        _check_type(spec, arguments[name], value)


def _check_type(spec: SavedSpec, one: Argument, value: Any) -> None:
    """Refuse a value of another type than the argument takes.

    Only its own type is looked at, and what is offered: a schema is a person's, and one that refers to itself in two
    ways would keep a validator busy for ever, with everybody else waiting. What is inside is the step's to refuse.
    """
    known = signature(spec)
    schema = known.resolve(one.takes)
    choices = [known.resolve(each) for each in schema.get("anyOf", ()) if isinstance(each, dict)] or [schema]
    if any(_fits(each, value) for each in choices):
        return
    wanted = " or ".join(dict.fromkeys(_wanted(each) for each in choices))[:200]
    raise BadInput(f"'{one.name}' must be {wanted}.", field=one.name, hint="Correct its value.")


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    if "enum" in schema:
        return any(type(each) is type(value) and each == value for each in schema["enum"])  # 1 is not True
    if isinstance(value, bool):
        return str(schema.get("type", "boolean")) == "boolean"
    return isinstance(value, _TYPES.get(str(schema.get("type")), (object,)))


def _wanted(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(_as_text, schema['enum']))}"
    return _WORDS.get(str(schema.get("type")), "another value")


def _fitting(spec: SavedSpec, one: Argument, looped: set[str]) -> Any:
    value = samples.sample(one.takes, signature(spec))
    return [value] if one.name in looped and not isinstance(value, list) else value

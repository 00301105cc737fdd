"""What Argo's clients send, as the wish that our ports take. Pure.

Go writes empty and null fields, and clients send back what a server set; neither is a wish. Not here: whether the wish
can run (``accepted``). Rejected: refusing a manifest that comes back with its status; `argo get -o yaml` gives such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk_core.errors import BadInput, BadName
from ropewalk_core.flows import RunSpec
from ropewalk_workflows.compile import from_object

DOMAIN = "workflows.argoproj.io/"
PREVIOUS = f"{DOMAIN}resubmitted-from-workflow"
_OURS = frozenset(f"{DOMAIN}{one}" for one in ("phase", "completed", "creator", "resubmitted-from-workflow"))
"""Labels that a server sets; what a client sends of them is not kept."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_LONGEST = 63
_KEPT = ("name", "generateName", "labels", "annotations")


def spec_of(workflow: Any, owner: str, namespace: str) -> RunSpec:
    """Return the wish in a Workflow that a client sent.

    Parameters
    ----------
    workflow
        The object, as it came.
    owner, namespace
        Whose it will be, and what its namespace is called: an object that names another is refused.

    Raises
    ------
    BadInput
        If it is no Workflow, or its name cannot be one.
    """
    if not isinstance(workflow, dict):
        raise BadInput("There is no workflow in the request.", field="workflow")
    try:
        given = without_nothing(workflow)
    except RecursionError as error:
        raise BadInput("The workflow is nested too deep.", field="workflow") from error
    metadata = given.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise BadInput("A workflow's metadata is an object.", field="workflow.metadata")
    if metadata.get("namespace") not in (None, "", owner, namespace):
        raise BadInput(f"The workflow names another namespace than '{namespace}'.", field="metadata.namespace")
    named = {key: metadata[key] for key in _KEPT if metadata.get(key)}
    check_name(named)
    manifest = {
        "apiVersion": given.get("apiVersion") or "argoproj.io/v1alpha1",
        "kind": given.get("kind") or "Workflow",
        "metadata": {**named, **_labels(named)},
        "spec": _body(given.get("spec")),
    }
    return from_object(manifest).model_copy(update={"fresh": True})


def check_name(metadata: Mapping[str, Any]) -> None:
    """Refuse a name that the API server would refuse.

    Raises
    ------
    BadName
        Naming which of the two it is.
    """
    for field in ("name", "generateName"):
        text = metadata.get(field, "")
        plain = text.rstrip("-") if field == "generateName" and isinstance(text, str) else text
        if not isinstance(plain, str) or (text and not (_NAME.fullmatch(plain) and len(plain) <= _LONGEST)):
            hint = "Use small letters, digits, dashes and dots, up to 63, with a letter or digit at both ends."
            raise BadName(f"The name {str(text)[:80]!r} cannot be used.", field=f"metadata.{field}", hint=hint)


def again(spec: RunSpec, name: str, parameters: Sequence[str]) -> RunSpec:
    """Return the wish of an earlier run to be run anew, under a name of its own, as `argo resubmit` does.

    Parameters
    ----------
    spec
        What the earlier run was submitted with.
    name
        Its name among Argo's clients.
    parameters
        ``name=value`` for each parameter of the workflow that is to be another.
    """
    metadata = dict(spec.manifest.get("metadata") or {})
    metadata.pop("name", None)
    metadata["generateName"] = metadata.get("generateName") or f"{name}-"
    metadata["labels"] = {**(metadata.get("labels") or {}), PREVIOUS: name}
    manifest = {**spec.manifest, "metadata": metadata, "spec": _with(spec.manifest.get("spec") or {}, parameters)}
    arguments = {**spec.arguments, **dict(pair(one) for one in parameters)}
    return spec.model_copy(update={"manifest": manifest, "arguments": arguments, "fresh": True})


def without_nothing(value: Any) -> Any:
    """Return plain data without its null fields, at all depths; a client's language cannot leave them out."""
    if isinstance(value, dict):
        return {key: without_nothing(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nothing(one) for one in value]
    return value


def _body(given: Any) -> dict[str, Any]:
    """Return a workflow's spec, with parameters that can be told apart; all else is checked where it is taken."""
    if not isinstance(given, dict) or not isinstance(given.get("arguments") or {}, dict):
        raise BadInput("A workflow's spec is an object.", field="workflow.spec")
    parameters = (given.get("arguments") or {}).get("parameters") or []
    fine = isinstance(parameters, list) and all(isinstance(one, dict) for one in parameters)
    if not fine or not all(isinstance(one.get("name"), str) for one in parameters):
        raise BadInput("A workflow's parameters are a list of names and values.", field="spec.arguments.parameters")
    return given


def _labels(named: Mapping[str, Any]) -> dict[str, Any]:
    labels = named.get("labels")
    if not isinstance(labels, dict):
        return {}
    return {"labels": {key: one for key, one in labels.items() if key not in _OURS}}


def _with(given: Mapping[str, Any], parameters: Sequence[str]) -> dict[str, Any]:
    """Return a workflow's spec with other values of its parameters."""
    wanted = dict(pair(one) for one in parameters)
    arguments = given.get("arguments") or {}
    known = arguments.get("parameters") or []
    if unknown := sorted(set(wanted) - {one.get("name") for one in known}):
        raise BadInput(f"The workflow has no parameter '{unknown[0]}'.", field="parameters")
    changed = [{**one, "value": wanted[one["name"]]} if one.get("name") in wanted else one for one in known]
    return {**given, **({"arguments": {**arguments, "parameters": changed}} if wanted else {})}


def pair(text: Any) -> tuple[str, str]:
    """Return the two sides of ``name=value``, or raise `BadInput`."""
    name, equals, value = str(text).partition("=")
    if not equals:
        raise BadInput(f"{str(text)[:100]!r} is not 'name=value'.", field="parameters")
    return name, value

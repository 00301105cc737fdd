"""Saved workflows as the WorkflowTemplate and CronWorkflow objects of Argo's clients, and the way back. Pure.

A saved workflow is a template; one with schedules is a cron workflow too, whose schedules are its triggers. What Argo
would do otherwise than we do is refused by name. Not here: a Workflow (``objects``, ``wishes``), keeping (``saved``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk_core.errors import BadInput
from ropewalk_core.flows import Saved, SavedSpec
from ropewalk_core.model import Trigger, TriggerSpec
from ropewalk_workflows.argo_server.times import stamp
from ropewalk_workflows.argo_server.wishes import pair, spec_of
from ropewalk_workflows.saved.launching import arguments_of

_WITHOUT = {
    "startingDeadlineSeconds": "A moment that was missed fires within a day here, the latest alone.",
    "stopStrategy": "Suspend it yourself.",
    "when": "Let its first step decide.",
}
_UTC = "UTC"


def saved_of(template: Any, owner: str, namespace: str, *, kind: str = "WorkflowTemplate") -> SavedSpec:
    """Return what keeps a template that a client sent.

    Parameters
    ----------
    template
        The object, as it came.
    owner, namespace
        Whose it will be, and what its namespace is called.
    kind
        What it must be.

    Raises
    ------
    BadInput
        If it is none, has no name, or leaves out where a run of it begins.
    """
    given = _object(template, kind)
    metadata = _inner(given, "metadata")
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        raise BadInput("A template needs a name.", field="metadata.name")
    if given.get("kind") not in (None, "", kind):
        raise BadInput(f"This is no {kind}.", field="kind")
    spec = _inner(given, "spec")
    if not spec.get("entrypoint"):
        raise BadInput(
            "A template must say where a run of it begins: spec.entrypoint.",
            field="spec.entrypoint",
            hint="Templates that others only refer to are not kept here.",
        )
    about = {key: metadata[key] for key in ("labels", "annotations", "namespace") if metadata.get(key)}
    run = spec_of(
        {"kind": "Workflow", "metadata": {**about, "generateName": f"{name}-"}, "spec": spec}, owner, namespace
    )
    return SavedSpec(name=name, run=run, arguments=arguments_of(run.manifest))


def cron_of(given: Any, owner: str, namespace: str) -> tuple[SavedSpec, list[TriggerSpec], bool]:
    """Return what keeps a cron workflow that a client sent: the workflow, its schedules, and whether it is suspended.

    Raises
    ------
    BadInput
        If it is none, or says what is done otherwise here.
    """
    cron = _object(given, "CronWorkflow")
    spec = _inner(cron, "spec")
    for field, instead in _WITHOUT.items():
        if spec.get(field):
            raise BadInput(f"'{field}' is not supported here. {instead}", field=f"spec.{field}")
    if spec.get("concurrencyPolicy") not in (None, "", "Allow"):
        raise BadInput("Runs may overlap here: concurrencyPolicy is Allow.", field="spec.concurrencyPolicy")
    schedules = [one for one in (spec.get("schedule"), *(spec.get("schedules") or [])) if one]
    if not schedules or not all(isinstance(one, str) for one in schedules):
        raise BadInput("A cron workflow needs a schedule.", field="spec.schedules")
    zone = spec.get("timezone") or _UTC
    if not isinstance(zone, str):
        raise BadInput("A time zone is a name such as Europe/Athens.", field="spec.timezone")
    more = spec.get("workflowMetadata") or {}
    metadata = {**_inner(cron, "metadata")}
    if isinstance(more, dict):
        metadata |= {key: {**(metadata.get(key) or {}), **(more.get(key) or {})} for key in ("labels", "annotations")}
    body = {"kind": "CronWorkflow", "metadata": metadata, "spec": _inner(spec, "workflowSpec")}
    saved = saved_of(body, owner, namespace, kind="CronWorkflow")
    wanted = [TriggerSpec(every=one[:200], zone=zone[:64]) for one in dict.fromkeys(schedules)]
    return saved, wanted, bool(spec.get("suspend"))


def template(saved: Saved, namespace: str) -> dict[str, Any]:
    """Return a saved workflow as a WorkflowTemplate."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": _metadata(saved, namespace),
        "spec": saved.spec.run.manifest.get("spec") or {},
    }


def cron(saved: Saved, schedules: Sequence[Trigger], namespace: str) -> dict[str, Any]:
    """Return a saved workflow with its schedules as a CronWorkflow; it is suspended when all of them are paused."""
    fired = max((one.fired for one in schedules if one.fired is not None), default=None)
    words = [one.spec.every for one in schedules]
    status: dict[str, Any] = {"active": [], "conditions": [], "lastScheduledTime": stamp(fired)}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": _metadata(saved, namespace),
        "spec": {
            "schedule": words[0] if words else "",
            "schedules": words,
            "timezone": schedules[0].spec.zone if schedules else _UTC,
            "suspend": bool(schedules) and all(one.paused for one in schedules),
            "concurrencyPolicy": "Allow",
            "workflowSpec": saved.spec.run.manifest.get("spec") or {},
        },
        "status": status,
    }


def given(saved: Saved, parameters: Sequence[Any]) -> dict[str, Any]:
    """Return the arguments in ``name=value`` words: text, or the JSON in it where an argument takes other than text.

    Raises
    ------
    BadInput
        If a word is not of that form.
    """
    takes = {one.name: one.takes.get("type") for one in saved.spec.arguments}
    found = dict(pair(one) for one in parameters)
    if saved.spec.run.source != "workflow":
        return dict(found)
    return {name: text if takes.get(name) == "string" else _value(text) for name, text in found.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _metadata(saved: Saved, namespace: str) -> dict[str, Any]:
    about = saved.spec.run.manifest.get("metadata") or {}
    return {
        "name": saved.name,
        "namespace": namespace,
        "uid": saved.digest[:32],
        "resourceVersion": str(saved.version),
        "generation": saved.version,
        "creationTimestamp": stamp(saved.created),
        "labels": about.get("labels") or {},
        "annotations": about.get("annotations") or {},
    }


def _object(value: Any, kind: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"There is no {kind} in the request.", field=kind)
    return value


def _inner(value: Mapping[str, Any], field: str) -> dict[str, Any]:
    found = value.get(field) or {}
    if not isinstance(found, dict):
        raise BadInput(f"'{field}' is an object.", field=field)
    return found

"""What else may be submitted: any Hera workflow unchanged, an Argo manifest as YAML or as a dict."""

from __future__ import annotations

from typing import Any

import yaml

from ropewalk_core.errors import BadWorkflow
from ropewalk_core.flows import RunSpec


def from_object(value: Any, **arguments: Any) -> RunSpec:
    """Return the spec of anything that is a workflow.

    Parameters
    ----------
    value
        A `@workflow` of ours, a `hera.workflows.Workflow`, an Argo manifest as text or dict.
    arguments
        Values of the workflow's parameters, instead of those in it.

    Raises
    ------
    BadWorkflow
        If it is none of these.
    """
    if hasattr(value, "graph") and hasattr(value, "spec"):
        return value.spec(**arguments)  # type: ignore[no-any-return]
    if isinstance(value, str):
        return _from_manifest(_parse(value), arguments, "argo")
    if isinstance(value, dict):
        return _from_manifest(value, arguments, "argo")
    if type(value).__module__.startswith("hera.") or any(
        one.__module__.startswith("hera.") for one in type(value).__mro__
    ):
        return _from_manifest(_from_hera(value), arguments, "hera")
    raise BadWorkflow(
        f"{type(value).__name__} is not a workflow.",
        field="workflow",
        hint="Submit a @workflow, a hera.workflows.Workflow, or an Argo manifest.",
    )


def to_yaml(manifest: dict[str, Any]) -> str:
    """Return the manifest as people read it."""
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)


def _from_hera(value: Any) -> dict[str, Any]:
    try:
        manifest = value.to_dict()
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise BadWorkflow(f"Hera cannot build this workflow: {error}.", field="workflow") from error
    if not isinstance(manifest, dict):
        raise BadWorkflow("Hera built no manifest.", field="workflow")
    return manifest


def _parse(text: str) -> dict[str, Any]:
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        field = f"line {mark.line + 1}" if mark is not None else "manifest"
        raise BadWorkflow(f"The manifest is not YAML: {getattr(error, 'problem', error)}.", field=field) from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise BadWorkflow("A manifest is one YAML document with a Workflow in it.", field="manifest")
    return documents[0]


def _from_manifest(manifest: dict[str, Any], arguments: dict[str, Any], source: str) -> RunSpec:
    metadata = manifest.get("metadata") or {}
    name = str(metadata.get("name") or metadata.get("generateName") or "workflow").rstrip("-")
    spec = manifest.get("spec")
    parameters = (((spec or {}).get("arguments") or {}).get("parameters")) if isinstance(spec, dict) else None
    known = {str(one.get("name")): one for one in parameters or [] if isinstance(one, dict)}
    if unknown := sorted(set(arguments) - set(known)):
        raise BadWorkflow(
            f"The workflow has no parameter '{unknown[0]}'.",
            field=unknown[0],
            hint=f"It has {', '.join(known) or 'none'}.",
        )
    if arguments and isinstance(spec, dict):
        changed = [
            {**one, "value": str(arguments[one["name"]])} if one.get("name") in arguments else one
            for one in parameters or []
        ]
        manifest = {**manifest, "spec": {**spec, "arguments": {**spec["arguments"], "parameters": changed}}}
    shown = {key: arguments.get(key, one.get("value", one.get("default"))) for key, one in known.items()}
    return RunSpec(name=name, manifest=manifest, arguments=shown, source=source)

"""Which packages of its own a template's program gets, as our annotations say. Pure.

A person writes lines; the platform adds which environment they were resolved to, so that all attempts of a run see the
same packages, and equal ones share results. Not here: which lines are allowed (``ropewalk_core.requirements``), and
having them installed (a backend). Rejected: an environment beside the manifest, which everyone who reads a step would
have to look for in another place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ropewalk_core.errors import BadInput, BadWorkflow
from ropewalk_workflows import names
from ropewalk_workflows.annotated import texts

if TYPE_CHECKING:
    from ropewalk_workflows.manifest.model import Manifest, Template

_ON_CLUSTERS = "Steps on a cluster cannot have requirements of their own yet."


def checked(given: Iterable[str], field: str = "requirements") -> tuple[str, ...]:
    """Return lines in one spelling and order. Raises `BadWorkflow` if one names no package with versions."""
    listed = [given] if isinstance(given, str) else list(given)
    if not listed:
        return ()
    from ropewalk_core import requirements  # few steps have any, and what reads them is slow to import

    if not all(isinstance(one, str) for one in listed):
        raise BadWorkflow('requirements is a list of lines such as "polars==1.2".', field=field)
    try:
        return requirements.checked(listed)
    except BadInput as error:
        raise BadWorkflow(error.message, field=field, hint=error.hint) from error


def requirements_of(template: Template, where: str) -> tuple[str, ...]:
    """Return the lines of a template's program.

    Raises
    ------
    BadWorkflow
        If the annotation is no list of lines, or stands on something else than one of our steps.
    """
    return checked(*texts(template, names.REQUIREMENTS, where, "requirements"))


def environment_of(template: Template) -> str:
    """Return the key of the environment that a program runs in; empty for the account's own."""
    return template.metadata.annotations.get(names.ENVIRONMENT, "")


def wanted(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Return the lines of each template that has some, by its name. Raises `BadWorkflow` where they are wrong."""
    found = {one.name: requirements_of(one, f"spec.templates[{one.name}]") for one in manifest.spec.templates}
    return {name: lines for name, lines in found.items() if lines}


def refused(manifest: Manifest) -> None:
    """Refuse a manifest with requirements, where they cannot be had. Raises `BadWorkflow`."""
    for name in wanted(manifest):
        hint = "Leave requirements out: packages of steps on a cluster are those of the image."
        raise BadWorkflow(_ON_CLUSTERS, field=f"requirements of {name}", hint=hint)


def equipped(manifest: Mapping[str, Any], keys: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a manifest that says which environment each template has, and for no others; itself if nothing changes.

    Parameters
    ----------
    manifest
        Plain data that was read before.
    keys
        Of environments, by the template's name.

    Raises
    ------
    BadWorkflow
        If one of these stands inside of a call, where nobody would find it.
    """
    templates = manifest["spec"]["templates"]
    if missing := sorted({*keys} - {str(one["name"]) for one in templates}):
        raise BadWorkflow(
            "A template that stands in a call has no requirements.", field=f"spec.templates[{missing[0]}]"
        )
    new = [_equipped(one, keys.get(one["name"], "")) for one in templates]
    if all(one is other for one, other in zip(new, templates, strict=True)):
        return manifest
    return {**manifest, "spec": {**manifest["spec"], "templates": new}}


def lines_of(manifest: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Return the different requirements in a manifest of ours, each with the first step that has them."""
    found: dict[tuple[str, ...], str] = {}
    for one in manifest["spec"]["templates"]:
        if text := _annotations(one).get(names.REQUIREMENTS):
            found.setdefault(checked(json.loads(text)), _annotations(one).get(names.STEP, one["name"]))
    return found


def named(manifest: Mapping[str, Any]) -> set[str]:
    """Return the keys of all environments that a kept manifest names."""
    return {key for one in manifest["spec"]["templates"] if (key := _annotations(one).get(names.ENVIRONMENT))}


def _equipped(template: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    annotations = _annotations(template)
    if annotations.get(names.ENVIRONMENT, "") == key:
        return template
    kept = {name: text for name, text in annotations.items() if name != names.ENVIRONMENT}
    kept |= {names.ENVIRONMENT: key} if key else {}
    return {**template, "metadata": {**(template.get("metadata") or {}), "annotations": kept}}


def _annotations(template: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = (template.get("metadata") or {}).get("annotations") or {}
    return found

"""Merges `templateDefaults` into the templates of a manifest, as Argo's controller does before it runs one. Pure.

After `mergedTemplateDefaultsInto` in Argo's `workflow/controller/operator.go`: of the kinds of templates only a
template's own is taken from the defaults, what the template says itself wins, and lists whose members have names are
merged by name. So a `retryStrategy` among the defaults holds for `dag` and `steps` too. Not here: whether the result is
right (``check``). Rejected: sending the defaults to Argo; what the platform adds to a template would meet them there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import BadWorkflow

_KINDS = ("container", "containerSet", "script", "resource", "dag", "suspend", "data", "http", "plugin")
_NAMED = ("parameters", "artifacts", "env", "tasks")
_EMPTY: tuple[Any, ...] = (None, "", [])
"""What Go leaves out when it writes a template, so that it cannot take a default back."""


def merged(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the manifest with its defaults in each template; the very same object if it has none.

    Raises
    ------
    BadWorkflow
        If the defaults are no object, or say what each template must say itself.
    """
    spec = manifest.get("spec") if isinstance(manifest, Mapping) else None
    if not isinstance(spec, Mapping) or spec.get("templateDefaults") is None:
        return manifest
    given, templates = spec["templateDefaults"], spec.get("templates")
    if not isinstance(given, Mapping):
        raise BadWorkflow("Defaults of templates are an object.", field="spec.templateDefaults")
    for name in ("name", "steps"):
        if given.get(name) is not None:
            raise BadWorkflow(f"'{name}' cannot be a default of all templates.", field=f"spec.templateDefaults.{name}")
    body = {name: one for name, one in spec.items() if name != "templateDefaults"}
    if isinstance(templates, list):
        body["templates"] = [_with(given, one) if isinstance(one, Mapping) else one for one in templates]
    return {**manifest, "spec": body}


def _with(given: Mapping[str, Any], template: Mapping[str, Any]) -> Mapping[str, Any]:
    own = [one for one in _KINDS if template.get(one) is not None]
    return _merge({name: one for name, one in given.items() if name not in _KINDS or name in own}, template)


def _merge(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(given)
    for name, one in own.items():
        below = given.get(name)
        if isinstance(below, Mapping) and isinstance(one, Mapping):
            result[name] = _merge(below, one)
        elif name in _NAMED and (_is_named(below) and _is_named(one)):
            result[name] = _by_name(below or [], one)
        elif below is None or one not in _EMPTY:
            result[name] = one
    return result


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) and "name" in one for one in value)


def _by_name(given: list[Any], own: list[Any]) -> list[Any]:
    mine = {one["name"]: one for one in own}
    result = [_merge(one, mine.pop(one["name"], {})) for one in given]
    return result + [one for one in own if one["name"] in mine]

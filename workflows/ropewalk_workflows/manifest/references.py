"""References to saved workflows (`workflowTemplateRef`, `templateRef`), written out when a manifest is taken. Pure.

What is kept and sent on names nothing outside itself: a run goes on as it was submitted, whatever becomes of the
template, and a cluster needs no copy of it. The rules are those of Argo's `workflow/util` (`JoinWorkflowSpec`) and
`workflow/templateresolution`. Not here: finding a saved workflow (given), and whether what comes out is right
(``check``); what has a wrong form is left as it is, for the model to refuse. Rejected: resolving when a step starts, as
Argo does: half of a run could be of one version and half of the next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ropewalk_core.errors import BadWorkflow
from ropewalk_workflows.manifest.resolved import calls, free, replaced

Lookup: TypeAlias = Callable[[str], Mapping[str, Any] | None]
"""Returns the ``spec`` of the saved manifest of a name; None if there is none."""
_MOST = 1_000


def whole(manifest: Mapping[str, Any], lookup: Lookup) -> Mapping[str, Any]:
    """Return the manifest without references; the very same object if it holds none.

    Parameters
    ----------
    manifest
        Plain data, as it came; it is not changed.
    lookup
        Finds saved workflows.

    Raises
    ------
    BadWorkflow
        If one refers to what is not there; the place is named.
    """
    spec = manifest.get("spec") if isinstance(manifest, Mapping) else None
    if not isinstance(spec, Mapping):
        return manifest
    lookup = functools.cache(lookup)
    joined = _joined(spec, lookup) if "workflowTemplateRef" in spec else spec
    templates = joined.get("templates")
    if not isinstance(templates, list):
        return manifest
    taken = {_name(one) for one in templates}
    imported = _Import(lookup, taken).into(joined)
    return manifest if imported is spec else {**manifest, "spec": imported}


def _joined(spec: Mapping[str, Any], lookup: Lookup) -> Mapping[str, Any]:
    """Return a template's spec with what the workflow says itself, which goes before."""
    where = "spec.workflowTemplateRef"
    if spec.get("templates"):
        raise BadWorkflow("A workflow refers to a template or has templates of its own, not both.", field=where)
    base = _found(_reference(spec["workflowTemplateRef"], where), lookup, where)
    own = {key: value for key, value in spec.items() if key not in ("workflowTemplateRef", "arguments", "templates")}
    given, known = spec.get("arguments") or {}, base.get("arguments") or {}
    if not isinstance(given, Mapping) or not isinstance(known, Mapping):
        return {**base, **own, "arguments": given}
    kinds = [kind for kind in ("parameters", "artifacts") if given.get(kind) or known.get(kind)]
    arguments = {kind: _merged(known.get(kind), given.get(kind)) for kind in kinds}
    return {**base, **own, **({"arguments": arguments} if arguments else {})}


def _merged(known: Any, given: Any) -> Any:
    """Return named things with those that are given in the places of those of their name."""
    for one in (known or [], given or []):
        if not isinstance(one, list) or not all(isinstance(each, Mapping) and "name" in each for each in one):
            return given
    new = {each["name"]: each for each in given or []}
    merged = [{**each, **new.pop(each["name"], {})} for each in known or []]
    return merged + list(new.values())


class _Import:
    """Brings in the templates that others refer to, each once, under names of their own."""

    def __init__(self, lookup: Lookup, taken: set[str]) -> None:
        self._lookup, self._taken = lookup, taken
        self._names: dict[tuple[str, str], str] = {}
        self._due: list[tuple[Mapping[str, Any], str, str, str]] = []

    def into(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the spec with every template that it refers to in it; the very same if it refers to none."""
        kept = [self._of(one, "", f"spec.templates[{_name(one)}]") for one in spec["templates"]]
        hooks = self._hooks(spec.get("hooks"), "", "spec.hooks")
        if not self._due:
            return spec
        for template, name, source, where in self._due:  # grows meanwhile
            kept.append({**self._of(template, source, where), "name": name})
        return {**spec, "templates": kept, **({"hooks": hooks} if hooks is not None else {})}

    def _of(self, template: Any, source: str, where: str) -> Any:
        """Return a template whose calls are of this manifest; ``source`` is the saved workflow that it came from."""
        found = [(call, self._called(call, source, f"{where}.{place}")) for place, call in calls(template)]
        changed = {id(call): new for call, new in found if new is not call}
        return replaced(template, changed) if changed else template

    def _called(self, call: Mapping[str, Any], source: str, where: str) -> Mapping[str, Any]:
        new = self._named(call, source, where)
        hooks = self._hooks(call.get("hooks"), source, f"{where}.hooks")
        if hooks is not call.get("hooks"):
            new = {**new, "hooks": hooks}
        if source and isinstance(call.get("onExit"), str):
            new = {**new, "onExit": self._taken_over(source, call["onExit"], f"{where}.onExit")}
        return new

    def _hooks(self, hooks: Any, source: str, where: str) -> Any:
        if not isinstance(hooks, Mapping):
            return hooks
        found = {
            name: self._named(one, source, f"{where}.{name}") if isinstance(one, Mapping) else one
            for name, one in hooks.items()
        }
        return hooks if all(found[name] is one for name, one in hooks.items()) else found

    def _named(self, call: Mapping[str, Any], source: str, where: str) -> Mapping[str, Any]:
        """Return a call, or a hook, that names a template of this manifest."""
        if "templateRef" in call:
            ref, place = call["templateRef"], f"{where}.templateRef"
            if call.get("template"):
                raise BadWorkflow("A call names a template or refers to one, not both.", field=place)
            saved, template = _reference(ref, place), ref.get("template")
            if not isinstance(template, str):
                raise BadWorkflow("It does not say which template.", field=f"{place}.template")
            name = self._taken_over(saved, template, place)
            return {**{key: value for key, value in call.items() if key != "templateRef"}, "template": name}
        if source and isinstance(call.get("template"), str):
            return {**call, "template": self._taken_over(source, call["template"], f"{where}.template")}
        return call

    def _taken_over(self, source: str, template: str, where: str) -> str:
        """Return the name that a saved workflow's template has here, and have it brought in if it is not."""
        key = source, template
        if key not in self._names:
            found = _template(_found(source, self._lookup, where), source, template, where)
            if len(self._names) >= _MOST:
                raise BadWorkflow(f"More than {_MOST:,} templates are referred to.", field=where)
            self._names[key] = free(f"{source}-{template}", self._taken)
            self._due.append((found, self._names[key], source, f"{source}.spec.templates[{template}]"))
        return self._names[key]


def _reference(ref: Any, where: str) -> str:
    """Return the name of the saved workflow that is referred to."""
    if not isinstance(ref, Mapping) or not isinstance(ref.get("name"), str):
        raise BadWorkflow("A reference has a name.", field=where)
    if ref.get("clusterScope"):
        raise BadWorkflow("There are no templates of the whole cluster here.", field=f"{where}.clusterScope")
    return str(ref["name"])


def _found(name: str, lookup: Lookup, where: str) -> Mapping[str, Any]:
    spec = lookup(name)
    if spec is None:
        hint = "Save it first: `ropewalk workflows save`, or `argo template create`."
        raise BadWorkflow(f"There is no saved workflow '{name[:60]}'.", field=where, hint=hint)
    if "workflowTemplateRef" in spec:
        raise BadWorkflow(f"'{name[:60]}' has no templates of its own: it refers to another.", field=where)
    return spec


def _template(spec: Mapping[str, Any], source: str, name: str, where: str) -> Mapping[str, Any]:
    templates = spec.get("templates")
    for one in templates if isinstance(templates, list) else ():
        if isinstance(one, Mapping) and one.get("name") == name:
            return one
    raise BadWorkflow(f"The saved workflow '{source[:60]}' has no template '{name[:60]}'.", field=where)


def _name(template: Any) -> str:
    return str(template.get("name")) if isinstance(template, Mapping) else "?"

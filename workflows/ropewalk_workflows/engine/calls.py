"""How calls get their inputs, loops their items, composites their phase and outputs. Pure helpers of ``core``."""

from __future__ import annotations

import json
from typing import Any

from ropewalk_workflows import names
from ropewalk_workflows.engine.scope import Scope, together
from ropewalk_workflows.engine.state import Node, Phase, Reference, RunState
from ropewalk_workflows.manifest import text
from ropewalk_workflows.manifest.model import Arguments, Artifact, Call, Template

_MOST_ITEMS = 20_000


def supply(state: RunState, node: Node, given: Arguments, outer: Scope) -> None:
    """Fill in the inputs of a node from its call's arguments.

    A hook may ask for what a call never gave, because it failed; as on Argo (`resolveExitTmplArgument`) that tag stays.

    Raises
    ------
    BadText
        If a value or an artifact is not there.
    """
    assert node.template is not None
    parameters = {one.name: one for one in given.parameters}
    for wanted in node.template.inputs.parameters:
        have = parameters.get(wanted.name)
        value = None
        if have is not None:
            value = have.value if have.value is not None else have.default
        if value is None:
            value = wanted.value if wanted.value is not None else wanted.default
        if value is None:
            raise text.BadText(f"the parameter '{wanted.name}' has no value")
        node.inputs[wanted.name] = outer.fill(value, lenient=node.owner is not None)
        if wanted.enum is not None and node.inputs[wanted.name] not in wanted.enum:
            raise text.BadText(f"the parameter '{wanted.name}' is none of {', '.join(wanted.enum)}")
    files = {one.name: one for one in given.artifacts}
    own = Scope(state, node)
    for file in node.template.inputs.artifacts:
        source, inside = (files[file.name], outer) if file.name in files else (file, own)
        reference = _reference(state, source, inside, optional=file.optional or source.optional)
        if reference is not None:
            node.files[file.name] = reference


def _reference(state: RunState, source: Artifact, scope: Scope, *, optional: bool) -> Reference | None:
    if source.raw is not None:
        return {"raw": scope.fill(source.raw.data)}
    if source.from_ is not None:
        try:
            return scope.reference(source.from_)
        except text.BadText:
            if optional:
                return None
            raise
    if source.s3 is None:
        if optional:
            return None
        raise text.BadText(f"the artifact '{source.name}' is missing")
    key = scope.fill(source.s3.key)
    if key.startswith((names.BUNDLES, names.VALUES)):
        return {"key": key}
    folder, _, last = key.rpartition("/")
    if last in state.keys.get(folder, {}):
        return state.keys[folder][last]
    if key in state.keys:
        members = state.keys[key]
        return {"list": [members[one] for one in sorted(members, key=_natural)]}
    if optional:
        return None
    raise text.BadText(f"there is no artifact with the key {key!r}")


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


def loops(call: Call) -> bool:
    """Say whether the call fans out."""
    return call.with_items is not None or call.with_param is not None or call.with_sequence is not None


def items(call: Call, scope: Scope) -> list[Any]:
    """Return what a call loops over.

    Raises
    ------
    BadText
        If it is no list, or too long a one.
    """
    found: Any
    if call.with_items is not None:
        found = [_filled(one, scope) for one in call.with_items]
    elif call.with_param is not None:
        try:
            found = json.loads(scope.fill(call.with_param))
        except (ValueError, RecursionError) as error:
            raise text.BadText("withParam is not a JSON list") from error
    else:
        found = _sequence(call, scope)
    if not isinstance(found, list):
        raise text.BadText("withParam is not a JSON list")
    if len(found) > _MOST_ITEMS:
        raise text.BadText(f"{len(found)} items are more than {_MOST_ITEMS}")
    return found


def _filled(item: Any, scope: Scope) -> Any:
    if isinstance(item, str) and "{{" in item:
        return scope.fill(item)
    if isinstance(item, dict):
        return {key: _filled(value, scope) for key, value in item.items()}
    return item


def _sequence(call: Call, scope: Scope) -> list[str]:
    sequence = call.with_sequence
    assert sequence is not None

    def number(value: str | None, default: int) -> int:
        try:
            return default if value is None else int(scope.fill(value))
        except ValueError as error:
            raise text.BadText("withSequence needs whole numbers") from error

    start = number(sequence.start, 0)
    if sequence.count is not None:
        end = start + number(sequence.count, 0) - 1
    elif sequence.end is not None:
        end = number(sequence.end, 0)
    else:
        raise text.BadText("withSequence needs count or end")
    if abs(end - start) > _MOST_ITEMS:
        raise text.BadText(f"more than {_MOST_ITEMS} items")
    empty = sequence.count is not None and end < start
    numbers = [] if empty else range(start, end + 1) if end >= start else range(start, end - 1, -1)
    pattern = sequence.format or "%d"
    try:
        return [pattern % one for one in numbers]
    except (TypeError, ValueError) as error:
        raise text.BadText(f"{pattern!r} is not a format such as %02d") from error


def wanted(parent: Node, call: Call) -> bool:
    """Say whether a call may run, now that all it needs has ended."""
    if parent.kind != "dag":
        return True
    if call.depends is not None:
        return text.depends(call.depends, lambda task, word: _holds(parent.children[task], word))
    return all(_holds(parent.children[one], "") for one in call.dependencies)


def _holds(node: Node, word: str) -> bool:
    """Answer for one term of ``depends``; a bare name means that the task did not fail."""
    go_on = node.phase in ("Failed", "Error") and not node.failed
    if not word:
        return node.phase in ("Succeeded", "Skipped") or go_on
    if word in ("AnySucceeded", "AllFailed"):
        members = list(node.children.values()) if node.kind == "loop" else [node]
        phase = "Succeeded" if word == "AnySucceeded" else "Failed"
        hits = [one.phase == phase for one in members]
        return any(hits) if word == "AnySucceeded" else bool(hits) and all(hits)
    return node.phase == {"Errored": "Error", "Daemoned": ""}.get(word, word) and word != "Daemoned"


def branch_failed(parent: Node, child: Node) -> bool:
    """Say whether a task that was left out was left out because of a failure above it."""
    waiting, seen = [child], {child.id}
    while waiting:
        node = waiting.pop()
        if node.failed:
            return True
        if node.phase != "Omitted" or node.call is None:
            continue
        before = [*node.call.dependencies, *(name for name, _ in text.terms(node.call.depends or "true"))]
        for name in before:
            other = parent.children.get(name)
            if other is not None and other.id not in seen:
                seen.add(other.id)
                waiting.append(other)
    return False


def failure(node: Node) -> Phase:
    """Return the phase of a composite whose children have ended, when it is a failure; else nothing."""
    members = list(node.children.values())
    if node.kind == "dag":
        targets = [one for one in members if one.call and not node.after[one.call.name]]
        failed = [one for one in targets if one.failed or (one.phase == "Omitted" and branch_failed(node, one))]
        if failed:
            return "Error" if any(one.phase == "Error" for one in members) else "Failed"
        # Nothing ran at all: the whole was stopped.
        return "Omitted" if members and all(one.phase == "Omitted" for one in members) else ""
    failed = [one for one in members if (one.phase in ("Failed", "Error") if node.kind == "loop" else one.failed)]
    if not failed:
        return "Omitted" if members and all(one.phase == "Omitted" for one in members) else ""
    if node.kind == "steps":  # Argo's step group fails, whatever its members did (`executeStepGroup`)
        return "Failed"
    return "Error" if any(one.phase == "Error" for one in failed) else "Failed"


def collect(state: RunState, node: Node) -> None:
    """Give a composite its outputs.

    Raises
    ------
    BadText
        If one is not there.
    """
    if node.kind == "loop":
        members = [one for one in node.children.values() if one.phase == "Succeeded"]
        for name in sorted({name for one in members for name in one.outputs}):
            node.outputs[name] = together([one.outputs[name] for one in members if name in one.outputs])
        return
    assert node.template is not None
    scope = Scope(state, node)
    for parameter in node.template.outputs.parameters:
        assert parameter.value_from is not None
        source = parameter.value_from
        try:
            node.outputs[parameter.name] = (
                text.evaluated(source.expression, scope.names(), shown=True)
                if source.expression is not None
                else scope.fill(source.parameter or "")
            )
        except text.BadText:
            if parameter.value_from.default is None:
                raise
            node.outputs[parameter.name] = parameter.value_from.default
    for artifact in node.template.outputs.artifacts:
        try:
            node.out_files[artifact.name] = scope.reference(artifact.from_ or "")
        except text.BadText:
            if not artifact.optional:
                raise


def display(call: Call, template: Template, parent: Node) -> str:
    """Return what people call it: ``train``, ``train(2)``, ``inner.train``."""
    own = template.metadata.annotations.get(names.STEP, "")
    base = own.lower().replace("_", "-")
    name = call.name
    if own and call.name == base:
        name = own
    elif own and call.name.startswith(f"{base}-") and call.name[len(base) + 1 :].isdigit():
        name = f"{own}({call.name[len(base) + 1 :]})"
    return f"{parent.name}.{name}" if parent.parent is not None or parent.path else name

"""What a tag means at a place in the tree: inputs, items, results of tasks, facts of the workflow. Pure."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ropewalk_workflows.engine.state import Fact, Node, Reference, RunState
from ropewalk_workflows.manifest.text import BadText, evaluated, fill, nested, tags

_OF_A_RUN = ("name", "uid", "namespace", "status", "creationTimestamp")
_OF_A_CALL = ("status", "id", "name", "exitCode")
STATUS = {"Succeeded": "Succeeded", "Failed": "Failed", "Error": "Error", "": "Running"}


class Scope(Mapping[str, str]):
    """The tags known to a call inside ``node`` (a composite), or inside a program (``node`` is the leaf itself)."""

    def __init__(self, state: RunState, node: Node | None, extra: Mapping[str, str] | None = None) -> None:
        self._state, self._node, self._extra = state, node, dict(extra or {})

    def __getitem__(self, tag: str) -> str:
        found = self._find(tag)
        if found is None:
            raise KeyError(tag)
        return found

    def __contains__(self, tag: object) -> bool:
        return isinstance(tag, str) and self._find(tag) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._extra)

    def __len__(self) -> int:
        return len(self._extra)

    def fill(self, text: str, *, lenient: bool = False) -> str:
        """Return the text with its tags' values; ``lenient`` leaves a tag without one as it is."""
        return fill(text, self, lenient=lenient)

    def expression(self, text: str) -> str:
        """Return what stands in place of an expression; the names in it are the tags known here, as a tree."""
        return evaluated(text, self.names())

    def names(self) -> dict[str, Any]:
        """Return the tags known here as a tree."""
        node = self._node
        parameters = [f"parameters.{one.name}" for one in self._state.manifest.spec.arguments.parameters]
        run = {f"workflow.{what}": self._workflow(what) for what in (*_OF_A_RUN, *parameters)}
        found = {"workflow": {"parameters": {}}} | nested(run)
        if node is not None:
            inputs = {f"inputs.parameters.{name}": value for name, value in node.inputs.items()}
            files = node.template.inputs.artifacts if node.template else ()
            inputs |= {f"inputs.artifacts.{one.name}.path": one.path or "" for one in files}
            found |= {"inputs": {"parameters": {}}} | nested(inputs)
            found |= dict.fromkeys(("tasks", "steps"), _Results(node.children)) | nested(node.local)
        return found | nested(self._extra)

    def _find(self, tag: str) -> str | None:
        if tag in self._extra:
            return self._extra[tag]
        if self._node is not None and tag in self._node.local:
            return self._node.local[tag]
        first, _, rest = tag.partition(".")
        if first == "workflow":
            return self._workflow(rest)
        if self._node is None:
            return None
        if first == "inputs":
            return _inputs(self._node, rest)
        if first in ("tasks", "steps"):
            name, _, what = rest.partition(".")
            child = self._node.children.get(name)
            return _result(child, what) if child is not None else None
        return None

    def _workflow(self, what: str) -> str | None:
        state = self._state
        parameters = {
            one.name: one.value if one.value is not None else one.default or ""
            for one in state.manifest.spec.arguments.parameters
        }
        if what == "parameters":
            return json.dumps([{"name": name, "value": value} for name, value in parameters.items()])
        if what.startswith("parameters."):
            return parameters.get(what.removeprefix("parameters."))
        return {
            "name": state.run,
            "uid": state.run,
            "namespace": state.owner,
            "status": STATUS.get(state.phase, "Running"),
            "creationTimestamp": datetime.datetime.fromtimestamp(state.started, datetime.UTC).isoformat(),
        }.get(what)

    def reference(self, source: str) -> Reference:
        """Return the artifact that ``{{tasks.a.outputs.artifacts.b}}`` or ``{{inputs.artifacts.b}}`` means.

        Raises
        ------
        BadText
            If there is none.
        """
        found = list(tags(source))
        if len(found) != 1 or self._node is None:
            raise BadText(f"{source!r} names no artifact")
        parts = found[0].split(".")
        reference: Reference | None = None
        if parts[:2] == ["inputs", "artifacts"]:
            reference = self._node.files.get(".".join(parts[2:]))
        elif parts[0] in ("tasks", "steps") and parts[2:4] == ["outputs", "artifacts"]:
            child = self._node.children.get(parts[1])
            reference = child.out_files.get(".".join(parts[4:])) if child is not None else None
        if reference is None:
            raise BadText(f"there is no artifact {source}")
        return reference


class _Results(Mapping[str, Any]):
    """What the calls of a composite gave, by name; each is looked at when it is asked for."""

    def __init__(self, children: Mapping[str, Node]) -> None:
        self._children = children

    def __getitem__(self, name: str) -> dict[str, Any]:
        child = self._children[name]
        found: dict[str, Any] = {what: _result(child, what) for what in _OF_A_CALL}
        found = {what: value for what, value in found.items() if value is not None}
        outputs = {name: value for name, value in child.outputs.items() if name != "result"}
        found |= {f"outputs.parameters.{key}": value for key, value in (_left_out(child) | outputs).items()}
        return nested(found | {f"outputs.{key}": child.outputs[key] for key in ("result",) if key in child.outputs})

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)


def _left_out(child: Node) -> dict[str, str | None]:
    """Return the outputs of a call that was left out: as on Argo its parameters, by default nil, and no result."""
    if child.phase not in ("Skipped", "Omitted") or child.template is None:
        return {}
    declared = child.template.outputs.parameters
    return {one.name: one.value_from.default if one.value_from else None for one in declared}


def _inputs(node: Node, what: str) -> str | None:
    if what == "parameters":
        return json.dumps([{"name": name, "value": value} for name, value in node.inputs.items()])
    if what.startswith("parameters."):
        return node.inputs.get(what.removeprefix("parameters."))
    name = what.removeprefix("artifacts.").removesuffix(".path")
    for one in node.template.inputs.artifacts if node.template else ():
        if one.name == name:
            return one.path
    return None


def _result(child: Node, what: str) -> str | None:
    if what == "status":
        return child.phase or ("Running" if child.begun else None)
    if what in ("id", "name"):
        return child.id if what == "id" else child.path
    if what == "exitCode":
        return _exit_code(child)
    if what == "outputs.result":
        return child.outputs.get("result")
    if what == "outputs.parameters":
        return json.dumps([{"name": key, "value": value} for key, value in child.outputs.items()])
    return child.outputs.get(what.removeprefix("outputs.parameters."))


def _exit_code(child: Node) -> str | None:
    """Return how a program ended; as with Argo, what ran none has no code: a group, or a call that was left out."""
    if child.kind != "pod":
        return None
    if child.fact.code:
        return str(child.fact.code)
    return {"Succeeded": "0", "Failed": "1"}.get(child.phase)  # an old journal does not say with which code it failed


def last_retry(fact: Fact, phase: str) -> dict[str, str]:
    """Return what a ``retryStrategy.expression`` knows, once an attempt has failed; as on Argo all of it is text."""
    seconds = max((fact.ended or 0.0) - (fact.started or 0.0), 0.0)
    return {
        "retries": str(fact.tries),
        "lastRetry.exitCode": str(fact.code) if fact.code else "-1",
        "lastRetry.status": phase,
        "lastRetry.duration": f"{seconds:.9g}",
        "lastRetry.message": fact.error,
    }


def together(values: list[str]) -> str:
    """Return the results of a fan-out as one JSON list, as Argo joins them: as values when all are, else as texts."""
    read: list[Any] = []
    for one in values:
        try:
            value = json.loads(one)
        except (ValueError, RecursionError):
            return json.dumps(values)
        if isinstance(value, str):
            return json.dumps(values)
        read.append(value)
    return json.dumps(read)

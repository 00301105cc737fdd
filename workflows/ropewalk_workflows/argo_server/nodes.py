"""The nodes of a run as Argo's clients draw them: its own names, groups and arrows, from our engine's tree. Pure.

The way back of ``argo.nodes``: there Argo's nodes become our facts, here our tree becomes Argo's nodes. Where each
node stands is what the port says of its step; the tree gives only what is around what. Held by tests against workflows
that the real controller wrote. Rejected: keeping Argo's own nodes of a cluster; one machine has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from ropewalk_core.flows import KEPT, Step
from ropewalk_core.model import State
from ropewalk_workflows.argo_server.times import stamp
from ropewalk_workflows.argo_server.told import Told, strategy
from ropewalk_workflows.engine.state import Fact, Node, Reference, RunState
from ropewalk_workflows.inputs import grown
from ropewalk_workflows.manifest import calls
from ropewalk_workflows.manifest.hooks import suffix
from ropewalk_workflows.manifest.images import AnyImage

NodeObject: TypeAlias = dict[str, Any]
ENDED = ("Succeeded", "Failed", "Error", "Skipped", "Omitted")
_HASH, _PRIME, _WORD = 0x811C9DC5, 0x01000193, 0xFFFFFFFF
_LONGEST_POD = 242
_CACHE = "ropewalk"
_SHUTDOWN = "workflow shutdown with strategy:  "


def nodes(told: Told, phase: str) -> tuple[dict[str, NodeObject], dict[str, str]]:
    """Return the nodes of a run by Argo's identifiers, and for each that is a pod which of our steps it is.

    Parameters
    ----------
    told
        The run.
    phase
        Argo's word for where the whole stands, which its root has too.

    Raises
    ------
    BadWorkflow
        If its manifest cannot be read any more.
    """
    drawn = _drawn(told, phase)
    return drawn.nodes, drawn.steps


def pauses(told: Told, phase: str) -> list[tuple[NodeObject, str]]:
    """Return the nodes of the pauses at which a run stands, each with which of our steps it is. Raises as `nodes`."""
    return [(one, our) for one, our in _drawn(told, phase).pauses if one["phase"] == "Running"]


def _drawn(told: Told, phase: str) -> _Drawing:
    facts = {name: Fact(**one.as_dict()) for name, one in told.facts.items()}
    on_exit = strategy(told.run) == "Stop"
    state = grown(told.spec, AnyImage(), told.run.owner, told.run.id, facts, on_exit=on_exit)
    drawn = _Drawing(told, state, phase)
    drawn.all()
    return drawn


def fields(node: NodeObject) -> dict[str, str]:
    """Return by what a node can be chosen (`SelectorMatchesNode`)."""
    given = (node.get("inputs") or {}).get("parameters") or []
    inputs = {f"inputs.parameters.{one['name']}.value": str(one.get("value") or "") for one in given}
    return {key: str(node.get(key) or "") for key in ("displayName", "templateName", "phase", "name", "id")} | inputs


def node_id(workflow: str, name: str) -> str:
    """Return the identifier that Argo gives a node of this name."""
    return workflow if name == workflow else f"{workflow}-{_fnv(name)}"


def pod_name(workflow: str, name: str, template: str) -> str:
    """Return what a client computes as the name of a node's pod (`workflow/util/pod_name.go`)."""
    if name == workflow:
        return workflow
    prefix = f"{workflow}-{template}" if template else workflow
    return f"{prefix[:_LONGEST_POD]}-{_fnv(name)}"


def _fnv(text: str) -> int:
    found = _HASH
    for one in text.encode():
        found = ((found ^ one) * _PRIME) & _WORD
    return found


class _Drawing:
    def __init__(self, told: Told, state: RunState, phase: str) -> None:
        self.told, self.state, self.phase = told, state, phase
        self.by_id = {one.id: one for one in told.run.steps}
        self.nodes: dict[str, NodeObject] = {}
        self.steps: dict[str, str] = {}
        self.pauses: list[tuple[NodeObject, str]] = []

    def all(self) -> None:
        """Draw the entry, and what follows the whole run's end."""
        if self.state.root is None or told_nothing(self.told):
            return
        self.draw(self.state.root, self.told.name, self.told.name, "")
        last = [self.state.exit] if self.state.exit is not None else []
        for hook in (*self.state.hooks.values(), *last):
            if self.there(hook):
                name = f"{self.told.name}.{hook.path}"
                identifier = self.draw(hook, name, name, "")
                self.nodes[identifier]["nodeFlag"] = {"hooked": True}
                if hook is not self.state.exit:
                    self.link([self.told.name], identifier, straight=True)

    def there(self, node: Node) -> bool:
        """Say whether Argo would have a node for it: it began, or it is known that it never will."""
        step = self.by_id.get(node.id)
        if step is not None and step.status.state is State.STOPPED and not (step.attempt or node.children):
            return False
        fact = node.fact
        begun = node.ready or fact.attempt or fact.running or fact.again is not None
        begun = begun or (node.kind == "suspend" and fact.started is not None)
        return bool(node.ended or begun or node.children)

    def draw(self, node: Node, name: str, shown: str, boundary: str) -> str:
        """Draw a node of ours and all inside it; return its identifier."""
        made = self.started(node, name, shown, boundary)
        self.inside(node, made, shown, boundary)
        for hook, child in node.hooks.items():
            if self.there(child):
                identifier = self.draw(child, name + suffix(hook), shown + suffix(hook), boundary)
                self.nodes[identifier]["nodeFlag"] = {"hooked": True}
                self.link([str(made["id"])], identifier, straight=True)
        return str(made["id"])

    def inside(self, node: Node, made: NodeObject, shown: str, boundary: str) -> None:
        """Draw what a node holds."""
        if made["type"] == "Suspend":
            self.pauses.append((made, node.id))
            made |= {"message": node.fact.said} if node.fact.said else {}
        if made["type"] in ("Skipped", "Suspend"):
            return
        if node.kind == "loop":
            self.loop(node, made, boundary)
        elif node.kind == "retry":
            self.tries(node, made, shown, boundary)
        elif node.kind == "dag":
            self.dag(node, made)
        elif node.kind == "steps":
            self.groups(node, made)
        else:
            self.pod(node, made)
        if node.kind != "pod":
            self.measure(made)

    def started(self, node: Node, name: str, shown: str, boundary: str) -> NodeObject:
        """Return a node with what all of them have, kept under its identifier."""
        step, template = self.by_id.get(node.id), node.template
        phase, message = self.stands(node, step)
        identifier = node_id(self.told.name, name)
        made: NodeObject = {"id": identifier, "name": name, "displayName": shown, "type": _kind(node, phase)}
        if template is not None:
            made |= {"templateName": template.name, "templateScope": f"local/{self.told.name}"}
        made |= {"phase": phase, **({"boundaryID": boundary} if boundary else {})}
        made |= {"message": message} if message else {}
        begun = step.started or step.status.since if step is not None else self.told.run.created
        ended = self.ended(step) if phase in ENDED else None
        made |= {"startedAt": stamp(begun), "finishedAt": stamp(ended)}
        if given := _inputs(node):
            made["inputs"] = given
        self.nodes[identifier] = made
        return made

    def ended(self, step: Step | None) -> float | None:
        """Return when a node that has ended did so."""
        return (step.ended or step.status.since) if step is not None else self.told.run.ended

    def stands(self, node: Node, step: Step | None) -> tuple[str, str]:
        """Return Argo's word for where a node stands, and what it says about it."""
        if step is None:
            return self.phase, ""
        status, cause = step.status, step.status.why.cause if step.status.why else ""
        if status.state is State.DONE:
            word = {"skipped": "Skipped", "omitted": "Omitted"}.get(status.note, "Succeeded")
            return word, "" if word == "Succeeded" and status.note != KEPT else cause
        if status.state is State.FAILED:
            return "Error" if node.phase == "Error" else "Failed", step.error or cause
        if status.state is State.STOPPED:
            return "Failed", f"{_SHUTDOWN}{strategy(self.told.run)}"
        if status.state in (State.RUNNING, State.STOPPING) or node.children:
            return "Running", ""
        return "Running" if node.kind == "suspend" or node.fact.again is not None else "Pending", cause

    # What is inside

    def pod(self, node: Node, made: NodeObject) -> None:
        """Say what a program gave; with retries, draw an attempt for each time that it was started."""
        retry = node.template.retry_strategy if node.template else None
        ended = made["phase"] == "Succeeded"
        if "from" in node.fact.memo:
            made["memoizationStatus"] = {"hit": True, "key": node.fact.memo["key"], "cacheName": _CACHE}
        if ended:
            made["outputs"] = self.outputs(node, made)
        elif made["phase"] == "Failed" and node.fact.code:
            made["outputs"] = {"exitCode": str(node.fact.code)}
        if retry is None:
            self.steps[str(made["id"])] = node.id
            made["progress"] = f"{int(ended)}/1"
            return
        made["type"], children = "Retry", []
        for number in range(max(1, node.fact.attempt)):
            children.append(self.attempt(node, made, number))
        made |= {"children": children, "progress": f"{int(ended)}/1"}

    def attempt(self, node: Node, around: NodeObject, number: int) -> str:
        """Draw one attempt; of those before the last it is known only that they failed."""
        name, shown = f"{around['name']}({number})", f"{around['displayName']}({number})"
        last = number == max(0, node.fact.attempt - 1)
        identifier = node_id(self.told.name, name)
        kept = {key: one for key, one in around.items() if key not in ("children", "inputs")}
        made = {**kept, "id": identifier, "name": name, "displayName": shown, "type": "Pod"}
        made["nodeFlag"] = {"retried": True}
        first = stamp(node.fact.first) or around["startedAt"]
        if not last:
            made |= {"phase": "Failed", "startedAt": first, "finishedAt": first, "progress": "0/1"}
            made.pop("outputs", None)
        elif node.fact.again is not None and around["phase"] not in ENDED:
            made |= {"phase": "Failed", "message": node.fact.error, "finishedAt": stamp(node.fact.ended)}
        else:
            made["progress"] = f"{int(around['phase'] == 'Succeeded')}/1"
        if not last:
            made.pop("message", None)
        self.nodes[identifier], self.steps[identifier] = made, node.id
        return identifier

    def tries(self, node: Node, made: NodeObject, shown: str, boundary: str) -> None:
        """Draw the attempts of a composite, each whole."""
        made["children"] = []
        for number, child in node.children.items():
            if self.there(child):
                identifier = self.draw(child, f"{made['name']}({number})", f"{shown}({number})", boundary)
                self.nodes[identifier]["nodeFlag"] = {"retried": True}
                made["children"].append(identifier)

    def loop(self, node: Node, made: NodeObject, boundary: str) -> None:
        """Draw the members of a task group."""
        stem = (str(made["name"]), str(made["displayName"]))
        made["children"] = [one for _, one in self.members(node, *stem, boundary)]

    def members(self, node: Node, name: str, shown: str, boundary: str) -> Iterator[tuple[Node, str]]:
        """Draw each member of a loop that is there."""
        for index, child in node.children.items():
            if self.there(child):
                item = f"({index}:{_item(child.item)})"
                yield child, self.draw(child, name + item, shown + item, boundary)

    def dag(self, node: Node, made: NodeObject) -> None:
        """Draw the tasks, each as a child of those that it waited for."""
        around, drawn = str(made["id"]), dict[str, str]()
        made["children"] = []
        for task, child in node.children.items():
            if self.there(child):
                drawn[task] = self.draw(child, f"{made['name']}.{task}", task, around)
        for task, identifier in drawn.items():
            call = node.children[task].call
            before = [drawn[one] for one in calls.needs(call) if one in drawn] if call is not None else []
            self.link([around] if not before else self.last(before), identifier, straight=not before)
        leaves = [drawn[task] for task in drawn if not any(one in drawn for one in node.after.get(task, ()))]
        self.close(made, self.last(leaves))

    def groups(self, node: Node, made: NodeObject) -> None:
        """Draw each group of parallel steps, as a child of what the group before it ended with."""
        around, before = str(made["id"]), list[str]()
        for number, group in enumerate(node.template.steps or () if node.template else ()):
            present = [node.children[one.name] for one in group if one.name in node.children]
            if not any(self.there(one) for one in present):
                break
            name = f"{made['name']}[{number}]"
            box = self.box(made, name, f"[{number}]")
            for child in present:
                box["children"] += self.in_group(child, name, around)
            self.group_stands(box)
            self.link(before or [around], str(box["id"]), straight=not before)
            before = self.last(box["children"])
        self.close(made, before)

    def in_group(self, child: Node, group: str, around: str) -> list[str]:
        """Draw one step of a group; a loop has no node of its own there, unless nothing of it ran."""
        assert child.call is not None
        if not self.there(child):
            return []
        shown = child.call.name
        if child.kind == "loop" and child.children:
            return [one for _, one in self.members(child, f"{group}.{shown}", shown, around)]
        return [self.draw(child, f"{group}.{shown}", shown, around)]

    def box(self, around: NodeObject, name: str, shown: str) -> NodeObject:
        """Return the node of a group of steps."""
        identifier = node_id(self.told.name, name)
        made: NodeObject = {"id": identifier, "name": name, "displayName": shown, "type": "StepGroup"}
        made |= {"templateScope": around.get("templateScope", ""), "boundaryID": around["id"], "children": []}
        self.nodes[identifier] = made
        return made

    def group_stands(self, box: NodeObject) -> None:
        """Say where a group of steps stands, from where its members do."""
        members = [self.nodes[one] for one in box["children"]]
        phases = [str(one["phase"]) for one in members]
        if all(one in ENDED for one in phases):
            box["phase"] = next((one for one in ("Error", "Failed") if one in phases), "Succeeded")
        else:
            box["phase"] = "Running"
        box["startedAt"] = min((one["startedAt"] for one in members if one["startedAt"]), default=None)
        ends = [one["finishedAt"] for one in members if one["finishedAt"]]
        box["finishedAt"] = max(ends, default=None) if box["phase"] in ENDED else None
        self.measure(box)

    # Arrows

    def last(self, identifiers: Iterable[str]) -> list[str]:
        """Return what a node ends with: itself, or the last ones inside it."""
        found: list[str] = []
        for one in identifiers:
            node = self.nodes[one]
            inside = node.get("children") or []
            if node["type"] == "Retry":  # its last child, whatever that holds (`getOutboundNodes`)
                found += inside[-1:] or [one]
            elif node["type"] in ("TaskGroup", "StepGroup"):
                found += self.last(inside) if inside else [one]
            elif node["type"] in ("DAG", "Steps"):
                found += node.get("_last") or [one]
            else:
                found.append(one)
        return list(dict.fromkeys(found))

    def link(self, before: Iterable[str], identifier: str, *, straight: bool) -> None:
        """Make a node the child of others; of the one around it straight away."""
        for one in before:
            children = self.nodes[one].setdefault("children", [])
            if straight or identifier not in children:
                children.append(identifier)

    def close(self, made: NodeObject, last: list[str]) -> None:
        """Keep what a composite ends with, which Argo says once it has ended."""
        made["_last"] = last
        if made["phase"] in ENDED and last:
            made["outboundNodes"] = last
        if not made.get("children"):
            made.pop("children", None)

    def measure(self, made: NodeObject) -> None:
        """Add up how many programs inside have ended well."""
        inside = [one for one in self.nodes.values() if one.get("boundaryID") == made["id"]]
        if made["type"] in ("TaskGroup", "StepGroup", "Retry"):
            inside = [self.nodes[one] for one in made.get("children") or ()]
        parts = [one["progress"].split("/") for one in inside if made["type"] == "Retry" or _counts(one)]
        made["progress"] = f"{sum(int(one) for one, _ in parts)}/{sum(int(one) for _, one in parts)}"

    def outputs(self, node: Node, made: NodeObject) -> dict[str, Any]:
        """Return what a program gave, as Argo says it."""
        given = {key: one for key, one in node.outputs.items() if key != "result"}
        found: dict[str, Any] = {}
        if given:
            found["parameters"] = [{"name": key, "value": one} for key, one in given.items()]
        step = self.by_id.get(node.id)
        if files := [one.name for one in step.artifacts] if step is not None else []:
            where = {one.name: one.path for one in node.template.outputs.artifacts} if node.template else {}
            key = f"{self.told.name}/{made['id']}"
            found["artifacts"] = [
                {"name": one, "path": where.get(one) or f"/{one}", "s3": {"key": f"{key}/{one}"}} for one in files
            ]
        if "result" in node.outputs:
            found["result"] = node.outputs["result"]
        return {**found, "exitCode": "0"}


def told_nothing(told: Told) -> bool:
    """Whether nothing of a run has begun, so that Argo would have no nodes of it yet."""
    return told.run.status.state in (State.ASKED, State.WAITING) and not told.run.steps


def _counts(node: Mapping[str, Any]) -> bool:
    """Whether a node's programs count where it lies: not a group's, whose members lie beside it."""
    retried = (node.get("nodeFlag") or {}).get("retried")
    return "progress" in node and node["type"] not in ("TaskGroup", "StepGroup") and not retried


def _kind(node: Node, phase: str) -> str:
    """Return Argo's word for what a node is; one that was left out is nothing else."""
    if phase in ("Skipped", "Omitted"):
        return "Skipped"
    if node.kind == "loop":
        return "TaskGroup"
    if node.kind == "retry":
        return "Retry"
    return {"pod": "Pod", "suspend": "Suspend", "dag": "DAG", "steps": "Steps"}[node.kind]


def _inputs(node: Node) -> dict[str, Any]:
    """Return what went in: texts as they are, and the names of files."""
    given = [{"name": key, "value": one} for key, one in node.inputs.items() if not key.startswith("ropewalk-")]
    files = [{"name": key, **_data(one)} for key, one in node.files.items() if not key.startswith("ropewalk-")]
    found: dict[str, Any] = {"parameters": given} if given else {}
    return found | ({"artifacts": files} if files else {})


def _data(reference: Reference) -> dict[str, Any]:
    return {"raw": {"data": reference["raw"]}} if isinstance(reference.get("raw"), str) else {}


def _item(item: Mapping[str, str]) -> str:
    """Return an item of a loop as Go writes it into the member's name."""
    keys = {key.removeprefix("item."): one for key, one in item.items() if key.startswith("item.")}
    if keys:
        return ",".join(sorted(f"{key}:{_go(one)}" for key, one in keys.items()))
    return _go(item.get("item", ""))


def _go(text: str) -> str:
    """Return a value as Go prints an item: a list with blanks between, text as JSON without its quotes."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            return "[" + " ".join(_go(one if isinstance(one, str) else json.dumps(one)) for one in found) + "]"
    return text if text.startswith("{") else json.dumps(text, ensure_ascii=False)[1:-1]

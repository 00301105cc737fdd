"""How people see a run: the model's `Step` and `Run` made from the tree. Pure."""

from __future__ import annotations

import json
from typing import Any

from ropewalk_core.flows import KEPT, ON_EXIT, PAUSE, Artifact, Step
from ropewalk_core.model import State, Status, Why
from ropewalk_core.placement import Placement
from ropewalk_workflows import names, previews
from ropewalk_workflows.engine.state import STOPPED, Node, RunState
from ropewalk_workflows.manifest import placement_of

_HINTS = {
    "RW-OUT-OF-MEMORY": "Ask for more: Placement(memory=...).",
    "RW-TIMED-OUT": "Give it more time with timeout=..., or make it do less.",
    "RW-STORAGE-FULL": "Remove files you do not need, or ask for more space.",
    "RW-NOT-FOUND": "Put the folder back, or submit the workflow again from the folder where your notebook is now.",
    "RW-UNAVAILABLE": "Retry the run; if it happens again, tell your administrator.",
}
_RESUME = "Resume the run to go on: `ropewalk workflows resume`, run.resume() or the button on its page."
_DEEPEST = 100
"""Levels of nesting that are shown; serializers give up at some 200."""
_USER_HINT = "Look at the traceback and the log, correct the step, then run the workflow again."


def visible(node: Node) -> bool:
    """Say whether people see this node: every one but the entry that only holds the others."""
    return bool(node.path)


def step(state: RunState, node: Node) -> Step:
    """Return the node as the model's step."""
    fact, stopped = node.fact, node.note == STOPPED
    given = {key: _value(value) for key, value in node.inputs.items() if not key.startswith("ropewalk-")}
    given |= _given_files(node)
    files = node.out_files if node.kind in ("pod", "suspend") else {}
    return Step(
        id=node.id,
        name=node.name,
        kind="step" if node.kind in ("pod", "suspend") else "group",
        template=node.template.name if node.template else "",
        status=status(state, node),
        needs=needs(node),
        attempt=fact.attempt,
        started=fact.started,
        ended=fact.ended,
        inputs=given,
        outputs={**{key: _value(value) for key, value in node.outputs.items()}, **previews.without(files)},
        artifacts=tuple(
            Artifact(
                name=name,
                digest=one["digest"],
                size=one["size"],
                media_type=one["media_type"],
                type=str(one.get("type") or ""),
                preview=previews.shown(one),
            )
            for name, one in sorted(files.items())
            if "digest" in one
        ),
        error=fact.error if (node.phase in ("Failed", "Error") and not stopped) or fact.again is not None else "",
        traceback=fact.traceback if (node.phase == "Failed" and not stopped) or fact.again is not None else "",
        placement=_placement(state, node),
    )


def needs(node: Node) -> tuple[str, ...]:
    """Return what a step waits for; a group waits for the last ones inside it."""
    if not node.children or node.template is None:
        return node.upstream
    if node.kind == "dag":
        return tuple(one.id for name, one in node.children.items() if not node.after[name])
    if node.kind == "steps" and node.template.steps:
        return tuple(node.children[one.name].id for one in node.template.steps[node.group])
    if node.kind == "retry":
        return tuple(one.id for one in node.children.values())[-1:]
    return tuple(one.id for one in node.children.values())


def status(state: RunState, node: Node) -> Status:
    """Return where the node stands, and why."""
    fact = node.fact
    if node.phase == "Succeeded":
        return Status(state=State.DONE, since=node.since, note=KEPT if "from" in fact.memo else "")
    if node.ended and node.note == STOPPED:
        return Status(state=State.STOPPED, since=node.since, note=STOPPED)
    if node.phase in ("Skipped", "Omitted"):
        word = "skipped" if node.phase == "Skipped" else "omitted"
        cause = node.note or "A step that it needs failed, or was left out."
        return Status(state=State.DONE, since=node.since, note=word, why=Why(cause=cause))
    if node.phase in ("Failed", "Error"):
        if node.children:
            cause = "A step in it failed."
            return Status(state=State.FAILED, since=node.since, why=Why(cause=fact.error or cause))
        return Status(state=State.FAILED, since=node.since, why=_why(node))
    if fact.running:
        return Status(state=State.RUNNING, since=node.since)
    if fact.again is not None and node.kind in ("pod", "retry"):
        cause = f"Attempt {fact.attempt} failed: {fact.error}"
        return Status(state=State.WAITING, since=node.since, why=Why(cause=cause, next="It is tried again shortly."))
    if fact.again is not None or node.children:
        return Status(state=State.RUNNING, since=node.since)
    if node.kind == "suspend" and fact.started is not None:
        return Status(state=State.WAITING, since=node.since, why=Why(cause=PAUSE, next=_RESUME))
    return Status(state=State.WAITING, since=node.since, why=_waits(state, node))


def _why(node: Node) -> Why:
    fact = node.fact
    said = fact.hint or _HINTS.get(fact.problem, _USER_HINT if fact.traceback else "")
    return Why(cause=fact.error or "It failed.", next=said, code=fact.problem)


def _waits(state: RunState, node: Node) -> Why:
    if node.ready:
        return Why(cause="Your other steps use all the places there are.", next="It starts when one of them ends.")
    if node.mutexes and not node.locked:
        quoted = " and ".join(f"'{one}'" for one in node.mutexes)
        cause = f"Waiting for the mutex{'es' if len(node.mutexes) > 1 else ''} {quoted}."
        return Why(cause=cause, next="It starts when the step that holds it has ended.")
    if node.id in state.held:
        limit = state.manifest.spec.parallelism
        return Why(cause=f"The workflow allows {limit} steps at a time.", next="It starts when one of them ends.")
    names_ = [state.nodes[one].name for one in node.upstream if one in state.nodes and not state.nodes[one].ended]
    listed = ", ".join(names_[:3]) + (f" and {len(names_) - 3} more" if len(names_) > 3 else "")
    return Why(cause=f"Waits for {listed}." if listed else "It is about to start.")


def run_status(state: RunState) -> Status:
    """Return where the run stands."""
    if not state.finished:
        note = ON_EXIT if state.stopping == "exit" else ""
        return Status(state=State.STOPPING if state.stopping else State.RUNNING, since=state.started, note=note)
    if state.phase == "Succeeded":
        return Status(state=State.DONE)
    stopped = state.root is not None and state.root.note == STOPPED and state.stopping != "time"
    if stopped or state.stopping in ("cancel", "exit") or state.phase in ("Omitted", "Skipped"):
        return Status(state=State.STOPPED, note=ON_EXIT if state.stopping == "exit" else STOPPED)
    if state.cause:
        return Status(state=State.FAILED, why=Why(cause=state.cause, next=_HINTS["RW-TIMED-OUT"], code="RW-TIMED-OUT"))
    node = state.nodes.get(state.failed_step)
    if node is None:
        return Status(state=State.FAILED, why=Why(cause="A step failed."))
    why = _why(node)
    return Status(state=State.FAILED, why=why.model_copy(update={"cause": f"The step {node.name} failed: {why.cause}"}))


def outputs(state: RunState) -> dict[str, Any]:
    """Return what the run gives: `result` in the shape that the workflow's function returned it."""
    root = state.root
    if root is None or state.phase != "Succeeded":
        return {}
    files = previews.without(root.out_files)
    found: dict[str, Any] = {**{key: _value(value) for key, value in root.outputs.items()}, **files}
    shape = state.manifest.metadata.annotations.get(names.RETURNS)
    if shape == "list":
        members = sorted((int(key.removeprefix("result-")), one) for key, one in found.items())
        return {"result": [one for _, one in members]}
    if shape == "dict":
        return {"result": {key.removeprefix("result-"): one for key, one in found.items()}}
    return found


def _given_files(node: Node) -> dict[str, Any]:
    """Return the files that went in; those of one list argument together, under the argument's own name."""
    call = node.files.get("ropewalk-call", {}).get("raw")
    lists = json.loads(call).get("lists", []) if call else []
    found: dict[str, Any] = {}
    for key, one in node.files.items():
        name, _, index = key.rpartition("-")
        if name in lists and index.isdigit():
            found.setdefault(name, []).append((int(index), _shown(one)))
        elif not key.startswith("ropewalk-"):
            found[key] = _shown(one)
    return {
        key: [member for _, member in sorted(one, key=lambda pair: pair[0])]
        if isinstance(one, list) and key in lists and key not in node.files
        else one
        for key, one in found.items()
    }


def _value(text: str) -> Any:
    """Return the value of JSON text; the text itself where it is none, or one that nobody could pass on."""
    try:
        found = json.loads(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    return text if _is_deep(found) else found


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [one for many in inner for one in many]
        if not level:
            return False
    return True


def _shown(reference: dict[str, Any]) -> Any:
    if "list" in reference:
        return [_shown(one) for one in reference["list"]]
    if "raw" in reference:
        return reference["raw"][:200]
    return {key: reference[key] for key in ("key", "digest", "type", "size", "preview") if key in reference}


def _placement(state: RunState, node: Node) -> Placement:
    if node.template is None or node.template.program is None or node.kind != "pod":
        return Placement()
    return placement_of(node.template, state.manifest, node.template.name)

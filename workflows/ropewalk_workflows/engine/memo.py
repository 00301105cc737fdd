"""What makes a step's result that of an earlier run: the same code, inputs, packages and way to run it. Pure.

Only steps of ours are compared: of a program nobody can say what it reads. Of calls that are equal the first takes the
result of the first, the second that of the second: two throws of a die stay two. Not here: where results of earlier
runs are found, and why one was not (``ropewalk_workflows.memo``). Rejected: a step's place in its workflow as a part of
the key (one more item at the front of a fan-out would run all of it again).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ropewalk_workflows import names
from ropewalk_workflows.engine.state import Fact, Node, Reference, RunState
from ropewalk_workflows.manifest import keeps, placement_of, secrets_of
from ropewalk_workflows.required import environment_of

NOTHING, OFF, TOUCHED = "nothing", "off", "touched"
"""Why a result is not for later runs: there is none, the person said so, or it follows from more than its inputs."""
_SHORT = 16
_EMPTY = "NoneType"
_LAST = "onExit/"
"""How the paths of what runs at a run's end begin; it runs for what it does."""


def begin(state: RunState, node: Node) -> None:
    """Note in a leaf's fact what is compared; nothing where a result is never kept."""
    fact = node.fact
    if known := str(fact.memo.get("key", "")):  # it was taken up before: its turn is not given away again
        key, _, given = known.partition(".")
        state.turns[key] = max(state.turns.get(key, 0), int(given or 0) + 1)
    elif not fact.phase and (parts := _parts(state, node)):
        key = _hash(parts)
        turn = state.turns.get(key, 0)
        state.turns[key] = turn + 1
        inputs = {name: digest[:_SHORT] for name, digest in parts["inputs"].items()}  # these only say what differs
        fact.memo = {**parts, "inputs": inputs, "key": f"{key}.{turn}" if turn else key}
        if _keeps(node) is False:
            fact.memo["not"] = OFF


def found(state: RunState, node: Node, now: float) -> dict[str, Any] | None:
    """Return what an earlier run has of this leaf, unless it is older than its step allows."""
    memo, keeps_for = node.fact.memo, _keeps(node)
    earlier = state.kept.get(str(memo.get("key", "")))
    if earlier is None or memo.get("not"):
        return None
    old = isinstance(keeps_for, float) and now - float(earlier["at"]) > keeps_for
    return None if old else earlier


def take(fact: Fact, earlier: dict[str, Any]) -> None:
    """Give a leaf what an earlier run has of it."""
    fact.parameters, fact.artifacts = dict(earlier["parameters"]), dict(earlier["artifacts"])
    fact.memo["from"], fact.memo["at"] = str(earlier["from"]), float(earlier["at"])


def succeeded(node: Node, now: float, touched: str) -> None:
    """Note of a leaf that ran whether its result is for later runs.

    Unless its step says so, none of one without a result, which ran for what it did, nor of one that ``touched`` what
    nobody compares.
    """
    memo = node.fact.memo
    if not memo or memo.get("not"):
        return
    memo["at"] = now
    if _keeps(node) is not None:
        return
    if node.fact.artifacts.get("result", {}).get("type") == _EMPTY:
        memo["not"] = NOTHING
    elif touched:
        memo["not"], memo["touched"] = TOUCHED, touched


def _keeps(node: Node) -> bool | float | None:
    return keeps(node.template, node.template.name) if node.template is not None else False


def _parts(state: RunState, node: Node) -> dict[str, Any]:
    """Return what is compared, each by a digest."""
    code = str(node.files.get("ropewalk-bundle", {}).get("key", "")).removeprefix(names.BUNDLES)
    if code not in state.spec.bundles or node.template is None or node.hook or node.path.startswith(_LAST):
        return {}
    called = str(node.files.get("ropewalk-call", {}).get("raw") or "{}")
    placement = placement_of(node.template, state.manifest, node.template.name)
    how = [called, placement.arch, placement.accelerator, state.spec.folder]
    how += [secrets] if (secrets := secrets_of(node.template, node.template.name)) else []
    inputs = {name: _hash(value) for name, value in _given(node, called).items()}
    return {
        "code": code,
        "inputs": inputs,
        "environment": environment_of(node.template) or state.environment,
        "how": _hash(how),
    }


def _given(node: Node, called: str) -> dict[str, Any]:
    """Return what goes in by the names of the step's arguments: the members of a list are one."""
    lists = json.loads(called).get("lists", [])
    found: dict[str, Any] = {name: one for name, one in node.inputs.items() if not name.startswith("ropewalk-")}
    for name, reference in node.files.items():
        stem, _, place = name.rpartition("-")
        if stem in lists and place.isdecimal():
            found.setdefault(stem, {})[place] = _named(reference)
        elif not name.startswith("ropewalk-"):
            found[name] = _named(reference)
    return found


def _named(reference: Reference) -> Any:
    """Return what tells a file's content from another's."""
    if "list" in reference:
        return [_named(one) for one in reference["list"]]
    return [reference[key] for key in ("digest", "raw", "key") if key in reference][:1]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

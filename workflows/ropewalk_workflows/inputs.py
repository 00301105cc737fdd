"""What a step was called with, from the run's records alone, so that a debugger anywhere can call it again.

The tree of the run is grown from its facts, as after a restart; the step's arguments are then known by reference. Not
here: content (the port's ``artifact``). Rejected: reading an attempt's folder; a cluster has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import RunSpec, StepInputs
from ropewalk_workflows import names
from ropewalk_workflows.engine.core import step as take
from ropewalk_workflows.engine.state import Begin, Cancel, Fact, Node, Reference, RunState
from ropewalk_workflows.manifest import read
from ropewalk_workflows.records import SPEC, Records

_HINT = "Only a step that could start has inputs, and only one of ours can be opened."
_VALUE = re.compile(rf"\b{names.VALUES}([0-9a-f]{{64}})\b")


def step_inputs(records: Records, images: Mapping[str, str], owner: str, run: str, step: str) -> StepInputs:
    """Return a step's code and arguments. Blocks.

    Raises
    ------
    NotFound
        If there is no such step, it has not what it needs yet, or it is no step of ours.
    """
    record = records.journal.get(SPEC, owner, run)
    if record is None:
        raise NotFound.named("workflows", f"There is no run '{run}'.", field="run")
    spec = RunSpec.model_validate(record.body)
    facts = {str(one.body["step"]["id"]): Fact(**one.body["fact"]) for one in records.steps(owner, run)}
    on_exit = bool(records.run(owner, run).body.get("on_exit"))
    state = grown(spec, images, owner, run, facts, on_exit=on_exit)
    node = state.nodes.get(step)
    code = node.files.get("ropewalk-bundle", {}).get("key", "") if node is not None else ""
    bundle = spec.bundles.get(code.removeprefix(names.BUNDLES))
    if node is None or bundle is None:
        raise NotFound(f"The inputs of the step '{step}' are not there.", field="step", hint=_HINT)
    return StepInputs(bundle=bundle, arguments=_arguments(node))


def grown(
    spec: RunSpec,
    images: Mapping[str, str],
    owner: str,
    run: str,
    facts: dict[str, Fact],
    *,
    on_exit: bool = False,
) -> RunState:
    """Return the tree of a run as its facts have it; what they do not say is as if the run were taken up just now.

    Parameters
    ----------
    on_exit
        Whether it was stopped with its last step, which the tree has then too.

    Raises
    ------
    BadWorkflow
        If its manifest cannot be read any more.
    """
    state = RunState(run=run, owner=owner, spec=spec, manifest=read(spec.manifest, images), facts=facts)
    state.begun, state.elsewhere = {name for name, one in facts.items() if one.attempt}, True
    take(state, Begin(0.0))
    if on_exit:
        take(state, Cancel(0.0, on_exit=True))
    return state


def values_of(spec: RunSpec) -> set[str]:
    """Return the digests of the values that came with a run."""
    return set(_VALUE.findall(json.dumps(spec.manifest)))


def _arguments(node: Node) -> dict[str, Any]:
    call = json.loads(node.files.get("ropewalk-call", {"raw": "{}"}).get("raw") or "{}")
    found: dict[str, Any] = {name: {"list": []} for name in call.get("lists", [])}
    found |= {name: {"json": text} for name, text in node.inputs.items() if not name.startswith("ropewalk-")}
    members: dict[str, dict[int, Any]] = {}
    prefix = f"{names.MOUNT}/inputs/"
    for artifact in node.template.inputs.artifacts if node.template else ():
        if artifact.name not in node.files or not (artifact.path or "").startswith(prefix):
            continue
        name, _, index = (artifact.path or "").removeprefix(prefix).partition("/")
        if index.isdigit():
            members.setdefault(name, {})[int(index)] = _referred(node.files[artifact.name])
        else:
            found[name] = _referred(node.files[artifact.name])
    for name, index in (one.partition("/")[::2] for one in call.get("maybe", [])):
        if index.isdecimal():
            members.setdefault(name, {}).setdefault(int(index), {"json": "null"})
        else:
            found.setdefault(name, {"json": "null"})
    return found | {name: {"list": [one[index] for index in sorted(one)]} for name, one in members.items()}


def _referred(reference: Reference) -> dict[str, Any]:
    if "list" in reference:
        return {"list": [_referred(one) for one in reference["list"]]}
    if "raw" in reference:
        return {"json": reference["raw"]}
    if "digest" in reference:
        return {"digest": reference["digest"]}
    return {"digest": str(reference["key"]).removeprefix(names.VALUES)}

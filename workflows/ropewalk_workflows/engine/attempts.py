"""One attempt at the host and on disk: inputs before it starts, an outcome after it ended.

Short inputs go with the order and short outcomes come back with the end, so that a small step waits for no file; long
ones, and what is left of an attempt whose end nobody heard, are in its folder.
Everything below an account's folder is reached without following links. What a step wrote is read with limits and
trusted only for the attempt it names; its content is the account's own affair. Not here: when to run what (``core``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ropewalk_core import beneath, machine
from ropewalk_core.errors import RopewalkError
from ropewalk_core.local.host_client import StepExit, StepOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.placement import format_size
from ropewalk_core.settings import Settings
from ropewalk_core.why import more_memory
from ropewalk_runtime.exec import SIGNALED_EXIT
from ropewalk_runtime.values import SHORT
from ropewalk_workflows import names, previews
from ropewalk_workflows.engine.scope import Scope
from ropewalk_workflows.engine.state import Node, Outcome, Reference, RunState
from ropewalk_workflows.manifest import meaning, placement_of, secrets_of
from ropewalk_workflows.manifest.model import Template
from ropewalk_workflows.manifest.text import duration, fill
from ropewalk_workflows.required import environment_of

_LARGEST = 4 * 2**20
_NOTHING = {"json": "null"}
"""None, for what was left out."""
_LARGEST_TEXT = 64 * 1024
_LARGEST_ORDER = 32 * 1024
_LONGEST_TOUCHED = 200


class Host(Protocol):
    """What runs steps: ``HostClient``."""

    async def run_step(self, order: StepOrder, on_started: Callable[[], None] | None = None) -> StepExit:
        """Run a step to its end; say when it has begun."""

    async def end(self, identifier: str) -> None:
        """End a step."""


def order_id(state: RunState, node: Node, attempt: int) -> str:
    """Return what the host calls the attempt."""
    return f"{state.run}.{node.id}.{attempt}"


def prepare(settings: Settings, state: RunState, node: Node, attempt: int) -> StepOrder:
    """Return the order for the host.

    Raises
    ------
    BadText
        If a text of the manifest lacks a value.
    """
    paths = AccountPaths(settings.home, state.owner)
    inputs = {"attempt": order_id(state, node, attempt), **_inputs(settings, paths, state, node, attempt)}
    assert node.template is not None
    secrets = secrets_of(node.template, node.template.name)
    inputs |= {"secrets": list(secrets)} if secrets else {}
    placement = placement_of(node.template, state.manifest, node.template.name)
    limit = node.template.active_deadline_seconds or node.template.timeout
    return StepOrder(
        id=order_id(state, node, attempt),
        account=state.owner,
        cwd=inputs.get("cwd") or state.spec.folder,
        environment={"ROPEWALK_RUN": state.run, "ROPEWALK_STEP": node.id},
        memory=placement.memory,
        cpu=placement.cpu,
        scratch=placement.scratch,
        accelerator=placement.accelerator,
        what=f"run '{state.run}'",
        preload=_preload(state, inputs),
        folder=str(paths.attempt(state.run, node.id, attempt)),
        timeout=duration(limit) if limit is not None else None,
        inputs=inputs,
        secrets=secrets,
        requirements=environment_of(node.template),
    )


def is_long(order: StepOrder) -> bool:
    """Say whether an order's inputs must be written down, because they do not fit into one packet."""
    return len(json.dumps(order.inputs)) > _LARGEST_ORDER


def written_down(settings: Settings, order: StepOrder) -> StepOrder:
    """Write an order's inputs into its folder and return it without them.

    Raises
    ------
    StorageFull
        If the disk is full; nothing half-written stays.
    """
    root = AccountPaths(settings.home, order.account).root
    with beneath.replacing(root, (*Path(order.folder).relative_to(root).parts, "inputs.json")) as file:
        file.write(json.dumps(order.inputs).encode())
        file.settle()
    return replace(order, inputs=None)


def outcome(settings: Settings, state: RunState, node: Node, attempt: int, ended: StepExit | None) -> Outcome | None:
    """Return how an attempt ended; None when nothing tells, and it must count as lost.

    ``ended`` is None when only the files can tell: after a crash of the engine or of the host.
    """
    said = _object(ended.said) if ended is not None else {}
    if not said:
        paths = AccountPaths(settings.home, state.owner)
        said = _read(paths, paths.attempt(state.run, node.id, attempt) / "outputs.json")
    if said.get("attempt") != order_id(state, node, attempt):
        said = {}
    if ended is None and not said:
        return None
    found = _outcome(settings, state, node, ended, said)
    if found.ok:
        return found
    return replace(found, code=_exit_code(ended, said), artifacts=artifacts_told(said))


def _outcome(settings: Settings, state: RunState, node: Node, ended: StepExit | None, said: dict[str, Any]) -> Outcome:
    peak = max(ended.peak_memory if ended else 0, _number(said.get("peak_memory")))
    if ended is not None and (ended.reason in ("memory", "time") or (not said and ended.code)):
        return _killed(settings, state, node, ended, peak, said)
    if not said:
        error = "The step ended without saying what it returned."
        return Outcome(False, error=error, problem="RW-USER-CODE", peak=peak)
    if not said.get("ok"):
        problem = str(said.get("problem") or "RW-USER-CODE")
        if problem == "RW-OUT-OF-MEMORY":
            return _memory(settings, state, node, peak, text_told(said.get("traceback")))
        return Outcome(
            False,
            error=text_told(said.get("error"))[:4000] or "It failed.",
            problem=_sound(problem[:100]),
            traceback=text_told(said.get("traceback")),
            peak=peak,
        )
    touched = text_told(said.get("touched"))[:_LONGEST_TOUCHED]
    return Outcome(True, parameters=_parameters(said), artifacts=artifacts_told(said), peak=peak, touched=touched)


def _exit_code(ended: StepExit | None, said: dict[str, Any]) -> int:
    """Return with which code a failed attempt ended, as manifests ask for it; if nobody saw that, its outputs tell."""
    if ended is not None and not ended.said:
        return ended.code if ended.code >= 0 else SIGNALED_EXIT
    return min(_number(said.get("code")), 255) or 1


def _killed(
    settings: Settings, state: RunState, node: Node, ended: StepExit, peak: int, said: dict[str, Any]
) -> Outcome:
    if ended.reason == "memory":
        return _memory(settings, state, node, peak, text_told(said.get("traceback")))
    if ended.reason == "time":
        limit = node.template.active_deadline_seconds or node.template.timeout if node.template else None
        error = f"It took longer than its limit of {duration(limit or '0'):g} seconds and was ended."
        return Outcome(False, error=error, problem="RW-TIMED-OUT", peak=peak)
    how = f"was ended by signal {ended.signal}" if ended.signal else f"ended with exit code {ended.code}"
    error = f"Its process {how} before it returned anything."
    return Outcome(False, error=error, problem="RW-USER-CODE", hint="Look at the step's log.", peak=peak)


def _memory(settings: Settings, state: RunState, node: Node, peak: int, traceback: str) -> Outcome:
    assert node.template is not None
    limit = placement_of(node.template, state.manifest, node.template.name).memory or settings.limits.memory
    used = f" (it had used {peak / 2**20:.0f} MiB)" if peak else ""
    error = f"It needed more memory than its limit of {format_size(limit)}{used}."
    hint = more_memory(limit, machine.memory())
    return Outcome(False, error=error, problem="RW-OUT-OF-MEMORY", traceback=traceback, hint=hint, peak=peak)


# Inputs


def _inputs(settings: Settings, paths: AccountPaths, state: RunState, node: Node, attempt: int) -> dict[str, Any]:
    template = node.template
    assert template is not None and template.program is not None
    kind = meaning(template.program, settings.environments.images, template.name)
    common = {"store": str(paths.artifacts)}
    if kind == "step":
        return common | _step_inputs(paths, state, node)
    return common | _program_inputs(paths, state, node, template, kind, attempt)


def _step_inputs(paths: AccountPaths, state: RunState, node: Node) -> dict[str, Any]:
    """Return the arguments of one of our steps: parameters as JSON, artifacts as files of the store."""
    assert node.template is not None
    call = json.loads(node.files.get("ropewalk-call", {"raw": "{}"}).get("raw") or "{}")
    arguments: dict[str, Any] = {name: {"list": []} for name in call.get("lists", [])}
    for name, value in node.inputs.items():
        if not name.startswith("ropewalk-"):
            arguments[name] = {"json": value}
    prefix = f"{names.MOUNT}/inputs/"
    members: dict[str, dict[int, Any]] = {}
    for artifact in node.template.inputs.artifacts:
        if artifact.name not in node.files or not (artifact.path or "").startswith(prefix):
            continue
        name, _, index = (artifact.path or "").removeprefix(prefix).partition("/")
        reference = _file(paths, state, node.files[artifact.name])
        if index.isdigit():
            members.setdefault(name, {})[int(index)] = reference
        else:
            arguments[name] = reference
    for name, index in (one.partition("/")[::2] for one in call.get("maybe", [])):
        if index.isdecimal():
            members.setdefault(name, {}).setdefault(int(index), _NOTHING)
        else:
            arguments.setdefault(name, _NOTHING)
    for name, found in members.items():
        arguments[name] = {"list": [found[index] for index in sorted(found)]}
    bundle = _file(paths, state, node.files["ropewalk-bundle"])["file"]
    more = {key: call[key] for key in ("pickle", "tests") if call.get(key)}
    return {"bundle": bundle, "arguments": arguments, "wants": call.get("wants", []), **more}


def _program_inputs(
    paths: AccountPaths, state: RunState, node: Node, template: Template, kind: str, attempt: int
) -> dict[str, Any]:
    """Return a command of the person's own manifest with its values filled in, as Argo does."""
    program = template.program
    assert program is not None
    places = {f"outputs.parameters.{one.name}.path": _path_of(one.value_from) for one in template.outputs.parameters}
    places |= {f"outputs.artifacts.{one.name}.path": one.path or "" for one in template.outputs.artifacts}
    extra = {**places, "retries": str(attempt - 1), "pod.name": node.id, "node.name": node.path}
    scope = Scope(state, node, extra)
    command = [fill(one, scope) for one in program.command]
    if not command:
        command = ["python"] if kind == "python" else ["/bin/sh"]
    inputs: dict[str, Any] = {
        "command": command,
        "args": [fill(one, scope) for one in program.args],
        "environment": {one.name: fill(one.value, scope) for one in program.env},
        "files": [
            {"path": one.path, **_file(paths, state, node.files[one.name], text=True)}
            for one in template.inputs.artifacts
            if one.name in node.files and one.path
        ],
        "output_files": {
            one.name: {"path": _path_of(one.value_from), "default": one.value_from.default if one.value_from else None}
            for one in template.outputs.parameters
        },
        "output_artifacts": {
            one.name: {"path": one.path, "optional": one.optional} for one in template.outputs.artifacts
        },
        "capture": template.script is not None or state.wants_results,
    }
    if program.working_dir:
        inputs["cwd"] = program.working_dir
    if template.script is not None:
        inputs["source"] = fill(template.script.source, scope, lenient=True)
    return inputs


def _path_of(source: Any) -> str:
    return (source.path if source is not None else None) or ""


def _file(paths: AccountPaths, state: RunState, reference: Reference, *, text: bool = False) -> dict[str, Any]:
    """Return where the content of a reference lies, as the sandbox sees it."""
    if "list" in reference:
        return {"list": [_file(paths, state, one) for one in reference["list"]]}
    if "raw" in reference:
        return {"text": reference["raw"]} if text else {"json": reference["raw"]}
    if 0 < len(reference.get("json", "")) <= SHORT:  # its file is not synced; and it need not be read
        return {"text" if text else "json": reference["json"]}
    if "digest" in reference:
        digest = str(reference["digest"])
        return {"file": str(paths.artifacts / digest[:2] / digest)}
    return {"file": str(paths.root / "runs" / state.run / str(reference["key"]))}


def _preload(state: RunState, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the libraries that the step's code imports, which the zygote may have ready."""
    bundle = state.spec.bundles.get(Path(str(inputs.get("bundle", ""))).name)
    if bundle is None:
        return ()
    local = {name.partition("/")[0].removesuffix(".py") for name in bundle.files}
    libraries = [one for one in bundle.imports if one.partition(".")[0] not in local]
    return tuple(sorted(one for one in libraries if not one.startswith("ropewalk")))


# What a step said


def _read(paths: AccountPaths, path: Path) -> dict[str, Any]:
    try:
        with beneath.read(paths.root, path.relative_to(paths.root).parts) as file:
            content = file.read(_LARGEST + 1)
    except RopewalkError:
        return {}
    return _object(content) if len(content) <= _LARGEST else {}


def _object(content: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def text_told(value: Any) -> str:
    """Return the end of a text that a sandbox told; nothing for anything else."""
    return _sound(value[-_LARGEST_TEXT:]) if isinstance(value, str) else ""


def _sound(text: str) -> str:
    """Return text that can be kept: half of a surrogate pair, which JSON can carry, is no character."""
    return text.encode("utf-8", "replace").decode()


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**60 else 0


def _parameters(said: Mapping[str, Any]) -> dict[str, str]:
    found = said.get("parameters")
    pairs = found.items() if isinstance(found, dict) else ()
    return {_sound(key): _sound(one) for key, one in pairs if isinstance(one, str)}


def artifacts_told(said: Mapping[str, Any]) -> dict[str, Reference]:
    """Keep of each artifact only the known facts in the known types: this came from a sandbox."""
    found = said.get("artifacts")
    kept: dict[str, Reference] = {}
    for name, one in found.items() if isinstance(found, dict) else ():
        digest = one.get("digest") if isinstance(one, dict) else None
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            continue
        reference: Reference = {"digest": digest, "size": _number(one.get("size"))}
        for key in ("media_type", "type", "preview", "json"):
            if isinstance(one.get(key), str):
                reference[key] = _sound(one[key][:_LARGEST_TEXT])
        if look := previews.told(one.get("look")):
            reference["look"] = look
        kept[_sound(name)] = {"media_type": "application/octet-stream", **reference}
    return kept

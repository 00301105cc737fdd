"""How people see a run that Argo carries out: our engine's tree grown from what Argo has, and why each step stands so.

Pure. What is true of a leaf and of the whole comes from Argo; names, groups, arrows and conditions from the code that
runs on one machine. Not here: reading Argo's nodes (``nodes``), keeping what was seen (``observer``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ropewalk_core.errors import RopewalkError
from ropewalk_core.flows import ON_EXIT, RunSpec, Step
from ropewalk_core.kube.kinds import Object
from ropewalk_core.model import State, Status, Why
from ropewalk_core.placement import format_size, parse_size
from ropewalk_core.settings import Settings
from ropewalk_core.why import cluster as why_cluster
from ropewalk_workflows.argo.nodes import Known, Leaf, fact, seconds
from ropewalk_workflows.engine import attempts, view
from ropewalk_workflows.engine.core import step
from ropewalk_workflows.engine.state import Begin, Cancel, Fact, Node, Reference, RunState
from ropewalk_workflows.manifest import placement_of
from ropewalk_workflows.manifest.calls import calls_of
from ropewalk_workflows.manifest.hooks import EXIT
from ropewalk_workflows.manifest.model import Manifest, Template
from ropewalk_workflows.manifest.text import BadText, duration

ELSEWHERE = "It was stopped with argo or another tool."
_CODE = re.compile(r"\(exit code (\d+)\)")
_MEMORY = re.compile(r"OOMKilled")
_TIME = re.compile(r"longer than the specified deadline|exceeded its deadline|DeadlineExceeded|Max duration limit")
_UNPLACED = re.compile(r"^(?:Unschedulable|SchedulingGated)\b|exceeded quota")


@dataclass(frozen=True)
class Asked:
    """What is known of a run before the cluster is looked at."""

    owner: str
    run: str
    spec: RunSpec
    manifest: Manifest
    cancel: bool = False
    earlier: Mapping[str, int] = field(default_factory=dict)
    """Attempts of each step before the last retry of the whole run."""


@dataclass(frozen=True)
class Seen:
    """A run at one moment: its steps in the order in which they came, their facts, and where the whole stands."""

    steps: tuple[tuple[Step, Fact], ...]
    status: Status
    outputs: dict[str, Any]
    finished: bool = False
    """Whether surely nothing of it is left to begin, whatever Argo says of the whole."""


def seen(
    asked: Asked,
    workflow: Object,
    known: Known,
    files: Mapping[str, Mapping[str, Reference]],
    settings: Settings,
    now: float,
) -> Seen:
    """Return how a run stands.

    Parameters
    ----------
    asked
        What the person wanted.
    workflow, known
        The Workflow, and what Argo has of its steps.
    files
        For each step that ended well, its files with their digests.
    settings, now
        Limits that a message names, and Unix time.
    """
    phase = str((workflow.get("status") or {}).get("phase") or "")
    over, stopping = phase in ("Succeeded", "Failed", "Error"), bool((workflow.get("spec") or {}).get("shutdown"))
    facts = {}
    for name, leaf in known.leaves.items():
        made = fact(leaf, files.get(name, {}), asked.earlier.get(name, 0), over=over)
        if made.phase in ("Failed", "Error") or made.again is not None:
            _explain(made, leaf, asked, name, settings)
        made.running = made.running and not _waits_for_somebody(_template(asked.manifest, leaf))
        facts[name] = made
    for name, leaf in known.tries.items():
        facts[name] = replace(fact(leaf, {}, 0, over=over), running=False)
    begun = (workflow.get("status") or {}).get("startedAt") or (workflow.get("metadata") or {}).get("creationTimestamp")
    state = RunState(run=asked.run, owner=asked.owner, spec=asked.spec, manifest=asked.manifest, facts=facts)
    state.started, state.begun, state.elsewhere = seconds(begun) or now, known.begun, True
    step(state, Begin(now))
    if stopping or over:
        step(state, Cancel(now))
    state.phase = "Succeeded" if phase == "Succeeded" else state.phase
    shown = tuple(
        (_shown(state, node, known.leaves.get(node.id)), facts.get(node.id, Fact()))
        for node in sorted(state.nodes.values(), key=lambda one: one.order)
        if view.visible(node)
    )
    finished = state.finished and not _hooked(asked.manifest)
    return Seen(shown, _status(asked, state, workflow, phase), view.outputs(state), finished)


def artifacts(leaf: Leaf) -> dict[str, Reference]:
    """Return the files of which the step itself told digest and size; a person's pod said so, so types are checked."""
    return attempts.artifacts_told(leaf.told)


def _shown(state: RunState, node: Node, leaf: Leaf | None) -> Step:
    found = view.step(state, node)
    if node.ended or node.fact.running or node.fact.again is not None or node.kind not in ("pod", "suspend"):
        return found
    if node.kind == "suspend" and node.fact.started is not None:
        return found
    if leaf is None or leaf.phase not in ("Pending", "Running"):
        needs = any(not state.nodes[one].ended for one in node.upstream if one in state.nodes)
        why = found.status.why if needs or not node.ready else Why(cause="It is about to start.")
        return found.model_copy(update={"status": Status(state=State.WAITING, since=node.since, why=why)})
    said = leaf.message
    waits = bool(_UNPLACED.search(said))
    why = why_cluster.from_message(said.partition(": ")[2] if waits and ": " in said else said) if said else None
    if said in ("PodInitializing", "ContainerCreating"):
        why = None
    status = Status(state=State.WAITING if waits else State.STARTING, since=node.since, why=why)
    return found.model_copy(update={"status": status})


def _status(asked: Asked, state: RunState, workflow: Object, phase: str) -> Status:
    spec, said = workflow.get("spec") or {}, str((workflow.get("status") or {}).get("message") or "")
    stopped, note = bool(spec.get("shutdown")), ON_EXIT if spec.get("shutdown") == "Stop" else ""
    if phase == "Succeeded":
        return Status(state=State.DONE)
    if phase not in ("Failed", "Error"):
        why = Why(cause=ELSEWHERE) if stopped and not asked.cancel else None
        return Status(state=State.STOPPING if stopped else State.RUNNING, since=state.started, why=why, note=note)
    if stopped:
        return Status(state=State.STOPPED, note=note or "stopped", why=None if asked.cancel else Why(cause=ELSEWHERE))
    state.stopping, state.finished = "", True
    limit = asked.manifest.spec.active_deadline_seconds
    if limit is not None and _TIME.search(said) and not state.failed_step:
        state.cause = f"The workflow took longer than its {limit} seconds."
    if not state.failed_step and not state.cause:
        return Status(state=State.FAILED, why=Why(cause=said or "It failed.", raw=said))
    state.phase = "Failed"
    return view.run_status(state)


def _explain(made: Fact, leaf: Leaf, asked: Asked, name: str, settings: Settings) -> None:
    """Give a failed leaf its error, as our engine words it."""
    told, template = leaf.told, _template(asked.manifest, leaf)
    made.problem = str(told.get("problem") or "")[:100]
    made.traceback = attempts.text_told(told.get("traceback"))
    made.error = attempts.text_told(told.get("error"))[:4000]
    message = leaf.message
    if _MEMORY.search(message) or made.problem == "RW-OUT-OF-MEMORY":
        used = f" (it had used {made.peak / 2**20:.0f} MiB)" if made.peak else ""
        made.problem = "RW-OUT-OF-MEMORY"
        made.error = f"It needed more memory than its limit of {_memory(asked, template, settings)}{used}."
    elif made.error:
        made.problem = made.problem or "RW-USER-CODE"
    elif _TIME.search(message):
        made.problem, made.error = "RW-TIMED-OUT", _late(template, message)
    elif (match := _CODE.search(message)) is not None:
        made.problem = "RW-USER-CODE"
        program = template.program if template is not None else None
        ours = template is not None and any(one.name == "ropewalk-call" for one in template.inputs.artifacts)
        who = "Its process" if ours or program is None else f"The program {_called(program.command)!r}"
        made.error = f"{who} ended with exit code {match[1]}{' before it returned anything' if ours else ''}."
        made.hint = "Look at the step's log."
    else:
        why = why_cluster.from_message(message) if message else Why(cause="It failed.")
        made.error, made.hint, made.problem = why.cause, why.next, why.code


def _hooked(manifest: Manifest) -> bool:
    """Say whether Argo alone knows if hooks are still to come; the exit handler of the whole comes in any case."""
    calls = (call for one in manifest.spec.templates for call in calls_of(one))
    return any(name != EXIT for name in manifest.spec.hooks) or any(call.hooks or call.on_exit for call in calls)


def _waits_for_somebody(template: Template | None) -> bool:
    """Say whether this is a pause that ends when the run is resumed, and not by itself."""
    return template is not None and template.suspend is not None and template.suspend.duration is None


def _template(manifest: Manifest, leaf: Leaf) -> Template | None:
    return manifest.templates.get(str(leaf.node.get("templateName")))


def _called(command: tuple[str, ...]) -> str:
    return command[0] if command else "python"


def _memory(asked: Asked, template: Template | None, settings: Settings) -> str:
    if template is not None:
        try:
            if limit := placement_of(template, asked.manifest, template.name).memory:
                return format_size(limit)
        except RopewalkError:
            pass
    return format_size(parse_size(settings.cluster.container.get("memory", "1Gi")))


def _late(template: Template | None, message: str) -> str:
    limit = (template.active_deadline_seconds or template.timeout) if template is not None else None
    if limit is None:
        return "It ran over its time and was ended."
    try:
        return f"It took longer than its limit of {duration(limit):g} seconds and was ended."
    except BadText:
        return message

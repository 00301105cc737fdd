"""The Workflow that Argo gets: of the work what a person's manifest says, of everything else what the platform says.

Only fields that our own engine knows are taken over; accounts, rights, volumes, images, places and how long things are
kept are ours. Pure. Not here: sending it (``backend``). Rejected: sending a person's manifest as it came with a few
fields replaced; one that nobody thought of would be theirs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ropewalk_core import names as core_names
from ropewalk_core.flows import RunSpec
from ropewalk_core.kube import restricted, safe
from ropewalk_core.kube.buckets import CONFIG_KEY, CONFIG_NAME
from ropewalk_core.kube.kinds import WORKFLOW, Object
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.placement import Fragment, place
from ropewalk_core.kube.tenancy import ACCOUNT, REPORTS, WORK
from ropewalk_core.kube.volumes import HOME, mount
from ropewalk_core.settings import Settings
from ropewalk_runtime.step import FACTS as FACTS_FILE
from ropewalk_workflows import names
from ropewalk_workflows.manifest import meaning, placement_of, secrets_of
from ropewalk_workflows.manifest.calls import calls_of
from ropewalk_workflows.manifest.images import AnyImage
from ropewalk_workflows.manifest.model import Manifest, Template
from ropewalk_workflows.manifest.resolved import plain
from ropewalk_workflows.manifest.text import duration

FACTS = "ropewalk-facts"
"""Output parameter in which a step of ours tells what an engine on one machine would read itself."""
RUN, GENERATION = "ropewalk.dev/run", "ropewalk.dev/generation"
KEPT, POD_KEPT = 86400, "600s"
"""How long an ended workflow stays in the cluster, and an ended step's pod; its log is in the bucket from its end."""
_WORKSPACE = {"name": "ropewalk", "mountPath": names.MOUNT}
_RESERVED = {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
_MOST = {"memory": "256Mi", "ephemeral-storage": "2Gi"}
_OF_A_TEMPLATE = ("dag", "steps", "suspend", "inputs", "activeDeadlineSeconds", "timeout")
_OF_A_PROGRAM = ("command", "args", "env", "source", "workingDir", "resources")
_OF_A_SPEC = ("entrypoint", "arguments", "parallelism", "activeDeadlineSeconds", "onExit", "hooks")


@dataclass(frozen=True)
class Where:
    """Whose run this is and where it goes."""

    owner: str
    run: str
    space: str
    generation: int = 1


def workflow(spec: RunSpec, manifest: Manifest, where: Where, settings: Settings, site: Site) -> Object:
    """Return the Workflow.

    Parameters
    ----------
    spec, manifest
        What was asked for, and its manifest as it was checked.
    where, settings, site
        Whose it is, how this installation is set up, and what the cluster has.

    Raises
    ------
    Unsatisfiable
        If no node can ever satisfy a step's placement.
    """
    labels = {RUN: where.run, ACCOUNT: core_names.slug(where.owner), "ropewalk.dev/kind": "run"}
    returns = manifest.metadata.annotations.get(names.RETURNS)
    told = {GENERATION: str(where.generation), **({names.RETURNS: returns} if returns else {})}
    given = plain(spec.manifest)["spec"]
    templates = zip(given["templates"], manifest.spec.templates, strict=True)
    files = mount(settings)
    body = {name: given[name] for name in _OF_A_SPEC if given.get(name) is not None}
    body |= {
        "templates": [_template(one, read, manifest, spec, settings, site) for one, read in templates],
        "serviceAccountName": WORK,
        "automountServiceAccountToken": False,
        "executor": {"serviceAccountName": REPORTS},
        "securityContext": restricted.pod(),
        "podMetadata": {"labels": {**labels, "ropewalk.dev/kind": "step", **files.labels}},
        "podSpecPatch": json.dumps(_every_pod()),
        "volumes": [files.volume, {"name": _WORKSPACE["name"], "emptyDir": {}}],
        "artifactRepositoryRef": {"configMap": CONFIG_NAME, "key": CONFIG_KEY},
        "archiveLogs": True,
        "podGC": {"strategy": "OnPodCompletion", "deleteDelayDuration": POD_KEPT},
        "ttlStrategy": {"secondsAfterCompletion": KEPT},
    }
    metadata = {"name": where.run, "namespace": where.space, "labels": labels, "annotations": told}
    return WORKFLOW.of({"metadata": metadata, "spec": body})


def _every_pod() -> Object:
    """Return what each step's pod gets whatever its template says; Argo's own containers need bounds as well."""

    def ours(name: str, cpu: str) -> Object:
        limits = {"cpu": cpu, **_MOST}
        return {
            "name": name,
            "securityContext": restricted.container(),
            "resources": {"requests": _RESERVED, "limits": limits},
        }

    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "initContainers": [ours("init", "1")],  # not added up by a quota, unlike what runs beside the step
        "containers": [ours("wait", "250m")],
    }


def _template(
    given: Mapping[str, Any], read: Template, manifest: Manifest, spec: RunSpec, settings: Settings, site: Site
) -> Object:
    kept: Object = {"name": read.name, **{name: given[name] for name in _OF_A_TEMPLATE if given.get(name) is not None}}
    if given.get("retryStrategy") and read.suspend is None:
        kept["retryStrategy"] = {name: one for name, one in given["retryStrategy"].items() if name != "affinity"}
    if read.mutexes:
        kept["synchronization"] = {"mutexes": [{"name": one} for one in read.mutexes]}
    if read.program is None:
        return {**kept, **({"outputs": given["outputs"]} if given.get("outputs") else {})}
    ours = meaning(read.program, AnyImage(), read.name) == "step"
    fragment = place(placement_of(read, manifest, f"spec.templates[{read.name}]"), site)
    kept["outputs"] = _outputs(given.get("outputs") or {}, ours)
    if ours:
        kept["inputs"] = _inputs(given.get("inputs") or {}, _call(read, manifest, spec.folder))
        if "activeDeadlineSeconds" in kept:  # it looks at the clock itself once it runs; this is for one that cannot
            wait = math.ceil(settings.cluster.start_timeout)
            kept["activeDeadlineSeconds"] = math.ceil(duration(read.active_deadline_seconds or "0")) + wait
    annotations = read.metadata.annotations
    kept["metadata"] = {"annotations": {key: annotations[key] for key in (names.STEP,) if key in annotations}}
    kept |= _placed(fragment, mount(settings).affinity)
    kept[read.kind] = _program(given[read.kind], fragment, ours, spec.folder, settings)
    kept[read.kind]["env"] += [safe.variable(name) for name in secrets_of(read, read.name)]
    return kept


def _placed(fragment: Fragment, together: Object) -> Object:
    pod = dict(fragment.pod)
    runtime = pod.pop("runtimeClassName", "")
    if together:
        pod["affinity"] = {**pod.get("affinity", {}), **together}
    return {**pod, **({"podSpecPatch": json.dumps({"runtimeClassName": runtime})} if runtime else {})}


def _program(given: Mapping[str, Any], fragment: Fragment, ours: bool, folder: str, settings: Settings) -> Object:
    program: Object = {name: given[name] for name in _OF_A_PROGRAM if given.get(name) is not None}
    program.pop("resources", None)
    if ours:  # without -P a file of the person's that is called like a module would run in its place
        program["command"] = [program["command"][0], "-P", *program["command"][1:]]
    image = settings.cluster.images.get("runner", names.RUNNER_IMAGE) if ours else given["image"]
    inside = HOME if ours else _absolute(folder)
    own = program.get("workingDir") or ""
    return {
        **program,
        "image": image,
        "workingDir": own if own.startswith("/") else f"{inside}/{own}".rstrip("/"),
        "env": [*(program.get("env") or ()), {"name": "ROPEWALK_RUN", "value": "{{workflow.name}}"}],
        "securityContext": restricted.container(),
        "volumeMounts": [mount(settings).mount, _WORKSPACE],
        **({"resources": fragment.resources} if fragment.resources else {}),
    }


def _inputs(given: Mapping[str, Any], call: Mapping[str, Any]) -> Object:
    """Return a step's inputs; the file that says how it is called gets more to say."""
    artifacts = [
        {**one, "raw": {"data": json.dumps({**json.loads(one["raw"]["data"]), **call})}}
        if one.get("name") == "ropewalk-call"
        else one
        for one in given.get("artifacts") or ()
    ]
    return {**given, "artifacts": artifacts}


def _call(template: Template, manifest: Manifest, folder: str) -> Object:
    """Return what a step in an image must know besides its inputs: where it runs, and how long it may."""
    call: Object = {"folder": _absolute(folder), "members": _members(manifest, template.name)}
    if secrets := secrets_of(template, template.name):
        call["secrets"] = list(secrets)
    limit = template.active_deadline_seconds
    return call | ({"timeout": duration(limit)} if limit is not None else {})


def _members(manifest: Manifest, template: str) -> list[str]:
    """Return the parameters of a template that are members of a loop's list: Argo escapes what is text in them."""
    calls = (call for one in manifest.spec.templates for call in calls_of(one) if call.template == template)
    return sorted({one.name for call in calls for one in call.arguments.parameters if one.value == "{{item.value}}"})


def _absolute(folder: str) -> str:
    """Return a folder as a container sees it; one outside of the files is there only if the image has it."""
    return folder if folder.startswith("/") else f"{HOME}/{folder}".rstrip("/")


def _outputs(given: Mapping[str, Any], ours: bool) -> Object:
    """Return a program's outputs: each artifact as it is, not packed, so that its digest is that of its content."""
    none: Object = {"archive": {"none": {}}}
    artifacts = [{**one, **none, **({"optional": True} if ours else {})} for one in given.get("artifacts") or ()]
    parameters = list(given.get("parameters") or ())
    if ours:
        source = {"path": f"{names.MOUNT}/outputs/{FACTS_FILE}", "default": ""}
        parameters.append({"name": FACTS, "valueFrom": source})
    outputs: Object = {"artifacts": artifacts} if artifacts else {}
    return outputs | ({"parameters": parameters} if parameters else {})

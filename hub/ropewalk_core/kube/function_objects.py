"""What a function is on a cluster: its code as a config map, and what serves it. Pure rendering and reading.

With Knative it is one Service of Knative's, whose revision has the name of ours; traffic stays on the last revision
that was ready, so that code is tried before calls reach it. Without Knative each revision is a Deployment of one pod
with a Service of its own, and the gateway's route moves from one to the next. A revision that was chosen by number to
take calls is apart: with Knative it has a Knative Service of its own, so that what is deployed later changes nothing
about it; the gateway chooses between them. Both run the same container: the runner
image, our server, the account's files, no token. Names begin with ``fn--``, which no other noun's can, because no
name of a person's holds two dashes. Not here: applying anything (``function_carrier.py``). Rejected: an image for each
function (minutes, a builder and a registry, for text of a few kilobytes); Knative's own traffic block and tags, which
name revisions that a later deploy lets go and cannot make again, hide from the gateway which revision answered, and
take a tag away at another moment than the gateway learns of it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ropewalk_core import names
from ropewalk_core.errors import BadCode, BadInput, RopewalkError, TooLarge, Unavailable, from_problem
from ropewalk_core.kube import restricted, safe
from ropewalk_core.kube.kinds import CONFIG_MAP, DEPLOYMENT, KNATIVE_SERVICE, SERVICE, Object
from ropewalk_core.kube.placement import Fragment
from ropewalk_core.kube.tenancy import WORK
from ropewalk_core.kube.volumes import Files
from ropewalk_core.model import Bundle, FunctionSpec, Why
from ropewalk_core.placement import format_size
from ropewalk_core.settings import Settings
from ropewalk_core.why import cluster as why_cluster
from ropewalk_runtime.serve import BUNDLE, DOES_NOT_LOAD, OWN_MEMORY, PACKED

KNATIVE, PLAIN = "knative", "deployment"
CONTAINER, PORT = "function", 8080
NAME, REVISION, KIND_LABEL, ACCOUNT = (f"ropewalk.dev/{one}" for one in ("name", "revision", "kind", "account"))
MOST_CODE = 1_000_000
"""Bytes of compressed code that a config map holds beside its own fields."""
_GRACE, _SPARE = 30, 5
_AUTOSCALING, _QUEUE = "autoscaling.knative.dev", "queue.sidecar.serving.knative.dev"
_FULL_DUPLEX = "features.knative.dev/http-full-duplex"
"""Without it Knative's proxies close a request's body as soon as its answer begins. A call that is answered before they
have noticed the body's end is cut off then: they take their own closing for a caller that broke off."""
_FINAL = ("RW-USER-CODE", "RW-OUT-OF-MEMORY", "RW-DENIED", "RW-BAD-INPUT")
_PROBE = {
    "periodSeconds": 1,
    "timeoutSeconds": 1,
    "failureThreshold": 3,
    "successThreshold": 1,
    "tcpSocket": {"port": 0},
}
"""Every second: Knative's own ten would delay a deploy by as much when the first look comes too early."""
_SHORTEST, _LONGEST, _WINDOW = 6, 3600, 60  # Knative's bounds in seconds, and its usual window


@dataclass(frozen=True)
class Place:
    """Whose revision of which function, and where it goes; ``apart`` if it was chosen by number to take calls."""

    owner: str
    name: str
    revision: str
    namespace: str
    apart: bool = False

    @property
    def service(self) -> str:
        """The name of the function's Knative Service, or of the revision's own."""
        return f"fn--{self.name}--{self.revision}" if self.apart else f"fn--{self.name}"

    @property
    def knative_revision(self) -> str:
        """The name of the revision of that Service; Knative wants it to begin with the Service's."""
        return f"{self.service}-r" if self.apart else self.object

    @property
    def object(self) -> str:
        """The name of everything that belongs to this revision alone."""
        return f"fn--{self.name}-{self.revision}"

    def served(self, how: str) -> str:
        """Return the name of the object that serves it."""
        return self.service if how == KNATIVE else self.object

    @property
    def labels(self) -> dict[str, str]:
        """The labels of all objects of this revision."""
        return {**labels_of(self.name), ACCOUNT: names.slug(self.owner), REVISION: self.revision}

    def url(self, how: str) -> str:
        """Return where it answers in the cluster."""
        return f"http://{self.served(how)}.{self.namespace}.svc"


def labels_of(name: str = "") -> dict[str, str]:
    """Return the labels by which a function's objects are found, or those of every function."""
    return {KIND_LABEL: "function"} | ({NAME: name} if name else {})


def packed(bundle: Bundle) -> bytes:
    """Return a bundle as its config map holds it.

    Raises
    ------
    TooLarge
        If it is more than a config map holds.
    """
    content = gzip.compress(bundle.model_dump_json().encode(), mtime=0)
    if len(content) > MOST_CODE:
        raise TooLarge(
            f"The function's code is {len(content)} bytes after compression; the cluster keeps {MOST_CODE} at most.",
            field="bundle",
            hint="Keep data in files and read them in the function.",
        )
    return content


def code(place: Place, content: bytes) -> Object:
    """Return the config map with the code."""
    metadata = {"name": place.object, "namespace": place.namespace, "labels": place.labels}
    return CONFIG_MAP.of({"metadata": metadata, "binaryData": {PACKED: base64.b64encode(content).decode()}})


def serving(
    how: str, place: Place, spec: FunctionSpec, settings: Settings, fragment: Fragment, files: Files
) -> list[Object]:
    """Return what serves a revision."""
    pod = fragment.onto(_pod(place, spec, settings, files), container=CONTAINER)
    pod = _with_own_memory(_with_scratch(_together(pod, files), spec), spec)
    labels = {**place.labels, **files.labels}
    if how == KNATIVE:
        return [_knative(place, spec, pod, labels)]
    return [_deployment(place, spec, pod, labels), _service(place)]


def fingerprint(objects: list[Object]) -> str:
    """Return what tells one rendering from another, so that a revision's name always stands for the same objects."""
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()[:16]


def _pod(place: Place, spec: FunctionSpec, settings: Settings, files: Files) -> Object:
    arguments = {
        "--timeout": f"{spec.timeout:g}",
        "--concurrency": str(spec.concurrency),
        "--payload": str(settings.limits.payload),
        "--folder": spec.folder,
        "--memory": str(spec.placement.memory or 0),
        "--cpu": f"{spec.placement.cpu or 0:g}",
        "--grace": str(_GRACE),
    }
    arguments |= {"--cpu-time": str(spec.cpu_time)} if spec.cpu_time else {}
    arguments |= {"--secrets": ",".join(spec.secrets)} if spec.secrets else {}
    container: Object = {
        "name": CONTAINER,
        "image": settings.cluster.images["runner"],
        "command": ["python", "-P", "-m", "ropewalk_runtime.serve"],
        "args": [f"{name}={value}" for name, value in arguments.items()],
        "ports": [{"containerPort": PORT}],
        "volumeMounts": [{"name": "code", "mountPath": BUNDLE, "readOnly": True}, _files(files, spec)],
        "securityContext": restricted.alone(),
    }
    if variables := _variables(spec):
        container["env"] = variables
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": WORK,
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": place.object}}, files.volume],
    }


def _variables(spec: FunctionSpec) -> list[Object]:
    """Return its variables; in a plain one Kubernetes puts others' values for ``$(NAME)``, and one ``$`` for two."""
    plain = [{"name": name, "value": value.replace("$", "$$")} for name, value in sorted(spec.environment.items())]
    return [*plain, *(safe.variable(name) for name in sorted(spec.secrets))]


def _files(files: Files, spec: FunctionSpec) -> Object:
    return {**files.mount, "readOnly": True} if spec.files == "read" else files.mount


def _together(pod: Object, files: Files) -> Object:
    return {**pod, "affinity": {**pod.get("affinity", {}), **files.affinity}} if files.affinity else pod


def _with_scratch(pod: Object, spec: FunctionSpec) -> Object:
    """Make /tmp as large as was asked for, and in memory, as it is on one machine."""
    if not spec.placement.scratch:
        return pod
    [container] = pod["containers"]
    empty = {"medium": "Memory", "sizeLimit": format_size(spec.placement.scratch)}
    mounts = [*container["volumeMounts"], {"name": "scratch", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    return {
        **pod,
        "containers": [{**container, "volumeMounts": mounts}],
        "volumes": [*pod["volumes"], {"name": "scratch", "emptyDir": empty}],
    }


def _with_own_memory(pod: Object, spec: FunctionSpec) -> Object:
    """Give our server and scratch their own memory beside what was asked for, so that the code has all of that."""
    if not spec.placement.memory:
        return pod
    [container] = pod["containers"]
    whole = format_size(spec.placement.memory + (spec.placement.scratch or 0) + OWN_MEMORY)
    resources = {half: {**amounts, "memory": whole} for half, amounts in container["resources"].items()}
    return {**pod, "containers": [{**container, "resources": resources}]}


def _knative(place: Place, spec: FunctionSpec, pod: Object, labels: Mapping[str, str]) -> Object:
    window = round(min(max(spec.idle, _SHORTEST), _WINDOW))
    kept = round(min(max(spec.idle - window, 0), _LONGEST))
    annotations = {
        _FULL_DUPLEX: "Enabled",
        f"{_AUTOSCALING}/min-scale": str(spec.min_workers),
        f"{_AUTOSCALING}/max-scale": str(spec.max_workers),
        f"{_AUTOSCALING}/target-utilization-percentage": "100",  # less would start two workers for one call
        f"{_AUTOSCALING}/window": f"{window}s",
        f"{_AUTOSCALING}/scale-to-zero-pod-retention-period": f"{kept}s",
        f"{_QUEUE}/cpu-resource-request": "10m",
        f"{_QUEUE}/cpu-resource-limit": "1",
        f"{_QUEUE}/memory-resource-request": "64Mi",
        f"{_QUEUE}/memory-resource-limit": "256Mi",
        f"{_QUEUE}/ephemeral-storage-resource-request": "16Mi",
        f"{_QUEUE}/ephemeral-storage-resource-limit": "64Mi",
    }
    [container] = pod["containers"]
    # What Knative would add by itself; left out it would count as a change when the same is applied again.
    container = {**container, "readinessProbe": _PROBE}
    seconds = int(spec.timeout) + _SPARE  # our own server ends calls; this is for when it does not
    template = {
        "metadata": {"name": place.knative_revision, "labels": dict(labels), "annotations": annotations},
        "spec": {
            **pod,
            "containers": [container],
            "containerConcurrency": spec.concurrency,
            "timeoutSeconds": seconds,
            "responseStartTimeoutSeconds": seconds,
        },
    }
    metadata = {
        "name": place.service,
        "namespace": place.namespace,
        "labels": {**place.labels, "networking.knative.dev/visibility": "cluster-local"},
    }
    traffic = [{"latestRevision": True, "percent": 100}]
    return KNATIVE_SERVICE.of({"metadata": metadata, "spec": {"template": template, "traffic": traffic}})


def _deployment(place: Place, spec: FunctionSpec, pod: Object, labels: Mapping[str, str]) -> Object:
    [container] = pod["containers"]
    probe = {"httpGet": {"path": "/_ropewalk/ready", "port": PORT}, "periodSeconds": 1, "failureThreshold": 3}
    pod = {
        **pod,
        "containers": [{**container, "readinessProbe": probe}],
        "securityContext": restricted.pod(),
        "terminationGracePeriodSeconds": _GRACE + 5,
    }
    chosen = {NAME: place.name, REVISION: place.revision}
    metadata = {"name": place.object, "namespace": place.namespace, "labels": place.labels}
    return DEPLOYMENT.of(
        {
            "metadata": metadata,
            "spec": {
                "replicas": max(1, spec.min_workers),
                "revisionHistoryLimit": 0,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": chosen},
                "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
            },
        }
    )


def _service(place: Place) -> Object:
    metadata = {"name": place.object, "namespace": place.namespace, "labels": place.labels}
    chosen = {NAME: place.name, REVISION: place.revision}
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    return SERVICE.of({"metadata": metadata, "spec": {"selector": chosen, "ports": ports}})


def clearer(error: RopewalkError) -> RopewalkError:
    """Return Knative's refusal in words of what was asked for, where it is about that."""
    found = re.search(r"expected 0 <= \d+ <= (\d+): \S*[tT]imeoutSeconds", str(error.details.get("raw", "")))
    if found is None:
        return error
    return BadInput(
        f"A call may take {int(found[1]) - _SPARE} seconds at most on this cluster.",
        field="timeout",
        hint="Ask for less, or ask your administrator to raise Knative's max-revision-timeout-seconds.",
    )


# What became of it


@dataclass(frozen=True)
class Verdict:
    """Where a revision that is being tried stands: ready, gone, refused with an error, or waiting for ``why``.

    ``loading`` says that its code is being loaded: its container runs, and its pod is not ready.
    """

    ready: bool = False
    gone: bool = False
    error: RopewalkError | None = None
    why: Why | None = None
    placed: bool = False
    loading: bool = False
    generation: int = 0


def judge(
    how: str, place: Place, served: Object | None, pods: Iterable[Object], events: Iterable[Object] = ()
) -> Verdict:
    """Return the verdict over what the cluster shows of a revision."""
    mine = [one for one in pods if ((one["metadata"].get("labels") or {}).get(REVISION)) == place.revision]
    broken = next((error for pod in mine if (error := _last_words(pod)) is not None), None)
    if broken is not None:
        return Verdict(error=broken)
    generation = int(((served or {}).get("metadata") or {}).get("generation") or 0)
    if served is None:
        return Verdict()
    ready, refused = _knative_says(place, served) if how == KNATIVE else _deployment_says(served)
    if ready:
        return Verdict(ready=True, generation=generation)
    if refused and not why_cluster.of_scheduler(refused):  # Knative calls failed what only waits for a machine
        return Verdict(error=_error(refused))
    why = next((told for pod in mine if (told := why_cluster.from_pod(pod, events)) is not None), None)
    if why is not None and why.code in _FINAL:
        return Verdict(error=from_problem({"code": why.code, "message": why.cause, "hint": why.next}))
    placed = any((one.get("spec") or {}).get("nodeName") for one in mine)
    return Verdict(why=why, placed=placed, loading=any(_loads(one) for one in mine))


def _knative_says(place: Place, served: Object) -> tuple[bool, str]:
    """Return whether it is ready with all traffic on our revision, and what was refused for good."""
    status = served.get("status") or {}
    if status.get("observedGeneration") != served["metadata"].get("generation"):
        return False, ""
    conditions = {str(one.get("type")): one for one in status.get("conditions") or ()}
    ours = status.get("latestCreatedRevisionName") == place.knative_revision
    if conditions.get("Ready", {}).get("status") == "True":
        return ours and status.get("latestReadyRevisionName") == place.knative_revision, ""
    says = conditions.get("ConfigurationsReady") or {}
    return False, str(says.get("message") or says.get("reason") or "") if ours and says.get("status") == "False" else ""


def _deployment_says(served: Object) -> tuple[bool, str]:
    status = served.get("status") or {}
    if status.get("observedGeneration") != served["metadata"].get("generation"):
        return False, ""
    for one in status.get("conditions") or ():
        if (one.get("type"), one.get("status")) == ("ReplicaFailure", "True"):
            return False, str(one.get("message") or one.get("reason"))
        if one.get("reason") == "ProgressDeadlineExceeded":
            return False, str(one.get("message"))
    return int(status.get("readyReplicas") or 0) > 0, ""


def _last_words(pod: Object) -> RopewalkError | None:
    """Return what our server said of code that does not load."""
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        for state in (one.get("state") or {}, one.get("lastState") or {}):
            ended = state.get("terminated") or {}
            if one.get("name") == CONTAINER and ended.get("exitCode") == DOES_NOT_LOAD:
                return _told(str(ended.get("message") or ""))
    return None


def _told(message: str) -> RopewalkError:
    try:
        facts: Any = json.loads(message)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not isinstance(facts.get("details", {}), dict):
        return BadCode("The function does not load.", hint="Look at its log for the last lines.")
    return BadCode(
        str(facts.get("message") or "The function does not load.")[:2000],
        hint=str(facts["hint"])[:500] if facts.get("hint") else None,
        field=str(facts["field"])[:200] if facts.get("field") else None,
        details={"traceback": str((facts.get("details") or {}).get("traceback", ""))},
    )


def _error(message: str) -> RopewalkError:
    start = message.find('{"code": "RW-BAD-CODE"')
    if start >= 0:
        return _told(message[start : message.rfind("}") + 1])
    told = why_cluster.from_message(message)
    if not told.code:
        said = told.cause or "The cluster did not start the function."
        return Unavailable(said, hint=told.next or None, details={"wait": False})  # asking again does not help
    return from_problem({"code": told.code, "message": told.cause, "hint": told.next})


def _loads(pod: Object) -> bool:
    status = pod.get("status") or {}
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or ())
    mine = [one for one in status.get("containerStatuses") or () if one.get("name") == CONTAINER]
    return not ready and any("running" in (one.get("state") or {}) for one in mine)

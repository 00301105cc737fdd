"""What a cluster lacks: `ropewalk doctor --cluster`, with no right beyond the platform's own.

It asks tenancy for two namespaces whose names nobody can have, as any accounts', and tries from a pod in one what
accounts may and may not reach, a pod in the other among it: a network plugin that ignores policies says nothing, so
only that shows it. Knative and Argo are asked by objects that are checked and not kept (dry run). The namespaces are
removed at the end. Not here: repairing anything. Rejected: reading the plugin's name, which says what it could do; and
cluster-wide rights for a look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from ropewalk_core.errors import NotFound, RopewalkError, Unavailable
from ropewalk_core.kube import census, logs, restricted, volumes
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import find
from ropewalk_core.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    KNATIVE_SERVICE,
    POD,
    WORKFLOW,
    Kind,
    Object,
)
from ropewalk_core.kube.policies import NOTEBOOK_PORT
from ropewalk_core.kube.tenancy import WORK, Tenant, request
from ropewalk_core.kube.tenants import Tenants
from ropewalk_core.kube.transient import passes
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.why import cluster as why_cluster
from ropewalk_hub.addresses import PROXY_API_PORT
from ropewalk_hub.doctor import Line, note, ok, problem

_TENANT, _BESIDE = Tenant("system", "ropewalk-doctor"), Tenant("root", "ropewalk-doctor")
"""Reserved names, so nobody's accounts; their namespaces have names with a digest. What a killed examination left is
ours again."""
_LABELS = {"ropewalk.dev/kind": "probe"}
_PATIENCE = 240.0
_ROUNDS = 6
_PROBE = """
import json, os, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
targets = json.loads(sys.argv[1])
targets["the API server"] = [os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])]
def reached(where):
    try:
        socket.create_connection(where, timeout=2).close()
        return True
    except OSError:
        return False
for _ in range(int(sys.argv[2])):
    with ThreadPoolExecutor(len(targets)) as pool:
        print(json.dumps(dict(zip(targets, pool.map(reached, targets.values())))), flush=True)
    time.sleep(1)
try:
    with open("probe", "w") as file:
        file.write("x")
    os.remove("probe")
    print(json.dumps({"files": ""}), flush=True)
except OSError as error:
    print(json.dumps({"files": str(error)}), flush=True)
print("done", flush=True)
time.sleep(3600)
"""
_LISTENER = f"""
import os, socket
address = os.environ["ADDRESS"]
door = socket.create_server((address, {NOTEBOOK_PORT}), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
while True:
    door.accept()[0].close()
"""
_DOOR, _INNER, _OTHER = "the platform's door", "the proxy's inner port", "another account's pod"
_METADATA, _KEYS = "the address where clouds keep keys", ("169.254.169.254", 80)
_NO_PLUGIN = (
    "Install a network plugin that enforces NetworkPolicy, or switch that on in yours. Until then, let in only people "
    "who trust each other with everything."
)
_LEFT_OPEN = (
    "Name the API server's addresses in cluster.api_server and the nodes' networks in cluster.private; what is named "
    "there and reached all the same, the network plugin lets through."
)
_FLAGS: dict[str, tuple[str, Object, Object]] = {
    "node selector": ("kubernetes.podspec-nodeselector", {"nodeSelector": {"kubernetes.io/os": "linux"}}, {}),
    "tolerations": (
        "kubernetes.podspec-tolerations",
        {"tolerations": [{"key": "ropewalk.dev/probe", "operator": "Exists"}]},
        {},
    ),
    "affinity": (
        "kubernetes.podspec-affinity",
        {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}},
        {},
    ),
    "runtime class": ("kubernetes.podspec-runtimeclassname", {"runtimeClassName": "probe"}, {}),
    "volumes": (
        "kubernetes.podspec-persistent-volume-claim and kubernetes.podspec-persistent-volume-write",
        {"volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": volumes.NAME}}]},
        {"volumeMounts": [{"name": "files", "mountPath": volumes.HOME}]},
    ),
    "init containers": (
        "kubernetes.podspec-init-containers",
        {"initContainers": [{"name": "first", "image": "ropewalk.dev/probe@sha256:" + "0" * 64}]},
        {},
    ),
}


async def examine(settings: Settings, clock: Clock) -> list[Line]:
    """Return a line for each check: ``check``, ``state`` (ok, note or problem), ``text`` and ``hint``."""
    cluster = settings.cluster
    try:
        api = Api(find(cluster.kubeconfig, context=cluster.context), clock, manager="ropewalk-doctor")
    except RopewalkError as error:
        return [problem("cluster", error.message, error.hint)]
    try:
        lines = [await _looked("nodes", lambda: _nodes(api, settings))]
        return lines + await _inside(api, settings, clock)
    finally:
        await api.close()


async def _inside(api: Api, settings: Settings, clock: Clock) -> list[Line]:
    """Do what needs a namespace of an account."""
    try:
        tenants = Tenants(api, settings.cluster, clock)
        space, beside = [await tenants.ensure(one, patience=_PATIENCE) for one in (_TENANT, _BESIDE)]
        return [
            ok("tenancy", f"made the namespaces {space} and {beside}"),
            await _looked("functions", lambda: _knative(api, space)),
            await _looked("workflows", lambda: _argo(api, space)),
            *await _probed(api, settings, clock, space, beside),
        ]
    except RopewalkError as error:
        hint = "Look at the log of the tenancy pod; wait and try again if the last examination has just ended."
        return [problem("tenancy", error.message, hint)]
    finally:
        for one in (_TENANT, _BESIDE):
            with contextlib.suppress(RopewalkError):
                await api.apply(CONFIG_MAP, request(replace(one, gone=True), settings.cluster))


async def _looked(check: str, look: Callable[[], Awaitable[Line]]) -> Line:
    try:
        return await look()
    except RopewalkError as error:
        return problem(check, error.message, error.hint)


async def _nodes(api: Api, settings: Settings) -> Line:
    site = await census.read(api, settings.cluster)
    nodes = site.inventory.nodes
    if not nodes:
        return problem(
            "nodes", "No node takes people's work.", "Add a node, or take away taints that keep all work off."
        )
    kinds = sorted({one.arch for one in nodes})
    devices = sorted({name for one in nodes for name, count in one.accelerators.items() if count})
    return ok("nodes", f"{len(nodes)} for people's work ({', '.join(kinds + devices)})")


# Knative and Argo


async def _knative(api: Api, space: str) -> Line:
    try:
        made = await _dry(api, KNATIVE_SERVICE, _revision({}, {}), space)
    except NotFound:
        return note("functions", "Knative is not here, so functions run as Deployments and never sleep", "")
    off = [flag for flag, pod, container in _FLAGS.values() if not await _accepted(api, space, pod, container)]
    drawn = made["spec"]["template"]["spec"]["containers"][0]
    off += [] if drawn.get("securityContext") else ["secure-pod-defaults"]
    if off:
        hint = (
            "Set them to enabled in the config map config-features of knative-serving; the chart's documents say how."
        )
        return problem("functions", f"Knative refuses what functions need; off: {', '.join(off)}.", hint)
    return ok("functions", f"Knative, with {', '.join(_FLAGS)} and secure defaults")


async def _accepted(api: Api, space: str, pod: Object, container: Object) -> bool:
    try:
        await _dry(api, KNATIVE_SERVICE, _revision(pod, container), space)
    except RopewalkError as error:
        if passes(error):
            raise
        # Whatever else is wrong with it (there is no such runtime class) is said only of a field that may be there.
        return "must not set the field" not in str(error.details.get("raw") or error.message)
    return True


def _revision(pod: Object, container: Object) -> Object:
    one = {"image": "ropewalk.dev/probe@sha256:" + "0" * 64, **container}
    return {"spec": {"template": {"spec": {"containers": [one], **pod}}}}


async def _argo(api: Api, space: str) -> Line:
    template = {"name": "main", "container": {"image": "ropewalk.dev/probe", "command": ["true"]}}
    try:
        await _dry(api, WORKFLOW, {"spec": {"entrypoint": "main", "templates": [template]}}, space)
    except NotFound:
        return problem(
            "workflows",
            "Argo Workflows is not here, so workflows cannot run.",
            "Install it; helmfile.yaml does, unless it is switched off.",
        )
    return ok("workflows", "Argo Workflows takes them")


async def _dry(api: Api, kind: Kind, body: Object, space: str) -> Object:
    named = {**body, "metadata": {"name": "doctor", "namespace": space}}
    return await api.create(kind, named, dry=True)


# The probe


async def _probed(api: Api, settings: Settings, clock: Clock, space: str, beside: str) -> list[Line]:
    try:
        claim = await volumes.ensure_files(api, space, settings)
        await api.apply(DEPLOYMENT, listener(settings, beside))
        await api.apply(DEPLOYMENT, probe(settings, space, await _address(api, clock, beside)))
        told = await _told(api, clock, space)
    except RopewalkError as error:
        return [problem("network", f"Nothing could be tried from a pod. {error.message}", error.hint)]
    lines = [network([one for one in told if "files" not in one])]
    wrong = next((str(one["files"]) for one in told if "files" in one), "nothing was written")
    access = ", ".join((claim.get("spec") or {}).get("accessModes") or ())
    lines.append(
        problem("files", f"A pod could not write the files that it mounts: {wrong}.", "Look at the storage class.")
        if wrong
        else ok("files", f"{settings.cluster.files_size} for each account, {access}")
    )
    return lines


def network(rounds: list[dict[str, bool]]) -> Line:
    """Return what the probe's rounds say of the network: the last counts, since policies may come a moment late."""
    last = rounds[-1] if rounds else {}
    reached = sorted(name for name, there in last.items() if there and name != _DOOR)
    if {_INNER, _OTHER} & set(reached):  # pods, which every plugin that enforces anything keeps apart
        text = f"Network policies are not enforced here: a pod of an account reached {' and '.join(reached)}."
        return problem("network", text, _NO_PLUGIN)
    if reached:
        text = f"Network policies keep pods apart here, but a pod of an account reached {' and '.join(reached)}."
        return problem("network", text, _LEFT_OPEN)
    if not last.get(_DOOR):
        text = "A pod of an account cannot reach the platform, so notebooks would not work."
        hint = "Look at the network plugin, at the name server (`cluster.dns`) and at the proxy's pod."
        return problem("network", text, hint)
    shut = sorted(name for name in last if name != _DOOR)
    return ok("network", f"policies are enforced: a pod reaches {_DOOR}, and not {' or '.join(shut)}")


def probe(settings: Settings, space: str, other: str) -> Object:
    """Return what runs the probing pod; ``other`` is the address of the listener in another account's namespace."""
    files = volumes.mount(settings)
    host = f"proxy.{settings.cluster.namespace}"
    targets = {
        _DOOR: [host, settings.door.port],
        _INNER: [host, PROXY_API_PORT],
        _OTHER: [other, NOTEBOOK_PORT],
        _METADATA: _KEYS,
    }
    container = {
        "command": ["/opt/ropewalk/user/bin/python", "-c", _PROBE, json.dumps(targets), str(_ROUNDS)],
        "workingDir": volumes.HOME,
        "volumeMounts": [files.mount],
    }
    return _deployment(settings, space, container, {"volumes": [files.volume]}, files.labels)


def listener(settings: Settings, space: str) -> Object:
    """Return what runs a pod that listens where a notebook would."""
    address = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {"command": ["/opt/ropewalk/user/bin/python", "-c", _LISTENER], "env": [address]}
    return _deployment(settings, space, container, {}, {})


def _deployment(
    settings: Settings, space: str, container: Object, spec: Object, more_labels: Mapping[str, str]
) -> Object:
    """Return what runs one pod: the platform may make no bare pods."""
    labels = {**_LABELS, **more_labels}
    container = {
        "name": "probe",
        "image": settings.cluster.images["runner"],
        **container,
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
        },
        "securityContext": restricted.container(),
    }
    spec = {
        "serviceAccountName": WORK,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": restricted.pod(),
        "containers": [container],
        **spec,
    }
    return {
        "metadata": {"name": "doctor", "namespace": space, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


async def _address(api: Api, clock: Clock, space: str) -> str:
    """Return the address of the pod that listens, once it runs."""
    end = clock.steady() + _PATIENCE
    while clock.steady() < end:
        for pod in (await api.list(POD, space, labels=_LABELS)).items:
            status = pod.get("status") or {}
            if status.get("podIP") and any(one.get("ready") for one in status.get("containerStatuses") or ()):
                return str(status["podIP"])
        await asyncio.sleep(1.0)
    raise await _unended(api, space)


async def _told(api: Api, clock: Clock, space: str) -> list[dict[str, Any]]:
    """Return what the probe wrote, once it is done."""
    end = clock.steady() + _PATIENCE
    said: list[dict[str, Any]] = []
    while clock.steady() < end:
        for pod in (await api.list(POD, space, labels=_LABELS)).items:
            with contextlib.suppress(NotFound, Unavailable):  # until it has started
                lines = [one.text async for one in logs.read(api, clock, space, pod["metadata"]["name"])]
                said = [json.loads(one) for one in lines if one.startswith("{")]
                if lines and lines[-1] == "done":
                    return said
        await asyncio.sleep(1.0)
    raise await _unended(api, space)


async def _unended(api: Api, space: str) -> Unavailable:
    cause = f"The probe in {space} did not come so far. {await _why(api, space)}".strip()
    return Unavailable(cause, hint="Run the doctor again when the cluster has room for two more pods.")


async def _why(api: Api, space: str) -> str:
    pods = (await api.list(POD, space, labels=_LABELS)).items
    events = (await api.list(EVENT, space)).items
    for pod in pods:
        if (why := why_cluster.from_pod(pod, events)) is not None:
            return why.cause
    return next((str(one.get("message")) for one in reversed(events) if one.get("type") == "Warning"), "")

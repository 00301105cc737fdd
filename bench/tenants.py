"""Many tenants: how long the controller takes for them, what it weighs, and how many watches stay open for them.

Tenants are asked for as the platform asks, by requests in its namespace, and the installed controller makes them. The
watches of a program are what the API server's own count loses while that program is scaled to nothing. Kubelets watch
what pods mount by its name; such watches come and go with any pod, nobody else opens them, and they are left out. All
that is made here is removed again.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import bare
from bench.report import Row
from ropewalk_core.flows import RunSpec
from ropewalk_core.kube.tenancy import Tenant, answered, request, request_labels
from ropewalk_core.model import FunctionSpec, ServiceSpec
from ropewalk_core.settings import Cluster
from ropewalk_workflows import compile as compiler
from ropewalk_workflows.capture import capture
from ropewalk_workflows.dag import step, workflow
from tests.cluster.installed import SPACE
from tests.cluster.kube import Kube, Manifest, deployed, wait
from tests.cluster.layout import nodes

if TYPE_CHECKING:
    from bench.cluster import Bench

MANY = 200
STOCK = ("stock KubeSpawner, as its code says: pods, events", 2.0)
"""Its reflectors watch all namespaces at once, and so list and hold every pod and event that anybody has."""
_CLUSTER = Cluster(namespace=SPACE, prefix=SPACE)
_PART = "app.kubernetes.io/component"
_PROGRAMS = ("hub", "platform", "tenancy")
_MAKING, _REMOVING = 900.0, 900.0
_GAUGE = re.compile(r"^apiserver_longrunning_requests\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def idle(value: int) -> int:
    return value


@step
def nap() -> int:
    import time

    time.sleep(120)
    return 0


@workflow
def napping():
    return nap()


def watches(text: str) -> Counter[str]:
    """Return how many watches of each resource are open, of what the API server tells of itself."""
    found: Counter[str] = Counter()
    for labels, count in _GAUGE.findall(text):
        one = dict(_LABEL.findall(labels))
        by_name = one.get("scope") == "resource" and one.get("resource") in ("secrets", "configmaps")
        if one.get("verb") == "WATCH" and not by_name:
            found[f"{one.get('resource', '')} in one {one.get('scope', '')}"] += int(float(count))
    return found


def count(kube: Kube) -> int:
    """Return how many watches are open, the most of a few looks: each is closed for a moment when it is renewed."""
    looks = []
    for _ in range(10):
        looks.append(watches(kube.text("/metrics")).total())
        time.sleep(0.5)
    return max(looks)


def tenants(bench: Bench) -> list[Row]:
    """Measure the installation with many tenants that have nothing, and one of them with one of each."""
    light = weight(bench.kube)
    with made(bench.kube) as seconds:
        heavy = weight(bench.kube)
        own = {part: without(bench, part) for part in _PROGRAMS}
        busy = for_one(bench)
    whole = own["platform"] + MANY * busy
    return [
        Row(f"{MANY} tenants, asked for to ready", seconds, "s"),
        Row("memory of tenancy, no tenant but one", light, "MiB"),
        Row(f"memory of tenancy, {MANY} tenants", heavy, "MiB"),
        Row(f"watches of the hub, {MANY} tenants", own["hub"], "", STOCK),
        Row(f"watches of the controller, {MANY} tenants", own["tenancy"], ""),
        Row(f"watches of the platform, {MANY} tenants with nothing", own["platform"], ""),
        Row("watches of the platform for a function, a service, a run", busy, ""),
        Row(f"watches of the platform, {MANY} such tenants, computed", whole, ""),
    ]


@contextmanager
def made(kube: Kube) -> Iterator[float]:
    """Have many tenants, give the seconds until the last was ready, and remove them."""
    everyone = [Tenant(f"bench-tenant-{number:03}", f"bench-{number:03}") for number in range(MANY)]
    try:
        began = time.monotonic()
        kube.apply(*(request(one, _CLUSTER) for one in everyone))
        until_all(kube, "ready", _MAKING)
        yield time.monotonic() - began
    finally:
        kube.apply(*(request(Tenant(one.account, one.subject, gone=True), _CLUSTER) for one in everyone))
        until_all(kube, "gone", _REMOVING)
        for one in everyone:
            kube.delete(kube.path_of(request(one, _CLUSTER)))


def until_all(kube: Kube, state: str, seconds: float) -> None:
    """Wait until all of the bench's tenants are in this state, asking no more often than the measure needs."""
    selector = ",".join(f"{key}={value}" for key, value in request_labels(_CLUSTER).items())
    path, end = f"/api/v1/namespaces/{SPACE}/configmaps", time.monotonic() + seconds
    while True:
        ours = [one for one in kube.listed(path, labelSelector=selector) if mine(one)]
        there = sum(answered(one)[0] == state for one in ours)
        if there == MANY:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {there} of {MANY} tenants are {state}")
        time.sleep(1)


def mine(asked: Manifest) -> bool:
    """Whether a request is one of the bench's."""
    return str(asked["data"]["account"]).startswith("bench-tenant-")


def weights(kube: Kube) -> dict[str, float]:
    """Return the working set of the platform's own pods in MiB, as the nodes' kubelets count it."""
    pods = {one["metadata"]["name"]: one for one in kube.listed(f"/api/v1/namespaces/{SPACE}/pods")}
    found: dict[str, float] = {}
    for node in nodes():
        summary = kube.get(f"/api/v1/nodes/{node.name}/proxy/stats/summary") or {}
        for one in summary.get("pods", []):
            place, name = one["podRef"]["namespace"], one["podRef"]["name"]
            if place == SPACE and name in pods and one.get("memory"):
                part = pods[name]["metadata"]["labels"].get(_PART, name)
                found[part] = found.get(part, 0.0) + one["memory"]["workingSetBytes"] / 2**20
    return found


def weight(kube: Kube) -> float:
    """Return the controller's working set in MiB; kubelets count every ten seconds or so."""
    time.sleep(20)
    return weights(kube)["tenancy"]


def without(bench: Bench, part: str) -> int:
    """Return how many watches end with a program, which is started again."""
    before = count(bench.kube)
    bench.installed.kubectl("--namespace", SPACE, "scale", f"deploy/{part}", "--replicas=0")
    try:
        bare.at_zero(bench.kube, SPACE, f"{_PART}={part}")
        time.sleep(2)
        return before - count(bench.kube)
    finally:
        bench.installed.kubectl("--namespace", SPACE, "scale", f"deploy/{part}", "--replicas=1")
        wait(part, lambda: deployed(bench.kube, SPACE, part), 240)
        time.sleep(5)


def state_of(bench: Bench, path: str) -> str:
    """Return nothing when something of the account's runs."""
    state = str(bench.ask("GET", path)["status"]["state"])
    return "" if state == "running" else state


def for_one(bench: Bench) -> int:
    """Return how many watches more are open when an account has a function, a service and a run that goes on."""
    before, account = count(bench.kube), bench.account
    function = FunctionSpec(name="watched", bundle=capture(idle), idle=6.0)
    service = ServiceSpec(name="watched", template="site", values={"folder": "."})
    spec: RunSpec = compiler.from_object(napping).model_copy(update={"fresh": True})
    run = ""
    try:
        bench.ask("PUT", f"functions/{account}/{function.name}", function.model_dump(mode="json"))
        bench.ask("PUT", f"services/{account}/{service.name}", service.model_dump(mode="json"))
        run = str(bench.ask("POST", f"workflows/{account}", spec.model_dump(mode="json"))["id"])
        for path in (f"functions/{account}/{function.name}", f"services/{account}/{service.name}"):
            wait(path, partial(state_of, bench, path), 240)
        bare.first_step(bench.kube, bench.space, run)
        time.sleep(5)  # what was watched only while it started
        return count(bench.kube) - before
    finally:
        if run:
            bench.ask("POST", f"workflows/{account}/{run}/cancel", {})
        bench.ask("DELETE", f"services/{account}/{service.name}")
        bench.ask("DELETE", f"functions/{account}/{function.name}")

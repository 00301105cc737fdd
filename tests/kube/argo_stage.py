"""What workflows need around them on the test cluster: an artifact store, and a platform's side of them.

The store is the server of the chart, in the installation's own namespace.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from ropewalk_core.flows import Run, RunSpec
from ropewalk_core.journal import Journal
from ropewalk_core.kube.buckets import ROOT, Buckets, address
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.kinds import DEPLOYMENT, SECRET, SERVICE
from ropewalk_core.model import Actor
from ropewalk_core.objects import Objects
from ropewalk_core.settings import Settings
from ropewalk_hub.platform import SystemClock
from ropewalk_runtime import values
from ropewalk_workflows.argo import ArgoWorkflows
from tests.cluster.images import Registry
from tests.cluster.layout import REGISTRY
from tests.kube.runner import runner
from tests.kube.stage import ADMINISTRATOR, Stage, made, until

RUNNER = "ropewalk/runner"
_CLOCK = SystemClock()
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_SERVES = ("--port", ":7070", "--health", "/health", "--quiet")
_KEY = "0123456789abcdef" * 4


def public(door: int) -> None:
    """Give the names that examples use to images that are there: Python to our runner's, and busybox to busybox."""
    with Registry(f"127.0.0.1:{door}") as registry:
        for name, tag, source, base in (
            ("library/python", "3.11", RUNNER, "0.1"),
            ("library/busybox", "latest", "library/busybox", "1"),
        ):
            manifest = registry.http.get(f"/v2/{source}/manifests/{base}", headers={"Accept": _MANIFEST})
            body = manifest.raise_for_status().json()
            for one in (body["config"], *body["layers"]) if name != source else ():
                there = {"mount": one["digest"], "from": source}
                registry.http.post(f"/v2/{name}/blobs/uploads/", params=there).raise_for_status()
            registry._manifest(name, tag, _MANIFEST, body)


def registry_door(stage: Stage) -> int:
    """Return the port at which the cluster's registry answers on this machine."""
    return int(json.loads(stage.installation.at.state.read_text())["doors"]["registry"])


async def store(stage: Stage) -> str:
    """Run the artifact store in the installation's namespace, if it does not run yet, and return its root's key."""
    api, space = stage.api(ADMINISTRATOR), stage.cluster.namespace
    labels = {"app.kubernetes.io/name": "ropewalk", "app.kubernetes.io/component": "objects"}
    place: dict[str, Any] = {"name": "objects", "namespace": space, "labels": labels}
    container = {
        "name": "objects",
        "image": f"{REGISTRY}/versitygw:1",
        "args": [*_SERVES, "--iam-dir", "/data/users", "posix", "/data/buckets"],
        "env": [
            {"name": "ROOT_ACCESS_KEY", "value": ROOT},
            {"name": "ROOT_SECRET_KEY", "valueFrom": {"secretKeyRef": {"name": "objects", "key": "key"}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 7070}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": f"/data/{one}", "subPath": one} for one in ("users", "buckets")],
    }
    user = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    pod = {"securityContext": user, "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}
    template = {"metadata": {"labels": labels}, "spec": {**pod, "automountServiceAccountToken": False}}
    await made(api, SECRET, {"metadata": place, "stringData": {"key": _KEY}})
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    await made(api, DEPLOYMENT, {"metadata": place, "spec": spec})
    await made(api, SERVICE, {"metadata": place, "spec": {"selector": labels, "ports": [{"port": 7070}]}})

    async def ready() -> bool:
        found = await api.get(DEPLOYMENT, "objects", space)
        return bool((found.get("status") or {}).get("readyReplicas"))

    await until("the artifact store is ready", ready)
    return _KEY


def settings_of(stage: Stage) -> Settings:
    """Return the installation's settings with this checkout's runner image."""
    images = {**stage.cluster.images, "runner": runner(stage.installation.at)}
    return replace(stage.settings, cluster=replace(stage.cluster, images=images))


@dataclass
class ArgoRig:
    """A platform's side of workflows on the cluster. The journal outlives `stop` and `start`, as it does a kill."""

    stage: Stage
    settings: Settings
    journal: Journal
    buckets: Buckets
    key: str
    workflows: ArgoWorkflows
    intents: Intents
    transport: httpx.AsyncBaseTransport
    tasks: tuple[asyncio.Task[None], ...] = ()

    def space(self) -> Any:
        """Return what gives an account's namespace."""
        return self.stage.spaces(self.key)

    def start(self) -> None:
        """Start what runs as long as a platform does."""
        self.intents = Intents(self.journal, _CLOCK)
        ground = KubeGround(
            settings=self.settings,
            journal=self.journal,
            clock=_CLOCK,
            api=self.stage.api("platform"),
            space=self.space(),
            site=self.stage.site,
            intents=self.intents,
        )
        self.workflows = ArgoWorkflows(ground, buckets=self.buckets)
        self.tasks = tuple(asyncio.create_task(one) for one in (self.intents.run(), self.workflows.run()))

    async def stop(self) -> None:
        """End it at once, wherever it is."""
        for one in self.tasks:
            one.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def wait(self, run: str, *, seconds: float = 120.0, owner: str = "ada") -> Run:
        """Return a run when it has ended."""
        async with asyncio.timeout(seconds):
            while not (found := await self.workflows.get(Actor(account=owner), owner, run)).status.state.terminal:
                await self.journal.wait(self.journal.cursor, timeout=1.0)
        return found

    async def submit(self, spec: RunSpec, **given: Any) -> Run:
        """Submit as ada, in the folder of the files."""
        spec = spec.model_copy(update={"folder": ""})
        return await self.workflows.submit(Actor(account="ada"), "ada", spec, **given)

    async def content(self, run: Run, digest: str) -> bytes:
        """Return an artifact."""
        return b"".join(
            [one async for one in await self.workflows.artifact(Actor(account="ada"), "ada", run.id, digest)]
        )

    async def result(self, run: Run) -> Any:
        """Return what a run returned."""
        return values.decode(await self.content(run, run.outputs["result"]["digest"]))

    async def log(self, run: str, step: str) -> list[str]:
        """Return a step's log."""
        return [one.text async for one in self.workflows.logs(Actor(account="ada"), "ada", run, step)]


@asynccontextmanager
async def argo(stage: Stage, folder: Path, key: str) -> AsyncIterator[ArgoRig]:
    """Put a platform's side of workflows together; the same ``key`` gives the same accounts."""
    transport = stage.transport()
    root = await store(stage)
    settings = settings_of(stage)
    journal = Journal(folder / "journal.db")
    objects = Objects(address(settings.cluster), _CLOCK, transport=transport)
    buckets = Buckets(stage.api("platform"), objects, root)
    rig = ArgoRig(stage, settings, journal, buckets, key, None, None, transport)  # type: ignore[arg-type]
    rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
        await objects.close()
        journal.close()

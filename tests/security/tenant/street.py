"""Two tenants of an installation, an open namespace without any wall, and programs that run in pods of each.

What an attack needs is in one image: a shell, kubectl, and the probe that says whom it reaches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ropewalk_core.kube import restricted
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import NAMESPACE, POD, SERVICE, Object
from tests.cluster.builder import Builder
from tests.cluster.images import Image, Registry
from tests.cluster.layout import REGISTRY, Layout, machine, nodes
from tests.cluster.registry import BUSYBOX
from tests.kube.stage import ADMINISTRATOR, Stage, until

TOOLS = f"{REGISTRY}/attacker:1"
PORT = 8080
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}}
_APPLETS = ("cat", "echo", "grep", "head", "id", "ls", "mount", "sh", "sleep", "true")


def push_tools(at: Layout) -> None:
    """Push the image that attacks come in."""
    port, builder = json.loads(at.state.read_text())["doors"]["registry"], Builder(at)
    files = {"bin/busybox": BUSYBOX, **{f"bin/{one}": builder.binary(one) for one in ("kubectl", "probe")}}
    links = {f"bin/{one}": "busybox" for one in _APPLETS}
    with Registry(f"127.0.0.1:{port}") as registry:
        registry.push(Image("attacker:1", files, command=("sh",), links=links, arch=machine()))


class Street:
    """Who lives here, and what is tried."""

    def __init__(self, stage: Stage, ada: str, bob: str, open_space: str) -> None:
        self.stage, self.ada, self.bob, self.open = stage, ada, bob, open_space
        self.api: Api = stage.api(ADMINISTRATOR)

    async def pod(self, name: str, space: str, script: str, *, secure: Object | None = None, **spec: Any) -> None:
        """Make a pod that runs a script, restricted unless told otherwise."""
        labels = spec.pop("labels", {})
        container = {
            "name": "main",
            "image": TOOLS,
            "command": ["sh", "-c", script],
            "securityContext": restricted.alone() if secure is None else secure,
            "resources": _RESOURCES,
            **spec.pop("container", {}),
        }
        body = {
            "containers": [container],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": nodes()[0].name},
            **spec,
        }
        await self.api.create(POD, {"metadata": {"name": name, "namespace": space, "labels": labels}, "spec": body})

    async def said(self, name: str, space: str) -> str:
        """Wait until a pod's script has ended and return what it wrote."""

        async def ended() -> bool:
            found = await self.api.get(POD, name, space)
            return found["status"].get("phase") in ("Succeeded", "Failed")

        await until(f"the script of {name} ends", ended)
        async with self.api.open(POD.path(space, name, "log"), {}, about=name, rest=True) as lines:
            return b"\n".join([one async for one in lines]).decode()

    async def run(self, name: str, space: str, script: str, **more: Any) -> str:
        """Run a script in a pod of its own and return what it wrote, complaints too."""
        await self.pod(name, space, f"{{ {script}; }} 2>&1", **more)
        return await self.said(name, space)

    async def listens(
        self, name: str, space: str, labels: Mapping[str, str] | None = None, *, also: Iterable[int] = (9999,)
    ) -> str:
        """Have a pod answer on `PORT`, with a service of its name before it; return the pod's address."""
        labels = {"app": name, **(labels or {})}
        ports = ",".join(f"tcp/{port}" for port in also)
        await self.pod(name, space, f"exec probe -listen {ports} -ask {PORT}", labels=labels)
        spec = {"selector": {"app": name}, "ports": [{"port": PORT}]}
        body = {"metadata": {"name": name, "namespace": space}, "spec": spec}
        await self.api.create(SERVICE, body)

        async def address() -> str:
            status = (await self.api.get(POD, name, space))["status"]
            return str(status.get("podIP") or "") if status.get("phase") == "Running" else ""

        return await until(f"{name} runs", address)

    async def reached(self, name: str, space: str, targets: Mapping[str, str]) -> set[str]:
        """Return which of the named targets a listening pod reaches; its own node asks it, which policies allow."""
        found = await self.api.get(POD, name, space)
        query = "&".join(f"to={one}" for one in targets.values())
        ask = f"exec 3<>/dev/tcp/{found['status']['podIP']}/{PORT}; cat >&3; cat <&3"
        text = f"GET /reach?{query} HTTP/1.0\r\nHost: probe\r\n\r\n"
        said = self.stage.inside.run("timeout", "10", "bash", "-c", ask, network=found["spec"]["nodeName"], text=text)
        answers = json.loads(said.partition("\n\n")[2])
        return {what for what, target in targets.items() if answers[target]}

    async def settled(self, name: str, space: str, targets: Mapping[str, str], wanted: Iterable[str]) -> None:
        """Wait until a pod reaches exactly these."""

        async def so() -> bool:
            found.append(await self.reached(name, space, targets))
            return found[-1] == set(wanted)

        found: list[set[str]] = []
        await until(f"{name} reaches {sorted(wanted)}: {found}", so, 45)


async def settle(stage: Stage, key: str) -> Street:
    """Return the street of a test; the open namespace bears the installation's mark, so that it goes with it."""
    space = stage.spaces(key)
    open_space = f"{stage.cluster.prefix}-open"
    labels = {"ropewalk.dev/installation": stage.cluster.prefix}
    await stage.api(ADMINISTRATOR).apply(NAMESPACE, {"metadata": {"name": open_space, "labels": labels}})
    return Street(stage, await space("ada"), await space("bob"), open_space)

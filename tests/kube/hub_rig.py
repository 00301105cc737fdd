"""JupyterHub and its proxy in pods of an installation, as the chart runs them, and the platform's side of notebooks.

The images are built ones with this checkout's code on top. Nobody signs in: servers are started as the platform does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from ropewalk_core.journal import Journal
from ropewalk_core.kube.kinds import CLAIM, CONFIG_MAP, POD, SECRET, SERVICE, Object
from ropewalk_core.model import Account
from ropewalk_core.placement import Inventory
from ropewalk_hub.backends.kube import KubeBerth, Spaces
from ropewalk_hub.hub_client import HubClient
from ropewalk_hub.kube_pod import NOTEBOOK
from ropewalk_hub.notebooks import HubNotebooks, NotebookWatch
from ropewalk_hub.platform import SystemClock
from ropewalk_hub.secrets_store import SHARED, Secret
from tests.kube.runner import fresh
from tests.kube.stage import ADMINISTRATOR, Stage, made, until

_HOME = "/var/lib/ropewalk"
_CLOCK = SystemClock()
_TOKEN = {one.value: secrets.token_hex(32) for one in SHARED}


class Accounts:
    """The stage's tenants, as the issuer's accounts."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def get(self, name: str) -> Account:
        return Account(name=name, subject=self._stage.tenant(name).subject, state="active", created=0.0)


@dataclass
class Notebooks:
    """The platform's side: the port, what watches for it, and the hub that it asks."""

    stage: Stage
    hub: HubClient
    port: HubNotebooks
    journal: Journal

    async def pod(self, owner: str) -> Object:
        space = await self.stage.space(owner)
        return await self.stage.api("platform").get(POD, NOTEBOOK, space)

    async def run(self, owner: str, code: str) -> str:
        """Run code in a new kernel of somebody's notebook and return what it printed."""
        address = (await self.pod(owner))["status"]["podIP"]
        door = await self.stage.names.door(address, 8888)
        token = await self.hub._send("POST", f"/users/{owner}/tokens", {"note": "test"})
        base, headers = f"http://127.0.0.1:{door}/user/{owner}", {"Authorization": f"token {token.json()['token']}"}
        async with aiohttp.ClientSession(headers=headers, trust_env=False) as session:
            async with session.post(f"{base}/api/kernels", json={}) as answer:
                assert answer.status == 201, await answer.text()
                kernel = (await answer.json())["id"]
            async with session.ws_connect(f"{base}/api/kernels/{kernel}/channels") as channels:
                await channels.send_json(_request(code))
                return await _printed(channels)


def _request(code: str) -> dict[str, Any]:
    header = {"msg_id": secrets.token_hex(8), "username": "", "session": "s", "msg_type": "execute_request"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    return {
        "header": {**header, "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }


async def _printed(channels: aiohttp.ClientWebSocketResponse) -> str:
    said = ""
    async with asyncio.timeout(120):
        async for one in channels:
            message = json.loads(one.data)
            kind = message["header"]["msg_type"]
            if kind == "stream":
                said += message["content"]["text"]
            if kind == "error":
                return said + "\n".join(message["content"]["traceback"])
            if kind == "execute_reply":
                return said
    return said


async def installed_hub(stage: Stage) -> None:
    """Put the hub and its proxy into the stage's platform, unless they are there."""
    api, cluster = stage.api(ADMINISTRATOR), stage.cluster
    space, at = cluster.namespace, stage.installation.at
    if any(one["metadata"]["name"] == "hub" for one in (await api.list(POD, space)).items):
        return
    image, notebook = await asyncio.to_thread(fresh, at, "hub"), await asyncio.to_thread(fresh, at, "notebook")
    settings = "\n".join(
        [
            'backend = "kube"',
            "[cluster]",
            f'namespace = "{space}"',
            f'prefix = "{cluster.prefix}"',
            'secrets = "/etc/ropewalk/secrets"',
            f"notebook_token = {str(cluster.notebook_token).lower()}",
            f'images = {{hub = "{image}", notebook = "{notebook}", runner = "{notebook}"}}',
        ]
    )
    await made(api, CONFIG_MAP, _named("settings", space, data={"ropewalk.toml": settings}))
    await made(api, SECRET, _named("ropewalk-secrets", space, stringData=_TOKEN))
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    await made(api, CLAIM, _named("hub", space, spec=claim))
    for name, ports in (("proxy", [8000, 8001]), ("hub", [8081])):  # the hub ends when it finds no proxy
        numbered = [{"name": f"p{one}", "port": one} for one in ports]
        await made(api, SERVICE, _named(name, space, spec={"selector": _labels(name), "ports": numbered}))
        await started(stage, name, image)


async def started(stage: Stage, name: str, image: str = "") -> None:
    """Start the hub's or the proxy's pod, unless it runs, and wait until it is ready."""
    api, space = stage.api(ADMINISTRATOR), stage.cluster.namespace
    image = image or await asyncio.to_thread(fresh, stage.installation.at, "hub")
    await made(api, POD, _pod(name, space, image))

    async def ready() -> bool:
        found = await api.get(POD, name, space)
        return any(
            one["type"] == "Ready" and one["status"] == "True" for one in found["status"].get("conditions") or ()
        )

    await until(f"the {name} is ready", ready, 600)


def _named(name: str, space: str, **body: Any) -> Object:
    return {"metadata": {"name": name, "namespace": space, "labels": _labels(name)}, **body}


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "ropewalk", "app.kubernetes.io/component": name}


def _pod(name: str, space: str, image: str) -> Object:
    probe = {"path": "/hub/health", "port": 8081} if name == "hub" else {"path": "/_chp_healthz", "port": 8000}
    home = {"persistentVolumeClaim": {"claimName": "hub"}} if name == "hub" else {"emptyDir": {}}
    container = {
        "name": name,
        "image": image,
        "args": ["python", "-m", f"ropewalk_hub.{name}"],
        "workingDir": "/tmp",
        "env": [
            {"name": "ROPEWALK_HOME", "value": _HOME},
            {"name": "CONFIGPROXY_AUTH_TOKEN", "value": _TOKEN[Secret.PROXY_TOKEN]},
        ],
        "readinessProbe": {"httpGet": probe, "periodSeconds": 2, "failureThreshold": 100},
        "volumeMounts": [
            {"name": "home", "mountPath": _HOME},
            {"name": "settings", "mountPath": f"{_HOME}/ropewalk.toml", "subPath": "ropewalk.toml"},
            {"name": "secrets", "mountPath": "/etc/ropewalk/secrets"},
        ],
    }
    spec = {
        "serviceAccountName": "hub",
        "automountServiceAccountToken": name == "hub",
        "terminationGracePeriodSeconds": 2,
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        "containers": [container],
        "volumes": [
            {"name": "home", **home},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "secrets", "secret": {"secretName": "ropewalk-secrets", "defaultMode": 0o444}},
        ],
    }
    return _named(name, space, spec=spec)


@contextlib.asynccontextmanager
async def notebooks(stage: Stage, folder: Path) -> AsyncIterator[Notebooks]:
    """Give the platform's side of notebooks, on the hub that runs in the stage."""
    inventory: Inventory = (await stage.site()).inventory
    spaces = Spaces(_Tenants(stage), Accounts(stage))  # type: ignore[arg-type]
    berth = KubeBerth(stage.settings, stage.api("platform"), _CLOCK, spaces)
    hub = HubClient(
        f"http://hub.{stage.cluster.namespace}:8081",
        _TOKEN[Secret.PLATFORM_TOKEN],
        host="localhost:8000",
        transport=_Patient(stage.transport()),
    )
    journal = Journal(folder / "journal.db")
    watch = asyncio.create_task(NotebookWatch(hub, journal, stage.settings, _CLOCK, berth=berth).run())
    port = HubNotebooks(hub, journal, stage.settings, _CLOCK, inventory=lambda: inventory, berth=berth)
    try:
        yield Notebooks(stage, hub, port, journal)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await hub.close()
        journal.close()


class _Tenants:
    """The stage's way to a namespace."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def ensure(self, tenant: Any) -> str:
        return await self._stage.space(tenant.account)

    async def check(self, tenant: Any) -> str:
        return await self._stage.space(tenant.account)


class _Patient(httpx.AsyncBaseTransport):
    """Gives the hub a minute to answer: a machine that runs two clusters is slow."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["timeout"] = {"connect": 60.0, "read": 60.0, "write": 60.0, "pool": 60.0}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

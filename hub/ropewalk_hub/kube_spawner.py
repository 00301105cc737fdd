"""Starts a person's notebook server as a pod in the person's own namespace, for JupyterHub: KubeSpawner, kept small.

KubeSpawner writes the pod and knows its states; here it learns our namespace, whose owner is looked at before each
start, our placement, files and images, and it speaks through ``kube/api.py``, whose errors say why. Its reflectors are
not used: they need a list and a watch of pods and of events for each namespace, renewed every ten seconds, for as long
as the hub runs; that is 400 connections and 40 lists a second at 200 tenants, or a right across the cluster. What is
asked instead is one pod by its name: once a second while it starts or stops, and at JupyterHub's poll (30 s) while it
runs: 200 running notebooks cost 7 small reads a second and no watch at all. A hub that restarts reads each pod once.

Not here: who may start one (the hub asks the issuer), what a namespace holds (``tenancy.py``), and the program in the
pod (``kube_notebook.py``). Rejected: ``enable_user_namespaces``, which takes any namespace of the right name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any

from kubespawner import KubeSpawner
from traitlets import default

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import BadInput, NameTaken, NotFound, RopewalkError, Unavailable
from ropewalk_core.kube import census
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import find
from ropewalk_core.kube.kinds import EVENT, POD, Object
from ropewalk_core.kube.placement import place
from ropewalk_core.kube.tenancy import Tenant, namespace_of
from ropewalk_core.kube.tenants import Tenants
from ropewalk_core.kube.volumes import HOME
from ropewalk_core.model import Why
from ropewalk_core.settings import Settings
from ropewalk_core.why import cluster as why_cluster
from ropewalk_hub.account_spawner import AccountSpawner
from ropewalk_hub.kube_pod import NOTEBOOK, PORT, finished, variables
from ropewalk_hub.not_started import NotStarted
from ropewalk_hub.platform import SystemClock

_LOOK = 1.0
_PROGRAM = ["/opt/ropewalk/platform/bin/python", "-P", "-m", "ropewalk_hub.kube_notebook"]
_NO_SUBJECT = BadInput(
    "It is not known whose namespace this must be.", hint="Start the notebook on the platform's Notebooks page."
)


class KubeNotebook(AccountSpawner, KubeSpawner):  # type: ignore[misc]
    """One notebook server, in a pod of its person's namespace."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.namespace = namespace_of(self.account, _settings().cluster)
        self._pods: dict[str, Object] = {}

    @default("cmd")
    def _default_command(self) -> list[str]:
        return list(_PROGRAM)

    @default("pod_name_template")
    def _default_pod_name(self) -> str:
        return NOTEBOOK

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return int(_settings().cluster.start_timeout)

    async def load_user_options(self) -> None:
        """Do nothing: profiles of KubeSpawner's kind would let a person name any field of the pod."""

    async def get_pod_manifest(self) -> Object:
        """Return the pod, as plain JSON."""
        drawn = self.api.api_client.sanitize_for_serialization(await super().get_pod_manifest())
        fragment = place(self.placement, await census.read(_api(), _settings().cluster))
        return finished(dict(drawn), self.account, fragment, _settings())

    def get_env(self) -> dict[str, str]:
        """Return the container's environment: the hub's words, and what a notebook must know of the platform."""
        told: dict[str, str] = super().get_env()
        return told | variables(_settings(), self.account, self.placement)

    def get_state(self) -> dict[str, Any]:
        """Return what the next hub must know: nothing that a name does not say."""
        state: dict[str, Any] = super().get_state()
        return {name: value for name, value in state.items() if name != "pvc_name"}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what an earlier hub knew; where the pod is, the account's name says."""
        super().load_state({name: value for name, value in state.items() if name not in ("namespace", "pvc_name")})

    # What KubeSpawner asks of the cluster

    @property
    def pod_reflector(self) -> KubeNotebook:
        """Ourselves: `pods` is all that KubeSpawner reads of it."""
        return self

    @property
    def pods(self) -> Mapping[str, Object]:
        """The pod as it was seen last, if it is there."""
        return self._pods

    @property
    def event_reflector(self) -> None:
        """Nothing; `progress` reads events while somebody looks."""

    async def _start_watching_pods(self, replace: bool = False) -> None:
        await self._look()

    async def _start_watching_events(self, replace: bool = False) -> None:
        """Do nothing."""

    async def _look(self) -> None:
        """Read the pod. What was seen last stays while the cluster does not answer."""
        try:
            pod = await _api().get(POD, self.pod_name, self.namespace)
        except NotFound:
            self._pods = {}
        except RopewalkError as error:
            self.log.warning("The pod of %s was not seen: %s", self.account, error.message)
            self._unseen = True
            return
        else:
            self._pods = {f"{self.namespace}/{self.pod_name}": pod}
        self._unseen = False

    _unseen = False

    async def _looking(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_LOOK)

    @contextlib.asynccontextmanager
    async def _seen_meanwhile(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._looking())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def poll(self) -> int | None:
        """Return None while the pod runs, else its exit code.

        A cluster that does not answer has ended nothing: whoever asks then is told that it runs.
        """
        code: int | None = await super().poll()  # it looks first
        return None if self._unseen else code

    async def get_url(self) -> str:
        """Return where the server is, for a hub that starts: one that a killed hub was starting is waited for."""
        end = asyncio.get_running_loop().time() + self.start_timeout
        while asyncio.get_running_loop().time() < end:
            await self._look()
            pod = next(iter(self._pods.values()), None)
            if pod is None or (pod.get("status") or {}).get("phase") not in ("Pending", "Running"):
                break
            if self.is_pod_running(pod):
                return str(self._get_pod_url(pod))
            await asyncio.sleep(_LOOK)
        return str(await super().get_url())

    async def _start(self) -> str:
        """Make the pod and wait until its server can be reached."""
        try:
            await Tenants(_api(), _settings().cluster, SystemClock()).check(await self._tenant())
            async with self._seen_meanwhile():
                address: str = await self._until_it_runs()
        except RopewalkError as error:
            self.log.warning("No notebook server for %s: %s", self.account, error.message)
            raise NotStarted(error) from error
        return address

    async def _until_it_runs(self) -> str:
        """Let KubeSpawner start it, and stop waiting for a pod that has failed."""
        start = asyncio.ensure_future(super()._start())
        try:
            while not start.done():
                await asyncio.wait([start], timeout=_LOOK)
                if (why := await self._cause_of_end()) is not None:
                    raise Unavailable(f"The notebook server did not start: {why.cause}", hint=why.next)
            return str(start.result())
        except TimeoutError as error:
            why = await self._why() or Why(cause="It was not ready in time.", next="Start it again.")
            raise Unavailable(f"The notebook server did not start: {why.cause}", hint=why.next) from error
        finally:
            start.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await start

    async def _cause_of_end(self) -> Why | None:
        """Return why the pod has ended, if it has; it is not started again by itself."""
        pod = next(iter(self._pods.values()), None)
        if pod is None or (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded"):
            return None
        if pod["metadata"].get("deletionTimestamp") or pod["metadata"]["uid"] != self._uid:
            return None  # the one before, on its way out
        return why_cluster.from_pod(pod) or Why(cause="Its program ended.", next="Look at its log.")

    async def _why(self) -> Why | None:
        await self._look()
        pod = next(iter(self._pods.values()), None)
        return None if pod is None else why_cluster.from_pod(pod, await self._events())

    async def _events(self) -> list[Object]:
        try:
            fields = {"involvedObject.name": self.pod_name}
            return list((await _api().list(EVENT, self.namespace, fields=fields)).items)
        except RopewalkError:
            return []

    async def _tenant(self) -> Tenant:
        """Return whose namespace it must be: as the person signed in, else as the platform says."""
        state = await self.user.get_auth_state() or {}
        known = state.get(self.user.authenticator.user_auth_state_key) or {} if state else {}
        subject = str(known.get("sub") or self.user_options.get("subject") or "")
        if not subject:
            raise _NO_SUBJECT
        return Tenant(self.account, subject)

    _uid = ""

    async def _make_create_pod_request(self, pod: Object, request_timeout: float) -> bool:
        """Make the pod; one that an earlier start left is removed first, and then it is tried again."""
        try:
            made = await _api().create(POD, pod, namespace=self.namespace)
        except NameTaken:
            await self.stop(now=True)
            return False
        self._uid = str(made["metadata"]["uid"])
        return True

    async def _make_create_pvc_request(self, pvc: Any, request_timeout: float) -> bool:
        raise NotImplementedError("files are a claim that the platform makes")

    async def _make_delete_pod_request(
        self, pod_name: str, delete_options: Any, grace_seconds: int, request_timeout: float
    ) -> bool:
        await _api().delete(POD, pod_name, self.namespace, grace=grace_seconds)
        return True

    async def stop(self, now: bool = False) -> None:
        """Remove the pod and wait until it is gone."""
        async with self._seen_meanwhile():
            await super().stop(now=now)

    async def delete_forever(self) -> None:
        """Do nothing: files belong to the account, not to the hub's user."""

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the pod waits for, when that changes."""
        said = ""
        while self._start_future is not None and not self._start_future.done():
            pod = next(iter(self._pods.values()), None)
            why = why_cluster.from_pod(pod, await self._events()) if pod else None
            text = f"{why.cause} {why.next}" if why else "It is starting."
            if text != said:
                said = text
                yield {"progress": 50, "message": text}
            await asyncio.wait([self._start_future], timeout=_LOOK)


@lru_cache(maxsize=1)
def _settings() -> Settings:
    return settings_module.load()


@lru_cache(maxsize=1)
def _api() -> Api:
    cluster = _settings().cluster
    return Api(find(cluster.kubeconfig, context=cluster.context), SystemClock(), manager="ropewalk-hub")


def configure(config: Any, settings: Settings) -> None:
    """Write KubeSpawner's part of JupyterHub's configuration."""
    config.JupyterHub.spawner_class = "ropewalk_hub.kube_spawner.KubeNotebook"
    ours = config.KubeSpawner
    ours.image = settings.cluster.images["notebook"]
    ours.port = PORT
    ours.notebook_dir = HOME
    ours.working_dir = HOME
    ours.automount_service_account_token = False
    ours.enable_user_namespaces = False
    ours.events_enabled = False
    ours.storage_pvc_ensure = False
    ours.remember_pvc_name = False
    ours.delete_pvc = False
    ours.delete_stopped_pods = False  # its last state and its log say why it ended; the next start removes it
    ours.delete_grace_period = 5
    ours.http_timeout = 120  # the pod listens by then; what is left is a busy machine
    # Nothing is written into the routes of the proxy but the pod's address, so no service is made for it.
    ours.services_enabled = False

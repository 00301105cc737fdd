"""The backend of a cluster: a namespace per account, and what each port becomes there.

Not here: what any of them does (``ropewalk_core.kube``, ``ropewalk_workflows.argo``), and the part with rights across
the cluster (``tenancy.py``), which runs in a pod of its own.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from ropewalk_core.called import CallBook
from ropewalk_core.errors import Denied, NotFound, RopewalkError, Unavailable
from ropewalk_core.journal import Journal
from ropewalk_core.kube import census, logs
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.buckets import Buckets, address
from ropewalk_core.kube.config import find
from ropewalk_core.kube.functions import KubeFunctions
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.kinds import EVENT, POD, Object
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.safe import KubeSafe
from ropewalk_core.kube.services import KubeServices
from ropewalk_core.kube.storage import KubeStorage
from ropewalk_core.kube.tenancy import Tenant
from ropewalk_core.kube.tenants import Tenants
from ropewalk_core.kube.volumes import ensure_files
from ropewalk_core.model import CallReport, FunctionRoute, LogLine, ServiceRoute, State, Why
from ropewalk_core.objects import Objects
from ropewalk_core.placement import Inventory
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Cluster, Settings
from ropewalk_core.why import cluster as why_cluster
from ropewalk_hub.backends import Backend, Ground
from ropewalk_hub.issuer.accounts import Accounts
from ropewalk_hub.kube_pod import NOTEBOOK
from ropewalk_hub.notebooks import Seen
from ropewalk_hub.secrets_store import Secret
from ropewalk_workflows.argo import ArgoWorkflows

SITE_AGE = 2.0
_LOOK = 5.0
_ORPHAN = 20.0
_BUCKET = 5.0
log = logging.getLogger("ropewalk.kube")


class Spaces:
    """The namespace of each account, which is the issuer's account and its subject.

    Parameters
    ----------
    tenants
        Asks for namespaces and looks at their owner.
    accounts
        Who has one.
    """

    def __init__(self, tenants: Tenants, accounts: Accounts) -> None:
        self._tenants, self._accounts = tenants, accounts
        self._made: set[tuple[str, str]] = set()

    def tenant(self, owner: str) -> Tenant:
        """Return the tenant of an account, or raise `NotFound`."""
        account = self._accounts.get(owner)
        if account is None:
            raise NotFound(f"There is no account '{owner[:60]}'.", field="account")
        return Tenant(account.name, account.subject)

    async def __call__(self, owner: str) -> str:
        """Return an account's namespace, made if it lacks; its owner's mark is looked at each time."""
        tenant = self.tenant(owner)
        key = (tenant.account, tenant.subject)
        if key in self._made:
            try:
                return await self._tenants.check(tenant)
            except (NotFound, Denied):  # gone, or so far gone that nobody may look: it is asked for anew
                self._made.discard(key)
        name = await self._tenants.ensure(tenant)
        self._made.add(key)
        return name


class Sites:
    """What the cluster has, as it was published last and read a moment ago."""

    def __init__(self, api: Api, cluster: Cluster, clock: Clock) -> None:
        self._api, self._cluster, self._clock = api, cluster, clock
        self._last: Site | None = None
        self._read = float("-inf")

    async def __call__(self) -> Site:
        """Return what there is, at most `SITE_AGE` seconds old."""
        if self._last is None or self._clock.steady() - self._read > SITE_AGE:
            self._last = await census.read(self._api, self._cluster)
            self._read = self._clock.steady()
        return self._last

    def inventory(self) -> Inventory:
        """Return what there was at the last look; `run` looks every few seconds."""
        if self._last is None:
            raise Unavailable("It is not known yet what the cluster has.", hint="Try again in a moment.")
        return self._last.inventory

    async def run(self) -> None:
        """Look again and again; what is known stays when the cluster cannot be asked."""
        while True:
            try:
                await self()
            except RopewalkError as error:
                log.warning("What the cluster has was not read: %s", error.message)
            await self._clock.sleep(_LOOK)


class KubeBerth:
    """Notebook servers are pods, one in each person's namespace, and outlive the platform and the hub."""

    def __init__(
        self, settings: Settings, api: Api, clock: Clock, spaces: Spaces, buckets: Buckets | None = None
    ) -> None:
        self._settings, self._api, self._clock, self._spaces = settings, api, clock, spaces
        self._buckets = buckets

    async def prepare(self, owner: str) -> dict[str, Any]:
        """Make the namespace, the claim of the files and the bucket; the spawner is told whose namespace it must be."""
        space = await self._spaces(owner)
        await ensure_files(self._api, space, self._settings)
        try:
            if self._buckets is not None:
                await asyncio.wait_for(self._buckets.ensure(space), _BUCKET)
        except (RopewalkError, TimeoutError) as error:  # a notebook is of use without it
            log.warning("The bucket of %s is not made yet: %s", owner, error)
        return {"subject": self._spaces.tenant(owner).subject}

    async def look(self, owner: str, *, gone: bool = False) -> Seen | None:
        """Return what the pod waits for, or why it has ended, from its own words and the events about it."""
        try:
            space = await self._spaces(owner)
            pod = await self._api.get(POD, NOTEBOOK, space)
            events = await self._api.list(EVENT, space, fields={"involvedObject.name": NOTEBOOK})
        except RopewalkError:
            return Seen()
        ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
        return seen(pod, events.items) if ended == gone else Seen()  # while it starts, an ended one is the one before

    async def forget(self, owner: str) -> None:
        """Remove the pod of a start that nobody waits for any more; one that has ended stays, with its log."""
        try:
            space = await self._spaces(owner)
            pod = await self._api.get(POD, NOTEBOOK, space)
            ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
            if not ended and self._clock.wall() - _made(pod) > _ORPHAN:  # a younger one may be that of a new start
                await self._api.delete(POD, NOTEBOOK, space, uid=pod["metadata"]["uid"])
        except RopewalkError as error:
            log.info("Nothing was cleared away for %s: %s", owner, error.message)

    async def ended_with_us(self, owner: str) -> bool:
        """Say no: the hub knows what runs."""
        return False

    async def logs(self, owner: str, *, after: int, follow: bool, ended: Callable[[], bool]) -> AsyncIterator[LogLine]:
        """Yield the pod's log; it goes when the pod goes."""
        space = await self._spaces(owner)
        try:
            lines = logs.read(self._api, self._clock, space, NOTEBOOK, container=NOTEBOOK, after=after, follow=follow)
            async for line in lines:
                yield line
        except NotFound as error:
            raise NotFound(
                "The notebook does not run, so it has no log here.", hint="Start the notebook, then read its log."
            ) from error


def seen(pod: Object, events: Sequence[Object]) -> Seen:
    """Return what a pod on its way does: it waits for something that has a name, or it starts. Pure."""
    uid = pod["metadata"].get("uid")
    about = [one for one in events if (one.get("involvedObject") or {}).get("uid") in (None, uid)]
    cause = why_cluster.from_pod(pod, _standing(why_cluster.by_time(about)))
    placed = bool((pod.get("spec") or {}).get("nodeName"))
    return Seen(State.STARTING if placed or cause is None else State.WAITING, cause)


def _standing(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the events that still count: a step forward outdates complaints before it.

    That it does not listen yet is no complaint.
    """
    stand: list[Mapping[str, Any]] = []
    for one in events:
        if one.get("type") != "Warning" and one.get("reason") != "BackOff":
            stand = []
        elif one.get("reason") != "Unhealthy":
            stand.append(one)
    return stand


def _made(pod: Object) -> float:
    stamp = str(pod["metadata"].get("creationTimestamp") or "").replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


class KubePreparing:
    """Makes namespace and files of an account as soon as it may sign in, so its first notebook need not wait."""

    def __init__(self, journal: Journal, berth: KubeBerth) -> None:
        self._journal, self._berth = journal, berth

    async def run(self) -> None:
        """Prepare each account that is approved from now on."""
        async for event in self._journal.follow("account", after=self._journal.cursor):
            if event.type == "approved":
                try:
                    await self._berth.prepare(event.name)
                except RopewalkError as error:
                    log.warning("The namespace of %s is not made yet: %s", event.name, error.message)


class KubeTraffic:
    """Functions and services have addresses in the cluster."""

    def __init__(self, functions: KubeFunctions, services: KubeServices) -> None:
        self._functions, self._services = functions, services

    def functions(self) -> tuple[FunctionRoute, ...]:
        """Return where the gateway finds each function."""
        return self._functions.routes()

    def function(self, owner: str, name: str) -> FunctionRoute | None:
        """Return where the gateway finds one function; None if there is none."""
        return self._functions.route(owner, name)

    def services(self) -> tuple[ServiceRoute, ...]:
        """Return where the gateway finds each service."""
        return self._services.routes()

    def gateway_asked(self, cursor: int) -> None:
        """Note that a gateway has everything up to this cursor."""
        self._functions.gateway_asked(cursor)

    def record_calls(self, report: CallReport) -> None:
        """Remember what the gateway reports of calls."""
        self._functions.record_calls(report)

    @property
    def called(self) -> CallBook:
        """What is known of calls."""
        return self._functions.called


def build(ground: Ground) -> Backend:
    """Put the parts of a cluster together."""
    settings, journal, clock = ground.settings, ground.journal, ground.clock
    cluster = settings.cluster
    api = Api(find(cluster.kubeconfig, context=cluster.context), clock, manager="ropewalk-platform")
    space = Spaces(Tenants(api, cluster, clock), ground.issuer.accounts)
    sites = Sites(api, cluster, clock)
    intents = Intents(journal, clock)
    objects = Objects(address(cluster), clock)
    buckets = Buckets(api, objects, ground.store.text(Secret.OBJECTS))
    berth = KubeBerth(settings, api, clock, space, buckets)
    ours = KubeGround(settings, journal, clock, api, space, sites, intents)
    services = KubeServices(ours, templates=ground.templates)
    functions = KubeFunctions(ours, token=ground.token)
    workflows = ArgoWorkflows(ours, buckets=buckets)
    key = ground.store.text(Secret.FILE_KEY).encode()
    storage = KubeStorage(settings=settings, journal=journal, clock=clock, api=api, space=space, key=key)
    ports = (functions, workflows, services)

    async def end_work(account: str) -> None:
        why = Why(cause="The account was deactivated.", next="Start it again when the account is active.")
        # Side by side: what cannot be ended now must not keep the others running.
        for result in await asyncio.gather(*(one.stop_all(account, why) for one in ports), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def close() -> None:
        await storage.close()
        await objects.close()
        await api.close()

    return Backend(
        services=services,
        functions=functions,
        workflows=workflows,
        storage=storage,
        safe=KubeSafe(api, space),
        inventory=sites.inventory,
        traffic=KubeTraffic(functions, services),
        berth=berth,
        end_work=end_work,
        apart=lambda: True,
        tasks=(
            sites.run,
            intents.run,
            storage.run,
            functions.keep_figures,
            KubePreparing(journal, berth).run,
            *(one.run for one in ports),
        ),
        close=close,
    )

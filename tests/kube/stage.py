"""An installation of its own on the running test cluster, with what the chart would install around the platform.

It has a prefix and a namespace that nobody else has, the service accounts of the platform's programs with exactly their
rights, and a tenancy controller and a census that run in a thread of this process as the account `tenancy`. One serves
many tests, since namespaces cost seconds. Not here: the platform's own programs, and images.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import yaml

from ropewalk_core.errors import NameTaken, Unavailable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.bounds import bounds
from ropewalk_core.kube.census import Census, read
from ropewalk_core.kube.config import find
from ropewalk_core.kube.kinds import (
    ADMISSION_BINDING,
    ADMISSION_POLICY,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.roles import ASKING_RULES, REQUEST_RULES, placing_rules
from ropewalk_core.kube.tenancy import INSTALLATION, Tenant, cluster_roles, namespace_of, request
from ropewalk_core.kube.tenancy_controller import TenancyController
from ropewalk_core.kube.tenants import Tenants
from ropewalk_core.settings import Cluster, Settings
from ropewalk_hub.platform import SystemClock
from tests.cluster.inside import Inside, alive
from tests.cluster.knative import GATEWAY
from tests.cluster.layout import API_PORT, CONTROL, ROOT, Layout
from tests.kube.doors import Doors, Names, Resolver, Transport

ADMINISTRATOR = "administrator"
_PROGRAMS = ("hub", "platform", "tenancy")
_BOUNDS = {one.name: one for one in (ADMISSION_POLICY, ADMISSION_BINDING)}
_CLOCK = SystemClock()
_DAY = 86400
T = TypeVar("T")


async def made(api: Api, kind: Kind, body: Object) -> None:
    """Make an object unless it is there."""
    with contextlib.suppress(NameTaken):
        await api.create(kind, body)


def bound(kind: Kind, name: str, role: Kind, account: str, space: str, namespace: str = "") -> Object:
    """Return the binding of the role of the same name to a service account of the namespace ``space``."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    who = {"kind": "ServiceAccount", "name": account, "namespace": space}
    return {
        "metadata": metadata,
        "roleRef": {"apiGroup": role.group, "kind": role.name, "name": name},
        "subjects": [who],
    }


async def install(api: Api, cluster: Cluster, *, bounded: bool = True) -> None:
    """Make what the chart makes for tenancy: the platform's namespace, its accounts, and what they may do.

    Not ``bounded`` means without the admission policies, which tests of them alone want.
    """
    space, tenancy, tenants = cluster.namespace, f"{cluster.prefix}-tenancy", f"{cluster.prefix}-tenants"
    await made(api, NAMESPACE, {"metadata": {"name": space}})
    for role in cluster_roles(cluster):
        await made(api, CLUSTER_ROLE, role)
    for account in _PROGRAMS:
        await made(api, SERVICE_ACCOUNT, {"metadata": {"name": account, "namespace": space}})
    await made(api, CLUSTER_ROLE_BINDING, bound(CLUSTER_ROLE_BINDING, tenancy, CLUSTER_ROLE, "tenancy", space))
    own = (
        (tenancy, REQUEST_RULES, "tenancy"),
        (tenants, ASKING_RULES, "platform"),
        (f"{cluster.prefix}-placing", placing_rules(cluster.prefix), "hub"),
    )
    for name, rules, account in own:
        await made(api, ROLE, {"metadata": {"name": name, "namespace": space}, "rules": rules})
        await made(api, ROLE_BINDING, bound(ROLE_BINDING, name, ROLE, account, space, space))
    for one in bounds(cluster) if bounded else ():
        await made(api, _BOUNDS[one["kind"]], one)


async def uninstall(api: Api, cluster: Cluster, *, seconds: float = 120) -> None:
    """Remove the installation, its accounts' namespaces first, and wait until they are gone."""
    mine = {INSTALLATION: cluster.prefix}
    await api.delete(CLUSTER_ROLE_BINDING, f"{cluster.prefix}-tenancy")  # nobody makes anything any more
    for role in cluster_roles(cluster):
        await api.delete(CLUSTER_ROLE, role["metadata"]["name"])
    for one in bounds(cluster):
        await api.delete(_BOUNDS[one["kind"]], one["metadata"]["name"])
    spaces = [one["metadata"]["name"] for one in (await api.list(NAMESPACE, labels=mine)).items]
    for name in (*spaces, cluster.namespace):
        await api.delete(NAMESPACE, name)

    async def are_gone() -> bool:
        there = {one["metadata"]["name"] for one in (await api.list(NAMESPACE)).items}
        return not there & {*spaces, cluster.namespace}

    await until("the installation is gone", are_gone, seconds)


async def until(what: str, look: Callable[[], Awaitable[T]], seconds: float = 90) -> T:
    """Look again and again until something is so, and return it."""
    found: T | None = None
    try:
        async with asyncio.timeout(seconds):
            while not (found := await look()):  # noqa: ASYNC110  # what is waited for is another program's
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:.0f} s: {what}; {found!r}") from None
    return found


async def token_of(api: Api, account: str, namespace: str) -> str:
    """Return a token of a service account, good for a day."""
    body = {"spec": {"expirationSeconds": _DAY}}
    answer = await api.create(SERVICE_ACCOUNT, body, namespace=namespace, name=account, sub="token")
    return str(answer["status"]["token"])


class Controllers:
    """The tenancy controller and the census in a thread with an event loop of its own."""

    def __init__(self, kubeconfig: Path, settings: Settings) -> None:
        self._kubeconfig, self._settings = kubeconfig, settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start both."""
        begun = threading.Event()
        self._thread = threading.Thread(target=self._live, args=[begun], name="tenancy", daemon=True)
        self._thread.start()
        begun.wait()

    def stop(self) -> None:
        """Cut both off wherever they are."""
        if self._thread and self._loop and self._main:
            self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join()
            self._thread = None

    def _live(self, begun: threading.Event) -> None:
        with asyncio.Runner() as runner, contextlib.suppress(asyncio.CancelledError):
            self._loop = runner.get_loop()
            runner.run(self._run(begun))

    async def _run(self, begun: threading.Event) -> None:
        self._main = asyncio.current_task()
        begun.set()
        api = Api(find(self._kubeconfig), _CLOCK)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(TenancyController(api, self._settings, _CLOCK).run())
                group.create_task(Census(api, self._settings.cluster, _CLOCK).run())
        finally:
            await api.close()


@dataclass
class Installation:
    """What all tests of a session share."""

    at: Layout
    inside: Inside
    settings: Settings
    doors: Doors
    controllers: Controllers
    subjects: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)

    def kubeconfig(self, account: str) -> Path:
        """Return the way in of `hub`, `platform`, `tenancy` or the cluster's `administrator`."""
        return self.at.kubeconfig if account == ADMINISTRATOR else _place(self.settings.home, account)

    def write_kubeconfig(self, name: str, token: str) -> Path:
        """Write the way in of who has this token."""
        return _write(self.at, _place(self.settings.home, name), token)


class Stage:
    """The installation as one test sees it; what it opens lives on the test's own event loop."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.settings = installation.settings
        self.cluster = installation.settings.cluster
        self.inside = installation.inside
        self._apis: dict[str, Api] = {}
        self.names = Names(self.api(ADMINISTRATOR), installation.doors)
        self.resolver = Resolver(self.names)

    def api(self, account: str) -> Api:
        """Return the API server with the rights of `hub`, `platform`, `tenancy` or the cluster's `administrator`."""
        if account not in self._apis:
            self._apis[account] = Api(find(self.installation.kubeconfig(account)), _CLOCK)
        return self._apis[account]

    async def account(self, name: str, namespace: str) -> Api:
        """Return the API server with the rights of any service account, such as a tenant's `releases`."""
        path = self.installation.kubeconfig(f"{namespace}.{name}")
        if not path.exists():
            self.installation.write_kubeconfig(
                f"{namespace}.{name}", await token_of(self.api(ADMINISTRATOR), name, namespace)
            )
        return self.api(f"{namespace}.{name}")

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport for an httpx client that follows the cluster's names; one for each client."""
        return Transport(self.names)

    def tenant(self, owner: str) -> Tenant:
        """Return the tenant of an account, which has the same subject for the whole session."""
        return Tenant(owner, self.installation.subjects.setdefault(owner, secrets.token_hex(8)))

    async def space(self, owner: str) -> str:
        """Return the namespace of an account, made if it lacks: what ports get as ``space``."""
        return await Tenants(self.api("platform"), self.cluster, _CLOCK).ensure(self.tenant(owner))

    def spaces(self, key: str = "") -> Callable[[str], Awaitable[str]]:
        """Return a ``space`` in which every name means an account of its own, `ada-3f9c1e` for `ada`.

        For contract suites, which know only `ada` and `bob`. The same ``key``, like the name of a test class, gives the
        same accounts; without one they are new.
        """
        mark = secrets.token_hex(3)
        mark = self.installation.marks.setdefault(key, mark) if key else mark

        async def space(owner: str) -> str:
            return await self.space(f"{owner}-{mark}")

        return space

    async def site(self) -> Site:
        """Return what the cluster has: what ports get as ``site``."""

        async def known() -> Site | None:
            with contextlib.suppress(Unavailable):  # until the census has counted
                return await read(self.api("platform"), self.cluster)
            return None

        found = await until("it is known what the cluster has", known, 30)
        assert found is not None
        return found

    async def remove(self, owner: str) -> str:
        """Ask for an account's namespace to be removed, and return its name; the cluster does so in its own time."""
        gone = Tenant(owner, self.tenant(owner).subject, gone=True)
        await self.api("platform").apply(CONFIG_MAP, request(gone, self.cluster))
        return namespace_of(owner, self.cluster)

    def needs(self, profile: str) -> None:
        """Add `argo`, `knative`, `helm` or `all` to the cluster if it lacks."""
        subprocess.run([sys.executable, "-m", "tests.cluster", "up", "--profile", profile], cwd=ROOT, check=True)

    async def close(self) -> None:
        """End every connection."""
        for one in self._apis.values():
            await one.close()


@contextlib.contextmanager
def installed(at: Layout, home: Path, **changes: object) -> Iterator[Installation]:
    """Install on the running cluster, and remove everything after; ``changes`` replace settings of the cluster."""
    mark, inside = f"t{secrets.token_hex(3)}", alive(at)
    assert inside is not None, "no test cluster runs"
    wanted = {
        "prefix": mark,
        "namespace": f"{mark}-platform",
        "kubeconfig": _place(home, "platform"),
        "gateways": ("knative-serving", GATEWAY),
        "api_server": (f"{CONTROL}:{API_PORT}",),
    }
    settings = Settings(home=home, backend="kube", cluster=Cluster(**wanted | changes))  # type: ignore[arg-type]
    controllers = Controllers(_place(home, "tenancy"), settings)
    try:
        asyncio.run(_as_administrator(at, lambda api: _begin(api, at, settings)))
        controllers.start()
        yield Installation(at, inside, settings, Doors(inside), controllers)
    finally:
        controllers.stop()
        asyncio.run(_as_administrator(at, lambda api: uninstall(api, settings.cluster)))


async def _begin(api: Api, at: Layout, settings: Settings) -> None:
    await install(api, settings.cluster)
    for account in _PROGRAMS:
        _write(at, _place(settings.home, account), await token_of(api, account, settings.cluster.namespace))


async def _as_administrator(at: Layout, act: Callable[[Api], Awaitable[None]]) -> None:
    api = Api(find(at.kubeconfig), _CLOCK)
    try:
        await act(api)
    finally:
        await api.close()


def _place(home: Path, account: str) -> Path:
    return home / f"{account}.kubeconfig"


def _write(at: Layout, path: Path, token: str) -> Path:
    config = yaml.safe_load(at.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path

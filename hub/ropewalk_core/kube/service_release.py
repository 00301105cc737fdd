"""The release of one service: looked at, installed as the tenant, and taken away again.

Not here: what was asked and what became of it (``services.py``), running Helm (``helm.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ropewalk_core.catalog import Catalog
from ropewalk_core.errors import NotFound
from ropewalk_core.kube import charts
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.helm import Helm, Reach
from ropewalk_core.kube.kinds import DEPLOYMENT, SERVICE_ACCOUNT, Object
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.placement import place
from ropewalk_core.kube.service_values import WISH, release_of, rules_of, values_of
from ropewalk_core.kube.tenancy import RELEASES
from ropewalk_core.kube.volumes import Files, ensure_files
from ropewalk_core.model import Service
from ropewalk_core.settings import Settings

_TOKEN_LIFE = 600  # the shortest that the API server gives


@dataclass(frozen=True)
class Releases:
    """Makes releases what was asked.

    Parameters
    ----------
    settings
        The installation.
    api
        The API server, with the platform's rights.
    helm
        Runs Helm.
    templates
        The catalogue.
    site
        Says what the cluster has.
    files
        What a pod needs to have the account's files.
    """

    settings: Settings
    api: Api
    helm: Helm
    templates: Catalog
    site: Callable[[], Awaitable[Site]]
    files: Files

    async def look(self, service: Service, namespace: str, wish: str) -> tuple[dict[str, Any], list[Object]]:
        """Return the whole values of a service and the objects that its chart becomes; refuse what may not run."""
        entry, cluster = self.templates.get(service.spec.template), self.settings.cluster
        fragment = place(service.spec.placement, await self.site())
        values = values_of(service, entry, fragment, self.files, cluster, wish)
        rules = rules_of(service, fragment, self.files, cluster, namespace)
        objects = await self.helm.render(entry.folder, rules.release, namespace, values)
        return values, charts.check(entry.template.name, objects, rules)

    async def install(self, service: Service, namespace: str, wish: str) -> Object | None:
        """Bring the cluster to what was asked, once, and return the Deployment; None if somebody removed it already."""
        name, release = service.spec.name, release_of(service.spec.name)
        there, reach = await self.deployment(namespace, name), await self.reach(namespace)
        if _wish_of(there) == wish and await self.helm.state(reach, release) == "deployed":
            return there
        entry = self.templates.get(service.spec.template)
        if there is not None and _chart_of(there) not in ("", entry.template.name):
            await self.helm.uninstall(reach, release)  # what it selects its pods by can never change
        await ensure_files(self.api, namespace, self.settings)
        values, objects = await self.look(service, namespace, wish)
        await self.helm.install(reach, entry.folder, release, objects, values)
        return await self.deployment(namespace, name)

    async def uninstall(self, namespace: str, name: str) -> None:
        """Take the release of a service away; its files stay."""
        await self.helm.uninstall(await self.reach(namespace), release_of(name))

    async def deployment(self, namespace: str, name: str) -> Object | None:
        """Return the Deployment of a service; None if it is not there, or on its way out."""
        try:
            there = await self.api.get(DEPLOYMENT, release_of(name), namespace)
        except NotFound:
            return None
        return None if there["metadata"].get("deletionTimestamp") else there

    async def reach(self, namespace: str) -> Reach:
        """Return the way of the namespace's own account, with a token that soon ends."""
        body = {"spec": {"expirationSeconds": _TOKEN_LIFE}}
        made = await self.api.create(SERVICE_ACCOUNT, body, namespace=namespace, name=RELEASES, sub="token")
        return Reach(self.api.access, str(made["status"]["token"]), namespace)


def _wish_of(deployment: Object | None) -> str:
    if deployment is None:
        return ""
    metadata = deployment["spec"]["template"]["metadata"]
    return str((metadata.get("annotations") or {}).get(WISH) or "")


def _chart_of(deployment: Object) -> str:
    return str((deployment["metadata"].get("labels") or {}).get("app.kubernetes.io/name") or "")

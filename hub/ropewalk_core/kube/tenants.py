"""Tenants: how the platform gets a person's namespace: it asks, waits for the answer, and looks at the owner's mark.

It holds no right across the cluster; the controller does what is asked (``tenancy_controller.py``). Not here: who may
have a namespace (``policy``).
"""

from __future__ import annotations

from ropewalk_core.errors import Denied, NameTaken, NotFound, Unavailable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import CONFIG_MAP, NAMESPACE, Object
from ropewalk_core.kube.tenancy import Tenant, answered, check_owner, namespace_of, request
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Cluster

PATIENCE = 60.0
_BETWEEN = 0.25


class Tenants:
    """Namespaces of people, for the platform's and the hub's own use.

    Parameters
    ----------
    api
        The API server, with `roles.ASKING_RULES` in the platform's namespace and the tenant role in each tenant's.
    cluster
        The installation.
    clock
        Time to wait in.
    """

    def __init__(self, api: Api, cluster: Cluster, clock: Clock) -> None:
        self._api, self._cluster, self._clock = api, cluster, clock

    async def ensure(self, tenant: Tenant, *, patience: float = PATIENCE) -> str:
        """Return the tenant's namespace, made if it lacks and checked to be this tenant's own.

        Raises
        ------
        NameTaken
            If a namespace of that name belongs to somebody else.
        Unavailable
            If nobody made it within ``patience`` seconds.
        """
        name, end = namespace_of(tenant.account, self._cluster), self._clock.steady() + patience
        there = await self._is_there(
            name, tenant
        )  # before asking: a stranger's name must not spoil its owner's request
        asked = await self._api.apply(CONFIG_MAP, request(tenant, self._cluster))
        while not there:
            state, why = answered(asked)
            if state == "refused":
                raise NameTaken(why, hint="An administrator looks at who made it, and removes it if nobody needs it.")
            if self._clock.steady() >= end:
                raise Unavailable(f"The namespace '{name}' is not there yet. {why}".strip())
            await self._clock.sleep(_BETWEEN)
            asked = await self._api.get(CONFIG_MAP, name, self._cluster.namespace)
            there = await self._is_there(name, tenant)
        return name

    async def check(self, tenant: Tenant) -> str:
        """Return the tenant's namespace if it is there and this tenant's own; for the moment before each spawn."""
        name = namespace_of(tenant.account, self._cluster)
        namespace: Object = await self._api.get(NAMESPACE, name)
        check_owner(namespace, tenant, self._cluster)
        if namespace["metadata"].get("deletionTimestamp"):
            raise NotFound(f"The namespace '{name}' is being removed.", hint="Wait until it was made anew.")
        return name

    async def _is_there(self, name: str, tenant: Tenant) -> bool:
        try:
            namespace: Object = await self._api.get(NAMESPACE, name)
        except (NotFound, Denied):  # until it is bound there, the platform may not even look
            return False
        check_owner(namespace, tenant, self._cluster)
        return not namespace["metadata"].get("deletionTimestamp")

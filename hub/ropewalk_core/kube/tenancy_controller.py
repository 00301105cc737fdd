"""The tenancy controller: keeps the namespace of each account as ``tenancy`` renders it. The only part with rights
across the cluster.

It reads requests from the platform's namespace, and answers in them. Drift of what is ours is corrected at once; what
others add is left alone; a namespace goes only when its request says so. A request that vanishes changes nothing:
files are too dear for a slip. Not here: what a namespace holds (``tenancy.py``), and who has an account (the journal).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import BadInput, Conflict, NameTaken, NotFound, RopewalkError
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import CONFIG_MAP, LIMIT_RANGE, NAMESPACE, QUOTA, ROLE_BINDING, Kind, Object
from ropewalk_core.kube.quantities import equal
from ropewalk_core.kube.tenancy import (
    INSTALLATION,
    KINDS,
    MANAGED,
    Tenant,
    answer,
    answered,
    check_owner,
    namespace_of,
    render,
    request_labels,
    tenant_of,
)
from ropewalk_core.kube.view import Change, Happened
from ropewalk_core.ports import Clock
from ropewalk_core.reconcile import Act, KeyedQueue, Step, plan
from ropewalk_core.settings import Settings

MANAGER = "ropewalk-tenancy"
LOOK_AGAIN = 600.0
_GOING = 2.0  # while a namespace is being removed, which may take minutes and is no failure; its end is seen at once
_REST = 0.3  # after a change: what it stirs up is looked at once, and nobody who undoes it is fought at full speed
_KINDS: Mapping[str, Kind] = {one.name: one for one in (NAMESPACE, *KINDS)}
Key = tuple[str, str]  # kind and name
Steps = list[Step[Key, Object, Object]]

_log = logging.getLogger(__name__)


def steps(want: list[Object], have: list[Object]) -> Steps:
    """Return what turns the objects that are there into those that are wanted. Pure.

    Only objects with our mark are removed. A binding to another role is removed first, because that field is fixed.
    """
    found = {_key(one): one for one in have}
    planned = plan({_key(one): one for one in want}, found, same=satisfies)
    ours = [one for one in planned if one.act is not Act.REMOVE or _is_ours(one.have)]
    rebound: Steps = [
        Step(Act.REMOVE, one.key, None, one.have)
        for one in ours
        if one.act is Act.CHANGE and one.key[0] == ROLE_BINDING.name and one.want and one.have
        if not _within(one.want["roleRef"], one.have.get("roleRef"))
    ]
    return [*rebound, *ours]


def satisfies(want: Object, have: Object) -> bool:
    """Whether an object has every field that is wanted; amounts count as the same however they are written."""
    return _within(want, have, amounts=want["kind"] in (QUOTA.name, LIMIT_RANGE.name))


class TenancyController:
    """Brings tenants' namespaces to what is asked.

    Parameters
    ----------
    api
        The API server, with the rights of ``roles.controller_rules``.
    settings
        The installation.
    clock
        Time between tries.
    """

    def __init__(self, api: Api, settings: Settings, clock: Clock) -> None:
        self._api, self._settings, self._cluster = api, settings, settings.cluster
        self._requests: dict[str, Object] = {}
        self._queue: KeyedQueue[str] = KeyedQueue(self._settle, clock, workers=16)
        self._clock = clock

    async def run(self) -> None:
        """Watch requests and what was made for them, for ever."""
        mark = {**MANAGED, INSTALLATION: self._cluster.prefix}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._watch_requests())
            group.create_task(self._watch(NAMESPACE, {INSTALLATION: self._cluster.prefix}))
            for kind in KINDS:
                group.create_task(self._watch(kind, mark))

    async def bring(self, tenant: Tenant) -> bool:
        """Make one tenant's namespace as it is wanted, or remove it; return whether there was anything to do.

        Raises
        ------
        NameTaken
            If the namespace is there and is not this tenant's.
        Conflict
            If it is being removed; later it can be made again.
        """
        name = namespace_of(tenant.account, self._cluster)
        if tenant.gone:
            await self._remove(name, tenant)
            return False
        namespace = await self._namespace(name, tenant)
        have = [one for kind in KINDS for one in (await self._api.list(kind, name)).items]
        planned = steps(render(tenant, self._settings), [namespace, *have])
        for step in planned:
            await self._carry_out(step, name, namespace["metadata"]["uid"])
        return bool(planned)

    async def _namespace(self, name: str, tenant: Tenant) -> Object:
        """Return the tenant's namespace, made if it lacks: created, never applied, so that none is taken over."""
        try:
            namespace = await self._api.get(NAMESPACE, name)
        except NotFound:
            with contextlib.suppress(NameTaken):  # ours from a try whose answer was lost, or somebody's: looked at next
                await self._api.create(NAMESPACE, render(tenant, self._settings)[0], manager=MANAGER)
            namespace = await self._api.get(NAMESPACE, name)
        check_owner(namespace, tenant, self._cluster)
        if namespace["metadata"].get("deletionTimestamp"):
            raise Conflict(f"The namespace '{name}' is being removed.", hint="Wait until it is gone.")
        return NAMESPACE.of(namespace)

    async def _remove(self, name: str, tenant: Tenant) -> None:
        try:
            namespace = await self._api.get(NAMESPACE, name)
        except NotFound:
            return
        check_owner(namespace, tenant, self._cluster)
        if not namespace["metadata"].get("deletionTimestamp"):
            await self._api.delete(NAMESPACE, name, uid=namespace["metadata"]["uid"])
        raise Conflict(f"The namespace '{name}' is being removed.", hint="Wait until it is gone.")

    async def _carry_out(self, step: Step[Key, Object, Object], space: str, uid: str) -> None:
        kind, name = _KINDS[step.key[0]], step.key[1]
        _log.info("%s %s %s in %s", step.act, kind.name, name, space)
        if step.act is Act.REMOVE and step.have is not None:
            await self._api.delete(kind, name, space, uid=step.have["metadata"]["uid"])
        elif step.want is not None:
            body = step.want
            if kind is NAMESPACE:
                body = {**body, "metadata": {**body["metadata"], "uid": uid}}
            await self._api.apply(kind, body, force=True, manager=MANAGER)

    async def _settle(self, name: str) -> float | None:
        """Bring one request about and answer it; what is refused stays refused until something changes."""
        asked = self._requests.get(name)
        if asked is None:
            return None
        changed = False
        try:
            tenant = tenant_of(asked, self._cluster)
            changed = await self.bring(tenant)
            state, why = ("gone" if tenant.gone else "ready"), ""
        except RopewalkError as error:
            theirs = "status" in error.details  # the API server's, not ours
            if isinstance(error, Conflict) and not isinstance(error, NameTaken) and not theirs:
                await self._answer(asked, "waiting", error.message)
                return _GOING
            if not isinstance(error, NameTaken | BadInput) or theirs:  # it may pass, or be mended
                await self._answer(asked, "waiting", error.message)
                raise
            state, why = "refused", error.message
            _log.warning("no namespace for %s: %s", name, error.message)
        await self._answer(asked, state, why)
        if changed:
            await self._clock.sleep(_REST)
        return None if state == "gone" else LOOK_AGAIN

    async def _answer(self, asked: Object, state: str, why: str) -> None:
        if answered(asked) != (state, why):
            try:
                await self._api.apply(CONFIG_MAP, answer(asked, state, why), force=True, manager=MANAGER)
            except RopewalkError as error:
                if error.details.get("status") != 404:
                    raise

    async def _watch_requests(self) -> None:
        watch = self._api.watch(CONFIG_MAP, self._cluster.namespace, labels=request_labels(self._cluster))
        async with contextlib.aclosing(watch) as changes:
            async for change in changes:
                name, known = change.key[1], self._requests.get(change.key[1])
                if change.happened is Happened.REMOVED:
                    self._requests.pop(name, None)
                elif change.happened is not Happened.SYNCED:
                    self._requests[name] = change.object
                    if known is None or known.get("data") != change.object.get("data"):  # else it is our own answer
                        self._queue.add(name)

    async def _watch(self, kind: Kind, labels: dict[str, str]) -> None:
        async with contextlib.aclosing(self._api.watch(kind, labels=labels)) as changes:
            async for change in changes:
                if (name := _space_of(kind, change)) in self._requests:
                    self._queue.add(name)


def _space_of(kind: Kind, change: Change) -> str:
    namespace, name = change.key
    return name if kind is NAMESPACE else namespace


def _key(one: Object) -> Key:
    return str(one["kind"]), str(one["metadata"]["name"])


def _is_ours(one: Object | None) -> bool:
    labels = ((one or {}).get("metadata") or {}).get("labels") or {}
    return one is not None and one["kind"] != NAMESPACE.name and all(labels.get(k) == v for k, v in MANAGED.items())


def _within(want: Any, have: Any, *, amounts: bool = False) -> bool:
    """Whether everything in ``want`` stands in ``have``; lists count as wholes, as the API server keeps them."""
    if isinstance(want, Mapping):
        return isinstance(have, Mapping) and all(
            _within(one, have.get(key), amounts=amounts) for key, one in want.items()
        )
    if isinstance(want, list):
        return (
            isinstance(have, list)
            and len(have) == len(want)
            and all(_within(one, other, amounts=amounts) for one, other in zip(want, have, strict=True))
        )
    return want == have or (amounts and equal(want, have))

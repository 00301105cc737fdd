"""Census: what the cluster has, published where the platform can read it without any right across the cluster.

The tenancy controller's process watches nodes and runtime classes and writes what they mean into a config map of the
platform's namespace; placements are judged by that. Not here: what a node means (``nodes.py``). Rejected: letting the
platform list nodes, because the part that faces people then has a right across the cluster.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import logging
from dataclasses import asdict

from pydantic import ValidationError

from ropewalk_core.errors import NotFound, RopewalkError, Unavailable
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import CONFIG_MAP, NODE, RUNTIME_CLASS, Kind, Object
from ropewalk_core.kube.nodes import Device, Site, survey
from ropewalk_core.kube.transient import wait_before
from ropewalk_core.kube.view import Happened, Key
from ropewalk_core.placement import Inventory
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Cluster

MANAGER = "ropewalk-census"
_SITE = "site.json.gz"
_REST = 1.0  # nodes change in bursts

_log = logging.getLogger(__name__)


def written(site: Site, cluster: Cluster) -> Object:
    """Return the config map that says what there is; compressed, because a thousand nodes have many labels."""
    told = {
        "inventory": site.inventory.model_dump(mode="json"),
        "devices": {name: asdict(one) for name, one in sorted(site.devices.items())},
        "askable": sorted(site.askable),
    }
    packed = gzip.compress(json.dumps(told, sort_keys=True).encode(), mtime=0)
    metadata = {"name": f"{cluster.prefix}-site", "namespace": cluster.namespace}
    return CONFIG_MAP.of({"metadata": metadata, "binaryData": {_SITE: base64.b64encode(packed).decode()}})


def site_of(config_map: Object) -> Site:
    """Return what a config map says there is.

    Raises
    ------
    Unavailable
        If it cannot be read, as after an upgrade until the controller has written it anew.
    """
    try:
        told = json.loads(gzip.decompress(base64.b64decode(config_map["binaryData"][_SITE])))
        return Site(
            inventory=Inventory.model_validate(told["inventory"]),
            devices={
                name: Device(one["resource"], one["label"], tuple(one["values"]))
                for name, one in told["devices"].items()
            },
            askable=frozenset(told["askable"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, OSError, EOFError, ValidationError) as error:
        raise Unavailable("What the cluster has cannot be read; it is being written anew.") from error


async def read(api: Api, cluster: Cluster) -> Site:
    """Return what there is, as it was published last.

    Raises
    ------
    Unavailable
        If nothing was published yet.
    """
    try:
        return site_of(await api.get(CONFIG_MAP, f"{cluster.prefix}-site", cluster.namespace))
    except NotFound as error:
        raise Unavailable("It is not known yet what the cluster has.") from error


class Census:
    """Publishes what there is, whenever it changes.

    Parameters
    ----------
    api
        The API server, with the controller's rights.
    cluster
        The installation.
    clock
        Time between writings.
    """

    def __init__(self, api: Api, cluster: Cluster, clock: Clock) -> None:
        self._api, self._cluster, self._clock = api, cluster, clock
        self._seen: dict[Kind, dict[Key, Object]] = {NODE: {}, RUNTIME_CLASS: {}}
        self._whole: set[Kind] = set()
        self._changed = asyncio.Event()
        self._last: Object | None = None

    async def run(self) -> None:
        """Watch and publish, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in self._seen:
                group.create_task(self._watch(kind))
            group.create_task(self._publish())

    async def _watch(self, kind: Kind) -> None:
        async with contextlib.aclosing(self._api.watch(kind)) as changes:
            async for change in changes:
                if change.happened is Happened.SYNCED:
                    self._whole.add(kind)
                elif change.happened is Happened.REMOVED:
                    self._seen[kind].pop(change.key, None)
                else:
                    self._seen[kind][change.key] = change.object
                self._changed.set()

    async def _publish(self) -> None:
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._whole < set(self._seen):  # half a list is not what there is
                continue
            try:
                await self._write()
                failures = 0
            except RopewalkError as error:
                failures += 1
                self._changed.set()
                _log.warning("what the cluster has could not be published: %s", error)
            await self._clock.sleep(_REST + (wait_before(failures, lambda: 1.0) if failures else 0.0))

    async def _write(self) -> None:
        nodes = [one for _, one in sorted(self._seen[NODE].items())]
        told = written(survey(nodes, self._seen[RUNTIME_CLASS].values(), self._cluster), self._cluster)
        if told != self._last:
            await self._api.apply(CONFIG_MAP, told, force=True, manager=MANAGER)
            self._last = told

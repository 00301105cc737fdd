"""The namespace of a tenant on real nodes, pods in it as a tenant may have them, and what we say of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ropewalk_core.kube import restricted
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.kinds import EVENT, POD, Object
from ropewalk_core.kube.placement import Fragment
from ropewalk_core.kube.tenancy import WORK
from ropewalk_core.model import Why
from ropewalk_core.why import cluster as why
from tests.cluster.layout import REGISTRY

SMALL: dict[str, Any] = {"memory": "32Mi", "cpu": 0.05, "scratch": "16Mi"}


class Place:
    """The namespace of a tenant, and pods in it."""

    def __init__(self, api: Api, space: str) -> None:
        self.api, self.space = api, space

    async def pod(self, name: str, script: str, fragment: Fragment, *, grace: int = 0, **more: Any) -> None:
        """Make a pod; one with ``grace`` is there until its node has ended it, else it goes at once when removed."""
        container = {"name": "main", "image": f"{REGISTRY}/busybox:1", "command": ["sh", "-c", script]}
        spec: Object = {
            "serviceAccountName": WORK,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": grace,
            "containers": [{**container, "securityContext": restricted.alone(), **more}],
        }
        body = {"metadata": {"name": name, "namespace": self.space}, "spec": fragment.onto(spec, container="main")}
        await self.api.create(POD, body)

    async def until(self, name: str, true: Callable[[Object], Any]) -> Object:
        async with asyncio.timeout(120):
            while not true(found := await self.api.get(POD, name, self.space)):  # noqa: ASYNC110  # another's event
                await asyncio.sleep(0.2)
        return found

    async def why(self, name: str, words: str) -> Why:
        """Wait until the reason that we give holds these words."""
        told: list[Why | None] = [None]

        async def look() -> bool:
            events = await self.api.list(EVENT, self.space, fields={"involvedObject.name": name})
            told[0] = why.from_pod(await self.api.get(POD, name, self.space), events.items)
            return told[0] is not None and words in told[0].cause

        try:
            async with asyncio.timeout(120):
                while not await look():  # noqa: ASYNC110  # what is waited for is another program's
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"{name}: {told[0]}") from None
        assert told[0] is not None
        return told[0]

"""Functions on the test cluster: the port, the gateway and the platform's socket in this process, the rest for real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ropewalk_core.journal import Journal
from ropewalk_core.kube.functions import KubeFunctions
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.intents import Intents
from ropewalk_hub.gateway.__main__ import listeners
from ropewalk_hub.gateway.app import Gateway
from ropewalk_hub.gateway.front import Front
from ropewalk_hub.platform import SystemClock
from tests.function_rig import Rig, scratch_home
from tests.kube.runner import runner
from tests.kube.stage import Stage

Space = Callable[[str], Awaitable[str]]


class KubeRig(Rig):
    """Everything that a test of functions on the cluster needs."""

    def __init__(self, home: Path, stage: Stage, space: Space, how: str) -> None:
        super().__init__(home)
        images = {**stage.cluster.images, "runner": runner(stage.installation.at)}
        cluster = replace(stage.cluster, images=images, functions=how)
        self.settings = replace(self.settings, backend="kube", cluster=cluster)
        self.stage, self.space, self.how = stage, space, how
        self._work: list[asyncio.Task[None]] = []
        self._front: Front | None = None
        self.functions: Any = self.port()
        self.desk = self.new_desk()

    def port(self) -> KubeFunctions:
        """Return the port on this rig's journal; the next one is what a platform that starts again has."""
        self.intents = Intents(self.journal, SystemClock())
        ground = KubeGround(
            settings=self.settings,
            journal=self.journal,
            clock=SystemClock(),
            api=self.stage.api("platform"),
            space=self.space,
            site=self.stage.site,
            intents=self.intents,
        )
        return KubeFunctions(ground, token=self._token_of)

    def begin(self, *, carries: bool = True) -> None:
        """Run what the platform runs in the background; without ``carries`` the API server hears of no wish."""
        work = [self.functions.run, *([self.intents.run] if carries else [])]
        self._work = [asyncio.create_task(one()) for one in work]

    async def die(self) -> None:
        """End it at once, wherever it is; nothing is said to anybody."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self._work = []

    async def again(self) -> None:
        """Start the platform again on the same journal, as after a kill."""
        await self.die()
        self.journal.close()
        self.journal = Journal(self.settings.home / "journal.db")
        self.functions = self.port()
        self.desk = self.new_desk()
        self.begin()

    async def start_gateway(self, *, apart: bool = False) -> None:
        self._front = Front(Gateway(self.settings, resolver=self.stage.resolver))
        await self._front.start(listeners(self.settings))

    async def close(self) -> None:
        await self.die()
        if self._front is not None:
            await self._front.close()
        await super().close()


@asynccontextmanager
async def running(stage: Stage, how: str, space: Space) -> AsyncIterator[KubeRig]:
    """Give a rig that answers, in namespaces that are empty before and after."""
    with scratch_home() as home:
        rig = KubeRig(home, stage, space, how)
        try:
            async with rig.platform():
                try:
                    rig.begin()
                    await rig.start_gateway()
                    await rig.settled()
                    yield rig
                    await clear(rig)
                finally:
                    await rig.close()
        finally:
            rig.journal.close()


async def clear(rig: KubeRig) -> None:
    """Remove what a test left, so that the next one finds nothing."""
    for record in rig.journal.page("function", limit=1000):
        await rig.functions.remove(_ANY, record.owner, record.name)
        await rig.intents.settled("function", record.owner, record.name, patience=20)


_ANY: Any = None

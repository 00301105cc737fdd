"""The services port in a process of its own, for tests that kill it: it accepts one wish, says so, and goes on.

``python -m tests.kube.service_platform ORDER``: the order is JSON with what the port is built from, and the wish.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from ropewalk_core.catalog import Catalog
from ropewalk_core.journal import Journal
from ropewalk_core.kube import census
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import find
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.helm import Helm
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.nodes import Site
from ropewalk_core.kube.services import KubeServices
from ropewalk_core.model import ServiceSpec
from ropewalk_core.settings import Cluster, Settings
from ropewalk_core.testing import ADA
from ropewalk_hub.platform import SystemClock


async def main(order: dict[str, Any]) -> None:
    """Run until somebody ends it."""
    cluster = Cluster(**order["cluster"])
    settings = Settings(home=Path(order["home"]), backend="kube", cluster=cluster)
    journal, clock = Journal(settings.home / "journal.db"), SystemClock()
    api, intents = Api(find(Path(order["kubeconfig"])), clock), Intents(journal, clock)

    async def space(owner: str) -> str:
        return str(order["space"])

    async def site() -> Site:
        return await census.read(api, cluster)

    ground = KubeGround(
        settings=settings,
        journal=journal,
        clock=clock,
        api=api,
        space=space,
        site=site,
        intents=intents,
    )
    port = KubeServices(
        ground, templates=Catalog(Path(order["templates"])), helm=Helm(settings.run, program=order["helm"])
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(port.run())
        group.create_task(intents.run())
        await port.apply(ADA, "ada", ServiceSpec(**order["wish"]))
        print("accepted", flush=True)  # noqa: T201 - whoever started us waits for it


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

"""The tenancy process of a cluster: keeps accounts' namespaces and publishes what the cluster has.

Alone of all our processes it has rights across the cluster; so it serves nobody, but for a kubelet's questions, and
knows no person's data. Run it as ``python -m ropewalk_hub.tenancy``; the chart does. Not here: what it does
(``ropewalk_core.kube.tenancy_controller``, ``ropewalk_core.kube.census``).
"""

from __future__ import annotations

import asyncio
import logging
import signal

from ropewalk_core import settings as settings_module
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.census import Census
from ropewalk_core.kube.config import find
from ropewalk_core.kube.tenancy_controller import TenancyController
from ropewalk_core.settings import Settings
from ropewalk_hub import health
from ropewalk_hub.addresses import HEALTH_PORT, listening
from ropewalk_hub.lasting import lasting
from ropewalk_hub.platform import SystemClock

_LONGEST = 30.0
"""Seconds that a watch may be out of touch; a shorter break of the API server's is everyday life."""
log = logging.getLogger("ropewalk.tenancy")


async def run(settings: Settings, stop: asyncio.Event, *, port: int = HEALTH_PORT) -> None:
    """Work until told to stop."""
    clock = SystemClock()
    api = Api(find(settings.cluster.kubeconfig, context=settings.cluster.context), clock)
    works = (TenancyController(api, settings, clock).run, Census(api, settings.cluster, clock).run)
    tasks = [asyncio.create_task(lasting(one)) for one in works]
    try:
        async with health.served(listening(settings), port, lambda: troubles(api.troubled())) as at:
            log.info("keeping the namespaces of %s; health is told at port %d", settings.cluster.prefix, at)
            await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api.close()


def troubles(watches: dict[str, float]) -> str:
    """Return which watches have been out of touch for too long."""
    lost = sorted(name for name, seconds in watches.items() if seconds > _LONGEST)
    return f"out of touch with the API server: {', '.join(lost)}" if lost else ""


async def _main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings_module.load(), stop)


def main() -> None:
    """Run the tenancy process until it is told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(_main())


if __name__ == "__main__":
    main()

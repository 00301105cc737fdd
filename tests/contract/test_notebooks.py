"""The contract of notebooks, kept by JupyterHub behind its real proxy with the platform's own spawner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ropewalk_core.journal import Journal
from ropewalk_core.processes import Processes
from ropewalk_core.testing import NotebooksContract
from ropewalk_devices.inventory import discover
from ropewalk_hub.hub_client import HubClient
from ropewalk_hub.notebooks import HubNotebooks, NotebookWatch
from ropewalk_hub.platform import SystemClock
from ropewalk_hub.secrets_store import Secret, SecretsStore
from tests.identity.real_hub import PROXY, RealHub, _answers, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not PROXY.exists(), reason="the hub's proxy is not installed; `make setup` does it"),
]


@pytest.fixture(scope="module")
def hub() -> Iterator[RealHub]:
    with running() as one:
        one.settings.home.parent.chmod(0o755)  # the account's own user must get through
        one.settings.home.chmod(0o711)
        one.settings.logs.mkdir(exist_ok=True)
        one.end("hub")
        simple = "--JupyterHub.spawner_class=simple"
        command = [argument for argument in one.commands()["hub"] if argument != simple]
        others = one.commands()
        one.commands = lambda: others | {"hub": command}  # type: ignore[method-assign]
        one.start("hub")
        _answers(one, "/hub/api/")
        try:
            yield one
        finally:
            Processes(one.settings.run / "processes").sweep(lambda name: name.startswith("notebook."))


class TestHubNotebooks(NotebooksContract):
    @pytest.fixture
    async def port(self, hub: RealHub, tmp_path: Path) -> AsyncIterator[HubNotebooks]:
        settings, clock = hub.settings, SystemClock()
        client = HubClient(
            hub.where.hub_url, SecretsStore(settings).text(Secret.PLATFORM_TOKEN), host=settings.door.host
        )
        journal = Journal(tmp_path / "journal.db")
        watch = asyncio.create_task(NotebookWatch(client, journal, settings, clock).run())
        try:
            yield HubNotebooks(client, journal, settings, clock, inventory=discover(settings))
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await client.close()
            journal.close()

"""The contract of notebooks, kept by JupyterHub behind its real proxy with the platform's own spawner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from ropewalk_core.journal import Journal
from ropewalk_core.leases import Device
from ropewalk_core.local.leases import Leases
from ropewalk_core.processes import Processes
from ropewalk_core.testing import NotebooksContract, until
from ropewalk_devices.inventory import discover
from ropewalk_hub.backends.local import LocalBerth
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
        (one.settings.home / "toy").write_text("a device")
        (one.settings.home / "ropewalk.toml").write_text(f'[devices.extra]\ntoy = "{one.settings.home / "toy"}"\n')
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
        watch = asyncio.create_task(NotebookWatch(client, journal, settings, clock, berth=LocalBerth(settings)).run())
        try:
            yield HubNotebooks(
                client, journal, settings, clock, inventory=partial(discover, settings), berth=LocalBerth(settings)
            )
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await client.close()
            journal.close()


async def test_a_notebook_has_its_accelerator_alone_and_until_it_is_stopped(hub: RealHub) -> None:
    settings, token = hub.settings, SecretsStore(hub.settings).text(Secret.PLATFORM_TOKEN)
    client = HubClient(hub.where.hub_url, token, host=settings.door.host)
    toy = Device("toy-0", "toy", (str(settings.home / "toy"),))
    leases, processes = Leases(settings, [toy]), Processes(settings.run / "processes")

    async def start(name: str, *wanted: str) -> None:
        await client.ensure_user(name)
        await client.start(name, {"placement": {"accelerator": list(wanted)}})

    async def ready(name: str) -> bool:
        return bool(((await client.user(name) or {}).get("servers") or {}).get("", {}).get("ready"))

    async def given_up(name: str) -> bool:
        return not ((await client.user(name) or {}).get("servers") or {})

    def variables(name: str) -> list[bytes]:
        (found,) = processes.living(f"notebook.{name}")
        return Path(f"/proc/{found.pid}/environ").read_bytes().split(b"\0")

    await start("ada", "toy")
    await until(partial(ready, "ada"), seconds=60)
    assert [(one.account, one.what) for one in leases.held()] == [("ada", "notebook")]
    assert b"ROPEWALK_ACCELERATOR=toy" in variables("ada")
    await start("bob", "toy")
    await until(partial(given_up, "bob"), seconds=60)
    assert "toy by somebody else" in hub.log("hub") and not processes.living("notebook.bob")
    await start("bob", "toy", "cpu")
    await until(partial(ready, "bob"), seconds=60)
    assert b"ROPEWALK_ACCELERATOR=cpu" in variables("bob")
    for name in ("ada", "bob"):
        await client.stop(name)
        await until(partial(given_up, name), seconds=60)
    assert leases.held() == []
    await client.close()


async def test_an_open_connection_ends_with_its_sign_in(hub: RealHub) -> None:
    """The token stands for a browser's: the hub ends those at a sign-out, and keeps the server's own."""
    settings, token = hub.settings, SecretsStore(hub.settings).text(Secret.PLATFORM_TOKEN)
    client = HubClient(hub.where.hub_url, token, host=settings.door.host)
    await client.ensure_user("ada")
    await client.start("ada", {})

    async def ready() -> bool:
        return bool(((await client.user("ada") or {}).get("servers") or {}).get("", {}).get("ready"))

    await until(ready, seconds=60)
    async with httpx.AsyncClient(headers={"Authorization": f"token {token}"}, trust_env=False) as http:
        wish = {"scopes": ["access:servers!user=ada", "read:users:name!user=ada"]}
        made = await http.post(f"{hub.where.hub_url}/hub/api/users/ada/tokens", json=wish)
        assert made.status_code == 201, made.text
    door = settings.door
    headers = {"Authorization": f"token {made.json()['token']}", "Host": f"ada.{door.people}:{door.port}"}
    address = f"ws://127.0.0.1:{door.port}/user/ada/api/events/subscribe"
    socket = await websocket_connect(HTTPRequest(address, headers=headers))
    await client.end_browser_tokens("ada")
    async with asyncio.timeout(60):
        while await socket.read_message() is not None:
            pass
    assert socket.close_code == 1008
    socket.close()
    await client.stop("ada")
    await client.close()

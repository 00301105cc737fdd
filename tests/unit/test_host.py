"""The host answers every order, also one that it cannot carry out for a reason that nobody thought of."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from ropewalk_core import settings
from ropewalk_core.errors import RopewalkError
from ropewalk_core.local import accounts
from ropewalk_core.local.host_client import HostClient, StepOrder
from ropewalk_hub.host import Host


class BrokenEnvironments:
    """An account's environment of which nothing can be said."""

    def ensure(self, settings: Any, paths: Any) -> Path:
        raise KeyError("unforeseen")

    def fingerprint(self, paths: Any) -> str:
        raise KeyError("unforeseen")

    def seen(self, settings: Any, paths: Any) -> tuple[object, ...] | None:
        raise KeyError("unforeseen")


@pytest.fixture
async def host() -> AsyncIterator[tuple[Host, HostClient]]:
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:  # short: a socket's path has at most 107 bytes
        chosen = settings.load(Path(folder) / "home", environ={})
        chosen.run.mkdir(mode=0o700, parents=True)
        chosen.logs.mkdir(mode=0o700)
        accounts.prepare(chosen, "ada")
        found = Host(chosen, BrokenEnvironments())
        serving = asyncio.create_task(found.serve())
        client = HostClient(chosen.run / "host.sock")
        yield found, client
        await client.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_an_order_that_fails_unforeseen_is_answered(host: tuple[Host, HostClient]) -> None:
    with pytest.raises(RopewalkError) as caught:
        await asyncio.wait_for(host[1].run_step(StepOrder(id="one", account="ada")), 20)
    assert caught.value.code == "RW-INTERNAL"


async def test_an_end_that_fails_unforeseen_is_answered(
    host: tuple[Host, HostClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def close(keeper: Any) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(host[0], "_close", close)
    host[0]._keepers["ada"] = cast(Any, object())
    with pytest.raises(RopewalkError) as caught:
        await asyncio.wait_for(host[1].end_account("ada"), 20)
    assert caught.value.code == "RW-INTERNAL"
    del host[0]._keepers["ada"]

"""The services port where no cluster can be made to do it: where the gateway is led, and waiting for a namespace.

The real cluster is in tests/kube.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from ropewalk_core.catalog import Catalog
from ropewalk_core.errors import NameTaken, RopewalkError, Unavailable
from ropewalk_core.journal import Journal, Put
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.ground import KubeGround
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.services import KubeServices
from ropewalk_core.model import Service, ServiceSpec, State, Status
from ropewalk_core.settings import Settings
from ropewalk_hub.platform import SystemClock


class Quick(SystemClock):
    """A clock whose waits are over at once, and remembered."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(tmp_path / "journal.db")
    yield one
    one.close()


class Still:
    """An API server where nothing happens."""

    async def watch(self, *_about: Any, **_more: Any) -> Any:
        await asyncio.Event().wait()
        yield


def services(
    journal: Journal, clock: SystemClock, space: Callable[[str], Awaitable[str]], api: Any = None
) -> KubeServices:
    ground = KubeGround(
        settings=Settings(home=Path("/home"), backend="kube"),
        journal=journal,
        clock=clock,
        api=cast(Api, api),
        space=space,
        site=cast(Any, None),
        intents=Intents(journal, clock),
    )
    return KubeServices(ground, templates=Catalog())


async def test_nobody_is_led_into_a_namespace_that_was_not_looked_at(journal: Journal) -> None:
    spec = ServiceSpec(name="one", template="site", values={})
    service = Service(owner="ada", spec=spec, status=Status(state=State.RUNNING), address="http://one--ada.localhost/")
    await journal.write(Put("service", "ada", "one", service.model_dump(mode="json")))
    found: list[str | RopewalkError] = []

    async def space(owner: str) -> str:
        if isinstance(found[-1], RopewalkError):
            raise found[-1]
        return found[-1]

    one = services(journal, Quick(), space)
    assert [(it.state, it.url, it.socket) for it in one.routes()] == [(State.RUNNING, "", "")]
    found.append(NameTaken("It is somebody else's."))
    with pytest.raises(NameTaken):
        await one._space("ada")
    assert [it.url for it in one.routes()] == [""]
    found.append("ropewalk--ada")
    await one._space("ada")
    assert [it.url for it in one.routes()] == ["http://service--one.ropewalk--ada.svc:80"]
    found.append(Unavailable("The API server is away."))  # says nothing about whose it is
    with pytest.raises(Unavailable):
        await one._space("ada")
    assert [it.url for it in one.routes()] == ["http://service--one.ropewalk--ada.svc:80"]
    found.append(NameTaken("It is somebody else's."))
    with pytest.raises(NameTaken):
        await one._space("ada")
    assert [it.url for it in one.routes()] == [""]


async def test_the_gateway_hears_once_of_all_addresses_that_a_start_finds(journal: Journal) -> None:
    for owner in ("ada", "bob", "eve"):
        spec = ServiceSpec(name="one", template="site", values={})
        service = Service(owner=owner, spec=spec, status=Status(state=State.RUNNING), address="http://localhost/")
        await journal.write(Put("service", owner, "one", service.model_dump(mode="json")))
    doors = {owner: asyncio.Event() for owner in ("ada", "bob", "eve")}
    away = ["eve"]

    async def space(owner: str) -> str:
        if owner in away:
            away.remove(owner)
            raise Unavailable("The API server is away.")
        await doors[owner].wait()
        return f"ropewalk--{owner}"

    def led() -> list[str]:
        return [one.owner for one in port.routes() if one.url]

    port = services(journal, Quick(), space, Still())
    before, run = journal.cursor, asyncio.create_task(port.run())
    doors["ada"].set()
    assert await journal.wait(before, timeout=0.1) == before and led() == ["ada"]  # no news without bob's
    doors["bob"].set()
    cursor = await journal.wait(before, timeout=5)
    assert cursor > before and led() == ["ada", "bob"]
    doors["eve"].set()  # who could not be looked at is told of when that is done
    assert await journal.wait(cursor, timeout=5) > cursor and led() == ["ada", "bob", "eve"]
    newest = journal.cursor
    await port._space("ada")
    assert await journal.wait(newest, timeout=0.1) == newest  # nothing new
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_a_namespace_that_is_away_for_days_is_waited_for(journal: Journal) -> None:
    clock, asked = Quick(), 0

    async def space(owner: str) -> str:
        nonlocal asked
        asked += 1
        if asked > 1200:
            raise RuntimeError("enough")
        raise Unavailable("The API server is away.")

    with pytest.raises(RuntimeError, match="enough"):
        await services(journal, clock, space)._watch_space("ada")
    assert len(clock.waits) == 1200 and max(clock.waits) == 30

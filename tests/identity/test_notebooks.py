"""Notebooks over a hub: what its words mean, and a real one that starts and stops a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import BadName, Limited, Unavailable
from ropewalk_core.journal import Journal
from ropewalk_core.local.building import Log
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.local.requirement_store import _Making
from ropewalk_core.model import Actor, Notebook, State, Status
from ropewalk_core.testing import SimulatedClock
from ropewalk_devices.inventory import discover
from ropewalk_hub.backends.local import LocalBerth
from ropewalk_hub.closing import Closing
from ropewalk_hub.hub_client import HubClient
from ropewalk_hub.notebooks import HubNotebooks, NotebookWatch, observed
from tests.identity.stage import Stage, settings_of

ADA = Actor(account="ada")


class FakeHub:
    """As much of JupyterHub's REST interface as the platform uses, with users in a table."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.tokens: dict[str, list[dict[str, Any]]] = {}
        self.away = False
        self.refuse: httpx.Response | None = None

    def client(self) -> HubClient:
        return HubClient("http://hub.test", "t", host="localhost:8000", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("away")
        path = request.url.path.removeprefix("/hub/api")
        self.asked.append(f"{request.method} {path}")
        parts = path.strip("/").split("/")
        if path == "/users":
            return httpx.Response(200, json=list(self.users.values()))
        name = parts[1]
        if request.method == "POST" and len(parts) == 2:
            known = name in self.users
            self.users.setdefault(name, {"name": name, "servers": {}})
            return httpx.Response(409 if known else 201, json={})
        if name not in self.users:
            return httpx.Response(404, json={"message": "no such user"})
        return self.about(request.method, name, parts[2:])

    def about(self, method: str, name: str, rest: list[str]) -> httpx.Response:
        if not rest:
            return httpx.Response(200, json=self.users[name])
        if rest[0] == "tokens":
            if method == "GET":
                return httpx.Response(200, json={"api_tokens": self.tokens.get(name, [])})
            self.tokens[name] = [one for one in self.tokens[name] if one["id"] != rest[1]]
            return httpx.Response(204)
        if self.refuse is not None:
            return self.refuse
        self.users[name]["servers"] = {"": {"ready": False, "pending": "spawn"}} if method == "POST" else {}
        return httpx.Response(202)


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    made = Journal(tmp_path / "journal.db")
    yield made
    made.close()


@pytest.fixture
async def notebooks(hub: FakeHub, journal: Journal, tmp_path: Path) -> AsyncIterator[HubNotebooks]:
    settings, client = settings_of(tmp_path), hub.client()
    yield HubNotebooks(
        client, journal, settings, SimulatedClock(), inventory=partial(discover, settings), berth=LocalBerth(settings)
    )
    await client.close()


@pytest.fixture
async def watch(hub: FakeHub, journal: Journal, tmp_path: Path) -> AsyncIterator[NotebookWatch]:
    client = hub.client()
    yield NotebookWatch(
        client, journal, settings_of(tmp_path), SimulatedClock(), berth=LocalBerth(settings_of(tmp_path))
    )
    await client.close()


@pytest.mark.parametrize(
    ("server", "before", "after"),
    [
        (None, State.STOPPED, State.STOPPED),
        (None, State.RUNNING, State.STOPPED),
        (None, State.STOPPING, State.STOPPED),
        (None, State.STARTING, State.FAILED),
        (None, State.FAILED, State.FAILED),
        ({"ready": False, "pending": "spawn"}, State.STOPPED, State.STARTING),
        ({"ready": False, "pending": "spawn"}, State.FAILED, State.STARTING),
        ({"ready": True, "pending": None}, State.STARTING, State.RUNNING),
        ({"ready": True, "pending": "stop"}, State.RUNNING, State.STOPPING),
    ],
)
def test_what_the_hubs_words_mean(tmp_path: Path, server: dict[str, Any] | None, before: State, after: State) -> None:
    last = Notebook(owner="ada", status=Status(state=before))
    model = {"name": "ada", "servers": {"": server} if server else {}}
    seen = observed(settings_of(tmp_path), "ada", model, last)
    assert seen.status.state is after
    assert seen.address == "http://ada.localhost:8000/user/ada/lab"
    if after is State.FAILED and before is State.STARTING:
        assert seen.status.why and "log" in seen.status.why.next


async def test_a_person_whom_the_hub_does_not_know_has_a_stopped_one(notebooks: HubNotebooks) -> None:
    assert (await notebooks.get(ADA, "ada")).status.state is State.STOPPED
    assert (await notebooks.stop(ADA, "ada")).status.state is State.STOPPED


async def test_starting_and_stopping_is_asked_once_and_told(
    notebooks: HubNotebooks, watch: NotebookWatch, hub: FakeHub, journal: Journal
) -> None:
    assert (await notebooks.start(ADA, "ada")).status.state is State.STARTING
    assert (await notebooks.start(ADA, "ada")).status.state is State.STARTING
    assert hub.asked.count("POST /users/ada/server") == 1
    hub.users["ada"]["servers"][""] = {"ready": True, "pending": None}
    await watch.look()
    await watch.look()
    assert (await notebooks.get(ADA, "ada")).status.state is State.RUNNING
    await notebooks.stop(ADA, "ada")
    await watch.look()
    told = [event.type for event in journal.events(kind="notebook", owner="ada")]
    assert told == ["starting", "running", "stopping", "stopped"]
    assert not (await notebooks.get(ADA, "ada")).status.note  # it was asked for


async def test_what_happens_behind_our_back_is_told(
    notebooks: HubNotebooks, watch: NotebookWatch, hub: FakeHub, journal: Journal
) -> None:
    hub.users["ada"] = {"name": "ada", "servers": {"": {"ready": False, "pending": "spawn"}}}
    await watch.look()
    hub.users["ada"]["servers"] = {}
    await watch.look()
    failed = await notebooks.get(ADA, "ada")
    assert failed.status.state is State.FAILED and failed.status.why
    events = notebooks.watch(ADA, "ada")
    assert [(await anext(events))[0].status.state for _ in range(2)] == [State.STARTING, State.FAILED]
    waiting = asyncio.create_task(anext(events))  # type: ignore[arg-type]
    hub.users["ada"]["servers"] = {"": {"ready": True}}
    await watch.look()
    assert (await waiting)[0].status.state is State.RUNNING
    await events.aclose()  # type: ignore[attr-defined]


async def test_what_ended_with_the_platform_did_not_die_by_itself(
    notebooks: HubNotebooks, watch: NotebookWatch, hub: FakeHub
) -> None:
    hub.users["ada"] = {"name": "ada", "servers": {"": {"ready": True}}}
    await watch.look()
    await watch.forget_ended()  # as at the platform's next start: there is no such process
    hub.users["ada"]["servers"] = {}
    await watch.look()
    found = await notebooks.get(ADA, "ada")
    assert found.status.state is State.STOPPED
    assert found.status.note == "It was stopped together with the platform."


async def test_a_hub_that_is_away_or_full_is_said_so(notebooks: HubNotebooks, hub: FakeHub) -> None:
    hub.refuse = httpx.Response(429, headers={"retry-after": "40"}, json={})
    with pytest.raises(Limited) as full:
        await notebooks.start(ADA, "ada")
    assert full.value.retry_after == 40
    hub.refuse = httpx.Response(500, json={"message": "No memory is left."})
    with pytest.raises(Unavailable, match="No memory is left"):
        await notebooks.start(ADA, "ada")
    hub.away = True
    with pytest.raises(Unavailable):
        await notebooks.get(ADA, "ada")
    with pytest.raises(BadName):
        await notebooks.get(ADA, "ada", "second")


async def test_logs_are_read_from_an_offset(notebooks: HubNotebooks, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "notebooks" / "ada.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    found = [line async for line in notebooks.logs(ADA, "ada", follow=True)]
    assert [line.text for line in found] == ["one", "two"]
    assert [line.text async for line in notebooks.logs(ADA, "ada", after=found[0].offset)] == ["two"]


async def test_the_ends_reach_the_hub_when_it_is_back(stage: Stage, hub: FakeHub) -> None:
    client = hub.client()
    note, started = "Server at /user/bob/", "2026-11-21T12:00:01.000000Z"
    hub.users["bob"] = {"name": "bob", "servers": {"": {"ready": True, "started": started}}}
    hub.tokens["bob"] = [
        {"id": "a0", "note": note, "created": "2026-11-21T12:05:00Z"},  # made by hand, to look like the server's
        {"id": "a1", "note": note, "created": "2026-11-21T12:00:00.5Z"},
        {"id": "a2", "note": None},
        {"id": "a3"},
    ]
    ended: list[str] = []

    async def end_work(account: str) -> None:
        ended.append(account)

    closing = Closing(client, stage.platform.journal, stage.issuer.accounts, stage.clock, end_work=end_work)
    admin = await stage.signed_in()
    await admin.post("/people/bob/deactivate")
    hub.away = True
    assert not await closing.look()
    hub.away = False
    assert ended == ["bob"]  # the hub being away kept nothing else alive
    hub.refuse = httpx.Response(400, json={"message": "bob is pending spawn, please wait"})
    assert not await closing.look()  # the hub stops nothing that still starts
    hub.refuse = None
    assert await closing.look()
    assert hub.users["bob"]["servers"] == {}
    assert [one["id"] for one in hub.tokens["bob"]] == ["a1"]
    assert stage.platform.journal.page("closing", "") == []
    hub.asked.clear()
    assert await closing.look() and hub.asked == []
    await client.close()


async def test_a_sign_out_everywhere_leaves_the_server_running(stage: Stage, hub: FakeHub) -> None:
    client = hub.client()
    hub.users["bob"] = {"name": "bob", "servers": {"": {"ready": True}}}
    stage.issuer.sign_out_everywhere("bob")
    assert await Closing(client, stage.platform.journal, stage.issuer.accounts, stage.clock).look()
    assert hub.users["bob"]["servers"]
    await client.close()


async def test_what_is_built_for_a_deactivated_account_ends_with_its_work(stage: Stage) -> None:
    backend = stage.platform.backend
    assert isinstance(backend.functions, LocalFunctions)
    building: asyncio.Task[Any] = asyncio.create_task(asyncio.sleep(60))
    backend.functions._store._making["bob", "wish"] = _Making(Log(100), building)
    ending = asyncio.create_task(backend.end_work("bob"))
    await asyncio.wait([building], timeout=5)
    assert building.cancelled()
    ending.cancel()  # no host is there that would end the rest
    await asyncio.gather(ending, return_exceptions=True)

"""The real application in this process: real issuer, journal, storage and catalog; no ports, no sandboxes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ropewalk_core import settings
from ropewalk_core.client import Client, FixedToken
from ropewalk_core.client.wire import Wire
from ropewalk_core.guard import GuardedFunctions, GuardedServices
from ropewalk_core.guard_flows import GuardedWorkflows
from ropewalk_hub import platform as composition
from ropewalk_hub.addresses import pick
from ropewalk_hub.app import create_app
from ropewalk_hub.platform import Platform
from tests.rest.memory import MemoryFunctions, MemoryServices, MemoryWorkflows

API = "http://localhost:8000"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One for each file: hashing passwords takes its time, on purpose."""
    tmp_path = tmp_path_factory.mktemp("home")
    (tmp_path / "ropewalk.toml").write_text('[devices.extra]\ntoy = "/dev/full, /dev/zero"\n')
    built = composition.build(settings.load(tmp_path, environ={}, limits_payload=100_000), pick())
    for name, administrator in (("eve", True), ("ada", False), ("bob", False)):
        built.issuer.accounts.create(name, f"a long password of {name}", administrator=administrator, also=[])
        built.issuer.accounts.set_state(name, "active")
        (tmp_path / "accounts" / name / "files").mkdir(parents=True, exist_ok=True)
    journal: Any = built.journal
    small = dataclasses.replace(
        built,
        services=GuardedServices(MemoryServices(journal)),
        functions=GuardedFunctions(MemoryFunctions(journal)),
        workflows=GuardedWorkflows(MemoryWorkflows(journal)),
    )
    yield small
    asyncio.run(built.close())


@pytest.fixture(scope="module")
def app(platform: Platform) -> FastAPI:
    return create_app(platform)


def bearer(platform: Platform, name: str) -> str:
    account = platform.issuer.accounts.get(name)
    assert account is not None
    return platform.issuer.tokens.make(account, f"cli:{name}", "api")[0]


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=API) as http:
        yield http


@pytest.fixture
async def http(app: FastAPI, platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """Ada, with a token."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {bearer(platform, 'ada')}"}
    async with httpx.AsyncClient(transport=transport, base_url=API, headers=headers) as one:
        yield one


@pytest.fixture
async def client_of(app: FastAPI, platform: Platform) -> AsyncIterator[Any]:
    made: list[Client] = []

    def make(name: str = "ada") -> Client:
        wire = Wire(API, FixedToken(bearer(platform, name)), transport=httpx.ASGITransport(app), patience=0.3)
        made.append(Client(wire))
        return made[-1]

    yield make
    for one in made:
        await one.close()

"""Identity passes its contract as a platform on the cluster builds it, over both kinds of journal that it can have.

The issuer is one implementation on every backend; what is the cluster's about it is that the backend `kube` is built
beside it, with the platform's own rights, and what an account's approval begins there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from ropewalk_core.errors import NotFound
from ropewalk_core.guard import GuardedIdentity
from ropewalk_core.kube.kinds import CLAIM, NAMESPACE, Object
from ropewalk_core.kube.tenancy import OWNER, namespace_of
from ropewalk_core.kube.volumes import NAME as FILES
from ropewalk_core.ports import Identity
from ropewalk_core.testing.identity import IdentityContract
from ropewalk_core.testing.people import EVE
from ropewalk_hub import addresses
from ropewalk_hub.issuer.passwords import Passwords
from ropewalk_hub.lasting import lasting
from ropewalk_hub.platform import Platform, build
from tests import postgres
from tests.kube.stage import ADMINISTRATOR, Stage, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(300)]
_PASSWORD = "a rope of three strands"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as one:
        yield one


@pytest.fixture(params=["sqlite", "postgresql"])
def journal(request: pytest.FixtureRequest) -> str:
    """Return where the journal is: in the platform's volume, or where the chart's `journal.secret` says."""
    return "" if request.param == "sqlite" else request.getfixturevalue("server").database()


@pytest.fixture
async def platform(stage: Stage, tmp_path: Path, journal: str) -> AsyncIterator[Platform]:
    """Return the platform of an installation, built as its program builds it, on a journal of its own."""
    settings = replace(stage.settings, home=tmp_path / "home", journal=journal)
    cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    one = build(settings, addresses.read(settings), passwords=cheap)
    yield one
    await one.close()


def add(platform: Platform, name: str, *, active: bool = True, administrator: bool = False) -> None:
    accounts = platform.issuer.accounts
    accounts.create(name, _PASSWORD, administrator=administrator, also=[])
    if active and not administrator:
        accounts.set_state(name, "active")


class TestKubeIdentity(IdentityContract):
    @pytest.fixture
    def identity(self, port: Identity, platform: Platform) -> GuardedIdentity:
        """Return what the platform has put its own guard around."""
        assert isinstance(platform.identity, GuardedIdentity)
        return platform.identity

    @pytest.fixture
    def port(self, platform: Platform) -> Identity:
        add(platform, "ada")
        add(platform, "bob", active=False)
        add(platform, "eve", administrator=True)
        assert isinstance(platform.identity, GuardedIdentity)
        return platform.identity._inner


async def test_who_is_approved_gets_a_namespace_and_files_of_their_own(platform: Platform, stage: Stage) -> None:
    name = f"ida-{secrets.token_hex(3)}"
    add(platform, name, active=False)
    tasks = [asyncio.create_task(lasting(one)) for one in platform.backend.tasks]
    await asyncio.sleep(0)  # they follow what happens from now on
    api, space = stage.api(ADMINISTRATOR), namespace_of(name, stage.cluster)

    async def made() -> Object | None:
        try:
            await api.get(CLAIM, FILES, space)
            return dict(await api.get(NAMESPACE, space))
        except NotFound:
            return None

    assert await made() is None
    account = await platform.identity.approve(EVE, name)
    try:
        namespace = await until(f"{name} has a namespace with files", made, 120)
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert namespace is not None and namespace["metadata"]["annotations"][OWNER] == account.subject

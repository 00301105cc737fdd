"""Our issuer passes the contract of identities."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ropewalk_core.testing.identity import IdentityContract
from ropewalk_hub.issuer.identity import IssuerIdentity
from tests.identity.stage import make


class TestIssuer(IdentityContract):
    @pytest.fixture
    async def port(self, tmp_path: Path) -> AsyncIterator[IssuerIdentity]:  # type: ignore[override]
        stage = make(tmp_path / "home")
        stage.add("ada")
        stage.add("bob", active=False)
        stage.add("eve", administrator=True)
        yield IssuerIdentity(stage.issuer)
        await stage.close()


del IdentityContract

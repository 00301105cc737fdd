from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.identity.stage import Flow, Stage, make


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = make(tmp_path / "home")
    made.add("alice", administrator=True)
    made.add("bob")
    yield made
    await made.close()


@pytest.fixture
async def flow(stage: Stage) -> Flow:
    return Flow(stage, await stage.signed_in())

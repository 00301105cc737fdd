"""A furnished stage for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.pages.stage import Stage, make


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """The real application over ports in memory, with one signed-in administrator."""
    made = make(tmp_path / "home")
    yield made
    await made.platform.close()


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """What the person's browser sends."""
    async with stage.client() as client:
        yield client

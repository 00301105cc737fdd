"""What several unit tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.workflow_rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A platform's side of workflows with an engine that runs; a module may have one of its own."""
    found = Rig(tmp_path / "home")
    found.start()
    yield found
    await found.close()

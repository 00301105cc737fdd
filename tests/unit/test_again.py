"""A run once more, from what was kept of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Conflict, NotFound
from ropewalk_core.model import State
from ropewalk_workflows.again import spec_again
from ropewalk_workflows.dag import step, workflow
from tests.workflow_rig import ALICE, Rig


@step
def size(data: Any, more: int) -> int:
    return len(data) + more


@workflow
def sizes(data: Any, more: int = 1) -> object:
    return size(data, more)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path / "home")
    found.start()
    yield found
    await found.close()


async def test_a_run_goes_again_with_the_same_code_and_values(rig: Rig) -> None:
    spec = sizes.spec(data={1: "not", 2: "json"}, more=3)
    first = await rig.wait((await rig.submit(spec)).id)
    again = await spec_again(rig.workflows, rig.journal, ALICE, "alice", first.id)
    assert (again.values, again.bundles, again.manifest) == (spec.values, spec.bundles, spec.manifest)
    second = await rig.wait((await rig.submit(again)).id)
    assert second.id != first.id and second.status.state == State.DONE
    assert rig.result(second) == rig.result(first) == 5


async def test_what_is_gone_or_was_changed_is_said(rig: Rig) -> None:
    run = await rig.wait((await rig.submit(sizes.spec(data={1: 2}))).id)
    with pytest.raises(NotFound):
        await spec_again(rig.workflows, rig.journal, ALICE, "alice", "run-none")
    with pytest.raises(NotFound):
        await spec_again(rig.workflows, rig.journal, ALICE, "bob", run.id)
    (value,) = rig.settings.home.glob(f"accounts/alice/runs/{run.id}/values/*")
    value.write_bytes(b"something else")
    with pytest.raises(Conflict, match="not there any more"):
        await spec_again(rig.workflows, rig.journal, ALICE, "alice", run.id)
    value.unlink()
    with pytest.raises(Conflict):
        await spec_again(rig.workflows, rig.journal, ALICE, "alice", run.id)

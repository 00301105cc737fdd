"""The very first run of an account, whose Python environment nobody has needed before."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ropewalk_core import environments
from ropewalk_core import settings as settings_module
from ropewalk_core.journal import Journal
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import State, Status
from ropewalk_core.settings import Settings
from ropewalk_hub.backends import Ground
from ropewalk_hub.backends.local import build
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.engine.wire import Batch, RunReport
from ropewalk_workflows.local import LocalWorkflows
from tests.clock import Hands
from tests.workflow_rig import ALICE


@step
def one() -> int:
    return 1


@workflow
def single() -> object:
    return one()


def workflows_of(settings: Settings, journal: Journal) -> LocalWorkflows:
    """Return the port as the platform of one machine makes it."""
    others: Any = SimpleNamespace(text=lambda secret: "secret")
    ground = Ground(settings, others, journal, Hands(), others, others, others, others)
    return cast(LocalWorkflows, build(ground).workflows)


async def test_an_equal_run_after_it_is_unchanged(tmp_path: Path) -> None:
    settings = settings_module.load(tmp_path / "home", environ={})
    settings.home.mkdir(parents=True)
    with contextlib.closing(Journal(settings.home / "journal.db")) as journal:
        await ran_twice(settings, workflows_of(settings, journal))


async def ran_twice(settings: Settings, workflows: LocalWorkflows) -> None:
    spec = single.spec().model_copy(update={"folder": ""})
    run = await workflows.submit(ALICE, "alice", spec)
    first = (await workflows.internal_runs("engine.")).runs[0]
    environments.ensure(settings, AccountPaths(settings.home, "alice"))  # as the host does for its first step
    done = RunReport(owner="alice", run=run.id, status=Status(state=State.DONE))
    await workflows.record_events(Batch(engine="engine", runs=[done]))
    again = await workflows.submit(ALICE, "alice", spec)
    assert again.unchanged and again.id == run.id
    later = await workflows.submit(ALICE, "alice", spec.model_copy(update={"fresh": True}))
    found = (await workflows.internal_runs("another.")).runs[0]
    assert found.run == later.id and found.environment == first.environment

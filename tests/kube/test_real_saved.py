"""Saved workflows on real Argo: values of a launch reach the steps as they were given, also where they fan out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.flows import Run
from ropewalk_core.model import Actor, State
from ropewalk_hub import triggers as between
from ropewalk_hub.platform import SystemClock
from ropewalk_workflows.compile import to_save
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.saved.desk import SavedDesk
from tests.cluster.scene import BUSYBOX
from tests.kube.argo_stage import ArgoRig, argo, public, registry_door
from tests.kube.stage import Stage
from tests.unit.test_saved import MANIFEST

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(300)]
ADA = Actor(account="ada")
HARD = {"text": 'it\'s {{hard}} "quoted" \\ and\nlong', "number": 1e-7, "nothing": None, "list": [True, "ü"]}


@step
def shown(value: Any) -> Any:
    return value


@step
def together(parts: list[Any], first: Any) -> Any:
    return [first, *parts]


@workflow
def gathered(values: list[Any], first: Any = "one") -> object:
    return together(shown.map(values), [first, shown(first)][0])


@pytest.fixture
async def rig(stage: Stage, tmp_path: Path) -> AsyncIterator[ArgoRig]:
    stage.needs("argo")
    public(registry_door(stage))
    async with argo(stage, tmp_path, "saved") as one:
        yield one


async def done(rig: ArgoRig, run: Run) -> Run:
    found = await rig.wait(run.id, seconds=200)
    assert found.status.state is State.DONE, [(one.name, one.status, one.error) for one in found.steps]
    return found


async def test_a_launch_gives_what_was_given(rig: ArgoRig) -> None:
    desk = SavedDesk(rig.journal, SystemClock(), rig.settings.limits, rig.workflows)
    saved = to_save(gathered)
    await desk.save(ADA, "ada", saved.model_copy(update={"run": saved.run.model_copy(update={"folder": ""})}))
    run = await done(rig, await desk.launch(ADA, "ada", "gathered", {"values": [HARD, 2, "x"], "first": HARD}))
    assert await rig.result(run) == [HARD, HARD, 2, "x"]
    target = between.workflows(desk, rig.journal)
    assert target.there("ada", "gathered") and target.outcome("ada", run.id) is State.DONE


async def test_a_plain_manifest_is_launched_with_its_own_parameters(rig: ArgoRig) -> None:
    desk = SavedDesk(rig.journal, SystemClock(), rig.settings.limits, rig.workflows)
    await desk.save(ADA, "ada", to_save(MANIFEST.replace("alpine", BUSYBOX)))
    run = await done(rig, await desk.launch(ADA, "ada", "hello", {"who": "moon", "times": "2"}))
    [one] = run.steps
    assert (await rig.log(run.id, one.id))[-1] == "hello moon 2"

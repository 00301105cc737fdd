"""Pauses that somebody ends one by one, on one machine: what was said holds, whoever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk_core.errors import Conflict
from ropewalk_core.flows import RunSpec
from ropewalk_core.model import State
from tests.workflow_rig import ALICE, Rig


@pytest.mark.parametrize("ok", [True, False])
async def test_an_answer_to_a_pause_outlives_the_engine(tmp_path: Path, ok: bool) -> None:
    rig = Rig(tmp_path)
    rig.start()
    try:
        tasks = [{"name": "approve", "template": "pause"}, {"name": "other", "template": "pause"}]
        templates = [{"name": "main", "dag": {"tasks": tasks, "failFast": False}}, {"name": "pause", "suspend": {}}]
        manifest = {"kind": "Workflow", "spec": {"entrypoint": "main", "templates": templates}}
        run = await rig.submit(RunSpec(name="x", manifest=manifest, source="argo"))
        await rig.until(run.id, lambda one: len([each for each in one.steps if each.status.why]) == 2)
        await rig.stop()
        await rig.workflows.answer(ALICE, "alice", run.id, ["approve"], ok=ok, message="so be it")
        for step in ("approve", "nowhere"):
            with pytest.raises(Conflict, match="does not stand at a pause"):
                await rig.workflows.answer(ALICE, "alice", run.id, ["other", step], ok=True)
        rig.start()
        found = await rig.until(run.id, lambda one: any(each.status.state.terminal for each in one.steps))
        states = {one.name: one.status.state for one in found.steps}
        assert states == {"approve": State.DONE if ok else State.FAILED, "other": State.WAITING}
        await rig.workflows.resume(ALICE, "alice", run.id)
        ended = await rig.wait(run.id)
        assert ended.status.state == (State.DONE if ok else State.FAILED)
        assert ok or (ended.status.why is not None and "so be it" in ended.status.why.cause)
        with pytest.raises(Conflict):
            await rig.workflows.answer(ALICE, "alice", run.id, ["approve"], ok=True)
    finally:
        await rig.close()

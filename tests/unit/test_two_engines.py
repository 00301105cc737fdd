"""Two engines by mistake: one waits for the other's end, and the desk listens to one of them only."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from ropewalk_core.errors import Conflict
from ropewalk_core.model import State, Status
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.engine.__main__ import alone
from ropewalk_workflows.engine.wire import Batch, RunReport
from ropewalk_workflows.records import RUN, Records
from tests.workflow_rig import Rig


@step
def one() -> int:
    return 1


@workflow
def single() -> object:
    return one()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Without an engine: the tests speak for them."""
    return Rig(tmp_path / "home")


def report(engine: str, run: str) -> Batch:
    return Batch(engine=engine, runs=[RunReport(owner="alice", run=run, status=Status(state=State.DONE))])


async def test_a_desk_that_was_restarted_listens_to_the_same_engine(rig: Rig, tmp_path: Path) -> None:
    run = (await rig.submit(single.spec())).id
    await rig.workflows.internal_runs("first.")
    await rig.workflows.internal_runs("second.")
    await rig.close()
    rig = Rig(tmp_path / "home")
    with pytest.raises(Conflict):
        await rig.workflows.record_events(report("first", run))
    assert (await rig.get(run)).status.state is State.ASKED
    await rig.workflows.record_events(report("second", run))
    assert (await rig.get(run)).status.state is State.DONE
    await rig.close()


async def test_a_report_is_refused_if_another_engine_came_while_it_waited(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, records = (await rig.submit(single.spec())).id, list[Records]()
    monkeypatch.setattr(Records, "lock", lambda self, name, real=Records.lock: records.append(self) or real(self, name))
    await rig.workflows.internal_runs("first.")
    await rig.workflows.record_events(Batch(engine="first", runs=[RunReport(owner="alice", run=run)]))
    async with records[0].lock(f"alice/{run}"):
        late = asyncio.create_task(rig.workflows.record_events(report("first", run)))
        await asyncio.sleep(0)
        page = await rig.workflows.internal_runs("second.")
    with pytest.raises(Conflict):
        await late
    assert [one.run for one in page.runs] == [run]
    record = rig.journal.get(RUN, "alice", run)
    assert record is not None and record.body["run"]["status"]["state"] == "asked"
    await rig.close()


def test_a_second_engine_of_a_home_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    began = threading.Event()

    def second() -> None:
        with alone(tmp_path / "engine.lock"):
            began.set()

    with alone(tmp_path / "engine.lock"):
        other = threading.Thread(target=second)
        other.start()
        assert not began.wait(0.2)
    assert began.wait(20)
    other.join()

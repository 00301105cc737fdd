"""What launches saved workflows by itself: each occasion is one run, also across a kill, and circles come to an end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.flows import Run
from ropewalk_core.model import State, Trigger, TriggerSpec
from ropewalk_core.triggers import records
from ropewalk_core.triggers.desk import TriggerDesk
from ropewalk_core.triggers.house import TriggerHouse
from ropewalk_hub import triggers as between
from ropewalk_workflows.compile import to_save
from ropewalk_workflows.dag import step, workflow
from ropewalk_workflows.saved.desk import SavedDesk
from tests.clock import Hands
from tests.workflow_rig import ALICE, Rig


@step
def told(value: Any) -> Any:
    return [value]


@workflow
def hearing(at: str = "", event: Any = None) -> object:
    return told(event)


@workflow
def needing(value: int) -> object:
    return told(value)


class Killed(BaseException):
    """The platform was killed right here."""


class House:
    """Saved workflows and their triggers on a real journal and engine; time is the test's."""

    def __init__(self, home: Path) -> None:
        self.clock = Hands(1_700_000_030.0)  # before the journal, which has a clock of its own
        self.rig = Rig(home)
        self.rig.start()
        self.open()

    def open(self) -> None:
        """What a platform has, or the next one after a kill."""
        journal = self.rig.journal
        self.saved = SavedDesk(journal, self.clock, self.rig.settings.limits, self.rig.workflows)
        target = between.workflows(self.saved, journal)
        self.house = TriggerHouse(self.rig.settings, journal, self.clock, [target], active=lambda owner: True)
        self.triggers = TriggerDesk(self.house, "workflow")

    async def add(self, name: str = "hearing", **spec: Any) -> Trigger:
        return await self.triggers.add(ALICE, "alice", name, TriggerSpec.model_validate(spec))

    async def get(self, name: str = "hearing") -> Trigger:
        [one] = (await self.triggers.list(ALICE, "alice", name)).items
        return one

    async def steps(self) -> None:
        while await self.house.ends.step():
            pass
        while await self.house.firer.step():
            pass

    async def runs(self) -> list[Run]:
        return list(reversed((await self.rig.workflows.list(ALICE, "alice")).items))

    async def ended(self) -> list[Run]:
        return [await self.rig.wait(one.id) for one in await self.runs()]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.saved.save(ALICE, "alice", to_save(hearing))
    yield made
    await made.rig.close()


async def test_a_moment_of_a_schedule_is_one_run_that_is_told_of_it(house: House) -> None:
    one = await house.add(every="*/5 * * * *", zone="Europe/Athens")
    house.clock.now += 300
    await house.steps()
    [run] = await house.ended()
    assert house.rig.result(run) == [{"trigger": one.id, "kind": "every", "at": run.arguments["at"]}]
    assert run.arguments["at"].endswith("+02:00")
    seen = await house.get()
    assert (seen.call, seen.outcome, seen.fires) == (run.id, State.DONE, 1)
    house.open()
    await house.steps()
    assert len(await house.runs()) == 1, "a moment that is over fires nothing after a restart"
    house.clock.now += 86_400
    await house.steps()
    assert len(await house.runs()) == 2, "of those that were missed the latest alone fires"


async def test_a_kill_between_the_run_and_its_record_makes_no_second_run(house: House) -> None:
    await house.add(every="*/5 * * * *")
    house.clock.now += 300

    async def killed(*_: Any) -> None:
        raise Killed

    house.house.firer._settle = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await house.steps()
    assert len(await house.runs()) == 1
    await house.saved.save(ALICE, "alice", to_save(hearing, fixed={"at": "never"}))  # it says something else by now
    house.open()
    await house.steps()
    [run] = await house.runs()
    assert (await house.get()).call == run.id and (await house.get()).why is None


async def test_a_firing_runs_every_step_although_an_equal_run_is_there(house: House) -> None:
    await house.saved.save(ALICE, "alice", to_save(hearing, "quiet", {"event": 1, "at": ""}))
    await house.rig.wait((await house.saved.launch(ALICE, "alice", "quiet", {})).id)
    await house.add("quiet", every="* * * * *")
    house.clock.now += 60
    await house.steps()
    assert [one.status.note for run in await house.ended() for one in (await house.rig.get(run.id)).steps] == ["", ""]


async def test_the_end_of_a_workflow_launches_another_and_a_circle_ends(house: House) -> None:
    await house.saved.save(ALICE, "alice", to_save(hearing, "second"))
    await house.add("second", after="workflow:hearing")
    await house.add("hearing", after="workflow:second")
    await house.saved.launch(ALICE, "alice", "hearing", {})
    for _ in range(12):
        await house.ended()
        await house.steps()
    runs = await house.ended()
    assert [one.name for one in runs] == [("hearing", "second")[place % 2] for place in range(9)]
    assert house.rig.result(runs[1])[0]["ended"]["name"] == "hearing"
    said = [(await house.get(name)).why for name in ("hearing", "second")]
    assert any(why is not None and why.code == "RW-LIMITED" for why in said)


async def test_what_nothing_would_give_is_asked_for_before_it_is_kept(house: House) -> None:
    await house.saved.save(ALICE, "alice", to_save(needing))
    with pytest.raises(BadInput) as caught:
        await house.add("needing", every="@daily")
    assert caught.value.field == "value" and ".save(value=...)" in caught.value.hint
    with pytest.raises(NotFound):
        await house.add("missing", every="@daily")


async def test_an_argument_that_comes_later_is_said_at_the_trigger(house: House) -> None:
    await house.add(every="*/5 * * * *")
    await house.saved.save(ALICE, "alice", to_save(needing, "hearing"))
    house.clock.now += 300
    await house.steps()
    seen = await house.get()
    assert seen.why is not None and "'value' is missing" in seen.why.cause and not await house.runs()
    await house.saved.save(ALICE, "alice", to_save(hearing))
    house.clock.now += 300
    await house.steps()
    assert len(await house.runs()) == 1 and (await house.get()).why is None


async def test_triggers_go_with_the_workflow(house: House) -> None:
    await house.add(every="@hourly")
    await house.saved.remove(ALICE, "alice", "hearing")
    assert not house.rig.journal.page(records.TRIGGER, "alice")
    house.clock.now += 7200
    await house.steps()
    assert not await house.runs()
    await house.saved.save(ALICE, "alice", to_save(hearing))
    assert (await house.triggers.list(ALICE, "alice", "hearing")).items == ()


async def test_by_hand_the_same_key_is_the_same_run(house: House) -> None:
    one = await house.add(every="@hourly")
    made = await house.triggers.fire(ALICE, "alice", "hearing", one.id, key="k")
    assert (await house.triggers.fire(ALICE, "alice", "hearing", one.id, key="k")).id == made.id
    [run] = await house.ended()
    assert house.rig.result(run)[0]["by_hand"] is True

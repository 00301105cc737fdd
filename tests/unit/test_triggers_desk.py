"""The desk of triggers on a real journal: each occasion makes one call, whatever is killed, refused or removed."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ropewalk_core.errors import BadInput, Limited, NotFound, UserCodeFailed
from ropewalk_core.journal import Append, Operation, Put
from ropewalk_core.model import Call, FileEntry, State
from ropewalk_core.testing import ADA
from ropewalk_core.triggers import records
from ropewalk_core.triggers.firing import AGAIN, FILES
from ropewalk_core.triggers.occasions import Firing, Occasion, known_as
from tests.trigger_rig import House, Killed


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.journal.close()


async def test_a_schedule_makes_one_call_for_each_moment(house: House) -> None:
    made = await house.add(every="*/5 * * * *")
    assert made.next == 1_800_000_300.0
    for _ in range(3):
        house.clock.now += 300
        await house.steps()
        await house.steps()
    calls = await house.calls()
    assert [house.told(one)["at"][-14:] for one in calls] == ["08:05:00+00:00", "08:10:00+00:00", "08:15:00+00:00"]
    assert {one.trigger for one in calls} == {made.id}
    shown = await house.get()
    assert (shown.fires, shown.call, shown.outcome) == (3, calls[-1].id, State.WAITING)


async def test_after_a_night_off_one_moment_fires(house: House) -> None:
    await house.add(every="* * * * *")
    house.clock.now += 8 * 3600
    house.kill()
    await house.steps()
    assert [house.told(one)["at"][-14:-6] for one in await house.calls()] == ["16:00:00"]


async def test_a_kill_between_a_call_and_its_record_makes_no_second(house: House) -> None:
    await house.add(every="*/5 * * * *")
    house.clock.now += 300
    house.dies = True
    with pytest.raises(Killed):
        await house.steps()
    house.dies = False
    house.kill()
    assert (await house.get()).fires == 0
    await house.steps()
    assert len(await house.calls()) == 1 and (await house.get()).fires == 1


async def test_what_is_refused_for_now_fires_later_and_says_why_meanwhile(house: House) -> None:
    await house.add(every="* * * * *")
    house.clock.now += 60
    house.refuses = Limited("All places are taken.", field="limits.durable_waiting")
    await house.steps()
    why = (await house.get()).why
    assert why is not None and why.cause == "All places are taken." and not await house.calls()
    house.clock.now += 3600
    await house.steps()
    house.refuses = None
    house.clock.now += AGAIN + 1
    await house.steps()
    [call] = await house.calls()  # the latest moment alone
    assert house.told(call)["at"][-14:-6] == "09:01:00" and (await house.get()).why is None


async def test_what_can_never_be_called_says_so_and_goes_on(house: House) -> None:
    await house.add(every="* * * * *")
    house.form = "asgi"
    house.clock.now += 60
    await house.steps()
    why = (await house.get()).why
    assert why is not None and "durable calls" in why.cause
    house.form = "python"
    house.clock.now += 60
    await house.steps()
    assert len(await house.calls()) == 1 and (await house.get()).why is None


async def test_a_pause_lets_moments_go_by(house: House) -> None:
    one = await house.add(every="* * * * *")
    await house.triggers.pause(ADA, "ada", "f", one.id, True)
    assert (await house.get()).next is None
    house.clock.now += 3600
    await house.steps()
    await house.triggers.pause(ADA, "ada", "f", one.id, False)
    await house.steps()
    assert not await house.calls()
    house.clock.now += 60
    await house.steps()
    assert len(await house.calls()) == 1


async def test_nobody_takes_the_place_of_a_triggers_call(house: House) -> None:
    """Whoever may call the function can learn of the trigger, and knows when it is due."""
    one = await house.add(every="*/5 * * * *")
    due = Firing(one, Occasion("at 1800000300", 1_800_000_300.0))
    theirs = await house.durable.spawn(ADA, "ada", "f", b'"theirs"', key=due.key)
    house.clock.now += 300
    await house.steps()
    [first, fired] = await house.calls()
    assert first.id == theirs.id and fired.trigger == one.id and house.told(fired)["kind"] == "every"


async def test_by_hand_it_fires_once_for_a_key(house: House) -> None:
    one = await house.add(every="@yearly")
    first = await house.triggers.fire(ADA, "ada", "f", one.id, key="k")
    house.clock.now += 5
    again = await house.triggers.fire(ADA, "ada", "f", one.id, key="k")
    other = await house.triggers.fire(ADA, "ada", "f", one.id)
    assert first.id == again.id != other.id
    assert house.told(first)["by_hand"] is True and house.told(first)["kind"] == "every"
    shown = await house.get()
    assert shown.call == other.id and shown.settled == one.settled and shown.fires == 2


async def test_an_end_fires_with_what_the_call_gave(house: House) -> None:
    await house.add(after="g")
    await house.add("f", after="g", when="failure")
    call = await house.durable.spawn(ADA, "ada", "g", b"1")
    await house.carry(b'{"rows": 3}')
    await house.steps()
    [fired] = await house.calls()
    told = house.told(fired)
    assert told["ended"] == {"kind": "function", "name": "g", "id": call.id, "state": "done", "result": {"rows": 3}}
    assert fired.chain == 1 and not house.journal.page(records.END, "ada")
    house.clock.now += 1  # calls are in order of time
    failed = UserCodeFailed("It raised ValueError.").problem()
    await house.durable.spawn(ADA, "ada", "g", b"2")
    await house.carry(problem=failed, only="g")
    await house.steps()
    told = house.told((await house.calls())[-1])
    assert told["ended"]["state"] == "failed" and told["ended"]["error"] == "It raised ValueError."


async def test_results_that_are_long_or_no_json_are_left_out(house: House) -> None:
    await house.add(after="g")
    for body in (b'"' + b"x" * 2**16 + b'"', b"NaN", b"{"):
        await house.durable.spawn(ADA, "ada", "g", b"1")
        await house.carry(body, only="g")
    await house.steps()
    assert all("result" not in house.told(one)["ended"] for one in await house.calls())


async def test_an_end_survives_a_kill_before_anybody_heard_of_it(house: House) -> None:
    await house.add(after="g")
    await house.durable.spawn(ADA, "ada", "g", b"1")
    await house.carry()
    house.kill()
    await house.steps()
    assert len(await house.calls()) == 1 and not house.journal.page(records.END, "ada")


async def test_a_call_that_is_replayed_ends_again(house: House) -> None:
    await house.add(after="g", when="always")
    call = await house.durable.spawn(ADA, "ada", "g", b"1")
    await house.carry(problem=UserCodeFailed("no").problem())
    await house.durable.replay(ADA, "ada", call.id)
    await house.carry(only="g")
    await house.steps()
    assert len(await house.calls()) == 2


async def test_a_circle_comes_to_its_end_and_says_so(tmp_path: Path) -> None:
    house = House(tmp_path, trigger_chain=3)
    await house.add("f", after="g")
    await house.add("g", after="f")
    await house.durable.spawn(ADA, "ada", "g", b"1")
    for _ in range(20):
        await house.carry()
        await house.steps()
    assert len(await house.calls("f")) == 2 and len(await house.calls("g")) == 2
    why = [one.why for one in [await house.get("f"), await house.get("g")] if one.why]
    assert len(why) == 1 and "3 ends" in why[0].cause and "circle" in why[0].next
    house.journal.close()


async def test_calls_that_are_not_durable_fire_too(house: House) -> None:
    await house.add(after="g")
    facts: dict[str, Any] = {"function": "g", "owner": "ada", "revision": "r", "started": house.clock.now}
    done = Call(id="call-1", ended=house.clock.now + 1, state=State.DONE, **facts)
    attempt = Call(id="call-2", ended=house.clock.now + 1, state=State.DONE, durable="g.x", **facts)
    running = Call(id="call-3", state=State.RUNNING, **facts)
    await house.house.calls([done, attempt, running])
    await house.house.calls([done])  # a batch that is sent again
    await house.steps()
    [fired] = await house.calls()
    assert house.told(fired)["ended"]["id"] == "call-1"


async def test_the_end_of_a_run_fires_once_also_after_a_kill(house: House) -> None:
    def told(run: str, kind: str, name: str = "train") -> Append:
        return Append("run", "ada", run, kind, {"name": name})

    await house.journal.write(told("run-0", "done"))  # before anybody followed
    await house.add(after="workflow:train")
    house.clock.now += 1
    await house.journal.write(told("run-1", "asked"), told("run-1", "done"), told("run-2", "failed"))
    await house.journal.write(told("run-3", "done", "other"))
    house.kill()
    await house.runs()
    house.kill()
    await house.runs()
    await house.steps()
    [fired] = await house.calls()
    assert house.told(fired)["ended"] == {"kind": "workflow", "name": "train", "id": "run-1", "state": "done"}


async def test_files_fire_once_they_held_still(house: House) -> None:
    house.files["inbox/old.csv"] = (1, 1.0)
    await house.add(on_file="inbox/*.csv")
    house.files["inbox/new.csv"] = (1, 2.0)
    await house.looks()
    house.files["inbox/new.csv"] = (2, 3.0)  # it is still being written
    await house.looks()
    await house.steps()
    assert not await house.calls()
    await house.looks()
    await house.steps()
    await house.looks(3)
    await house.steps()
    [call] = await house.calls()
    assert house.told(call)["file"] == {"path": "inbox/new.csv", "size": 2}
    house.files["inbox/new.csv"] = (2, 9.0)
    house.kill()
    await house.looks(2)
    await house.steps()
    assert len(await house.calls()) == 2


async def test_files_that_are_there_count_if_that_is_said(house: House) -> None:
    house.files |= {f"inbox/{number}.csv": (1, 1.0) for number in range(100)}
    await house.add(on_file="inbox/*.csv", existing=True)
    await house.looks(2)
    await house.steps()
    assert len(await house.calls()) == 100
    await house.looks(3)
    await house.steps()
    assert len(await house.calls()) == 100


async def test_a_folder_that_is_missing_or_too_full_is_said(tmp_path: Path) -> None:
    house = House(tmp_path, trigger_entries=2)
    await house.add(on_file="missing/*.csv")
    await house.looks()
    why = (await house.get()).why
    assert why is not None and "no such folder" in why.cause
    await house.add("g", on_file="inbox/*")
    house.files |= {f"inbox/{number}": (1, 1.0) for number in range(3)}
    await house.looks(2)
    why = (await house.get("g")).why
    assert why is not None and why.code == "RW-TOO-LARGE"
    del house.files["inbox/0"]
    await house.looks(2)
    await house.steps()
    assert (await house.get("g")).why is None and len(await house.calls("g")) == 2
    house.journal.close()


async def test_a_folder_that_came_while_the_platform_was_away_is_no_trouble_any_more(tmp_path: Path) -> None:
    house = House(tmp_path, trigger_entries=2)
    await house.add(on_file="inbox/*")
    house.files |= {f"inbox/{number}": (1, 1.0) for number in range(3)}
    await house.looks()
    assert (await house.get()).why is not None
    house.kill()
    house.files.clear()
    await house.looks()
    assert (await house.get()).why is None
    house.journal.close()


async def test_what_came_while_it_was_paused_fires_nothing(house: House) -> None:
    one = await house.add(on_file="inbox/*")
    await house.looks()
    await house.triggers.pause(ADA, "ada", "f", one.id, True)
    house.files["inbox/a"] = (1, 1.0)
    await house.looks(3)
    await house.triggers.pause(ADA, "ada", "f", one.id, False)
    await house.looks(3)
    await house.steps()
    assert not await house.calls()


async def test_a_trigger_that_is_gone_fires_nothing(house: House) -> None:
    made = [await house.add(every="* * * * *"), await house.add(after="g"), await house.add(on_file="inbox/*")]
    await house.durable.spawn(ADA, "ada", "g", b"1")
    house.files["inbox/a"] = (1, 1.0)
    await house.looks(2)
    house.clock.now += 60
    await house.carry()
    await house.journal.write(*records.forgetting(house.journal, "ada", "function", "f"))
    await house.steps()
    assert not await house.calls() and not house.journal.page(records.END, "ada") and len(made) == 3
    assert not house.journal.page(records.TRIGGER, "ada") and not house.journal.page(records.SEEN, "ada")


async def test_a_function_that_is_removed_meanwhile_leaves_no_trigger(house: House) -> None:
    """One that nobody could list any more would count against its owner's limit for ever."""
    look = house.triggers._look
    assert look is not None

    async def slow(owner: str, folder: str, pattern: str, most: int) -> Sequence[FileEntry]:
        house.functions.discard("f")
        await house.journal.write(*records.forgetting(house.journal, "ada", "function", "f"))
        return await look(owner, folder, pattern, most)

    house.triggers._look = slow
    with pytest.raises(NotFound):
        await house.add(on_file="inbox/*")
    assert not house.journal.page(records.TRIGGER, "ada") and not house.journal.page(records.SEEN, "ada")


async def test_what_comes_after_a_removed_function_says_so(house: House) -> None:
    await house.add(after="g")
    assert (await house.get()).why is None
    house.functions.discard("g")
    why = (await house.get()).why
    assert why is not None and "'g'" in why.cause and "again" in why.next
    house.functions.add("g")
    assert (await house.get()).why is None


async def test_an_orphan_is_removed_when_it_fires(house: House) -> None:
    await house.add(every="* * * * *")
    house.functions.discard("f")
    house.clock.now += 60
    await house.steps()
    assert not house.journal.page(records.TRIGGER, "ada")


async def test_nothing_fires_for_an_account_that_is_not_active(house: House) -> None:
    await house.add(every="* * * * *")
    await house.add(after="g")
    await house.durable.spawn(ADA, "ada", "g", b"1")
    await house.carry()
    house.asleep.add("ada")
    house.clock.now += 120
    await house.steps()
    assert not await house.calls()
    house.asleep.clear()
    house.clock.now += 120
    await house.steps()
    assert len(await house.calls()) == 2


async def test_limits_are_named(tmp_path: Path) -> None:
    house = House(tmp_path, triggers=3, triggers_each=2)
    await house.add(every="@hourly")
    assert (await house.add(every="@hourly")).id == (await house.get()).id
    await house.add(every="@daily")
    with pytest.raises(BadInput) as each:
        await house.add(every="@weekly")
    assert each.value.field == "limits.triggers_each"
    await house.add("g", every="@hourly")
    with pytest.raises(BadInput) as whole:
        await house.add("g", every="@daily")
    assert whole.value.field == "limits.triggers"
    chosen = await house.triggers.choose(ADA, "ada", "f", [])
    assert chosen.items == ()
    await house.add("g", every="@daily")
    house.journal.close()


async def test_ends_beyond_the_limit_fire_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, trigger_ends=3)
    await house.add(after="g")
    for _ in range(5):
        await house.durable.spawn(ADA, "ada", "g", b"1")
        await house.carry()
    await house.steps()
    why = (await house.get()).why
    assert why is not None and "3 ends" in why.cause
    assert len(await house.calls()) == 3
    await house.durable.spawn(ADA, "ada", "g", b"1")
    await house.carry(only="g")
    await house.steps()
    assert len(await house.calls()) == 4
    house.journal.close()


async def test_what_is_wished_wrongly_is_refused(house: House) -> None:
    with pytest.raises(NotFound):
        await house.add("nothing", every="@hourly")
    with pytest.raises(NotFound) as caught:
        await house.add(after="nothing")
    assert caught.value.field == "after"
    house.form = "asgi"
    with pytest.raises(BadInput):
        await house.add(every="@hourly")
    house.form = "python"
    for act in (
        house.triggers.remove(ADA, "ada", "f", "t-none"),
        house.triggers.pause(ADA, "ada", "f", "t-none", True),
        house.triggers.fire(ADA, "ada", "f", "../t"),
    ):
        with pytest.raises(NotFound):
            await act
    one = await house.add(on_file="empty/*")
    with pytest.raises(NotFound):
        await house.triggers.fire(ADA, "ada", "f", one.id)


async def test_where_nothing_looks_into_folders_a_file_is_refused_by_name(house: House) -> None:
    house.triggers._look = None
    with pytest.raises(BadInput) as caught:
        await house.add(on_file="inbox/*")
    assert caught.value.field == "on_file" and "cluster" in caught.value.message


async def test_a_file_of_any_date_is_told(house: House) -> None:
    await house.add(on_file="inbox/*")
    house.files |= {"inbox/a": (1, 1e18), "inbox/b": (1, -1e18)}
    await house.looks(2)
    await house.steps()
    assert {house.told(one)["at"][:4] for one in await house.calls()} == {"1970", "9987"}


async def test_what_is_known_of_files_that_are_gone_is_forgotten(house: House) -> None:
    house.files |= {f"inbox/{number}": (1, 1.0) for number in range(300)}
    one = await house.add(on_file="inbox/*")
    key = f"function/f/{one.id}"
    assert len(records.seen(house.journal, "ada", key)[0]) == 300
    house.files.clear()
    await house.looks()
    assert records.seen(house.journal, "ada", key)[0] == {}


async def test_a_full_folder_fills_neither_memory_nor_journal(house: House) -> None:
    """However many triggers look into it, and however long its files' names are."""
    house.files |= {f"inbox/{'ü' * 120}{number}": (number, 1.0) for number in range(3000)}
    made = [await house.add(on_file=pattern) for pattern in ("inbox/*", "inbox/?*", "inbox/*?")]
    for one in made:
        record = house.journal.get(records.SEEN, "ada", f"function/f/{one.id}")
        assert record is not None and len(json.dumps(record.body)) < 3000 * 60
    await house.looks()
    assert house.house.files is not None
    assert not any(look.coming for look in house.house.files._before.values())
    house.files |= {f"inbox/new{number}": (1, 1.0) for number in range(3000)}
    await house.looks(2)
    assert all(len(look.coming) <= FILES for look in house.house.files._before.values())
    assert len(house.house.firer._waiting["ada"]) <= FILES
    for _ in range(12):
        await house.steps()
        await house.looks()
    assert len(await house.calls()) == 9000 and not house.house.firer._waiting


async def test_files_seen_at_the_same_time_are_all_remembered(house: House) -> None:
    """Somebody resumes, others forget what is gone, calls are settled: nobody writes back what another took away."""
    one = await house.add(on_file="inbox/*")
    key = ("ada", f"function/f/{one.id}")
    book = house.house.book
    seen, version = records.seen(house.journal, *key)
    asked = 0

    def adding() -> list[Operation]:
        nonlocal asked, seen, version
        if asked:
            seen, version = records.seen(house.journal, *key)
        asked += 1
        return [records.seeing(*key, seen | {"mine": "1"}, version)]

    await house.journal.write(records.there(*key, {"theirs": (told := "2")}))
    await book.change(key, lambda trigger: trigger, adding)
    assert records.seen(house.journal, *key)[0] == {known_as("theirs"): told, "mine": "1"} and asked == 2


async def test_an_end_counts_for_each_trigger_that_follows_it(tmp_path: Path) -> None:
    house = House(tmp_path, trigger_ends=10)
    for when in ("success", "failure", "always"):
        await house.add(after="g", when=when)
    calls = [
        Call(id=f"c{number}", owner="ada", function="g", revision="r", state=State.DONE, started=2e9, ended=2e9)
        for number in range(20)
    ]
    for call in calls:
        await house.house.calls([call])
    assert len(house.journal.page(records.END, "ada")) == 4  # and then there were 12 firings to wait for
    await house.steps()
    assert len(await house.calls()) == 8 and not house.house.firer._open
    house.journal.close()


async def test_a_long_list_of_one_account_is_no_wait_for_others(house: House) -> None:
    await house.add(after="g")
    await house.add(owner="bob", every="* * * * *")
    for number in range(300):
        await house.journal.write(
            Put(
                records.END,
                "ada",
                f"e{number}",
                {
                    "source": "function:g",
                    "id": f"e{number}",
                    "state": "done",
                    "at": house.clock.now + 1,
                    "chain": 0,
                    "durable": False,
                },
            )
        )
    house.kill()
    house.clock.now += 60
    await house.house.firer.step()
    assert len(await house.calls(owner="bob")) == 1 and len(await house.calls()) == 64
    await house.steps()
    assert len(await house.calls()) == 300


async def test_it_runs_by_itself(house: House) -> None:
    running = asyncio.create_task(house.house.run())
    one = await house.add(after="g")
    await house.durable.spawn(ADA, "ada", "g", b"1")
    await house.carry()
    async with asyncio.timeout(10):
        while (await house.get()).fires == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await house.get()).id == one.id


class Life(RuleBasedStateMachine):
    """Anything at any time: each occasion makes one call, and none is lost but by the rules that are written down."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.house = House(Path(self.folder.name), durable_kept=1e9)
        self.ended: set[str] = set()
        self.files = 0
        self.run(self.house.add(every="*/10 * * * *"))
        self.run(self.house.add(after="g"))
        self.run(self.house.add(on_file="inbox/*"))
        self.began = self.house.clock.now

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.everything_fires()
            self.house.journal.close()
            self.loop.close()
            self.folder.cleanup()

    @rule(seconds=st.sampled_from([1.0, 61.0, 700.0, 40_000.0]))
    def wait(self, seconds: float) -> None:
        self.house.clock.now += seconds

    @rule()
    def call_ends(self) -> None:
        self.run(self.house.durable.spawn(ADA, "ada", "g", b"1"))
        self.ended |= set(self.run(self.house.carry(only="g")))

    @rule()
    def file_comes(self) -> None:
        self.files += 1
        self.house.files[f"inbox/{self.files}"] = (self.files, self.house.clock.now)

    @rule()
    def look(self) -> None:
        self.run(self.house.looks())

    @rule()
    def step(self) -> None:
        self.run(self.house.house.firer.step())

    @rule()
    def killed_while_it_fires(self) -> None:
        self.house.dies = True
        try:
            self.run(self.house.house.firer.step())
        except Killed:
            pass
        self.house.dies = False
        self.house.kill()

    @rule()
    def kill(self) -> None:
        self.house.kill()

    @invariant()
    def no_occasion_has_two_calls(self) -> None:
        if hasattr(self, "house"):
            told = [self.house.told(one) for one in self.run(self.house.calls())]
            moments = [one["at"] for one in told if one["kind"] == "every"]
            ends = [one["ended"]["id"] for one in told if one["kind"] == "after"]
            files = [one["file"]["path"] for one in told if one["kind"] == "on_file"]
            for occasions in (moments, ends, files):
                assert len(occasions) == len(set(occasions))
            assert set(ends) <= self.ended

    def everything_fires(self) -> None:
        """Whatever happened, a platform that works makes the call of every end and file, and of the latest moment."""
        self.house.kill()
        self.house.clock.now += 601
        self.run(self.house.looks(3))
        self.run(self.house.steps())
        self.no_occasion_has_two_calls()
        told = [self.house.told(one) for one in self.run(self.house.calls())]
        assert {one["ended"]["id"] for one in told if one["kind"] == "after"} == self.ended
        assert len([one for one in told if one["kind"] == "on_file"]) == self.files
        moments = [one for one in told if one["kind"] == "every"]
        assert moments and max(one["at"] for one in moments)[14:16] in ("00", "10", "20", "30", "40", "50")


TestLife = Life.TestCase
TestLife.settings = hypothesis_settings(max_examples=30, stateful_step_count=20, deadline=None)

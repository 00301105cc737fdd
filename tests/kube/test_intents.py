"""Intents: carried out once, also after a kill between the journal and the cluster. Time is simulated."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.errors import Denied, RopewalkError, Unavailable
from ropewalk_core.journal import Append, Journal, Operation, Put
from ropewalk_core.kube.intents import AT_ONCE, OF_ALL, Intent, Intents
from ropewalk_core.testing import SimulatedClock


class Cluster:
    """Remembers what it was told, and fails as often as asked before."""

    def __init__(self, *failures: RopewalkError) -> None:
        self.failures, self.told = list(failures), list[dict[str, Any]]()
        self.open = asyncio.Event()
        self.open.set()

    async def carry(self, intent: Intent) -> list[Operation]:
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.told.append(intent.wish)
        return [Put("thing", intent.owner, intent.name, {"state": "there"})]

    async def refused(self, intent: Intent, error: RopewalkError) -> list[Operation]:
        return [Put("thing", intent.owner, intent.name, {"state": "failed", "why": error.message})]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(tmp_path / "journal.db")
    yield one
    one.close()


@contextlib.asynccontextmanager
async def running(journal: Journal, cluster: Cluster) -> AsyncIterator[Intents]:
    intents = Intents(journal, SimulatedClock())
    intents.carried_by("thing", cluster.carry, cluster.refused)
    task = asyncio.create_task(intents.run())
    try:
        yield intents
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(journal: Journal, intents: Intents, wish: str = "be") -> None:
    record = Put("thing", "ada", "a", {"state": "asked"})
    await journal.write(
        record, intents.asked("thing", "ada", "a", {"wish": wish}), Append("thing", "ada", "a", "asked")
    )
    intents.hurry("thing", "ada", "a")


def state(journal: Journal) -> dict[str, Any]:
    record = journal.get("thing", "ada", "a")
    assert record is not None
    return record.body


async def test_what_was_asked_is_carried_out_and_forgotten(journal: Journal) -> None:
    cluster = Cluster()
    async with running(journal, cluster) as intents:
        await ask(journal, intents)
        assert await intents.settled("thing", "ada", "a", patience=1e9)
    assert cluster.told == [{"wish": "be"}] and state(journal) == {"state": "there"}
    assert not intents.open("thing", "ada", "a")


async def test_what_passes_by_itself_is_tried_again(journal: Journal) -> None:
    cluster = Cluster(Unavailable("gone"), Unavailable("gone"))
    async with running(journal, cluster) as intents:
        await ask(journal, intents)
        assert await intents.settled("thing", "ada", "a", patience=1e9)
    assert len(cluster.told) == 1


async def test_a_refusal_ends_it_with_the_reason(journal: Journal) -> None:
    cluster = Cluster(Denied("over quota"))
    async with running(journal, cluster) as intents:
        await ask(journal, intents)
        assert await intents.settled("thing", "ada", "a", patience=1e9)
    assert not cluster.told and state(journal) == {"state": "failed", "why": "over quota"}


async def test_a_kill_between_journal_and_cluster_loses_nothing(journal: Journal) -> None:
    await ask(journal, Intents(journal, SimulatedClock()))
    cluster = Cluster()
    async with running(journal, cluster) as intents:
        assert await intents.settled("thing", "ada", "a", patience=1e9)
    async with running(journal, cluster):
        await asyncio.sleep(0)
    assert cluster.told == [{"wish": "be"}]


async def test_a_newer_wish_takes_the_older_ones_place(journal: Journal) -> None:
    cluster = Cluster()
    cluster.open.clear()
    async with running(journal, cluster) as intents:
        await ask(journal, intents, "first")
        for _ in range(10):
            await asyncio.sleep(0)  # the first is on its way
        await ask(journal, intents, "second")
        cluster.open.set()
        assert await intents.settled("thing", "ada", "a", patience=1e9)
    assert cluster.told[-1] == {"wish": "second"} and state(journal) == {"state": "there"}


async def test_what_hangs_holds_up_neither_other_kinds_of_its_owner_nor_anybody_else(journal: Journal) -> None:
    tried: set[tuple[str, str]] = set()

    async def hangs(intent: Intent) -> list[Operation]:
        tried.add((intent.owner, intent.name))
        await asyncio.Event().wait()
        raise AssertionError

    cluster = Cluster()
    intents = Intents(journal, SimulatedClock())
    intents.carried_by("service", hangs, cluster.refused)
    intents.carried_by("thing", cluster.carry, cluster.refused)
    for number in range(20):
        await journal.write(intents.asked("service", "ada", f"s{number}", {}))
    task = asyncio.create_task(intents.run())
    await asyncio.sleep(0.05)
    await ask(journal, intents)
    await journal.write(intents.asked("thing", "bob", "b", {"wish": "be"}), intents.asked("service", "bob", "s", {}))
    intents.hurry("thing", "bob", "b")
    intents.hurry("service", "bob", "s")
    async with asyncio.timeout(5):
        assert await intents.settled("thing", "ada", "a", patience=1e9)
        assert await intents.settled("thing", "bob", "b", patience=1e9)
        while ("bob", "s") not in tried:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len([owner for owner, _ in tried if owner == "ada"]) == AT_ONCE
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_many_accounts_at_once_are_carried_out_a_few_at_a_time(journal: Journal) -> None:
    now, most, let = 0, 0, asyncio.Event()

    async def slow(intent: Intent) -> list[Operation]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await let.wait()
        now -= 1
        return []

    cluster, accounts = Cluster(), [f"a{number}" for number in range(2 * OF_ALL)]
    await journal.write(*(Put("intent", owner, "service/s", {}) for owner in accounts))
    async with running(journal, cluster) as intents:
        intents.carried_by("service", slow, cluster.refused)
        await ask(journal, intents)
        async with asyncio.timeout(20):
            assert await intents.settled("thing", "ada", "a", patience=1e9)
            while now < OF_ALL:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            let.set()
            for owner in accounts:
                assert await intents.settled("service", owner, "s", patience=1e9)
    assert most == OF_ALL


async def test_a_line_that_is_empty_goes_and_what_comes_then_is_carried_out(journal: Journal) -> None:
    cluster = Cluster()
    async with running(journal, cluster) as intents:
        for wish in ("first", "second", "third"):
            await ask(journal, intents, wish)
            assert await intents.settled("thing", "ada", "a", patience=1e9)
            tasks = len(asyncio.all_tasks())
            async with asyncio.timeout(5):
                while intents._queues:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert len(asyncio.all_tasks()) < tasks
    assert [one["wish"] for one in cluster.told] == ["first", "second", "third"]


async def test_what_is_asked_in_the_moment_in_which_a_line_ends_is_carried_out(journal: Journal) -> None:
    cluster = Cluster()
    async with running(journal, cluster) as intents:
        for number in range(200):
            await journal.write(intents.asked("thing", "ada", "a", {"wish": number}))
            intents.hurry("thing", "ada", "a")
            for _ in range(number % 20):  # somewhere between the wish and the end of its line
                await asyncio.sleep(0)
            intents.hurry("thing", "ada", "a")
            async with asyncio.timeout(5):
                assert await intents.settled("thing", "ada", "a", patience=1e9)
    assert cluster.told[-1] == {"wish": 199}


async def test_patience_ends(journal: Journal) -> None:
    intents = Intents(journal, SimulatedClock())
    await ask(journal, intents)
    assert not await intents.settled("thing", "ada", "a", patience=0)

"""The journal against a dictionary, against a second process, against kill -9 and against a full disk."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ropewalk_core.errors import BadInput, Conflict, Internal, StorageFull, Unavailable
from ropewalk_core.journal import Append, Journal, Put, Remove
from tests import postgres

kinds = st.sampled_from(["service", "run"])
owners = st.sampled_from(["ada", "bob"])
names = st.sampled_from(["a", "b", "c"])
bodies = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5) | st.none(), max_size=3)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as one:
        yield one


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Return where a journal is kept, in each of the two ways."""
    if request.param == "sqlite":
        return tmp_path / "journal.db"
    one: postgres.Postgres = request.getfixturevalue("server")
    return one.database()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(where: Path | str) -> Iterator[Journal]:
    one = Journal(where)
    yield one
    one.close()


@pytest.fixture
def file_journal(path: Path) -> Iterator[Journal]:
    one = Journal(path)
    yield one
    one.close()


class AgainstADictionary(RuleBasedStateMachine):
    """Every sequence of batches, time steps and restarts leaves what a dictionary and a list would hold."""

    def where(self) -> Path | str:
        return Path(self.folder.name) / "journal.db"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.time = 1000.0
        self.records: dict[tuple[str, str, str], tuple[dict[str, Any], int, float | None]] = {}
        self.events: list[tuple[str, str, str, dict[str, Any]]] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.where(), now=lambda: self.time)

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()

    def live(self) -> dict[tuple[str, str, str], tuple[dict[str, Any], int, float | None]]:
        return {key: one for key, one in self.records.items() if one[2] is None or one[2] > self.time}

    @rule(kind=kinds, owner=owners, name=names, body=bodies, life=st.none() | st.integers(1, 5))
    def put_with_its_event(self, kind: str, owner: str, name: str, body: dict[str, Any], life: int | None) -> None:
        key = (kind, owner, name)
        expires = None if life is None else self.time + life
        self.journal.write_now(Put(*key, body, expires=expires), Append(*key, "asked", body))
        self.records[key] = (body, self.live().get(key, ({}, 0, None))[1] + 1, expires)
        self.events.append((*key, body))

    @rule(kind=kinds, owner=owners, name=names)
    def remove(self, kind: str, owner: str, name: str) -> None:
        self.journal.write_now(Remove(kind, owner, name))
        self.records.pop((kind, owner, name), None)

    @rule(kind=kinds, owner=owners, name=names, wrong=st.integers(1, 3))
    def a_wrong_expectation_changes_nothing(self, kind: str, owner: str, name: str, wrong: int) -> None:
        have = self.live().get((kind, owner, name), ({}, 0, None))[1]
        with pytest.raises(Conflict):
            self.journal.write_now(
                Put("run", "ada", "a", {"never": 1}),
                Append("run", "ada", "a", "never"),
                Put(
                    kind,
                    owner,
                    name,
                    {},
                    expect=have + wrong + (1 if (kind, owner, name) == ("run", "ada", "a") else 0),
                ),
            )

    @rule(seconds=st.integers(1, 3))
    def time_passes(self, seconds: int) -> None:
        self.time += seconds

    @rule()
    def sweep(self) -> None:
        self.journal.sweep().result()
        self.records = self.live()

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.open()

    @precondition(lambda self: self.events)
    @rule(data=st.data())
    def a_watch_resumes_anywhere(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, len(self.events)))
        seen = [(one.kind, one.owner, one.name, one.body) for one in self.journal.events(after=after)]
        assert seen == self.events[after:]

    @invariant()
    def they_agree(self) -> None:
        for (kind, owner, name), (body, version, expires) in self.live().items():
            record = self.journal.get(kind, owner, name)
            assert record is not None
            assert (record.body, record.version, record.expires) == (body, version, expires)
        for kind in ("service", "run"):
            pages = {(one.kind, one.owner, one.name) for one in self.journal.page(kind)}
            assert pages == {key for key in self.live() if key[0] == kind}
        assert self.journal.cursor == len(self.events)


AgainstADictionary.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestAgainstADictionary = AgainstADictionary.TestCase


class AgainstADictionaryOnPostgres(AgainstADictionary):
    """The same on PostgreSQL."""

    server: postgres.Postgres

    def where(self) -> Path | str:
        if not hasattr(self, "address"):
            self.address = self.server.database()
        return self.address


def test_against_a_dictionary_on_postgres(server: postgres.Postgres) -> None:
    AgainstADictionaryOnPostgres.server = server
    few = settings(max_examples=8, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(AgainstADictionaryOnPostgres, settings=few)


def test_pages_follow_each_other(journal: Journal) -> None:
    journal.write_now(*(Put("service", "ada", f"s{number:02}", {}) for number in range(25)))
    journal.write_now(Put("service", "bob", "s05", {}))
    seen: list[str] = []
    while page := journal.page("service", "ada", after=seen[-1] if seen else "", limit=10):
        seen += [one.name for one in page]
    assert seen == [f"s{number:02}" for number in range(25)]
    assert [one.name for one in journal.page("service", "ada", newest=True, limit=3)] == ["s24", "s23", "s22"]
    assert [one.owner for one in journal.find("service", "s05")] == ["ada", "bob"]


async def test_batches_that_wait_together_fail_alone(journal: Journal) -> None:
    first = journal.submit([Put("run", "ada", "r", {}, expect=0)])
    results = await asyncio.gather(
        *(
            journal.write(Put("run", "ada", "r", {"n": number}, expect=1), Append("run", "ada", "r", "x"))
            for number in range(20)
        ),
        return_exceptions=True,
    )
    assert first.done()
    assert sum(isinstance(one, Conflict) for one in results) == 19
    assert len(journal.events()) == 1


def test_history_is_swept_and_the_newest_state_of_everything_stays(where: Path | str) -> None:
    time = 0.0
    journal = Journal(where, now=lambda: time)
    for name in ("a", "b"):
        for number in range(5):
            journal.write_now(Append("run", "ada", name, "running", {"n": number}))
    time = 1000.0
    journal.write_now(Append("run", "ada", "b", "done", {"n": 5}))
    journal.sweep(history=500.0).result()
    assert [(one.name, one.body["n"]) for one in journal.events()] == [("a", 4), ("b", 5)]
    cursor = journal.cursor
    journal.close()
    again = Journal(where, now=lambda: time)
    assert again.cursor == cursor == 11
    assert again.write_now(Append("run", "ada", "c", "asked")) == 12
    again.close()


async def test_a_watcher_wakes(journal: Journal) -> None:
    waiting = asyncio.create_task(journal.wait(0, timeout=10))
    await asyncio.sleep(0)
    await journal.write(Append("run", "ada", "r", "asked"))
    assert await waiting == 1
    assert await journal.wait(1, timeout=0.01) == 1


async def test_a_watcher_sleeps_through_a_kind_that_it_does_not_want(journal: Journal) -> None:
    begin = await journal.write(Append("account", "ada", "ada", "made"))
    waiting = asyncio.create_task(journal.wait(begin, timeout=10, without="run"))
    await journal.write(Append("run", "ada", "r", "asked"), Put("run", "ada", "r", {}))
    assert await journal.wait(begin, timeout=0.05, without="run") == begin + 1
    assert not waiting.done()
    assert journal.newest(without="run") == begin
    both = await journal.write(Append("run", "ada", "r", "done"), Append("function", "ada", "f", "running"))
    assert await waiting == both
    assert journal.newest() == journal.newest(without="run") == both


def test_what_was_there_when_a_journal_was_opened_counts_whatever_its_kind(where: Path | str) -> None:
    before = Journal(where)
    last = before.write_now(Append("run", "ada", "r", "asked"))
    before.close()
    again = Journal(where)
    assert again.newest(without="run") == again.newest() == last
    again.close()


async def test_a_cancelled_writer_leaves_the_others(journal: Journal) -> None:
    one = asyncio.create_task(journal.write(Put("run", "ada", "r", {})))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    await journal.write(Put("run", "ada", "s", {}))


def test_one_process_alone_writes(where: Path | str) -> None:
    journal = Journal(where)
    try:
        with pytest.raises(Unavailable, match="Another p"):
            Journal(where)
        journal.write_now(Put("run", "ada", "r", {}))
    finally:
        journal.close()
    Journal(where).close()


def test_a_closed_journal_refuses(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(Unavailable):
        journal.write_now(Put("run", "ada", "r", {}))


def test_it_closes_while_others_read(journal: Journal) -> None:
    for number in range(40):
        journal.write_now(*(Put("run", "ada", f"{number}-{one}", {"text": "x" * 500}) for one in range(20)))

    def read() -> None:
        with pytest.raises(Unavailable):
            while True:
                journal.page("run", owner="ada", limit=800)

    with ThreadPoolExecutor(8) as pool:
        reading = [pool.submit(read) for _ in range(8)]
        time.sleep(0.2)
        journal.close()
    for one in reading:
        one.result()


def test_the_file_is_private(path: Path, file_journal: Journal) -> None:
    file_journal.write_now(Put("run", "ada", "r", {}))
    modes = {one.name: one.stat().st_mode & 0o077 for one in path.parent.iterdir()}
    assert set(modes.values()) == {0}, modes


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(Internal) as caught:
        Journal(path)
    assert str(path) in caught.value.message and "backup" in caught.value.hint
    assert path.read_bytes() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(Internal, match="cannot be written"):
            Journal(tmp_path / "journal.db")
    finally:
        tmp_path.chmod(0o700)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Internal, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "journal.db")


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (a)")
    other.close()
    with pytest.raises(Internal, match="not a journal"):
        Journal(path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(Internal, match="newer"):
        Journal(path)


def test_a_full_disk_refuses_writes_and_heals(path: Path, file_journal: Journal) -> None:
    """A limit on file sizes stands for the disk; tests/faults fill a real one."""
    journal = file_journal
    journal.write_now(Put("run", "ada", "kept", {"text": "x" * 1000}))
    size = max(one.stat().st_size for one in path.parent.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, before[1]))
    try:
        with pytest.raises(StorageFull):
            journal.write_now(Put("run", "ada", "big", {"text": "x" * 2_000_000}), Append("run", "ada", "big", "asked"))
        assert journal.get("run", "ada", "big") is None and journal.events() == []
        assert journal.get("run", "ada", "kept") is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    journal.write_now(Put("run", "ada", "big", {"text": "x" * 2_000_000}))


_WRITER = """
    import sys
    from pathlib import Path
    from ropewalk_core.journal import Append, Journal, Put
    journal = Journal(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]))
    number = len(journal.events(limit=1_000_000))
    while True:
        number += 1
        journal.write_now(Put("run", "ada", f"r{number}", {"n": number}), Append("run", "ada", f"r{number}", "asked"))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_what_was_acknowledged_survives_kill_9(where: Path | str) -> None:
    acknowledged = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WRITER), str(where)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        assert process.stdout is not None
        target = acknowledged + 25
        while acknowledged < target:
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        acknowledged = max([acknowledged, *(int(line) for line in rest.splitlines()[:-1] if line)])
        journal = Journal(where)
        events = journal.events(limit=1_000_000)
        journal.close()
        assert [one.cursor for one in events] == list(range(1, len(events) + 1))
        assert len(events) >= acknowledged
        acknowledged = len(events)


def test_text_that_no_file_can_hold_is_refused_and_nothing_else_suffers(journal: Journal) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for body in ({"text": "half of a pair: \ud800"}, {"deep": deep}):
        bad = journal.submit([Put("run", "ada", "a", {}), Append("run", "ada", "a", "asked", body)])
        good = journal.submit([Put("run", "ada", "b", {})])
        with pytest.raises(BadInput):
            bad.result(5)
        good.result(5)
    assert journal.get("run", "ada", "a") is None
    assert journal.get("run", "ada", "b") is not None

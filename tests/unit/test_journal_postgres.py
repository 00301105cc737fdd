"""The journal on PostgreSQL when it goes away: nothing acknowledged is lost, nothing is written twice, one writes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from ropewalk_core.errors import BadInput, Internal, StorageFull, Unavailable
from ropewalk_core.journal import Append, Journal, Put
from ropewalk_core.journal import postgres as postgres_store
from ropewalk_core.journal.postgres import _translate
from ropewalk_core.model import Event
from tests import postgres
from tests.ports import free_port


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as one:
        yield one


@pytest.fixture
def address(server: postgres.Postgres) -> str:
    return server.database()


class Cutting:
    """A proxy before the server that cuts one connection at its next commit, or when told."""

    def __init__(self, port: int) -> None:
        self._target, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.deliver: bool | None = None  # at the next COMMIT: whether the server still gets it
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_clients(self) -> None:
        """Close the clients' side alone: the server believes that they are still there."""
        for client, _ in self._pairs:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        for pair in self._pairs:
            for one in pair:
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                target = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, target))
                threading.Thread(target=self._up, args=(client, target), daemon=True).start()
                threading.Thread(target=self._down, args=(target, client), daemon=True).start()

    def _up(self, client: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.deliver is not None and b"COMMIT" in data:
                    deliver, self.deliver = self.deliver, None
                    client.shutdown(socket.SHUT_RDWR)
                    if deliver:
                        target.sendall(data)
                        time.sleep(0.3)  # it is carried out before the connection ends
                    target.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)

    @staticmethod
    def _down(target: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := target.recv(65536):
                client.sendall(data)


@pytest.fixture
def proxy(server: postgres.Postgres) -> Iterator[Cutting]:
    one = Cutting(server.port)
    yield one
    one.close()


def through(address: str, port: int) -> str:
    database = address.rsplit("/", 1)[1]
    return f"postgresql://ropewalk:a-password@127.0.0.1:{port}/{database}?sslmode=disable"


@pytest.mark.parametrize("deliver", [True, False])
def test_a_commit_without_an_answer_is_carried_out_once(address: str, proxy: Cutting, deliver: bool) -> None:
    journal = Journal(through(address, proxy.port))
    try:
        assert journal.write_now(Append("run", "ada", "r", "asked")) == 1
        proxy.deliver = deliver
        assert journal.write_now(Append("run", "ada", "r", "running"), Put("run", "ada", "r", {})) == 2
        assert journal.write_now(Append("run", "ada", "r", "done")) == 3
        assert [(one.cursor, one.type) for one in journal.events()] == [(1, "asked"), (2, "running"), (3, "done")]
        record = journal.get("run", "ada", "r")
        assert record is not None and record.version == 1
    finally:
        journal.close()


def test_a_lost_connection_that_still_holds_the_lock_is_ended(address: str, proxy: Cutting) -> None:
    journal = Journal(through(address, proxy.port))
    try:
        for number in range(1, 4):
            assert journal.write_now(Append("run", "ada", "r", str(number))) == number
            proxy.cut_clients()
        assert len(journal.events()) == 3
    finally:
        journal.close()


def test_what_was_acknowledged_is_there_once_however_often_the_server_crashes(
    server: postgres.Postgres, address: str
) -> None:
    journal, stop, acknowledged = Journal(address), threading.Event(), list[int]()

    def write() -> None:
        while not stop.is_set():
            number = len(acknowledged) + 1
            journal.write_now(Append("run", "ada", f"r{number}", "asked", {"n": number}))
            acknowledged.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for how in (signal.SIGQUIT, signal.SIGINT, signal.SIGQUIT):
            before = len(acknowledged)
            while len(acknowledged) < before + 20:
                time.sleep(0.01)
            server.stop(how)
            time.sleep(0.2)
            server.start()
        before = len(acknowledged)
        while len(acknowledged) < before + 20:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
    assert [one.body["n"] for one in journal.events(limit=1_000_000)] == acknowledged
    journal.close()


def test_patience_ends_and_the_journal_heals(server: postgres.Postgres, address: str) -> None:
    journal = Journal(address, patience=0.5)
    try:
        journal.write_now(Put("run", "ada", "kept", {}))
        server.stop()
        try:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="nothing was changed"):
                journal.write_now(Put("run", "ada", "lost", {}))
            assert time.monotonic() - began < 20
            for _ in range(2):
                with pytest.raises(Unavailable, match="does not answer"):
                    journal.get("run", "ada", "kept")
            began = time.monotonic()
            for _ in range(1000):  # who reads does not wait for it
                with pytest.raises(Unavailable, match="does not answer"):
                    journal.get("run", "ada", "kept")
            assert time.monotonic() - began < 5
        finally:
            server.start()
        began = time.monotonic()
        while time.monotonic() - began < 20:
            with contextlib.suppress(Unavailable):
                journal.get("run", "ada", "kept")
                break
            time.sleep(0.1)
        journal.write_now(Put("run", "ada", "after", {}))
        assert [one.name for one in journal.page("run")] == ["after", "kept"]
    finally:
        journal.close()


async def test_a_frozen_database_stops_the_platform_for_a_moment_only(
    server: postgres.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store.Connection, "patience", 1.0)
    address = server.address(server.database().rpartition("/")[2], tcp=True)  # its kernel acknowledges all that is sent
    journal = Journal(address)
    await journal.write(Put("run", "ada", "kept", {}))
    assert journal.get("run", "ada", "kept")
    with server.frozen():
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            journal.get("run", "ada", "kept")
        assert time.monotonic() - began < 10
        waiting = journal.submit([Put("run", "ada", "later", {})])
        for _ in range(20):
            began = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                journal.page("run")
            assert time.monotonic() - began < 0.1
            await asyncio.sleep(0.05)
        assert not waiting.done()
    await asyncio.wait_for(asyncio.wrap_future(waiting), 30)
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Unavailable):
                assert [one.name for one in journal.page("run")] == ["kept", "later"]
                break
            await asyncio.sleep(0.1)
    await asyncio.to_thread(journal.close)


def test_a_read_that_takes_too_long_ends_on_the_server_too(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_store, "_LONGEST_READ", 0.2)
    journal = Journal(address)
    store = journal._store
    assert isinstance(store, postgres_store.PostgresStore)
    with pytest.raises(Unavailable, match="does not answer"):
        store._read("SELECT pg_sleep(60)", ())
    journal.write_now(Put("run", "ada", "r", {}))
    assert names_when_it_answers(journal) == ["r"]
    journal.close()


@pytest.mark.parametrize(("server_ends_it", "we_end_it"), [(1.0, 60.0), (60.0, 1.0)])
def test_a_database_that_accepts_everybody_and_reads_nothing_stops_one_reader_only(
    address: str, monkeypatch: pytest.MonkeyPatch, server_ends_it: float, we_end_it: float
) -> None:
    monkeypatch.setattr(postgres_store, "_LONGEST_READ", server_ends_it)
    monkeypatch.setattr(postgres_store.Connection, "patience", we_end_it)
    journal = Journal(address)
    journal.write_now(Put("run", "ada", "kept", {}))
    with psycopg.connect(address) as other:
        other.execute("LOCK TABLE ropewalk.records IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            journal.get("run", "ada", "kept")
        assert time.monotonic() - began < 1.9, "it was asked once"
        for _ in range(50):
            began = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                journal.get("run", "ada", "kept")
            assert time.monotonic() - began < 0.1
            time.sleep(0.05)
    assert names_when_it_answers(journal) == ["kept"]
    journal.close()


def names_when_it_answers(journal: Journal) -> list[str]:
    end = time.monotonic() + 20
    while True:
        try:
            return [one.name for one in journal.page("run")]
        except Unavailable:
            assert time.monotonic() < end
            time.sleep(0.05)


async def test_who_follows_goes_on_when_the_database_is_back(server: postgres.Postgres, address: str) -> None:
    journal = Journal(address)

    async def following(after: int) -> Event:
        async for event in journal.follow("run", after=after):
            return event
        raise AssertionError("it ended")

    await journal.write(Append("run", "ada", "r", "asked"))
    assert (await following(0)).type == "asked"
    waiting = asyncio.create_task(following(1))  # it has read, and waits
    await asyncio.sleep(0.1)
    await asyncio.to_thread(server.stop)
    journal.submit([Append("run", "ada", "r", "done")])
    other = asyncio.create_task(following(1))
    await asyncio.sleep(0.3)
    assert not waiting.done() and not other.done()
    await asyncio.to_thread(server.start)
    assert (await asyncio.wait_for(waiting, 30)).type == (await asyncio.wait_for(other, 30)).type == "done"
    await asyncio.to_thread(journal.close)


def test_closing_does_not_wait_for_a_database_that_is_away(server: postgres.Postgres, address: str) -> None:
    journal = Journal(address, patience=600)
    server.stop()
    try:
        waiting = journal.submit([Put("run", "ada", "r", {})])
        time.sleep(0.3)
        journal.close()
        with pytest.raises(Unavailable):
            waiting.result(0)
    finally:
        server.start()


def test_a_platform_that_lost_the_journal_to_another_writes_no_more(server: postgres.Postgres, address: str) -> None:
    first = Journal(address)
    first.write_now(Append("run", "ada", "r", "asked"))
    server.stop()
    server.start()
    second = Journal(address)
    try:
        second.write_now(Append("run", "ada", "r", "running"))
        with pytest.raises(
            Unavailable, match=f"Another platform writes the journal .*: ropewalk {socket.gethostname()[:40]}"
        ):
            first.write_now(Append("run", "ada", "r", "never"))
        assert [one.type for one in second.events()] == ["asked", "running"]
    finally:
        second.close()
        first.close()


def test_text_that_it_cannot_hold_is_refused_and_not_found(address: str) -> None:
    journal = Journal(address)
    try:
        for name in ("a\0b", "\ud800", "x" * 10_000_000):
            with pytest.raises(BadInput):
                journal.write_now(Put("run", "ada", "good", {}), Put("run", "ada", name, {}))
        assert journal.get("run", "ada", "a\0b") is None
        journal.write_now(Put("run", "ada", "body", {"text": "a\0b ü"}))
        record = journal.get("run", "ada", "body")
        assert record is not None and record.body == {"text": "a\0b ü"}
        assert [one.name for one in journal.page("run")] == ["body"]
    finally:
        journal.close()


def test_names_come_in_the_same_order_as_in_a_file(address: str) -> None:
    journal = Journal(address)
    names = ["B", "a", "a-b", "a.b", "aB", "b", "ü"]
    journal.write_now(*(Put("run", "ada", name, {}) for name in reversed(names)))
    assert [one.name for one in journal.page("run")] == names
    journal.close()


def test_what_is_no_journal_of_ours_is_refused_and_left(server: postgres.Postgres) -> None:
    newer, foreign = server.database(), server.database()
    Journal(newer).close()
    with psycopg.connect(newer, autocommit=True) as connection:
        connection.execute("UPDATE ropewalk.journal SET version = 99")
    with psycopg.connect(foreign, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA ropewalk")
        connection.execute("CREATE TABLE ropewalk.records (mine int)")
    for address, said in ((newer, "newer"), (foreign, "cannot hold a journal")):
        for _ in range(2):  # the first refusal let go of the lock
            with pytest.raises(Internal, match=said):
                Journal(address)


def test_no_message_shows_a_password(address: str) -> None:
    nobody = through(address, free_port())
    with pytest.raises(Unavailable) as caught:
        Journal(nobody)
    assert "a-password" not in str(caught.value) and "127.0.0.1" in caught.value.message


@pytest.mark.parametrize("address", ["mysql://x", "postgresql://[", "postgresql://h/d?nothing=1", "journal.db"])
def test_an_address_that_cannot_be_read_is_named(address: str) -> None:
    with pytest.raises(BadInput) as caught:
        Journal(address)
    assert caught.value.field == "journal"


def test_a_full_disk_has_its_own_words() -> None:
    assert isinstance(_translate(psycopg.errors.DiskFull("could not extend file")), StorageFull)
    assert isinstance(_translate(psycopg.errors.LockNotAvailable("busy")), Unavailable)
    assert isinstance(_translate(psycopg.errors.UndefinedTable("gone")), Internal)

"""A disk that is really full: journal, artifacts and files refuse, keep what they had, and go on when there is room."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from ropewalk_core import settings
from ropewalk_core.artifacts import ArtifactStore
from ropewalk_core.errors import StorageFull
from ropewalk_core.journal import Append, Journal, Put
from ropewalk_core.local.storage import LocalStorage
from ropewalk_core.testing import ADA
from tests import postgres

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="only the superuser can mount a small disk"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Two MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


class Ballast:
    """Fills the rest of the disk, and gives it back."""

    def __init__(self, disk: Path) -> None:
        self.path = disk / "ballast"
        with self.path.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def drop(self) -> None:
        self.path.unlink()


def test_the_journal(disk: Path) -> None:
    journal = Journal(disk / "journal.db")
    try:
        journal.write_now(Put("run", "ada", "kept", {"n": 1}), Append("run", "ada", "kept", "asked"))
        ballast = Ballast(disk)
        refused = 0
        for number in range(40):
            try:
                journal.write_now(Put("run", "ada", f"r{number}", {"text": "x" * 5000}), Append("run", "ada", "r", "x"))
            except StorageFull:
                refused += 1
        assert refused and journal.get("run", "ada", "kept") is not None
        kept = len(journal.page("run"))
        assert len(journal.events()) == kept
        ballast.drop()
        journal.write_now(Put("run", "ada", "after", {"text": "x" * 5000}))
    finally:
        journal.close()
    again = Journal(disk / "journal.db")
    assert len(again.page("run")) == kept + 1
    again.close()


def test_the_journal_on_postgres() -> None:
    with postgres.running() as server:
        disk = server.folder / "small"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False).returncode:
            pytest.skip("this machine lets nobody mount")
        try:
            shutil.chown(disk, postgres.user())
            fill(server, disk)
        finally:
            server.stop()
            subprocess.run(["umount", disk], check=True)


def fill(server: postgres.Postgres, disk: Path) -> None:
    address = server.database()
    journal = Journal(address)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        connection.execute("ALTER TABLE ropewalk.records SET TABLESPACE small")
    try:
        journal.write_now(Put("run", "ada", "kept", {"n": 1}), Append("run", "ada", "kept", "asked"))
        refused = 0
        for number in range(40):
            put = Put("run", "ada", f"r{number}", {"text": secrets.token_hex(100_000)})
            try:
                journal.write_now(Append("run", "ada", "r", "x"), put)
            except StorageFull:
                refused += 1
        assert refused and journal.get("run", "ada", "kept") is not None
        assert len(journal.events()) == len(journal.page("run")) == 41 - refused
        journal.write_now(Put("run", "ada", "kept", {"n": 2}))
    finally:
        journal.close()


def test_artifacts(disk: Path) -> None:
    store = ArtifactStore(disk / "artifacts")
    digest, size = store.put(b"small")
    ballast = Ballast(disk)
    with pytest.raises(StorageFull):
        store.put(b"x" * 100_000)
    assert [one.name for one in store.folder.rglob("*") if one.is_file()] == [digest]
    assert store.verify(digest) == size
    ballast.drop()
    store.put(b"x" * 100_000)


async def test_files(disk: Path) -> None:
    async def content(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1000):
            yield b"x" * 1000

    files = disk / "accounts" / "ada" / "files"
    files.mkdir(parents=True)
    port = LocalStorage(settings.load(disk, environ={}), key=b"k")
    await port.write(ADA, "ada", "kept", content(1000))
    ballast = Ballast(disk)
    for path in ("kept", "new", "deep/er/new"):
        with pytest.raises(StorageFull):
            await port.write(ADA, "ada", path, content(100_000))
    assert [one.name for one in files.rglob("*") if one.is_file()] == ["kept"]
    assert (files / "kept").stat().st_size == 1000
    ballast.drop()
    await port.write(ADA, "ada", "new", content(100_000))

"""What any backend of files must do. Not here: how files travel over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ropewalk_core.errors import BadInput, NotFound, RopewalkError, StorageFull, Unavailable
from ropewalk_core.guard import GuardedStorage
from ropewalk_core.ports import Storage
from ropewalk_core.testing.people import ADA, BOB

ESCAPES = ("../bob/files/x", "/etc/passwd", "a/../../x", "..", "a\0b", "x" * 300, "x/" * 2000, "\ud800")


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield the parts."""
    for part in parts:
        yield part


class StorageContract:
    """Subclass it and override the fixture ``port``; Ada and Bob have files there, with ``quota`` bytes each."""

    quota = 1000

    @pytest.fixture
    def port(self) -> Storage:
        """Return the backend, without its guard."""
        raise NotImplementedError

    @pytest.fixture
    def storage(self, port: Storage) -> GuardedStorage:
        """Return the backend behind policy."""
        return GuardedStorage(port)

    async def content(self, storage: GuardedStorage, path: str) -> bytes:
        """Return what Ada's file holds."""
        with await storage.open(ADA, "ada", path) as file:
            return file.read()

    async def test_what_was_written_comes_back(self, storage: GuardedStorage) -> None:
        """Folders on the way are made; the entry says what is there."""
        entry = await storage.write(ADA, "ada", "data/one.txt", chunks(b"hel", b"lo"))
        assert (entry.path, entry.kind, entry.size) == ("data/one.txt", "file", 5)
        assert await self.content(storage, "data/one.txt") == b"hello"
        assert await self.content(storage, "./data//one.txt") == b"hello"
        await storage.write(ADA, "ada", "data/one.txt", chunks(b"new"))
        assert await self.content(storage, "data/one.txt") == b"new"

    async def test_lists_have_pages(self, storage: GuardedStorage) -> None:
        """Pages follow each other by name and leave nothing out."""
        for name in ("c", "a", "b/inner"):
            await storage.write(ADA, "ada", f"there/{name}", chunks(b"x"))
        first = await storage.list(ADA, "ada", "there", limit=2)
        rest = await storage.list(ADA, "ada", "there", after=first.next, limit=2)
        assert [(one.path, one.kind) for one in (*first.items, *rest.items)] == [
            ("there/a", "file"),
            ("there/b", "folder"),
            ("there/c", "file"),
        ]
        assert first.next and not rest.next

    async def test_a_broken_upload_leaves_what_was_there(self, storage: GuardedStorage) -> None:
        """A file is written whole or not at all."""

        async def breaks() -> AsyncIterator[bytes]:
            yield b"half"
            raise Unavailable("the person left")

        await storage.write(ADA, "ada", "kept", chunks(b"old"))
        for path in ("kept", "new"):
            with pytest.raises(Unavailable):
                await storage.write(ADA, "ada", path, breaks())
        assert await self.content(storage, "kept") == b"old"
        assert [one.path for one in (await storage.list(ADA, "ada")).items] == ["kept"]

    async def test_the_quota_holds(self, storage: GuardedStorage) -> None:
        """Over the quota nothing is written; after removing something there is room again."""
        await storage.write(ADA, "ada", "big", chunks(b"x" * (self.quota - 10)))
        with pytest.raises(StorageFull):
            await storage.write(ADA, "ada", "more", chunks(b"x" * 5, b"x" * 6))
        usage = await storage.usage(ADA, "ada")
        assert (usage.used, usage.limit) == (self.quota - 10, self.quota)
        await storage.remove(ADA, "ada", "big")
        await storage.write(ADA, "ada", "more", chunks(b"x" * 11))
        assert (await storage.usage(ADA, "ada")).used == 11

    async def test_removing(self, storage: GuardedStorage) -> None:
        """A folder goes with all in it; what is gone is not found."""
        await storage.write(ADA, "ada", "old/a/b", chunks(b"x"))
        await storage.remove(ADA, "ada", "old")
        with pytest.raises(NotFound):
            await storage.open(ADA, "ada", "old/a/b")
        with pytest.raises(NotFound):
            await storage.remove(ADA, "ada", "old")
        assert (await storage.list(ADA, "ada")).items == ()

    @pytest.mark.parametrize("path", ESCAPES)
    async def test_paths_stay_inside(self, storage: GuardedStorage, path: str) -> None:
        """Nothing that leaves the files is opened, written, listed, removed or signed."""
        for act in (
            storage.open(ADA, "ada", path),
            storage.write(ADA, "ada", path, chunks(b"x")),
            storage.list(ADA, "ada", path),
            storage.remove(ADA, "ada", path),
            storage.sign(ADA, "ada", path),
        ):
            with pytest.raises(BadInput):
                await act

    async def test_a_folder_is_not_a_file(self, storage: GuardedStorage) -> None:
        """Opening a folder, or going through a file, is refused in words."""
        await storage.write(ADA, "ada", "folder/file", chunks(b"x"))
        for path in ("folder", "folder/file/deeper"):
            with pytest.raises(RopewalkError):
                await storage.open(ADA, "ada", path)

    async def test_somebody_elses_is_not_found(self, storage: GuardedStorage) -> None:
        """A stranger learns nothing and changes nothing."""
        await storage.write(ADA, "ada", "mine", chunks(b"x"))
        for act in (
            storage.open(BOB, "ada", "mine"),
            storage.list(BOB, "ada"),
            storage.usage(BOB, "ada"),
            storage.remove(BOB, "ada", "mine"),
            storage.sign(BOB, "ada", "mine"),
            storage.write(BOB, "ada", "mine", chunks(b"y")),
        ):
            with pytest.raises(NotFound):
                await act
        assert await self.content(storage, "mine") == b"x"

    async def test_a_signed_address_names_no_secret(self, storage: GuardedStorage) -> None:
        """Two addresses of one file work each for a while; a missing file gets none."""
        await storage.write(ADA, "ada", "mine", chunks(b"x"))
        assert (await storage.sign(ADA, "ada", "mine", seconds=60)).startswith("http")
        with pytest.raises(NotFound):
            await storage.sign(ADA, "ada", "nothing")

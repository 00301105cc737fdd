"""The content-addressed store. Not here: a full disk of tmpfs (``tests/faults``); file size limits stand in for it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import resource
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk_core.artifacts import ArtifactStore
from ropewalk_core.errors import BadInput, BadPath, Conflict, NotFound, StorageFull, TooLarge


def files(store: ArtifactStore) -> list[str]:
    return sorted(str(one.relative_to(store.folder)) for one in store.folder.rglob("*") if one.is_file())


@given(content=st.binary(max_size=2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40)
def test_what_is_put_comes_back_under_its_digest(tmp_path: Path, content: bytes) -> None:
    store = ArtifactStore(tmp_path / "store")
    digest, size = store.put(content)
    assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert store.put(io.BytesIO(content)) == store.put([content[:7], content[7:]]) == (digest, size)
    with store.open(digest) as file:
        assert file.read() == content
    assert store.verify(digest) == size


async def test_a_stream_is_stored(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a" * 10
        yield b"b" * 10

    store = ArtifactStore(tmp_path)
    digest, size = await store.put_stream(chunks())
    assert size == 20 and store.has(digest)


def test_changed_content_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    digest, _ = store.put(b"model")
    store.path(digest).write_bytes(b"other")
    with pytest.raises(Conflict):
        store.verify(digest)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    secret = tmp_path / "secret"
    secret.write_text("x")
    digest = "0" * 64
    store.path(digest).parent.mkdir(parents=True)
    store.path(digest).symlink_to(secret)
    with pytest.raises(NotFound):
        store.open(digest)
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(BadPath):
        store.put_file(tmp_path / "link")


def test_a_folder_replaced_by_a_link_leads_nowhere(tmp_path: Path) -> None:
    hers, his = tmp_path / "ada", tmp_path / "bob"
    digest, _ = ArtifactStore(his / "artifacts", anchor=_made(his)).put(b"secret")
    _made(hers)
    (hers / "artifacts").symlink_to(his / "artifacts")
    with pytest.raises(NotFound):
        ArtifactStore(hers / "artifacts", anchor=hers).open(digest)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "0" * 63, "G" * 64])
def test_a_digest_is_checked(tmp_path: Path, digest: str) -> None:
    with pytest.raises(BadInput):
        ArtifactStore(tmp_path).path(digest)


def test_too_large_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, limit=10)
    with pytest.raises(TooLarge):
        store.put([b"12345678", b"9012"])
    assert files(store) == []


def test_no_space_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StorageFull):
            store.put(b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(store) == []
    store.put(b"x" * 10_000)


async def test_who_hangs_up_closes_no_file_that_is_being_written(tmp_path: Path) -> None:
    class Slow(ArtifactStore):
        begun, may_go, wrote = threading.Event(), threading.Event(), False

        def _add(self, *given: Any) -> int:
            self.begun.set()
            self.may_go.wait(20)
            size = super()._add(*given)  # the number of a file that was closed may be another's by now
            self.wrote = True
            return size

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    store = Slow(tmp_path)
    putting = asyncio.create_task(store.put_stream(chunks()))
    assert await asyncio.to_thread(store.begun.wait, 20)
    putting.cancel()
    await asyncio.wait([putting], timeout=0.2)
    store.may_go.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert store.wrote and files(store) == []


def test_half_written_files_are_swept(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (tmp_path / ".partial-dead").write_bytes(b"half")
    assert store.sweep() == 0
    assert store.sweep(older=-1.0) == 1
    assert files(store) == []


def test_a_file_that_is_settled_while_others_are_swept_is_nothing(tmp_path: Path) -> None:
    class Read(type(tmp_path)):  # type: ignore[misc]
        def glob(self, pattern: str) -> Iterator[Path]:
            yield tmp_path / ".partial-settled"
            yield from Path(self).glob(pattern)

    (tmp_path / ".partial-left").touch()
    assert ArtifactStore(Read(tmp_path)).sweep(older=-1.0) == 1

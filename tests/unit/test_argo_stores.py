"""Files of runs on their way to a person: whole and unchanged, or not at all, and never copied on the way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ropewalk_core.errors import Conflict
from ropewalk_core.kube.buckets import Bucket, Buckets
from ropewalk_core.objects import PIECE, Keys
from ropewalk_workflows.argo.stores import verified

CHUNK = bytes(PIECE)
BUCKET = Bucket("space", Keys("space", "secret"))


class Store(Buckets):
    """A bucket that holds another content each time it is opened."""

    def __init__(self, *contents: list[bytes]) -> None:
        self.contents, self.given = list(contents), 0
        self.objects: Any = self

    async def size(self, keys: Keys, bucket: str, key: str) -> int:
        return sum(len(one) for one in self.contents[0])

    @asynccontextmanager
    async def open(self, keys: Keys, bucket: str, key: str, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        content = self.contents.pop(0)

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in content:
                self.given += 1
                yield chunk

        yield chunks()

    async def pieces(self, keys: Keys, bucket: str, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        async with self.open(keys, bucket, key) as chunks:
            async for chunk in chunks:
                yield chunk


def digest_of(content: list[bytes]) -> str:
    return hashlib.sha256(b"".join(content)).hexdigest()


async def test_a_large_file_is_looked_at_and_then_read_again_piece_by_piece() -> None:
    content = [CHUNK] * 20
    store = Store(content, content)
    pieces = await verified(store, BUCKET, "key", digest_of(content), 20 * 2**20)
    assert store.given == 20
    assert await anext(pieces) == CHUNK and store.given == 22
    assert sum([len(one) async for one in pieces]) == 19 * 2**20


async def test_a_small_file_is_read_once() -> None:
    store = Store([b"a", b"b"])
    assert [one async for one in await verified(store, BUCKET, "key", digest_of([b"ab"]))] == [b"ab"]


async def test_another_size_is_refused_before_anything_is_read() -> None:
    store = Store([CHUNK] * 20)
    with pytest.raises(Conflict):
        await verified(store, BUCKET, "key", digest_of([b"small"]), 5)
    assert not store.given


async def test_what_is_changed_while_it_is_given_is_never_whole() -> None:
    content = [CHUNK] * 20
    store = Store(content, [*content[:-1], b"x" * 2**20])
    pieces = await verified(store, BUCKET, "key", digest_of(content))
    got = 0
    with pytest.raises(Conflict):
        async for one in pieces:
            got += len(one)
    assert got == 19 * 2**20

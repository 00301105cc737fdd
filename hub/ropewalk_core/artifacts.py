"""Artifacts: a content-addressed store in a folder. A digest is there whole or not at all.

Content lies at ``<folder>/<first two digits>/<SHA-256>``; it is written beside, synced and renamed. Not here: who may
read it (``guard``) and what a run calls it (the engine). Rejected: trusting a file's name; `ArtifactStore.verify` reads
it again, because a person can write into their own folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ropewalk_core import beneath
from ropewalk_core.errors import BadInput, BadPath, Conflict, NotFound, TooLarge
from ropewalk_core.tasks import in_thread

CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """The store in one folder.

    Parameters
    ----------
    folder
        Where it lies; it is made when needed.
    anchor
        The innermost folder above it that a person cannot replace (their account's root); links below it are not
        followed. None means the folder itself.
    limit
        Bytes one artifact may have; 0 means no limit.
    """

    def __init__(self, folder: Path, *, anchor: Path | None = None, limit: int = 0) -> None:
        self.folder, self._limit = folder, limit
        self._anchor = anchor or folder
        self._inside = folder.relative_to(self._anchor).parts

    def put(self, content: bytes | BinaryIO | Iterable[bytes]) -> tuple[str, int]:
        """Store the content and return its digest and size; content that is there already is not written again.

        Raises
        ------
        StorageFull
            If the disk or the quota is full; nothing is left behind.
        TooLarge
            If the content is over the limit.
        """
        with self._writing() as (file, digest):
            size = 0
            for chunk in _chunks(content):
                size = self._add(file, chunk, digest, size)
            return self._settle(file, digest.hexdigest()), size

    async def put_stream(self, content: AsyncIterable[bytes]) -> tuple[str, int]:
        """Do as `put` does with content that arrives; the event loop goes on while it is written and synced."""
        with self._writing() as (file, digest):
            size = 0
            async for chunk in content:
                size = await in_thread(self._add, file, chunk, digest, size)
            return await in_thread(self._settle, file, digest.hexdigest()), size

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a regular file; a link is not followed."""
        with beneath.read(path.parent, (path.name,)) as file:
            return self.put(file)

    def path(self, digest: str) -> Path:
        """Return where the digest lies, or would lie."""
        if not _DIGEST.fullmatch(digest):
            raise BadInput("An artifact's digest is 64 hexadecimal digits.", field="digest")
        return self.folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Say whether the digest is there."""
        return self.path(digest).is_file()

    def open(self, digest: str) -> BinaryIO:
        """Return the content opened for reading, or raise `NotFound`."""
        self.path(digest)
        try:
            return beneath.read(self._anchor, (*self._inside, digest[:2], digest))
        except (BadPath, NotFound) as error:
            raise NotFound("There is no such artifact.", field="digest") from error

    def verify(self, digest: str) -> int:
        """Read the content again and return its size.

        Raises
        ------
        Conflict
            If the file was changed: its content has another digest.
        """
        seen, size = hashlib.sha256(), 0
        with self.open(digest) as file:
            for chunk in _chunks(file):
                seen.update(chunk)
                size += len(chunk)
        if seen.hexdigest() != digest:
            raise Conflict(
                "The artifact was changed on disk and cannot be used.",
                field="digest",
                hint="Run the step that made it again.",
            )
        return size

    def remove(self, digest: str) -> None:
        """Forget the content; removing what is not there is done already."""
        self.path(digest)
        with contextlib.suppress(NotFound):
            beneath.remove(self._anchor, (*self._inside, digest[:2], digest))

    def sweep(self, *, older: float = 3600.0) -> int:
        """Remove half-written files that a kill left, when older than ``older`` seconds; return how many."""
        count, before = 0, time.time() - older
        for partial in self.folder.glob(f"{beneath.PARTIAL}*"):
            with contextlib.suppress(FileNotFoundError):  # it was settled since the folder was read
                if partial.lstat().st_mtime < before:
                    partial.unlink()
                    count += 1
        return count

    @contextmanager
    def _writing(self) -> Iterator[tuple[beneath.Replacement, hashlib._Hash]]:
        """Open a partial file; it is gone afterwards, whatever happens, unless it was settled."""
        if self._anchor == self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
        with beneath.replacing(self._anchor, (*self._inside, "content")) as file:
            yield file, hashlib.sha256()

    def _add(self, file: beneath.Replacement, chunk: bytes, digest: hashlib._Hash, size: int) -> int:
        size += len(chunk)
        if self._limit and size > self._limit:
            raise TooLarge(f"The artifact is larger than {self._limit} bytes.", field="artifact")
        digest.update(chunk)
        file.write(chunk)
        return size

    def _settle(self, file: beneath.Replacement, digest: str) -> str:
        with beneath.folder(self._anchor, (*self._inside, digest[:2]), make=True) as into:
            file.settle(digest, into=into)
        return digest


def _chunks(content: bytes | BinaryIO | Iterable[bytes]) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
    elif hasattr(content, "read"):
        while chunk := content.read(CHUNK):
            yield chunk
    else:
        yield from content


async def streamed(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield an open file's content and close it."""
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk

"""Artifacts: a content-addressed store in a folder. A digest is there whole or not at all.

Content lies at ``<folder>/<first two digits>/<SHA-256>``; it is written beside, synced and renamed. Not here: who may
read it (``guard``) and what a run calls it (the engine). Rejected: trusting a file's name; `ArtifactStore.verify` reads
it again, because a person can write into their own folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ropewalk_core.errors import BadInput, Conflict, NotFound, StorageFull, TooLarge

CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ArtifactStore:
    """The store in one folder.

    Parameters
    ----------
    folder
        Where it lies; it is made when needed.
    limit
        Bytes one artifact may have; 0 means no limit.
    """

    def __init__(self, folder: Path, *, limit: int = 0) -> None:
        self.folder, self._limit = folder, limit

    def put(self, content: bytes | BinaryIO | Iterable[bytes]) -> tuple[str, int]:
        """Store the content and return its digest and size; content that is there already is not written again.

        Raises
        ------
        StorageFull
            If the disk or the quota is full; nothing is left behind.
        TooLarge
            If the content is over the limit.
        """
        with self._writing() as (file, partial):
            digest, size = hashlib.sha256(), 0
            for chunk in _chunks(content):
                size = self._add(file, chunk, digest, size)
            return self._settle(file, partial, digest.hexdigest()), size

    async def put_stream(self, content: AsyncIterable[bytes]) -> tuple[str, int]:
        """Do as `put` does with content that arrives."""
        with self._writing() as (file, partial):
            digest, size = hashlib.sha256(), 0
            async for chunk in content:
                size = self._add(file, chunk, digest, size)
            return self._settle(file, partial, digest.hexdigest()), size

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a regular file; a link is not followed."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
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
        try:
            descriptor = os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound("There is no such artifact.", field="digest") from error
        return os.fdopen(descriptor, "rb")

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
        self.path(digest).unlink(missing_ok=True)

    def sweep(self, *, older: float = 3600.0) -> int:
        """Remove half-written files that a kill left, when older than ``older`` seconds; return how many."""
        count, before = 0, time.time() - older
        for partial in self.folder.glob(".partial-*"):
            if partial.lstat().st_mtime < before:
                partial.unlink(missing_ok=True)
                count += 1
        return count

    @contextmanager
    def _writing(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a partial file; it is gone afterwards, whatever happens, unless it was renamed."""
        partial = self.folder / f".partial-{secrets.token_hex(8)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial.open("xb", buffering=0) as file:
                yield file, partial  # unbuffered: no write can fail in a close that nobody sees
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull("There is no space left for this artifact; nothing was stored.") from error
            raise
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def _add(self, file: BinaryIO, chunk: bytes, digest: hashlib._Hash, size: int) -> int:
        size += len(chunk)
        if self._limit and size > self._limit:
            raise TooLarge(f"The artifact is larger than {self._limit} bytes.", field="artifact")
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[file.write(view) :]
        return size

    def _settle(self, file: BinaryIO, partial: Path, digest: str) -> str:
        final = self.path(digest)
        os.fsync(file.fileno())
        final.parent.mkdir(exist_ok=True)
        partial.replace(final)
        for folder in (final.parent, self.folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return digest


def _chunks(content: bytes | BinaryIO | Iterable[bytes]) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
    elif hasattr(content, "read"):
        while chunk := content.read(CHUNK):
            yield chunk
    else:
        yield from content

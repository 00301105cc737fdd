"""A file of the content-addressed store, written once: its digest is made while it is written.

It lies beside the store's content until it is whole, is synced and renamed to its SHA-256 (the same layout as the
platform's, ``<2>/<digest>``). Not here: what is in it (``values``). Rejected: reading it again for its digest, which
costs a large file as much as writing it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import threading
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import Any, BinaryIO, Protocol

CHUNK = 1 << 20
_CLONE = 0x40049409
"""FICLONE of linux/fs.h."""
_AHEAD = 8
"""Pieces by which writing may be ahead of the digest."""


class Out(Protocol):
    """What a value is written to: a file of the store, or memory."""

    def write(self, data: Any, /) -> int:
        """Write bytes, or memory that holds some."""

    def tell(self) -> int:
        """Return how many bytes were written."""


class Partial:
    """A file on its way into a store; gone when it was not settled.

    Parameters
    ----------
    store
        The store's folder; it is made when it is not there.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._path = store / f".partial-{secrets.token_hex(8)}"
        self._seen, self._size = hashlib.sha256(), 0
        self._waiting: Queue[memoryview | None] | None = None

    def __enter__(self) -> Partial:
        self._store.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("xb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._caught_up()
        # A full disk may speak up again when the rest of the buffer is written; the first error is the one to show.
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: Any) -> int:
        """Write bytes, and go on with their digest meanwhile where they are many. They must stay as they are."""
        view = memoryview(data).cast("B")
        if self._waiting is None and len(view) >= CHUNK:
            self._waiting = self._beside()
        if self._waiting is None:
            self._seen.update(view)
        else:
            self._waiting.put(view)
        self._file.write(view)
        self._size += len(view)
        return len(view)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def fill(self, source: BinaryIO) -> None:
        """Take all of an open file; where the disk can share its blocks, they are not copied."""
        if not _shared(source, self._file):
            while chunk := source.read(CHUNK):
                self.write(chunk)
            return
        with self._path.open("rb") as taken:  # its content now, whatever becomes of the other file
            while chunk := taken.read(CHUNK):
                self._seen.update(chunk)
                self._size += len(chunk)

    def settle(self, *, synced: bool = True) -> tuple[str, int]:
        """Put the file under its digest and return that and its size.

        Parameters
        ----------
        synced
            False leaves it to the kernel when it is on disk.

        Raises
        ------
        OSError
            If the disk is full.
        """
        self._file.flush()
        if synced:
            os.fsync(self._file.fileno())
        self._caught_up()
        digest = self._seen.hexdigest()
        final = self._store / digest[:2] / digest
        fresh = not final.parent.is_dir()
        final.parent.mkdir(exist_ok=True)
        self._path.replace(final)
        if synced:
            _sync(final.parent)
        if synced and fresh:  # the store gained a folder; else nothing in it changed that must last
            _sync(self._store)
        return digest, self._size

    def _beside(self) -> Queue[memoryview | None] | None:
        """Return where a thread takes what it adds to the digest: hashing and writing leave the interpreter to others.

        It may lag by a few pieces, so that neither waits for the other's turn at a processor, and goes on while the
        file is synced.
        """
        waiting: Queue[memoryview | None] = Queue(_AHEAD)

        def hash_all() -> None:
            for view in iter(waiting.get, None):
                self._seen.update(view)

        self._other = threading.Thread(target=hash_all, daemon=True)
        try:
            self._other.start()
        except RuntimeError:  # the sandbox allows no more of them
            return None
        return waiting

    def _caught_up(self) -> None:
        """Wait until all that was written is in the digest."""
        if self._waiting is not None:
            self._waiting.put(None)
            self._other.join()
            self._waiting = None


def copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Make a file of one's own of a file of the store; where the disk can share its blocks, they are not copied.

    It is never a link: who writes into it must not change the store.
    """
    with open(source, "rb") as held, open(target, "wb") as fresh:
        if not _shared(held, fresh):
            shutil.copyfileobj(held, fresh, CHUNK)


def _shared(source: BinaryIO, target: BinaryIO) -> bool:
    """Let an empty file have another's content without a copy (btrfs, xfs); say whether that was possible."""
    try:
        fcntl.ioctl(target.fileno(), _CLONE, source.fileno())
    except OSError:
        return False
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

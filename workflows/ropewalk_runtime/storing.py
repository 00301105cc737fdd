"""A file of the content-addressed store, written once: its digest is made while it is written.

It lies beside the store's content until it is whole, is synced and renamed to its SHA-256 (the same layout as the
platform's, ``<2>/<digest>``). Not here: what is in it (``values``). Rejected: reading it again for its digest, which
costs a large file as much as writing it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

CHUNK = 1 << 20


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

    def __enter__(self) -> Partial:
        self._store.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("xb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # A full disk may speak up again when the rest of the buffer is written; the first error is the one to show.
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: Any) -> int:
        """Write bytes, and go on with their digest meanwhile where they are many."""
        view = memoryview(data).cast("B")
        other = self._beside(view) if len(view) >= CHUNK else None
        if other is None:
            self._seen.update(view)
        try:
            self._file.write(view)
        finally:
            if other is not None:
                other.join()
        self._size += len(view)
        return len(view)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def settle(self) -> tuple[str, int]:
        """Put the file under its digest, durable, and return that and its size.

        Raises
        ------
        OSError
            If the disk is full.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        digest = self._seen.hexdigest()
        final = self._store / digest[:2] / digest
        fresh = not final.parent.is_dir()
        final.parent.mkdir(exist_ok=True)
        self._path.replace(final)
        _sync(final.parent)
        if fresh:  # the store gained a folder; else nothing in it changed that must last
            _sync(self._store)
        return digest, self._size

    def _beside(self, view: memoryview) -> threading.Thread | None:
        """Return a thread that adds to the digest; hashing and writing both leave the interpreter to others."""
        other = threading.Thread(target=self._seen.update, args=(view,), daemon=True)
        try:
            other.start()
        except RuntimeError:  # the sandbox allows no more of them
            return None
        return other


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

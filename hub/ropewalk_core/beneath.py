"""Open, write and remove below one folder and never outside it, even while its owner moves things about.

The platform reads and writes in folders that people own, at times as the superuser; a link planted there must lead
nowhere. Every path is walked component by component with folder descriptors, no link is followed, and only regular
files are opened. Not here: whose folder it is and how much may be in it. Rejected: resolving the path first and
comparing prefixes, because it can change before it is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from ropewalk_core.errors import BadPath, NotFound, StorageFull

T = TypeVar("T")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEAVES = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PARTIAL = ".partial-"
_LEFT = re.compile(re.escape(PARTIAL) + r"[0-9a-f]{16}")
LONGEST = 1024
DEEPEST = 100
_being_written: set[str] = set()  # by this process


def split(path: str) -> tuple[str, ...]:
    """Return a path's components; empty for the folder itself.

    Raises
    ------
    BadPath
        If it is absolute, holds ``..`` or a zero byte, is too long, or is not text that a file system takes.
    """
    if path.startswith("/") or "\0" in path or len(path) > LONGEST:
        raise BadPath("This path cannot be used.", field="path")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    try:
        longest = max((len(os.fsencode(part)) for part in parts), default=0)
    except UnicodeEncodeError:
        longest = LONGEST
    if ".." in parts or longest > 255:
        raise BadPath(f"The path {path!r} cannot be used.", field="path")
    return parts


@contextmanager
def folder(root: Path, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """Open the folder at ``parts`` below ``root`` and give its descriptor; ``make`` creates what is missing.

    ``root`` itself may be reached through links: it is the platform's own word.
    """
    descriptor = _open_root(root)
    try:
        for part in parts:
            if make:
                _make(descriptor, part)
            inner = _open_folder(descriptor, part)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def read(root: Path, parts: Sequence[str]) -> BinaryIO:
    """Return the regular file at ``parts`` below ``root``, opened for reading."""
    if not parts:
        raise BadPath("This is a folder, not a file.", field="path")
    with folder(root, parts[:-1]) as parent:
        # Without blocking: a pipe that somebody put there must not hang the platform.
        descriptor = _translated(lambda: os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadPath("This is not a regular file.", field="path")
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "rb")


class Replacement:
    """A file being written beside its place; `settle` puts it there at once and whole.

    Use `replacing` to make one.
    """

    def __init__(self, parent: int, name: str) -> None:
        self._parent = parent
        self.name = name
        self._partial = f"{PARTIAL}{secrets.token_hex(8)}"
        _being_written.add(self._partial)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file: int | None = None
        try:
            self._file = _translated(lambda: os.open(self._partial, flags, 0o644, dir_fd=parent))
        finally:
            if self._file is None:
                _being_written.discard(self._partial)
        _give(self._file, parent)

    def write(self, chunk: bytes) -> None:
        """Write all of the chunk."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[_translated(partial(os.write, self._descriptor(), rest)) :]

    def settle(self, name: str = "", *, into: int | None = None) -> os.stat_result:
        """Sync the content, move it to its place and sync the folder.

        ``name`` and ``into`` (an open folder) are another place, for content that names itself.
        """
        descriptor, target = self._descriptor(), self._parent if into is None else into
        _translated(lambda: os.fsync(descriptor))
        seen = os.fstat(descriptor)
        _translated(lambda: os.replace(self._partial, name or self.name, src_dir_fd=self._parent, dst_dir_fd=target))
        os.fsync(target)
        self._close()
        return seen

    def drop(self) -> None:
        """Forget what was written, unless it is in its place already."""
        if self._file is not None:
            self._close()
            with contextlib.suppress(OSError):
                os.unlink(self._partial, dir_fd=self._parent)

    def _descriptor(self) -> int:
        if self._file is None:
            raise BadPath("This file is closed.", field="path")
        return self._file

    def _close(self) -> None:
        _being_written.discard(self._partial)
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def replacing(root: Path, parts: Sequence[str], *, make: bool = True) -> Iterator[Replacement]:
    """Write the file at ``parts`` whole or not at all; what is not settled inside the block is dropped."""
    if not parts:
        raise BadPath("This is a folder, not a file.", field="path")
    with folder(root, parts[:-1], make=make) as parent:
        replacement = Replacement(parent, parts[-1])
        try:
            yield replacement
        finally:
            replacement.drop()


def remove(root: Path, parts: Sequence[str]) -> None:
    """Remove a file, a link (never what it names), or a folder with all in it."""
    if not parts:
        raise BadPath("The folder itself cannot be removed.", field="path")
    with folder(root, parts[:-1]) as parent:
        _remove(parent, parts[-1])


def usage(root: Path, parts: Sequence[str] = ()) -> int:
    """Return the bytes of all regular files at ``parts`` below the folder, `DEEPEST` levels deep; follow no link."""
    return sum(sizes(root, parts))


def sizes(root: Path, parts: Sequence[str] = ()) -> Iterator[int]:
    """Yield the bytes of each of them."""
    stack = [tuple(parts)]
    while stack:
        inside = stack.pop()
        with contextlib.suppress(OSError, NotFound, BadPath), folder(root, inside) as place, os.scandir(place) as found:
            for entry in found:
                with contextlib.suppress(OSError):  # it may vanish while we look
                    if entry.is_dir(follow_symlinks=False) and len(inside) < DEEPEST:
                        stack.append((*inside, entry.name))
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.stat(follow_symlinks=False).st_size


def sweep(root: Path, parts: Sequence[str] = ()) -> int:
    """Remove what writers that were killed left half-written below the folder, and return how many files that were.

    Only for who knows that no other process writes there.
    """
    removed, stack = 0, [tuple(parts)]
    while stack:
        inside = stack.pop()
        with contextlib.suppress(OSError, NotFound, BadPath), folder(root, inside) as place, os.scandir(place) as found:
            for entry in found:
                with contextlib.suppress(OSError):  # it may vanish while we look
                    if entry.is_dir(follow_symlinks=False) and len(inside) < DEEPEST:
                        stack.append((*inside, entry.name))
                    elif _left(entry.name) and entry.is_file(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=place)
                        removed += 1
    return removed


def _left(name: str) -> bool:
    return _LEFT.fullmatch(name) is not None and name not in _being_written


def _remove(parent: int, name: str, depth: int = 0) -> None:
    if depth > DEEPEST:  # every level holds a descriptor
        raise BadPath(f"The folder is more than {DEEPEST} levels deep.", field="path", hint="Remove it in a terminal.")
    seen = _translated(lambda: os.stat(name, dir_fd=parent, follow_symlinks=False))
    if not stat.S_ISDIR(seen.st_mode):
        _translated(lambda: os.unlink(name, dir_fd=parent))
        return
    inner = _open_folder(parent, name)
    try:
        for child in os.listdir(inner):  # noqa: PTH208  # by descriptor
            with contextlib.suppress(NotFound):
                _remove(inner, child, depth + 1)
    finally:
        os.close(inner)
    _translated(lambda: os.rmdir(name, dir_fd=parent))


def _open_root(root: Path) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound("There is no such folder.", field="path") from error


def _open_folder(parent: int, name: str) -> int:
    return _translated(lambda: os.open(name, _FOLDER, dir_fd=parent))


def _make(parent: int, name: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return
    except OSError as error:
        raise _error(error) from error
    inner = _open_folder(parent, name)
    try:
        _give(inner, parent)
    finally:
        os.close(inner)


def _give(descriptor: int, parent: int) -> None:
    """Give what the superuser made to the owner of the folder it lies in."""
    if os.geteuid() == 0:
        owner = os.fstat(parent)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _translated(act: Callable[[], T]) -> T:
    try:
        return act()
    except OSError as error:
        raise _error(error) from error


def _error(error: OSError) -> NotFound | BadPath | StorageFull:
    if error.errno in FULL:
        return StorageFull("There is no space left; nothing was written.")
    if error.errno == errno.ENOENT:
        return NotFound("There is no such file or folder.", field="path")
    if error.errno in _LEAVES:
        return BadPath("This path goes through a link or through a file.", field="path")
    return BadPath(f"This path cannot be used: {os.strerror(error.errno or 0)}.", field="path")

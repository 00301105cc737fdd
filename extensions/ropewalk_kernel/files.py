"""The person's files on the platform, by path: the same ones that the notebook, steps and functions see.

Inside a notebook the files are simply there; this is for code that runs elsewhere or wants the platform's own checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ropewalk_core import sync
from ropewalk_core.model import FileEntry
from ropewalk_core.placement import format_size
from ropewalk_kernel import cards


class Listed(cards.Pictured):
    """A folder's entries."""

    def __init__(self, path: str, items: tuple[FileEntry, ...]) -> None:
        self.path, self.items = path, items

    def __iter__(self) -> Iterator[FileEntry]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def _picture(self) -> cards.Picture:
        rows = [(one.path, one.kind, format_size(one.size) if one.kind == "file" else "") for one in self.items]
        empty = "Nothing here yet. Drop files into JupyterLab's file browser."
        return cards.listing(f"files {self.path}".strip(), ("path", "kind", "size"), rows, empty=empty)


class Files:
    """The person's files: ``list(path)``, ``read(path)``, ``write(path, data)``, ``remove(path)``."""

    def list(self, path: str = "") -> Listed:
        """Return the entries of a folder."""
        return Listed(path, tuple(sync.iterate(sync.client().files.all(path))))

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        return b"".join(sync.iterate(sync.client().files.read(path)))

    def write(self, path: str, content: bytes | str | Path) -> FileEntry:
        """Write a file whole or not at all; a `Path` is copied from this machine."""
        data = content.read_bytes() if isinstance(content, Path) else content
        return sync.wait(sync.client().files.write(path, data.encode() if isinstance(data, str) else data))

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all in it."""
        sync.wait(sync.client().files.remove(path))


files = Files()

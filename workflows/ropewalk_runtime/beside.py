"""Files that the code of a step leaves beside its result, also where it fails: a notebook as far as it was executed.

What runs a step begins and keeps; in between the code leaves. Not here: what is left, and how it is shown. Rejected: a
result that holds them (a step that fails has none).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ropewalk_runtime import values

_left: dict[str, tuple[bytes, str]] = {}
_attempts: list[None] = []


def begin() -> None:
    """Keep what is left from now on; outside of a step nobody would take it."""
    _left.clear()
    _attempts[:] = [None]


def expected() -> bool:
    """Say whether somebody takes what is left."""
    return bool(_attempts)


def leave(name: str, content: bytes, media_type: str) -> None:
    """Leave a file; the last of a name counts."""
    if expected():
        _left[name] = (content, media_type)


def kept(store: Path) -> dict[str, dict[str, Any]]:
    """Put what was left into the store, and return the facts of each file.

    Raises
    ------
    OSError
        If the disk is full.
    """
    found = {name: _kept(content, media_type, store) for name, (content, media_type) in _left.items()}
    _left.clear()
    _attempts.clear()
    return found


def _kept(content: bytes, media_type: str, store: Path) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        digest, size = values.keep_file(Path(file.name), store)
    return {"digest": digest, "size": size, "media_type": media_type, "type": "file", "preview": ""}

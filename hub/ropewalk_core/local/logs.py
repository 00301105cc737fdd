"""A log file as lines with offsets: read from an offset, follow, and keep under a limit.

Files here belong to the platform and lie where no account can reach them. Not here: which file it is. Rejected:
rotation into several files; an offset would then need a file's name as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from ropewalk_core.model import LogLine

_BLOCK = 256 * 1024
_LONGEST = 16 * 1024
_POLL = 0.3


def tail(path: Path, count: int = 20) -> list[str]:
    """Return the last lines of a log; none when there is no file."""
    return [line.text for line in lines(path, max(0, _size(path) - 64 * 1024))[0]][-count:]


def lines(path: Path, after: int = 0, *, partial: bool = True) -> tuple[list[LogLine], int]:
    """Return up to 256 KiB of lines after a byte offset, and the offset to go on from.

    An offset past the end means that the log was cut meanwhile: reading starts over. ``partial`` also gives a last
    line that has no end yet.
    """
    size = _size(path)
    after = after if 0 <= after <= size else 0
    if size == after:
        return [], after
    with path.open("rb") as file:
        file.seek(after)
        data = file.read(_BLOCK)
    found: list[LogLine] = []
    for piece in _split(data):
        if not piece.endswith(b"\n") and not (partial or len(data) == _BLOCK):
            break
        after += len(piece)
        found.append(LogLine(offset=after, text=piece.rstrip(b"\r\n")[:_LONGEST].decode("utf-8", "replace")))
    return found, after


def _split(data: bytes) -> list[bytes]:
    """Split at line feeds alone: a progress bar's carriage returns do not end a line."""
    *whole, rest = data.split(b"\n")
    return [piece + b"\n" for piece in whole] + ([rest] if rest else [])


async def follow(
    path: Path, *, after: int = 0, follow: bool = False, ended: Callable[[], bool] = lambda: True
) -> AsyncIterator[LogLine]:
    """Yield lines after an offset; with ``follow`` wait for more until ``ended`` says that no more will come."""
    while True:
        last = not follow or ended()  # asked before reading, so that the last lines are not missed
        found, after = await asyncio.to_thread(lines, path, after, partial=last)
        for line in found:
            yield line
        if not found:
            if last:
                return
            await asyncio.sleep(_POLL)


def trim(path: Path, limit: int) -> bool:
    """Cut a log that is over the limit to its last half, with a mark; return whether it was cut.

    Its writer appends, so it goes on at the new end. Lines written during the cut may be lost.
    """
    size = _size(path)
    if size <= limit:
        return False
    with path.open("r+b") as file:
        file.seek(size - limit // 2)
        rest = file.read().partition(b"\n")[2]
        file.seek(0)
        file.truncate()
        file.write(b"[ropewalk] earlier lines were cut: the log was over its limit\n" + rest)
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

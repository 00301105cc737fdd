"""A step's log, line by line, also while it grows. Reads below the account's folder without following links."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable

from ropewalk_core import beneath
from ropewalk_core.errors import BadPath, NotFound
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import LogLine

_PAUSE = 0.15
_CHUNK = 256 * 1024
_LONGEST_LINE = 64 * 1024


async def follow_log(
    paths: AccountPaths,
    run: str,
    step: str,
    attempt: Callable[[], tuple[int, bool]],
    *,
    after: int = 0,
    follow: bool = False,
) -> AsyncIterator[LogLine]:
    """Yield the lines after an offset of the latest attempt's log.

    Parameters
    ----------
    attempt
        Returns the number of the latest attempt, and whether the step has ended for good.
    after
        Byte offset in the log of the latest attempt; a negative one counts back from the end, to a whole line.
    follow
        Go on until the step ends; a further attempt is announced by a line of the platform's.
    """
    number, _ = attempt()
    offset = after if after >= 0 else await asyncio.to_thread(_near_end, paths, run, step, number, -after)
    while True:
        latest, ended = attempt()
        content = await asyncio.to_thread(_read, paths, run, step, number, offset)
        lines, offset = _lines(content, offset, last=ended or latest != number or not follow)
        for line in lines:
            yield line
        if len(content) >= _CHUNK:
            continue
        if latest != number:
            number, offset = latest, 0
            if follow:
                yield LogLine(offset=0, text=f"attempt {latest}", stream="platform")
            continue
        if ended or not follow:
            return
        await asyncio.sleep(_PAUSE)


def _near_end(paths: AccountPaths, run: str, step: str, attempt: int, size: int) -> int:
    path = paths.attempt(run, step, attempt) / "log"
    try:
        with beneath.read(paths.root, path.relative_to(paths.root).parts) as file:
            start = file.seek(0, os.SEEK_END) - min(size, _CHUNK)
            if start <= 0:
                return 0
            file.seek(start)
            return start + file.read(size).find(b"\n") + 1
    except (NotFound, BadPath):
        return 0


def _read(paths: AccountPaths, run: str, step: str, attempt: int, offset: int) -> bytes:
    path = paths.attempt(run, step, attempt) / "log"
    try:
        with beneath.read(paths.root, path.relative_to(paths.root).parts) as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except (NotFound, BadPath):
        return b""


def _lines(content: bytes, offset: int, *, last: bool) -> tuple[list[LogLine], int]:
    """Split whole lines off; an unfinished one waits, unless nothing more comes or it is very long."""
    found = []
    while content:
        end = content.find(b"\n") + 1
        if not end:
            if not last and len(content) < _LONGEST_LINE:
                break
            end = min(len(content), _LONGEST_LINE)
        offset += end
        text = content[:end].decode("utf-8", "replace").rstrip("\r\n")
        found.append(LogLine(offset=offset, text=text))
        content = content[end:]
    return found, offset

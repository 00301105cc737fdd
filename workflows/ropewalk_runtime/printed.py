"""What a call prints: kept for its record, whichever way it was written. Not here: when calls run (``serving``)."""

from __future__ import annotations

import contextvars
import io
import os
import sys
from collections.abc import Mapping
from typing import Any

MAX_CALL_LOG = 64 * 1024
"""Characters of output that one call's record keeps, and of a traceback."""
current: contextvars.ContextVar[CallLog | None] = contextvars.ContextVar("current", default=None)
"""The log of the call that runs."""


class CallLog(io.StringIO):
    """What one call printed; cut at its limit."""

    room = MAX_CALL_LOG
    head: Mapping[str, Any] = {}
    """What the gateway said of the call."""
    told = 0

    def news(self) -> str:
        """Return what was printed since the last time."""
        text = self.getvalue()[self.told :]
        self.told += len(text)
        return text

    def write(self, text: str) -> int:
        """Keep a text, as far as there is room."""
        if self.room > 0:
            super().write(text[: self.room])
            self.room -= len(text)
            if self.room <= 0:
                super().write("\n[the log of this call is longer than its limit; the rest was left out]\n")
        return len(text)


class _Router(io.TextIOBase):
    """A standard stream that writes into the log of the call it is used in; outside of calls, into the worker's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        log = current.get()
        if log is not None:
            return log.write(text)
        os.write(self._descriptor, text.encode(errors="replace"))
        return len(text)


class Output:
    """Descriptors 1 and 2 as a memory file, so that what C code and child processes print is seen too."""

    def __init__(self) -> None:
        self._file = os.memfd_create("output")
        self._seen = 0
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)
        sys.stdout, sys.stderr = _Router(1), _Router(2)

    def take(self) -> str:
        """Return what was written beside Python's own streams since the last time, and forget it."""
        size = os.lseek(self._file, 0, os.SEEK_CUR)
        if not size:
            return ""
        data = os.pread(self._file, MAX_CALL_LOG, self._seen)
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._seen = 0
        return data.decode(errors="replace")

    def look(self) -> str:
        """Return the same and keep the file as it is, which others may be writing to; a text ends with a line."""
        size = os.lseek(self._file, 0, os.SEEK_CUR) - self._seen
        data = os.pread(self._file, min(size, MAX_CALL_LOG), self._seen) if size > 0 else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._seen += len(whole)
        return whole.decode(errors="replace")

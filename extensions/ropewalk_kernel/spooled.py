"""An answer that comes in pieces, kept in a file without a name: it takes no memory but what of it is looked at.

The file lies on a disk, in the account's cache; /tmp may be memory. Not here: what the bytes are (``values``).
"""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path

from ropewalk_core import settings
from ropewalk_core.errors import StorageFull, Unavailable
from ropewalk_kernel.posts import Broken, Stream
from ropewalk_kernel.values import Received

_SMALL = 2**20
"""Bytes that are kept in memory."""


async def received(stream: Stream, kind: str) -> Received:
    """Return what comes, once it is all here.

    Raises
    ------
    Unavailable
        If it broke off.
    StorageFull
        If there is no room for it.
    """
    try:
        with tempfile.SpooledTemporaryFile(_SMALL, dir=str(folder())) as file:
            while (data := await stream.next()) is not None:
                file.write(data)
            size = file.tell()
            if size <= _SMALL:
                file.seek(0)
                return Received(file.read(), kind)
            file.flush()
            return Received(memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)), kind, mapped=True)
    except Broken as error:
        hint = "Call again if it may run twice; a call that takes long needs a longer --timeout."
        raise Unavailable("The function's answer broke off.", hint=hint, details={"wait": False}) from error
    except OSError as error:
        raise StorageFull(f"There is no room for the answer in {folder()}: {error.strerror}.") from error
    finally:
        stream.close()


def folder() -> Path:
    """Return a folder on a disk for files of a moment; it is made if it is not there."""
    folder = Path(settings.read_environment("XDG_CACHE_HOME") or Path.home() / ".cache") / "ropewalk"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder

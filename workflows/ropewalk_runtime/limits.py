"""Which of the kernel's limits an exception of the person's code tells of, by its name and with the next step.

A full /tmp and a process too many are exceptions like any other, and none of them says whose limit it was. Not here:
setting limits (``exec``, ``isolate``), and those that end the process, of which the gateway tells. Rejected: looking at
the limits after every failure (what filled them is often gone by then).
"""

from __future__ import annotations

import errno
import os
import resource
import traceback

SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - a worker's own
_LITTLE = 2**20
_MI = 2**20
Met = tuple[str, str, str]
"""A message, the field that it is about, and a hint."""


def met(error: BaseException) -> Met | None:
    """Return which limit an exception tells of; None if it is about something else."""
    if _is_process_too_many(error):
        return _processes()
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and _is_of_scratch(error):
        return _scratch()
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return _read_only(error)
    return None


def scratch_size() -> int:
    """Return how many bytes /tmp holds."""
    found = os.statvfs(SCRATCH[0])
    return found.f_blocks * found.f_frsize


def _is_process_too_many(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):
        return str(error) == "can't start new thread"
    if not isinstance(error, OSError) or error.errno != errno.EAGAIN:
        return False
    frames = traceback.extract_tb(error.__traceback__)
    line = (frames[-1].line or "") if frames else ""
    return "fork" in line or "spawn" in line  # else it is a socket or pipe that would have had to wait


def _processes() -> Met:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    most = "it may" if limit == resource.RLIM_INFINITY else f"its limit of {limit}"
    hint = "Start fewer at a time, or ask your administrator to raise `limits.processes`."
    return f"The function started more processes and threads than {most}.", "limits.processes", hint


def _is_of_scratch(error: OSError) -> bool:
    """Say whether it was the scratch that had no room. A temporary file may be gone already, and its name is not told.

    So what has room now was not it, and where the working directory has none the disk may be what is full.
    """
    if isinstance(error.filename, str):
        return error.filename.startswith(tuple(f"{one}/" for one in SCRATCH))
    if any(_free(one) < _LITTLE for one in SCRATCH if os.path.isdir(one)):
        return True
    return error.strerror == os.strerror(errno.ENOSPC) and _free(".") > _LITTLE


def _scratch() -> Met:
    limit = -(-scratch_size() // _MI)
    message = f"The function filled its scratch: {' and '.join(SCRATCH)} hold {limit}Mi each."
    asked = f'`%%function --scratch {2 * limit}Mi`, which is `Placement(scratch="{2 * limit}Mi")`'
    hint = f"Ask for more: {asked}, or remove what is no longer needed."
    return message, "placement.scratch", hint


def _read_only(error: OSError) -> Met | None:
    """Return what is said where the account's files may only be read; other places never may be written."""
    home = os.environ.get("HOME", "")
    name = error.filename if isinstance(error.filename, str) else ""
    mine = not name or os.path.realpath(name).startswith(f"{os.path.realpath(home)}/") or not os.path.isabs(name)
    if not home or not mine or not os.statvfs(home).f_flag & os.ST_RDONLY:
        return None
    message = f"The function may only read your files{f', and not write {name[:200]}' if name else ''}."
    hint = 'Write to /tmp, return the value, or deploy it with `files="write"`.'
    return message, "files", hint


def _free(folder: str) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return _LITTLE
    return found.f_bavail * found.f_frsize

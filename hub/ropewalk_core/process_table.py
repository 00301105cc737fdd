"""The machine's process table, as /proc shows it. Reads and signals; starts nothing.

Not here: whose a process is (``processes.py``). Rejected: psutil (one compiled dependency for three files of /proc).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    started: int
    dead: bool


def proportional_memory(pid: int) -> int:
    """Return the bytes of memory that are this process's fair share (PSS); 0 when it is gone or not ours to see."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def tree(pid: int, without: Collection[int] = ()) -> list[int]:
    """Return the process and its descendants, less those in ``without`` and theirs."""
    everything = table().values()
    found, waiting = [pid], [pid]
    while waiting:
        parent = waiting.pop()
        new = [one.pid for one in everything if one.parent == parent and one.pid not in without]
        found += new
        waiting += new
    return found


def send(one: Seen, number: signal.Signals) -> None:
    """Signal exactly the process that was seen: the descriptor pins it, the start time proves it."""
    try:
        descriptor = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return
    try:
        now = seen(one.pid)
        if now and now.started == one.started:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """Return the text that tells this boot of the machine from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def seen(pid: int) -> Seen | None:
    """Return one process, or None when there is none of this id."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    field = text[text.rindex(")") + 2 :].split()
    return Seen(pid, int(field[1]), int(field[3]), int(field[19]), field[0] in "ZX")


def table() -> dict[int, Seen]:
    """Return every process of the machine by its id."""
    found = (seen(int(one)) for one in os.listdir("/proc") if one.isdigit())  # noqa: PTH208 - four times as fast
    return {one.pid: one for one in found if one}

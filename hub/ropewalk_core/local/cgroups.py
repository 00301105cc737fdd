"""Control groups: limits that hold for everything in a sandbox together. Only the superuser can make them.

Version 2 (unified) and version 1 are understood. Names are deterministic, so nothing piles up. Not here: limits of one
process (``ulimit`` in ``sandbox.py``), which is what an ordinary user gets. Rejected: asking systemd over D-Bus (absent
in containers and on plain machines).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ropewalk_core.settings import Settings

_ROOT = Path("/sys/fs/cgroup")


def prepare(settings: Settings, name: str, memory: int | None, processes: int | None = None) -> list[Path]:
    """Make or adjust a group and return the folders to join; an empty list where groups cannot be made.

    Parameters
    ----------
    settings
        Its home tells the groups of two platforms on one machine apart.
    name
        Name of the group, for example ``notebook.ann``.
    memory
        Bytes for everything in it together; None sets no limit.
    processes
        Processes and threads in it together; None sets no limit.
    """
    if os.geteuid() != 0:
        return []
    limits = {"memory": memory, "pids": processes}
    try:
        return [_limit(base, name, limits) for base in _bases(settings)]
    except OSError:
        return []


def exceeded(settings: Settings, name: str) -> bool:
    """Say whether the kernel ended something in the group because its memory was full."""
    for base in _bases(settings):
        for file in ("memory.events", "memory.oom_control"):
            try:
                words = (base / name / file).read_text().split()
            except OSError:
                continue
            if "oom_kill" in words and words[words.index("oom_kill") + 1] != "0":
                return True
    return False


def remove(settings: Settings) -> None:
    """Remove the groups of this home that nobody is in."""
    for base in _bases(settings):
        for group in [*base.glob("*/"), base]:
            try:
                group.rmdir()
            except OSError:
                continue


def _bases(settings: Settings) -> Iterator[Path]:
    ours = f"ropewalk-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]}"
    if (_ROOT / "cgroup.controllers").exists():
        yield _ROOT / ours
        return
    for controller in ("memory", "pids"):
        if (_ROOT / controller).is_dir():
            yield _ROOT / controller / ours


def _limit(base: Path, name: str, limits: dict[str, int | None]) -> Path:
    group = base / name
    unified = base.parent == _ROOT
    group.mkdir(parents=True, exist_ok=True)
    if unified:
        for parent in (_ROOT, base):
            (parent / "cgroup.subtree_control").write_text("+memory +pids")
    files = {"memory": "memory.max" if unified else "memory.limit_in_bytes", "pids": "pids.max"}
    for controller, limit in limits.items():
        if unified or base.parent.name == controller:
            none = "-1" if not unified and controller == "memory" else "max"
            (group / files[controller]).write_text(str(limit) if limit else none)
    return group

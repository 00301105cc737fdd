"""Control groups: limits that hold for everything in a sandbox together. Only the superuser can make them.

They share processor time too: each sandbox gets as much as another where there is not enough, however many processes
it runs, so that who keeps many busy takes nothing from who runs one.
Version 2 (unified) and version 1 are understood. Names are deterministic, so nothing piles up. Not here: limits of one
process (``ulimit`` in ``sandbox.py``, ``ropewalk_runtime.exec``), which is what an ordinary user gets. Rejected: asking
systemd over D-Bus (absent in containers and on plain machines).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ropewalk_core.settings import Settings

_ROOT = Path("/sys/fs/cgroup")
_TIME = "cpu"
"""The controller of processor time: in version 1 a tree of its own."""
_WORKERS = "workers."
_TRIAL = 2**28


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
        found = [_limit(base, name, limits) for base in _bases(settings) if base.parent.name != _TIME]
    except OSError:
        return []
    return [*found, *_share(settings, name)] if found else []


def exceeded(settings: Settings, name: str) -> bool:
    """Say whether the kernel ended something in the group because its memory was full."""
    return any(_killed(base / name) for base in _bases(settings))


@dataclass
class WorkerGroup:
    """The group of one worker: everything that it starts, and its scratch, share one limit of memory.

    The kernel ends one process of a group that is full, perhaps only a child of the worker, so whoever holds this is
    told by `wake` to end the rest; version 2 does it itself.
    """

    folder: Path
    unified: bool
    wake: int = -1
    _asked: int = field(default=-1, repr=False)

    @property
    def name(self) -> str:
        """What tells it from the account's others."""
        return self.folder.name

    def limit(self, memory: int) -> None:
        """Set how many bytes everything in it has together, scratch included. Raises OSError."""
        (self.folder / ("memory.max" if self.unified else "memory.limit_in_bytes")).write_text(str(memory))

    def door(self) -> int:
        """Return a descriptor through which a process that writes ``0`` joins; whoever gets it closes it."""
        return os.open(self.folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def killed(self) -> bool:
        """Say whether the kernel ended something in it because its memory was full."""
        return _killed(self.folder)

    def peak(self) -> int:
        """Return the most bytes that it held; 0 where the kernel does not tell."""
        for file in ("memory.peak", "memory.max_usage_in_bytes"):
            try:
                return int((self.folder / file).read_text())
            except (OSError, ValueError):
                continue
        return 0

    def remove(self) -> bool:
        """Remove it and say whether it is gone; not while anything is in it."""
        for one in (self.wake, self._asked):
            if one >= 0:
                os.close(one)
        self.wake = self._asked = -1
        try:
            self.folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def watch(self) -> None:
        """Have the kernel write into `wake` when the memory is full, where it can."""
        try:
            self._asked = os.open(self.folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            (self.folder / "cgroup.event_control").write_text(f"{self.wake} {self._asked}")
        except OSError:  # version 2, which has `memory.oom.group`
            return


def worker_group(settings: Settings, account: str, name: str) -> WorkerGroup | None:
    """Make the group of a worker, without a limit as yet; None where groups cannot be made.

    Parameters
    ----------
    settings, account
        Whose it is; all workers of an account have the processes together that one sandbox may have.
    name
        Tells it from other workers of the account.
    """
    if os.geteuid() != 0:
        return None
    for base in _bases(settings):
        unified, parent = base.parent == _ROOT, base / f"{_WORKERS}{account}"
        if not unified and base.parent.name != "memory":
            continue  # the keeper's group counts their processes
        group = WorkerGroup(parent / name, unified)
        try:
            if not parent.is_dir():
                _limit(base, parent.name, {"memory": None, "pids": settings.limits.processes})
                if unified:
                    _hand_down([parent])
            group.folder.mkdir()
            if unified:
                (group.folder / "memory.oom.group").write_text("1")
        except OSError:
            group.remove()
            return None
        group.watch()
        return group
    return None


def works(settings: Settings) -> bool:
    """Say whether workers get groups here: make one, and remove it."""
    group = worker_group(settings, "trial", "trial")
    if group is None:
        return False
    try:
        group.limit(_TRIAL)
    except OSError:
        return False
    finally:
        group.remove()
        for folder in (group.folder.parent, group.folder.parents[1]):
            _remove(folder)
    return True


def sweep_workers(settings: Settings) -> None:
    """Remove groups of workers that nobody is in, as a host that was killed left them."""
    for base in _bases(settings):
        for group in base.glob(f"{_WORKERS}*/*/"):
            _remove(group)


def remove(settings: Settings) -> None:
    """Remove the groups of this home that nobody is in."""
    sweep_workers(settings)
    for base in _bases(settings):
        for group in [*base.glob("*/"), base]:
            _remove(group)


def _remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:  # somebody is in it, or it is gone
        return


def _killed(group: Path) -> bool:
    for file in ("memory.events", "memory.oom_control"):
        try:
            words = (group / file).read_text().split()
        except OSError:
            continue
        if "oom_kill" in words and words[words.index("oom_kill") + 1] != "0":
            return True
    return False


def _bases(settings: Settings) -> Iterator[Path]:
    if (_ROOT / "cgroup.controllers").exists():
        yield _named(settings)
        return
    for controller in ("memory", "pids", _TIME):
        if (_ROOT / controller).is_dir():
            yield _named(settings, controller)


def _named(settings: Settings, controller: str = "") -> Path:
    """Return the group of this home."""
    return _ROOT / controller / f"ropewalk-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]}"


def _limit(base: Path, name: str, limits: dict[str, int | None]) -> Path:
    group = base / name
    unified = base.parent == _ROOT
    group.mkdir(parents=True, exist_ok=True)
    if unified:
        _hand_down([_ROOT, base])
    files = {"memory": "memory.max" if unified else "memory.limit_in_bytes", "pids": "pids.max"}
    for controller, limit in limits.items():
        if unified or base.parent.name == controller:
            none = "-1" if not unified and controller == "memory" else "max"
            (group / files[controller]).write_text(str(limit) if limit else none)
    return group


def _hand_down(parents: list[Path]) -> None:
    for parent in parents:
        (parent / "cgroup.subtree_control").write_text("+memory +pids")
        with contextlib.suppress(OSError):  # not where the machine has real-time processes; then time is not shared
            (parent / "cgroup.subtree_control").write_text(f"+{_TIME}")


def _share(settings: Settings, name: str) -> list[Path]:
    """Have a group's processes share processor time as one, and all groups together weigh as much as the cores.

    Returns the group to join for it, if that is another: version 2 has one for all. Where time cannot be shared,
    nothing else is lost.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        for base in _bases(settings):
            if base.parent == _ROOT:
                (base / "cpu.weight").write_text(str(min(100 * cores, 10_000)))
            elif base.parent.name == _TIME:
                (base / name).mkdir(parents=True, exist_ok=True)
                (base / "cpu.shares").write_text(str(1024 * cores))
                return [base / name]
    except OSError:
        return []
    return []

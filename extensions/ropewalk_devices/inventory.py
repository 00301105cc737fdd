"""What this machine has: architecture, cores, memory, scratch and accelerators, as an `Inventory` of one node.

Limits of the control group that we run in count, so a container is not taken for its host. Not here: choosing among
nodes (``ropewalk_core.placement``), and which accelerators there are (``found``).
"""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from pathlib import Path

from ropewalk_core.machine import groups, memory, text
from ropewalk_core.placement import Inventory, Node
from ropewalk_core.settings import Settings
from ropewalk_devices.found import devices

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "riscv64": "riscv64"}


def discover(settings: Settings, *, root: Path = Path("/")) -> Inventory:
    """Return this machine as an inventory of one node.

    Parameters
    ----------
    settings
        The home, whose disk is the scratch space.
    root
        Where /proc, /sys and /dev lie; tests give a folder of their own.
    """
    machine = platform.machine().lower()
    return Inventory(
        nodes=(
            Node(
                name="this machine",
                arch=_ARCHITECTURES.get(machine, machine),
                cpu=cores(root),
                memory=memory(root),
                scratch=_scratch(settings.home),
                accelerators=dict(Counter(one.name for one in devices(settings, root=root))),
            ),
        )
    )


def cores(root: Path = Path("/")) -> float:
    """Return how many cores we may use: the affinity mask, and the control group's quota where it is less."""
    count = float(len(os.sched_getaffinity(0)))
    for folder in groups(root, "cpu"):
        words = (text(folder / "cpu.max") or _quota(folder)).split()
        if len(words) == 2 and words[0] not in ("max", "-1"):
            count = min(count, int(words[0]) / int(words[1]))
    return round(count, 2)


def _quota(folder: Path) -> str:
    return f"{text(folder / 'cpu.cfs_quota_us')} {text(folder / 'cpu.cfs_period_us')}"


def _scratch(home: Path) -> int:
    folder = next(one for one in (home, *home.parents) if one.exists())
    return shutil.disk_usage(folder).free

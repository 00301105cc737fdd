"""What the kernel says about this machine: its memory and our control groups. The standard library only.

Not here: the inventory as placements see it (``ropewalk_devices``). Here and not there because advice to who ran out of
memory must not name more than there is, also in processes that know no inventory.
"""

from __future__ import annotations

import re
from pathlib import Path


def memory(root: Path = Path("/")) -> int:
    """Return bytes of memory: the machine's, or the control group's limit where it is less."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", text(root / "proc/meminfo"), re.MULTILINE)
    size = int(match[1]) * 1024 if match else 0
    for folder in groups(root, "memory"):
        for file in ("memory.max", "memory.limit_in_bytes"):
            limit = text(folder / file)
            if limit.isdigit():
                size = min(size, int(limit))
    return size


def groups(root: Path, controller: str) -> list[Path]:
    """Return the folders of our control group and its parents, in both versions."""
    base, found = root / "sys/fs/cgroup", []
    for line in text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = base / controller if controllers else base
        inner = top / path.strip("/")
        found += [folder for folder in (inner, *inner.parents) if folder == top or top in folder.parents]
    return list(dict.fromkeys(found))


def text(path: Path) -> str:
    """Return what a file of the kernel says, stripped; nothing when it is not there."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

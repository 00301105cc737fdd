"""Mounts: what kind of file system a folder lies on, from the kernel's own table. Reads; changes nothing.

Not here: what may be kept where; who asks knows. Rejected: ``statfs`` through ctypes, whose numbers say no more.
"""

from __future__ import annotations

import re
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_NETWORK = re.compile(r"9p|afs|ceph|cifs|glusterfs|gpfs|lustre|ncpfs|nfs\d?|ocfs2|orangefs|smb[23]|smbfs|wekafs|beegfs")
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuseblk"})


def kind_of(path: Path, table: Path = _TABLE) -> str:
    """Return the kind of file system that a path lies on, such as ``ext4``; empty where nobody says."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return ""
    wanted, best, found = path.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        words = before.split()
        if len(words) < 5 or not after:
            continue
        point = Path(_plain(words[4]))
        if wanted.is_relative_to(point) and len(point.parts) >= best:  # what was mounted last covers the rest
            best, found = len(point.parts), after.split()[0]
    return found


def is_network(kind: str) -> bool:
    """Whether files of this kind lie on another machine, or behind a program whose locks nobody knows."""
    return bool(_NETWORK.fullmatch(kind)) or (kind.startswith("fuse") and kind not in _LOCAL_FUSE)


def _plain(text: str) -> str:
    """Return a mount point without the kernel's octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)

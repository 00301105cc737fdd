"""What kind of file system a folder lies on, and what the journal says of one of the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk_core import mounts
from ropewalk_core.errors import Unavailable
from ropewalk_core.journal import Journal

TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:40 / /mnt/files rw shared:9 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / /mnt/files/local\\040disk rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/twice rw - ext4 /dev/vdc rw
33 22 0:43 / /mnt/twice rw - fuse.sshfs me@there: rw
cut off
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/home/x", "ext4", False),
        ("/mnt/files/a/b", "nfs4", True),
        ("/mnt/filesystem", "ext4", False),
        ("/mnt/files/local disk/home", "xfs", False),
        ("/mnt/twice/x", "fuse.sshfs", True),
    ],
)
def test_the_mount_nearest_to_a_path_says_its_kind(tmp_path: Path, path: str, kind: str, network: bool) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert mounts.kind_of(Path(path), table) == kind
    assert mounts.is_network(kind) is network


def test_kinds() -> None:
    assert all(map(mounts.is_network, ["nfs", "cifs", "smb3", "9p", "ceph", "lustre", "fuse.glusterfs", "fuse"]))
    assert not any(map(mounts.is_network, ["", "ext4", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "virtiofs"]))


def test_a_machine_that_says_nothing_is_believed_to_be_fine(tmp_path: Path) -> None:
    assert mounts.kind_of(tmp_path, tmp_path / "none") == ""


def test_the_journal_refuses_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "kind_of", lambda path: "nfs4")
    with pytest.raises(Unavailable, match=r"network file system \(nfs4\)"):
        Journal(tmp_path / "journal.db")
    assert not list(tmp_path.iterdir())

"""A process's own socket: for its user alone, and made without locking what other threads make meanwhile."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from ropewalk_hub.sockets import private


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_it_is_private_without_touching_the_umask(kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch) -> None:
    def umask(mask: int) -> int:
        raise AssertionError("a folder that another thread makes meanwhile would be locked")

    monkeypatch.setattr(os, "umask", umask)
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:  # short: a socket's path has at most 107 bytes
        path = Path(folder) / "own.sock"
        for _ in range(2):  # what an earlier process left is in nobody's way
            with private(path, kind), socket.socket(socket.AF_UNIX, kind) as client:
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                client.connect(str(path))

"""A keeper as a process of its own, without a sandbox: which zygotes it starts for what is ordered."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ropewalk_runtime.frames import receive_packet, send_packet
from ropewalk_runtime.keeper import MOST_ZYGOTES
from ropewalk_runtime.zygote import SPARE_NAME

LIBRARIES = ("colorsys", "csv", "wave", "zipfile", "calendar")
"""Of the standard library, and small; which ones does not matter."""


class Host:
    """The host's side of a keeper."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(20)
        self.mark = f"# {secrets.token_hex(8)}"
        source = f"from ropewalk_runtime.keeper import main\nmain({theirs.fileno()}, 60.0, {self.mark!r})"
        self.process = subprocess.Popen([sys.executable, "-c", source], pass_fds=[theirs.fileno()])
        theirs.close()
        assert self.heard()["op"] == "ready"

    def heard(self) -> dict[str, Any]:
        """Return what it says next."""
        packet = receive_packet(self.control)
        assert packet is not None
        return packet[0]

    def processes(self) -> list[str]:
        """Return what the living processes of this keeper call themselves, but for itself."""
        found = []
        for one in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                mine = self.mark.encode() in (one / "cmdline").read_bytes()  # a zygote's children have it too
                state = (one / "stat").read_text().rpartition(")")[2].split()[0]
                if mine and state != "Z" and int(one.name) != self.process.pid:
                    found.append((one / "comm").read_text().strip())
        return found

    def ran(self, name: str, *preload: str) -> list[list[str]]:
        """Have a step run to its end; return what each zygote that was started meanwhile has loaded."""
        self.order(name, *preload)
        loaded: list[list[str]] = []
        while (said := self.heard())["op"] != "exit" or said["id"] != name:
            if said["op"] == "zygote":
                loaded.append(said["loaded"])
            assert said["op"] in ("zygote", "started", "exit", "retired"), said
        assert said["code"] == 0, said
        return loaded

    def order(self, name: str, *preload: str) -> None:
        """Order a step."""
        order = {
            "op": "start",
            "id": name,
            "kind": "command",
            "argv": ["true"],
            "python": sys.executable,
            "fingerprint": "f",
            "preload": list(preload),
            "environment": {},
            "cwd": "/",
            "memory": 2**28,
            "processes": 64,
        }
        send_packet(self.control, order)


@pytest.fixture
def host() -> Iterator[Host]:
    one = Host()
    yield one
    one.control.close()  # it ends with that, and its zygotes with it
    assert one.process.wait(20) == 0


def test_a_zygote_serves_all_that_want_no_more_than_it_has(host: Host) -> None:
    assert host.ran("1", "csv", "wave") == [["csv", "wave"]]
    assert host.ran("2", "wave") == host.ran("3") == []
    assert host.ran("4", "wave", "zipfile") == [["wave", "zipfile"]]


def test_kinds_beyond_what_is_kept_do_not_start_a_zygote_each_time(host: Host) -> None:
    assert [host.ran(one, one) for one in LIBRARIES[:MOST_ZYGOTES]] == [[[one]] for one in LIBRARIES[:MOST_ZYGOTES]]
    fourth = LIBRARIES[MOST_ZYGOTES]
    assert host.ran("new", fourth) == [sorted([LIBRARIES[0], fourth])]
    for turn in range(2):
        assert [host.ran(f"{turn}-{one}", one) for one in LIBRARIES[: MOST_ZYGOTES + 1]] == [[]] * (MOST_ZYGOTES + 1)


def test_an_import_that_does_not_end_holds_up_no_other_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_ends.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    host = Host()
    host.order("stuck", "never_ends")
    for one in LIBRARIES[: MOST_ZYGOTES - 1]:
        host.ran(one, one)
    fourth = LIBRARIES[MOST_ZYGOTES]
    assert host.ran("new", fourth) == [[fourth]]
    host.control.close()
    assert host.process.wait(20) == 0


def test_what_cannot_be_loaded_keeps_nobody_from_starting(host: Host) -> None:
    assert host.ran("1", "csv", "no_such_module_of_anybody") == [["csv"]]


@pytest.mark.parametrize("end", ["told", "killed"])
def test_a_spare_is_not_left_when_its_keeper_ends(tmp_path: Path, end: str) -> None:
    host = Host()
    order = {"op": "start", "id": "w", "kind": "worker", "python": sys.executable, "fingerprint": "f", "preload": []}
    more = {"environment": {}, "cwd": "/", "memory": 2**28, "processes": 64, "bundle": str(tmp_path / "none")}
    ours, theirs = socket.socketpair()
    with theirs:
        send_packet(host.control, order | more, [theirs.fileno()])
    zygote = host.heard()
    if not zygote["isolated"]:
        pytest.skip(f"no namespaces of their own for children here: {zygote['why']}")
    _until(lambda: SPARE_NAME in host.processes())
    if end == "told":
        host.control.close()
    else:
        host.process.kill()
    host.process.wait(20)
    _until(lambda: not host.processes())
    ours.close()
    host.control.close()


def _until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 15
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)

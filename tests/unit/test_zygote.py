"""A zygote as a process of its own: what it forks when it is ordered to, and the child that it has ready before."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.process_table import seen
from ropewalk_runtime import bundle
from ropewalk_runtime.frames import pack, read_frame, receive_packet, send_packet
from ropewalk_runtime.zygote import SPARE_NAME, WORKER_NAME

TELLS = """
import os, random, resource, signal, sys, threading

open("began", "a").write("once ")

def handler(x):
    tmp = os.statvfs("/tmp")
    return {
        "x": x,
        "chance": random.random(),
        "signals": [int(signal.getsignal(signal.SIGTERM)), len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))],
        "memory": resource.getrlimit(resource.RLIMIT_DATA)[0],
        "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0],
        "tmp": tmp.f_blocks * tmp.f_frsize,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "pid": os.getpid(),
        "path": sys.path,
        "open": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")],
    }
"""
SCRATCH = 16 * 2**20


class Worker:
    """The gateway's side of a worker."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid, self.sock = pid, sock

    def call(self, value: Any) -> Any:
        """Return the answer to a call."""
        body = json.dumps(value).encode()
        self.sock.sendall(pack({"id": 1, "type": "application/json", "call": "c", "caller": "ada"}, body))
        frame = read_frame(self.sock)
        assert frame is not None and "error" not in frame[0], frame
        return json.loads(frame[1])


class Zygote:
    """The keeper's side of a zygote."""

    def __init__(self, folder: Path, *preload: str) -> None:
        self.folder = folder
        bundle.write(folder / "bundle", {"files": {"cell.py": TELLS}, "entry": "cell:handler", "digest": "d"})
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(20)
        source = f"# {folder}\nfrom ropewalk_runtime.zygote import main\nmain({theirs.fileno()}, {list(preload)})"
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        argv = [sys.executable, "-c", source]
        self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        self.open: list[socket.socket] = []
        self.ready = self.heard()

    def heard(self) -> dict[str, Any]:
        """Return what it says next."""
        packet = receive_packet(self.control)
        assert packet is not None
        return packet[0]

    def worker(self, name: str, **changes: Any) -> Worker:
        """Order a worker and return it once it has loaded."""
        ours = self.order(name, **changes)
        said = self.heard()
        assert (said["op"], said["id"]) == ("started", name), said
        hello = read_frame(ours)
        assert hello is not None and hello[0]["op"] == "ready", hello
        return Worker(int(said["pid"]), ours)

    def order(self, name: str, doors: Sequence[int] = (), **changes: Any) -> socket.socket:
        """Order a worker, with doors to its control groups, and return the gateway's end of its socket."""
        order = {
            "op": "start",
            "id": name,
            "kind": "worker",
            "bundle": str(self.folder / "bundle"),
            "cwd": str(self.folder),
            "environment": {"WHO": name},
            "memory": 2**30,
            "scratch": SCRATCH,
            "processes": 64,
            **changes,
        }
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        self.open.append(ours)
        with open(os.devnull, "w") as log, theirs:
            send_packet(self.control, order, [log.fileno(), theirs.fileno(), *doors])
        return ours

    def spare(self) -> int:
        """Wait for a spare of this zygote's and return its process id."""
        return int(until(lambda: next(iter(self.spares()), 0)))

    def spares(self) -> list[int]:
        """Return the children of this zygote that call themselves spares."""
        found = []
        for one in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                mine = str(self.folder).encode() in (one / "cmdline").read_bytes()  # its children have it too
                if mine and (one / "comm").read_text().strip() == SPARE_NAME and _lives(int(one.name)):
                    found.append(int(one.name))
        return found

    def end(self) -> None:
        """End it and its workers."""
        self.control.close()
        for sock in self.open:
            sock.close()
        self.process.kill()
        self.process.wait(10)


def _lives(pid: int) -> bool:
    found = seen(pid)
    return found is not None and not found.dead


def until(true: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@contextmanager
def running(source: str = "", *preload: str) -> Iterator[Zygote]:
    """Run a zygote whose ``library`` is this source."""
    folder = Path(tempfile.mkdtemp(prefix="rw-zygote-", dir="/var/tmp"))  # children cover /tmp
    (folder / "library.py").write_text(source)
    one = Zygote(folder, *preload)
    try:
        if not one.ready["isolated"]:
            pytest.skip(f"no namespaces of their own for children here: {one.ready['why']}")
        yield one
    finally:
        one.end()
        shutil.rmtree(folder)


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    with running() as one:
        yield one


def test_the_next_worker_is_there_before_it_is_ordered(zygote: Zygote) -> None:
    first = zygote.worker("first")
    spare = zygote.spare()
    assert spare != first.pid
    second = zygote.worker("second", memory=2**29, processes=32, cpu=3)
    assert second.pid == spare
    assert Path(f"/proc/{spare}/comm").read_text().strip() == WORKER_NAME
    chances = set()
    for worker, name, memory, processes in ((first, "first", 2**30, 64), (second, "second", 2**29, 32)):
        said = worker.call(7)
        chances.add(said["chance"])
        assert said["x"] == 7 and said["pid"] == 1
        assert (said["memory"], said["processes"]) == (memory, processes)
        assert (said["tmp"], said["folder"]) == (SCRATCH, str(zygote.folder))
        assert said["environment"].pop("WHO") == name
        assert (said["environment"]["OMP_NUM_THREADS"] == "3") is (worker is second)
        assert said["capabilities"] == ["0000000000000000"]
    assert len(chances) == 2
    one, other = (worker.call(7) for worker in (first, second))  # what the spare rehearsed has left nothing
    for what in ("path", "open", "threads"):
        assert one[what] == other[what]
    third = zygote.spare()
    assert third not in (first.pid, second.pid) and zygote.spares() == [third]


def test_what_a_library_does_to_signals_is_no_workers() -> None:
    rude = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.pthread_sigmask(0, {signal.SIGUSR1})\n"
    with running(rude, "library") as zygote:
        assert zygote.ready["loaded"] == ["library"]
        first = zygote.worker("first")
        spare = zygote.spare()
        second = zygote.worker("second")
        assert second.pid == spare
        for worker in (first, second):
            assert worker.call(1)["signals"] == [signal.SIG_DFL, 0]


def test_a_worker_that_wants_other_scratch_gets_no_spare(zygote: Zygote) -> None:
    zygote.worker("first")
    spare = zygote.spare()
    other = zygote.worker("other", scratch=2 * SCRATCH)
    assert other.pid != spare and other.call(1)["tmp"] == 2 * SCRATCH
    until(lambda: not _lives(spare))
    assert zygote.worker("like-it", scratch=2 * SCRATCH).call(1)["tmp"] == 2 * SCRATCH


@pytest.mark.parametrize("group", ["next", "another"])
def test_a_spare_joins_its_control_group_before_it_is_ordered(zygote: Zygote, group: str, tmp_path: Path) -> None:
    zygote.worker("first")
    early, late = tmp_path / "early", tmp_path / "late"  # what is written there is what the kernel would read
    early.touch(), late.touch()
    with early.open("wb") as door:
        send_packet(zygote.control, {"op": "ahead", "group": "next"}, [door.fileno()])
    spare = zygote.spare()
    until(lambda: early.read_text() == "0")
    with late.open("wb") as door:
        worker = zygote.worker("second", doors=[door.fileno()], groups=1, group=group)
    assert worker.pid == spare and worker.call(1)["x"] == 1
    assert (late.read_text() == "0") is (group == "another")


def test_a_group_that_a_worker_has_got_is_no_spares(zygote: Zygote, tmp_path: Path) -> None:
    doors = [tmp_path / "ahead", tmp_path / "own"]
    with doors[0].open("wb") as ahead, doors[1].open("wb") as own:
        send_packet(zygote.control, {"op": "ahead", "group": "next"}, [ahead.fileno()])
        zygote.worker("first", doors=[own.fileno()], groups=1, group="next")
    zygote.spare()
    assert [one.read_text() for one in doors] == ["", "0"]


def test_a_spare_that_was_killed_is_not_missed(zygote: Zygote) -> None:
    zygote.worker("first")
    spare = zygote.spare()
    os.kill(spare, signal.SIGKILL)
    until(lambda: not _lives(spare))
    assert zygote.worker("second").call(1)["x"] == 1
    assert zygote.spare() != spare


@pytest.mark.parametrize("ready", [True, False])
def test_a_worker_of_which_the_keeper_cannot_be_told_runs_nothing(zygote: Zygote, ready: bool) -> None:
    """The keeper orders it of the next zygote, so that it would run twice."""
    if ready:
        zygote.worker("first")
        zygote.spare()
    before = (zygote.folder / "began").read_text() if ready else ""
    zygote.control.shutdown(socket.SHUT_RD)
    assert read_frame(zygote.order("second")) is None
    assert zygote.process.wait(10) != 0
    assert ((zygote.folder / "began").read_text() if ready else "") == before
    assert ready or not (zygote.folder / "began").exists()


def test_a_spare_ends_with_its_zygote_and_workers_stay(zygote: Zygote) -> None:
    worker = zygote.worker("first")
    spare = zygote.spare()
    zygote.process.kill()
    until(lambda: not _lives(spare))
    assert worker.call(1)["x"] == 1


def test_before_any_worker_there_is_no_spare(zygote: Zygote) -> None:
    order = {"id": "s", "kind": "command", "argv": ["true"], "cwd": "/", "environment": {}, "memory": 2**28}
    with open(os.devnull, "w") as log:
        send_packet(zygote.control, {"op": "start", **order, "processes": 8}, [log.fileno()])
    assert zygote.heard()["op"] == "started"
    time.sleep(0.5)
    assert zygote.spares() == []


def step(zygote: Zygote, name: str, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Order a step; return its process id and what it said of its outcome."""
    attempt = zygote.folder / name
    attempt.mkdir()
    inputs = {"attempt": name, "bundle": str(zygote.folder / "bundle"), "store": str(zygote.folder / "store")}
    inputs |= {"arguments": {"x": {"json": "7"}}}
    order = {"op": "start", "id": name, "kind": "python", "folder": str(attempt), "inputs": inputs}
    order |= {"cwd": str(zygote.folder), "environment": {"WHO": name}, "memory": 2**30, "scratch": SCRATCH}
    read, write = os.pipe()
    with open(read, "rb") as said, open(attempt / "log", "w") as log:
        send_packet(zygote.control, order | {"processes": 64, **changes}, [log.fileno(), write])
        os.close(write)
        answer = zygote.heard()
        assert (answer["op"], answer["id"]) == ("started", name), answer
        outcome = json.loads(said.read() or b"{}")
    assert outcome.get("ok"), (outcome, (attempt / "log").read_text())
    return int(answer["pid"]), json.loads(outcome["artifacts"]["result"]["json"])


def test_the_next_step_is_there_before_it_is_ordered(zygote: Zygote) -> None:
    first, one = step(zygote, "first")
    spare = zygote.spare()
    second, other = step(zygote, "second", memory=2**29)
    assert second == spare != first
    assert (other["x"], other["pid"], other["memory"]) == (7, 1, 2**29)
    assert (one["environment"]["WHO"], other["environment"]["WHO"]) == ("first", "second")
    for what in ("path", "open", "threads", "tmp", "capabilities"):  # what the spare rehearsed has left nothing
        assert one[what] == other[what], what
    worker = zygote.worker("worker")  # a spare is as good for either
    assert worker.call(1)["x"] == 1


def test_where_a_child_cannot_begin_apart_it_leaves_later() -> None:
    refused = "from ropewalk_runtime import clone\ndef refuse(**_):\n    raise OSError(38, 'clone3')\n"
    with running(f"{refused}clone.fork_apart = refuse\n", "library") as zygote:
        worker = zygote.worker("worker")
        assert (worker.call(1)["pid"], worker.call(1)["capabilities"]) == (1, ["0000000000000000"])
        spare = zygote.spare()
        assert step(zygote, "step")[0] == spare

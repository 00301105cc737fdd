"""Processes: records, adoption, whole trees end, strangers live."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ropewalk_core.errors import BadInput
from ropewalk_core.process_table import proportional_memory, tree
from ropewalk_core.processes import MARK, Processes, run

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def processes(tmp_path: Path):
    one = Processes(tmp_path / "processes")
    yield one
    one.sweep(grace=0.1)


def _gone(pid: int, patience: float = 5.0) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_spawn_find_end(processes: Processes, tmp_path: Path) -> None:
    running = processes.spawn("one", ["sleep", "60"], env=ENV, log=tmp_path / "log")
    assert processes.find("one") == running
    assert processes.alive("one")
    assert processes.living("on") == [running]
    assert processes.end("one")
    assert not processes.alive("one")
    assert not processes.end("one")
    assert _gone(running.pid)


def test_output_goes_to_the_log(processes: Processes, tmp_path: Path) -> None:
    running = processes.spawn("one", ["sh", "-c", "echo out; echo err >&2"], env=ENV, log=tmp_path / "sub" / "log")
    assert asyncio.run(processes.wait(running)) == 0
    assert (tmp_path / "sub" / "log").read_text() == "out\nerr\n"


def test_another_owner_adopts_and_ends(processes: Processes, tmp_path: Path) -> None:
    running = processes.spawn("one", ["sleep", "60"], env=ENV, log=tmp_path / "log")
    other = Processes(processes.directory)
    assert other.find("one") == running
    assert other.end("one")
    assert _gone(running.pid)


async def test_wait_for_an_adopted_one(processes: Processes, tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / "hub")!r})
from pathlib import Path
from ropewalk_core.processes import Processes
processes = Processes(Path({str(processes.directory)!r}))
processes.spawn("one", ["sleep", "0.3"], env={{"PATH": "/usr/bin:/bin"}}, log=Path("/dev/null"))
"""
    done = await asyncio.to_thread(run, [sys.executable, "-c", code])
    assert done.code == 0, done.err
    running = processes.find("one")
    assert running
    assert await asyncio.wait_for(processes.wait(running), 5) is None
    assert not processes.alive("one")


def test_a_stranger_with_the_same_pid_lives(processes: Processes, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        processes.directory.mkdir()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        record = {"name": "one", "pid": stranger.pid, "started": 1, "boot": boot, "mark": "x", "adopt": True}
        (processes.directory / "one.json").write_text(json.dumps(record))
        assert not processes.alive("one")
        assert not processes.end("one")
        (processes.directory / "one.json").write_text(json.dumps(record | {"boot": "earlier"}))
        assert processes.sweep() == []
        assert stranger.poll() is None
        stranger.kill()


def test_what_ignores_term_and_changed_its_session_ends_too(processes: Processes, tmp_path: Path) -> None:
    script = "trap '' TERM; setsid sleep 61 & echo $! > child; sleep 62"
    running = processes.spawn("one", ["sh", "-c", script], env=ENV, log=tmp_path / "log", cwd=tmp_path)
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
        time.sleep(0.02)
    child = int((tmp_path / "child").read_text())
    assert child in tree(running.pid)
    processes.end("one", grace=0.2)
    assert _gone(running.pid) and _gone(child)


def test_a_dead_leaders_session_ends_too(processes: Processes, tmp_path: Path) -> None:
    running = processes.spawn(
        "one", ["sh", "-c", "sleep 61 & echo $! > child; wait"], env=ENV, log=tmp_path / "log", cwd=tmp_path
    )
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    child = int((tmp_path / "child").read_text())
    assert processes.end("one", grace=0.5)
    assert _gone(child)


def test_what_a_killed_leader_left_ends_before_the_next_of_its_name(processes: Processes, tmp_path: Path) -> None:
    script = ["sh", "-c", "trap '' TERM; sleep 62 & echo $!; sleep 63"]
    children = []
    for number in range(2):
        running = processes.spawn("one", script, env=ENV, log=tmp_path / f"log{number}")
        while not (tmp_path / f"log{number}").read_text().strip():
            time.sleep(0.02)
        children.append(int((tmp_path / f"log{number}").read_text()))
        os.kill(running.pid, signal.SIGKILL)
        assert _gone(running.pid)
    assert _gone(children[0])
    assert not _gone(children[1], patience=0.1)
    (processes.directory / "one.json").unlink()  # and where nothing is recorded, its mark tells
    assert processes.sweep(grace=0.1) == ["one"]
    assert _gone(children[1])


def test_an_unrecorded_one_is_swept_and_others_are_left(processes: Processes, tmp_path: Path) -> None:
    lost = processes.spawn("lost", ["sleep", "61"], env=ENV, log=tmp_path / "log")
    kept = processes.spawn("kept", ["sleep", "61"], env=ENV, log=tmp_path / "log")
    (processes.directory / "lost.json").unlink()
    assert processes.sweep(lambda name: name == "lost", grace=0.2) == ["lost"]
    assert _gone(lost.pid)
    assert processes.alive("kept")
    assert processes.exit_code(kept) is None


def test_a_recorded_child_outlives_its_parent(processes: Processes, tmp_path: Path) -> None:
    code = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).parents[2] / "hub")!r})
from pathlib import Path
from ropewalk_core.processes import Processes
processes = Processes(Path({str(processes.directory)!r}))
processes.spawn("notebook", ["sleep", "61"], env={{"PATH": "/usr/bin:/bin"}}, log=Path("/dev/null"))
Path("ready").touch()
time.sleep(60)
"""
    processes.spawn("hub", [sys.executable, "-c", code], env=ENV, log=tmp_path / "log", cwd=tmp_path)
    deadline = time.monotonic() + 10
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    processes.end("hub")
    assert processes.alive("notebook")
    assert processes.end("notebook")


def test_bad_names_and_missing_programs(processes: Processes, tmp_path: Path) -> None:
    for name in ("", "../x", "a/b", "."):
        with pytest.raises(BadInput):
            processes.spawn(name, ["true"], env=ENV, log=tmp_path / "log")
    with pytest.raises(BadInput, match="No such file"):
        processes.spawn("one", ["/no/such/program"], env=ENV, log=tmp_path / "log")
    assert processes.find("one") is None


def test_run_and_memory(tmp_path: Path) -> None:
    assert run(["sh", "-c", "cat; exit 3"], data="hello").out == "hello"
    assert run(["sh", "-c", "exit 3"]).code == 3
    assert run(["/no/such"]).code == 127
    assert run(["sleep", "5"], timeout=0.1).code == 124
    assert proportional_memory(os.getpid()) > 2**20
    assert proportional_memory(2**22 + 1) == 0
    assert MARK.startswith("ROPEWALK_")

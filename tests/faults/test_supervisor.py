"""The supervisor under faults, with small processes in place of the platform's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import BadInput, Denied, HomeHeld, StorageFull, Unavailable
from ropewalk_core.processes import Processes, run
from ropewalk_core.settings import Settings
from ropewalk_hub import home as home_module
from ropewalk_hub import supervisor as supervisor_module
from ropewalk_hub.addresses import Addresses
from ropewalk_hub.siblings import Sibling, port_answers
from ropewalk_hub.sockets import Doors, holder, listen
from ropewalk_hub.supervisor import Supervisor, trim_logs
from tests.ports import free_port

SERVER = """
import http.server, os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else signal.SIG_DFL)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *args): pass
if sys.argv[1].startswith("fd"):
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
    server.socket = socket.socket(fileno=int(sys.argv[1][2:]))
else:
    http.server.HTTPServer.allow_reuse_address = True
    server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
server.serve_forever()
"""


@pytest.fixture
def settings() -> Iterator[Settings]:
    folder = Path(tempfile.mkdtemp(prefix="rw-"))  # short: sockets live in it
    yield settings_module.load(folder / "home", environ={}, door_port=free_port())
    Processes(folder / "home" / "run" / "processes").sweep(grace=0.1)
    shutil.rmtree(folder, ignore_errors=True)


def two(settings: Settings, addresses: Addresses, doors: Doors) -> list[Sibling]:
    """A front that holds the door, and a back on a port of its own."""
    fd = doors.platform[0].fileno()
    front = [sys.executable, "-c", SERVER, f"fd{fd}"]
    back = [sys.executable, "-c", SERVER, str(addresses.hub), "stubborn"]
    return [
        Sibling("front", front, lambda: port_answers(settings.door.port, "/"), sockets=doors.platform, first=True),
        Sibling("back", back, lambda: port_answers(addresses.hub, "/"), grace=0.3),
    ]


@asynccontextmanager
async def up(settings: Settings, choose: Callable[..., list[Sibling]] = two) -> AsyncIterator[Supervisor]:
    one = Supervisor(settings, lambda text: None, choose)
    ready = asyncio.Event()
    task = asyncio.create_task(one.run(lambda facts: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    try:
        yield one
    finally:
        one.stop()
        await task


def gone(pid: int) -> bool:
    """Say whether a process has ended; a zombie only waits for its parent."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


async def until(true: Callable[[], object], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def answered(port: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if await port_answers(port, "/"):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_up_and_down_leave_nothing(settings: Settings) -> None:
    async with up(settings) as one:
        facts = json.loads((settings.run / "ready.json").read_text())
        assert facts["address"] == settings.door.origin and facts["pid"] == os.getpid()
        held = home_module.holder(settings.home)
        assert held and held["pid"] == os.getpid()
        found = one.processes.living()
        assert [each.name for each in found] == ["platform.back", "platform.front"]
    assert home_module.holder(settings.home) is None
    assert not (settings.run / "ready.json").exists()
    assert all(gone(each.pid) for each in found)
    listen(settings).close()  # both doors are free again


async def test_each_is_restarted_alone(settings: Settings) -> None:
    async with up(settings) as one:
        front, back = one.processes.find("platform.front"), one.processes.find("platform.back")
        assert front and back
        os.kill(front.pid, signal.SIGKILL)
        # The supervisor holds the door: a connection waits in its queue instead of being refused.
        with socket.create_connection(("127.0.0.1", settings.door.port), 5):
            await until(lambda: (again := one.processes.find("platform.front")) and again.pid != front.pid)
        assert await answered(settings.door.port)
        assert one.processes.find("platform.back") == back


async def test_one_that_lives_but_does_not_answer_is_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_HEALTH", 0.05)
    monkeypatch.setattr(supervisor_module, "_SICK", 2)
    monkeypatch.setattr("ropewalk_hub.siblings._PATIENCE", 0.2)
    async with up(settings) as one:
        back = one.processes.find("platform.back")
        assert back
        os.kill(back.pid, signal.SIGSTOP)
        await until(lambda: (again := one.processes.find("platform.back")) and again.pid != back.pid)
    assert gone(back.pid)


async def test_what_people_run_ends_with_a_regular_stop(settings: Settings, tmp_path: Path) -> None:
    async with up(settings) as one:
        theirs = one.processes.spawn(
            "notebook.ann", ["sleep", "61"], env={"PATH": os.environ["PATH"]}, log=tmp_path / "l"
        )
    assert gone(theirs.pid)


async def test_after_a_kill_the_next_one_takes_over(settings: Settings, tmp_path: Path) -> None:
    home_module.prepare(settings)
    earlier = Processes(settings.run / "processes")
    env = {"PATH": os.environ["PATH"]}
    left = earlier.spawn("platform.back", ["sleep", "62"], env=env, log=tmp_path / "log", adopt=False)
    lost = earlier.spawn("platform.front", ["sleep", "62"], env=env, log=tmp_path / "log", adopt=False)
    (settings.run / "processes" / "platform.front.json").write_text('{"half": ')  # killed while it was written
    async with up(settings):  # makes the ports that a notebook remembers
        pass
    notebook = earlier.spawn("notebook.ann", ["sleep", "62"], env=env, log=tmp_path / "log")
    assert gone(left.pid) and gone(lost.pid)
    async with up(settings) as one:
        assert one.processes.find("notebook.ann") == notebook


async def test_a_second_up_says_who_holds_the_home(settings: Settings) -> None:
    async with up(settings):
        with pytest.raises(HomeHeld) as caught:
            async with up(settings):
                pass
    assert str(os.getpid()) in caught.value.message
    assert settings.door.origin in caught.value.message
    assert caught.value.details["pid"] == os.getpid()


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_taken_port_is_named_and_nothing_starts(settings: Settings, offset: int, address: str) -> None:
    port = settings.door.port + offset
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as other:
        try:
            other.bind((address, port))
        except OSError:
            pytest.skip("this machine has no IPv6")
        other.listen()
        with pytest.raises(BadInput) as caught:
            async with up(settings):
                pass
        assert f"Port {port} is taken on {address} by process {os.getpid()}" in caught.value.message
        assert "--port" in caught.value.hint
        assert holder(port).startswith(f"process {os.getpid()} (")
    assert not Processes(settings.run / "processes").living()
    async with up(settings):
        pass


async def test_what_never_gets_ready_is_named_with_its_log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_START", 0.8)

    def broken(settings: Settings, addresses: Addresses, doors: Doors) -> list[Sibling]:
        argv = [sys.executable, "-c", "raise SystemExit('the disk ate my homework')"]
        return [Sibling("hub", argv, lambda: port_answers(addresses.hub, "/"), first=True)]

    with pytest.raises(Unavailable) as caught:
        async with up(settings, broken):
            pass
    assert "The hub did not get ready" in caught.value.message
    assert "exit code 1" in caught.value.message
    assert "homework" in caught.value.hint
    assert home_module.holder(settings.home) is None


def test_the_home_is_refused_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="too long"):
        home_module.prepare(settings_module.load(Path("/tmp") / ("x" * 100), environ={}))
    (tmp_path / "file").touch()
    if len(str(tmp_path)) < 60:
        with pytest.raises(BadInput, match="not a folder"):
            home_module.prepare(settings_module.load(tmp_path / "file", environ={}))
    monkeypatch.setattr(home_module, "_LEAST", 2**62)
    with tempfile.TemporaryDirectory(prefix="rw-") as folder, pytest.raises(StorageFull, match="MiB are left"):
        home_module.prepare(settings_module.load(Path(folder) / "home", environ={}))
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory(prefix="rw-") as folder, pytest.raises(Denied, match="may not write"):
            Path(folder).chmod(0o500)
            home_module.prepare(settings_module.load(Path(folder) / "home", environ={}))
    with pytest.raises(BadInput, match="cannot be made"):
        home_module.prepare(settings_module.load(Path("/proc/ropewalk"), environ={}))


def test_modes_of_the_home(settings: Settings) -> None:
    home_module.prepare(settings)
    for folder in (settings.home, settings.secrets, settings.run):
        assert folder.stat().st_mode & 0o077 == 0


def test_logs_stay_small(tmp_path: Path) -> None:
    (tmp_path / "hub.log").write_text("x" * 2000)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "ada.log").write_text("x" * 2000)
    with (tmp_path / "hub.log").open("a") as writer:
        trim_logs(tmp_path, cap=1000)
        writer.write("after\n")
        writer.flush()
        assert (tmp_path / "hub.log").read_text() == "after\n"
    assert (tmp_path / "hub.log.1").read_text() == "x" * 1000
    assert (tmp_path / "notebooks" / "ada.log").read_text() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the superuser: mounts a small disk")
def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from ropewalk_core.errors import StorageFull
from ropewalk_core.processes import Processes
disk = Path({str(tmp_path)!r})
filler = (disk / "filler").open("wb", buffering=0)
try:
    while True: filler.write(bytes(4096))
except OSError: pass
for log in (disk / "log", Path("/dev/null")):
    try:
        Processes(disk / "processes").spawn("one", ["/bin/sleep", "63"], env={{}}, log=log)
    except StorageFull as error:
        print(error.message)
"""
    script = (
        f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec {sys.executable} -c '{code.replace(chr(39), chr(34))}'"
    )
    done = run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script], timeout=30)
    assert done.out.splitlines() == ["The disk is full, so one was not started."] * 2, done.err
    assert "sleep 63" not in run(["ps", "-eo", "args"]).out.replace("sh -c", "")

"""Ways out of a worker: each works from a process without walls, and from a function it leads nowhere.

What would harm this machine is tried from inside alone. Beside that: what one worker leaves for the next. Not here:
attacks over HTTP (``test_front``), through the gateway's own frames (``test_functions``), in a cluster (``tenant``).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.testing import ADA, BOB
from tests.function_rig import Rig, running
from tests.security.test_functions import PROBE, ask

CANARY = "canary-of-the-platform"
ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not ROOT, reason="only the superuser can do it without walls")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(PROBE, "attacker"))
        yield rig


def unwalled(code: str) -> Any:
    """Run an attack in a process of its own without any walls, and return what it found."""
    argv = [sys.executable, "-c", f"{code}\nimport json\nprint(json.dumps(result))"]
    return json.loads(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout)


@contextmanager
def platform(**more: str) -> Iterator[int]:
    """Give a process that stands for one of the platform's: it holds something in its environment and its memory."""
    with subprocess.Popen(["sleep", "60"], env={"SECRET": CANARY, **more}) as process:
        try:
            yield process.pid
        finally:
            process.kill()


LOOK = f"""
import os
result = []
for name in os.listdir("/proc"):
    for part in ("environ", "mem", "cmdline"):
        try:
            with open(f"/proc/{{name}}/{{part}}", "rb") as file:
                if part != "mem" and {CANARY.encode()!r} in file.read():
                    result.append(part)
        except (OSError, ValueError):
            pass
"""
TRACE = """
import ctypes, os
libc, me = ctypes.CDLL(None), os.getpid()
result = 0
for pid in PIDS:
    if pid != me and libc.ptrace(16, pid, 0, 0) == 0:
        result += 1
        libc.ptrace(17, pid, 0, 0)
"""
REMOTE = """
import ctypes, os
libc, buffer, result = ctypes.CDLL(None), ctypes.create_string_buffer(16), 0
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
for pid in PIDS:
    if pid == os.getpid():
        continue
    try:
        start = int(open(f"/proc/{pid}/maps").readline().split("-")[0], 16)
    except (OSError, ValueError):
        continue
    here, there = Piece(ctypes.addressof(buffer), 16), Piece(start, 16)
    result += libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0
"""


async def test_processes_of_the_platform_cannot_be_read(rig: Rig) -> None:
    with platform():
        assert "environ" in unwalled(LOOK)
        assert await ask(rig, "attacker", LOOK) == []


@pytest.mark.parametrize("attack", [TRACE, REMOTE], ids=["ptrace", "process_vm_readv"])
async def test_memory_of_other_processes_cannot_be_reached(rig: Rig, attack: str) -> None:
    with platform() as pid:
        if ROOT:  # another kernel's settings may keep this from ordinary users
            assert unwalled(attack.replace("PIDS", f"[{pid}]")) == 1
        assert await ask(rig, "attacker", attack.replace("PIDS", f"[{pid}, *range(1, 400)]")) == 0


async def test_sockets_of_the_machine_cannot_be_found(rig: Rig, tmp_path: Path) -> None:
    code = """
import socket
result = False
try:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(PATH)
        result = True
except OSError:
    pass
"""
    for path in (f"/tmp/rw-{os.getpid()}.sock", f"/run/rw-{os.getpid()}.sock", f"/dev/shm/rw-{os.getpid()}.sock"):
        if not os.access(os.path.dirname(path), os.W_OK):
            continue
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            try:
                os.chmod(path, 0o777)
                server.listen()
                attack = code.replace("PATH", repr(path))
                assert unwalled(attack) is True
                assert await ask(rig, "attacker", attack) is False, path
            finally:
                os.unlink(path)


DEVICES = """
import os, stat
result = []
for folder, _, names in os.walk("/dev"):
    for name in names:
        path = os.path.join(folder, name)
        try:
            kind = os.lstat(path).st_mode
        except OSError:
            continue
        if stat.S_ISBLK(kind) or stat.S_ISCHR(kind):
            result.append(path)
"""
HARMLESS = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}


async def test_only_harmless_devices_are_there_and_none_can_be_made(rig: Rig) -> None:
    seen = {Path(path).name for path in await ask(rig, "attacker", DEVICES) if not path.startswith("/dev/pts/")}
    assert {name for name in seen if not name.startswith("nvidia")} <= HARMLESS
    make = """
import os, stat
result = []
for folder in ("/tmp", os.getcwd(), "/dev", "/dev/shm"):
    for kind, device in ((stat.S_IFBLK, os.makedev(8, 0)), (stat.S_IFCHR, os.makedev(1, 1))):
        try:
            os.mknod(os.path.join(folder, "made"), kind | 0o666, device)
            result.append(folder)
            os.unlink(os.path.join(folder, "made"))
        except OSError:
            pass
"""
    assert await ask(rig, "attacker", make) == []
    terminal = (
        "import os\ntry:\n    os.open('/dev/tty', os.O_RDWR)\n    result = True\nexcept OSError:\n    result = False"
    )
    assert await ask(rig, "attacker", terminal) is False  # so nothing can be typed into whoever started us


@root_only
def test_devices_could_be_made_without_walls(tmp_path: Path) -> None:
    code = f"import os, stat\nos.mknod({str(tmp_path / 'made')!r}, stat.S_IFCHR, os.makedev(1, 3))\nresult = True"
    assert unwalled(code) is True


KERNEL = """
import os
result = []
tops = ["/proc/sys", "/sys"] if ALL else []
known = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger"]
known += ["/proc/sys/vm/overcommit_memory", "/sys/kernel/uevent_helper"]
for path in known + [os.path.join(folder, name) for top in tops for folder, _, names in os.walk(top) for name in names]:
    try:
        os.close(os.open(path, os.O_WRONLY))
        result.append(path)
    except OSError:
        pass
"""


async def test_nothing_of_the_kernel_can_be_written(rig: Rig) -> None:
    own = {"/proc/sys/kernel/ns_last_pid"}  # of the worker's own processes
    assert set(await ask(rig, "attacker", KERNEL.replace("ALL", "True"))) <= own


@root_only
def test_the_kernel_could_be_written_without_walls() -> None:
    assert "/proc/sys/kernel/core_pattern" in unwalled(KERNEL.replace("ALL", "False"))


CALLS = {
    "pivot_root": 155,
    "init_module": 175,
    "delete_module": 176,
    "kexec_load": 246,
    "open_by_handle_at": 304,
    "setns": 308,
    "finit_module": 313,
    "bpf": 321,
    "swapon": 167,
    "reboot": 169,
    "settimeofday": 164,
    "sethostname": 170,
    "chroot": 161,
    "acct": 163,
    "move_mount": 429,
    "fsopen": 430,
    "fsmount": 432,
    "mount_setattr": 442,
}
"""Calls of the kernel by their number on x86-64 that only a privileged process may make."""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
async def test_privileged_calls_are_refused(rig: Rig) -> None:
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
result = {{}}
for name, number in {CALLS!r}.items():
    given = [ctypes.c_void_p(0)] * 6
    if name == "chroot":
        given[0] = ctypes.c_char_p(b"/tmp")
    if name == "setns":
        given[0] = ctypes.c_long(os.open("/proc/1/ns/mnt", os.O_RDONLY))
    if name == "sethostname":
        given[:2] = ctypes.c_char_p(b"x"), ctypes.c_long(1)
    if libc.syscall(number, *given) != -1:
        result[name] = "done"
"""
    assert await ask(rig, "attacker", code) == {}


SHOCKER = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]
handle, mount = Handle(size=128), ctypes.c_int()
named = libc.name_to_handle_at(-100, PATH.encode(), ctypes.byref(handle), ctypes.byref(mount), 0)
at = os.open(os.path.dirname(PATH), os.O_RDONLY)
opened = libc.open_by_handle_at(at, ctypes.byref(handle), os.O_RDONLY)
result = [named, opened >= 0]
"""


@root_only
async def test_files_cannot_be_opened_around_their_folders(rig: Rig, tmp_path: Path) -> None:
    """By its handle a file can be opened whatever is mounted over it: how containers were once left."""
    (tmp_path / "file").write_text("x")
    walled, free = "'/etc/passwd'", repr(str(tmp_path / "file"))
    found = unwalled(SHOCKER.replace("PATH", free))
    if found[0] == 0:  # not every file system gives handles
        assert found[1] is True
    assert (await ask(rig, "attacker", SHOCKER.replace("PATH", walled)))[1] is False


SHARED = """
import ctypes
libc = ctypes.CDLL(None)
result = libc.shmget(0x5EC4E7, 4096, FLAGS) >= 0
"""
MAKE, FIND = "0o1666", "0"


async def test_memory_that_is_shared_by_a_number_ends_at_the_wall(rig: Rig) -> None:
    try:
        assert unwalled(SHARED.replace("FLAGS", MAKE)) and unwalled(SHARED.replace("FLAGS", FIND))
        assert await ask(rig, "attacker", SHARED.replace("FLAGS", FIND)) is False
        assert await ask(rig, "attacker", SHARED.replace("FLAGS", MAKE)) is True  # its own
    finally:
        unwalled("import ctypes\nlibc = ctypes.CDLL(None)\nresult = libc.shmctl(libc.shmget(0x5EC4E7, 4096, 0), 0, 0)")


# What one worker leaves for the next

LEAVE = """
import builtins, os, random, sys, types
builtins.canary = random.canary = 1
os.environ["CANARY"] = "1"
sys.modules["canary"] = types.ModuleType("canary")
os.umask(0o077)
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run"):
    try:
        open(folder + "/canary", "w").write("1")
    except OSError:
        pass
libc = __import__("ctypes").CDLL(None)
libc.shmget(0x5EC4E8, 4096, 0o1666)
result = os.getpid()
"""
SEEK = """
import builtins, os, random, sys
result = [name for name, found in {
    "builtins": hasattr(builtins, "canary"), "module": hasattr(random, "canary"), "environment": "CANARY" in os.environ,
    "modules": "canary" in sys.modules, "umask": os.umask(0o022) == 0o077,
    "shared memory": __import__("ctypes").CDLL(None).shmget(0x5EC4E8, 4096, 0) >= 0,
}.items() if found]
result += [folder for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run") if os.path.exists(folder + "/canary")]
"""
OUTER = {"/var/tmp", "/run"}
"""Folders of the account's sandbox, which its workers share as they share its files; they hold nothing of others."""


def probe(name: str) -> FunctionSpec:
    bundle = Bundle(files={"cell.py": PROBE}, entry="cell:handler", imports=("random", "ctypes"))
    return FunctionSpec(name=name, bundle=bundle)


async def test_a_worker_finds_what_it_left_itself(rig: Rig) -> None:
    """So the search finds something where there is no wall: in the same warm worker."""
    await rig.functions.deploy(ADA, "ada", probe("victim"))
    await ask(rig, "victim", LEAVE)
    assert {"builtins", "module", "environment", "modules", "umask", "shared memory", "/tmp", "/dev/shm"} <= set(
        await ask(rig, "victim", SEEK)
    )


async def test_nothing_is_left_for_another_function_revision_or_worker(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", probe("victim"))
    await ask(rig, "victim", LEAVE)
    await rig.functions.deploy(ADA, "ada", probe("other"))  # forked from the same zygote
    assert set(await ask(rig, "other", SEEK)) <= OUTER
    changed = probe("victim").model_copy(update={"timeout": 59.0})
    assert (await rig.functions.deploy(ADA, "ada", changed)).revision.number == 2
    assert set(await ask(rig, "victim", SEEK)) <= OUTER


async def test_nothing_is_left_for_another_account(rig: Rig) -> None:
    await rig.functions.deploy(ADA, "ada", probe("victim"))
    await ask(rig, "victim", LEAVE)
    await rig.functions.deploy(BOB, "bob", probe("victim"))
    headers = {"Authorization": f"Bearer {rig.token('bob')}", "Content-Type": "application/json"}
    content = json.dumps({"code": SEEK}).encode()
    answer = await rig.request("POST", "victim--fn--bob", headers=headers, content=content)
    assert (answer.status_code, answer.json()) == (200, [])

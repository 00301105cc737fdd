"""What a person's own code can do from inside the sandbox: everything it needs, and nothing of anybody else's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import BadPath
from ropewalk_core.leases import Device
from ropewalk_core.local import accounts, sandbox
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Leases
from ropewalk_core.processes import Finished, Processes, run
from ropewalk_core.settings import Settings

ROOT = os.geteuid() == 0
pytestmark = pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}")


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    one = settings_module.load(tmp_path / "home", environ={})
    for folder in (one.secrets, one.run, one.home / "hub"):
        folder.mkdir(mode=0o700, parents=True)
    one.home.chmod(0o700)
    (one.secrets / "issuer-key").write_text("TOP SECRET")
    (one.home / "journal.db").write_text("TOP SECRET")
    (one.home / "hub" / "jupyterhub.sqlite").write_text("TOP SECRET")
    return one


@pytest.fixture
def ann(home: Settings) -> AccountPaths:
    return accounts.prepare(home, "ann")


@pytest.fixture
def bob(home: Settings, ann: AccountPaths) -> AccountPaths:
    paths = accounts.prepare(home, "bob")
    os.close(accounts.open_inside(paths, "files/diary"))
    (paths.files / "diary").write_text("TOP SECRET")
    (paths.files / "diary").chmod(0o644)
    return paths


def shell(home: Settings, paths: AccountPaths, script: str, **options: object) -> Finished:
    return run(sandbox.command(home, paths, ["/bin/sh", "-c", script], **options))  # type: ignore[arg-type]


def test_own_files_can_be_written(home: Settings, ann: AccountPaths) -> None:
    done = shell(home, ann, "echo hello > note; pwd; echo $HOME; whoami; cat note")
    assert done.out.split() == [str(ann.files), str(ann.files), "ann", "hello"], done.err
    found = (ann.files / "note").stat()
    assert found.st_uid == accounts.uid_of(ann)
    assert accounts.uid_of(ann) == (home.accounts.first_uid if ROOT else os.geteuid())


@pytest.mark.parametrize(
    "what", ["secrets/issuer-key", "journal.db", "hub/jupyterhub.sqlite", "run", "first-administrator"]
)
def test_the_home_is_not_there(home: Settings, ann: AccountPaths, what: str) -> None:
    accounts.mark_first(home, "ann")
    assert (home.home / what).exists()
    done = shell(home, ann, f"cat {home.home / what} {home.home / what}/*")
    assert done.code != 0
    assert "SECRET" not in done.out
    assert "No such file" in done.err


def test_another_account_is_not_there(home: Settings, ann: AccountPaths, bob: AccountPaths) -> None:
    done = shell(home, ann, f"ls {home.home / 'accounts'}; cat {bob.files / 'diary'}")
    assert done.out.split() == ["ann"]
    assert "No such file" in done.err


@pytest.mark.skipif(not ROOT, reason="needs the superuser: only then has each account a user of its own")
def test_another_account_has_another_user(home: Settings, ann: AccountPaths, bob: AccountPaths) -> None:
    assert accounts.uid_of(ann) != accounts.uid_of(bob)
    assert bob.root.stat().st_mode & 0o077 == 0


def test_no_path_leads_out_of_the_sandbox(home: Settings, ann: AccountPaths, bob: AccountPaths) -> None:
    (ann.files / "way-out").symlink_to(home.secrets)
    done = shell(
        home, ann, f"cat way-out/issuer-key; cat /proc/1/root{home.secrets}/issuer-key; ls /proc/1/cwd/../../.."
    )
    assert "SECRET" not in done.out


def test_platform_processes_cannot_be_seen_or_signalled(home: Settings, ann: AccountPaths, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as platform:
        done = shell(home, ann, f"kill -9 {platform.pid}; ls /proc | grep -E '^[0-9]+$' | wc -l; kill -9 -1")
        time.sleep(0.05)
        assert platform.poll() is None
        assert int(done.out.split()[0]) < 12
        platform.kill()


def test_a_siblings_process_cannot_be_seen_or_signalled(
    home: Settings, ann: AccountPaths, bob: AccountPaths, tmp_path: Path
) -> None:
    processes = Processes(home.run / "processes")
    argv = sandbox.command(home, bob, ["/bin/sh", "-c", "echo $$; exec sleep 60"])
    theirs = processes.spawn(
        "service.bob.web", argv, env=sandbox.environ(bob, home.environments.base), log=tmp_path / "log"
    )
    try:
        done = shell(home, ann, f"for p in $(seq 2 400) {theirs.pid}; do kill -9 $p; done 2>/dev/null; kill -9 -1")
        assert done.code in (-signal.SIGKILL, 137, 0)
        assert processes.alive("service.bob.web")
    finally:
        processes.end("service.bob.web", 0.2)


def test_privileges_cannot_be_gained(home: Settings, ann: AccountPaths) -> None:
    done = shell(home, ann, "grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs' /proc/self/status; unshare -Ur id")
    values = dict(line.split() for line in done.out.splitlines() if ":" in line)
    assert values["NoNewPrivs:"] == "1"
    assert int(values["CapEff:"], 16) == int(values["CapPrm:"], 16) == int(values["CapAmb:"], 16) == 0
    assert "uid=0" not in done.out or not sandbox.probe().closes


def test_code_and_environments_are_read_only(home: Settings, ann: AccountPaths) -> None:
    for path in (
        Path(sandbox.__file__),
        home.environments.base / "pyvenv.cfg",
        Path("/usr/bin/env"),
        Path("/etc/passwd"),
    ):
        done = shell(
            home, ann, f"test -r {path} && echo readable; echo x >> {path} && echo written; touch {path.parent}/x"
        )
        assert done.out.split() == ["readable"], path


def test_the_base_environment_works(home: Settings, ann: AccountPaths) -> None:
    python = home.environments.base / "bin" / "python"
    done = run(sandbox.command(home, ann, [str(python), "-c", "import ssl, httpx, ropewalk_runtime; print('ready')"]))
    assert done.out == "ready\n", done.err


def test_the_environment_is_clean(home: Settings, ann: AccountPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "TOP SECRET")
    assert "SECRET" not in shell(home, ann, "env").out
    assert "COLOUR=red" in shell(home, ann, "env", environment={"COLOUR": "red"}).out
    inherited = run(
        sandbox.command(home, ann, ["/bin/sh", "-c", "env"], inherit=True),
        env=sandbox.environ(ann, home.environments.base, {"A": "b"}),
    )
    assert "A=b" in inherited.out.split()
    assert "ROPEWALK_PROCESS" not in inherited.out


def test_without_a_network_nothing_of_the_machine_answers(home: Settings, ann: AccountPaths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('connected')"
        argv = [str(home.environments.base / "bin" / "python"), "-c", code]
        assert run(sandbox.command(home, ann, argv)).out == "connected\n"
        assert "refused" in run(sandbox.command(home, ann, argv, network=False)).err


def test_sockets_of_the_platform_are_out_of_reach(
    home: Settings, ann: AccountPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.run)  # the whole path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("platform.sock")
        server.listen()
        code = f"import os, socket; os.chdir({str(home.run)!r}); socket.socket(socket.AF_UNIX).connect('platform.sock')"
        done = run(sandbox.command(home, ann, [str(home.environments.base / "bin" / "python"), "-c", code]))
        assert "FileNotFoundError" in done.err


def test_memory_is_limited(home: Settings, ann: AccountPaths) -> None:
    python = home.environments.base / "bin" / "python"
    argv = [str(python), "-c", "x = bytearray(600 * 2**20); print('got it')"]
    assert run(sandbox.command(home, ann, argv, memory=2**30, group="test")).out == "got it\n"
    assert run(sandbox.command(home, ann, argv, memory=200 * 2**20, group="test")).code != 0


def test_the_whole_sandbox_ends_with_its_record(home: Settings, ann: AccountPaths, tmp_path: Path) -> None:
    processes = Processes(home.run / "processes")
    script = "trap '' TERM; setsid sleep 62 & setsid sh -c 'trap \"\" TERM; sleep 63' & echo ready; wait; sleep 64"
    argv = sandbox.command(home, ann, ["/bin/sh", "-c", script])
    running = processes.spawn("service.ann.web", argv, env={}, log=tmp_path / "log")
    deadline = time.monotonic() + 10
    while "ready" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)  # bubblewrap itself; what it watched lives on and is found by its mark
    assert Processes(processes.directory).end("service.ann.web", 0.3)
    listing = run(["ps", "-eo", "args"]).out
    assert not [line for line in listing.splitlines() if line.startswith(("sleep 62", "sleep 63", "sleep 64"))]


def test_the_folder_of_up_is_the_first_administrators(tmp_path: Path, home: Settings) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper.py").write_text("x = 1\n")
    mine = settings_module.load(home.home, environ={}, folder=folder)
    ann, bob = accounts.prepare(mine, "ann"), accounts.prepare(mine, "bob")
    accounts.mark_first(mine, "ann")
    sandbox.check_folder(mine)
    done = shell(mine, ann, f"cd {folder} && cat helper.py && echo new > made && stat -c %U made")
    assert done.out.split() == ["x", "=", "1", "ann"], done.err
    assert (folder / "made").stat().st_uid == folder.stat().st_uid
    assert "No such file" in shell(mine, bob, f"ls {folder}").err


def test_folders_that_cannot_be_opened_are_refused(tmp_path: Path, home: Settings) -> None:
    for folder in (
        tmp_path / "none",
        Path("/"),
        Path("/usr/share"),
        home.home / "accounts",
        Path(sandbox.__file__).parents[3],
    ):
        with pytest.raises(BadPath) as caught:
            sandbox.check_folder(settings_module.load(home.home, environ={}, folder=folder))
        assert caught.value.field == "FOLDER"
        assert str(folder) in caught.value.message


def test_the_home_inside_the_folder_stays_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "everything"
    mine = settings_module.load(folder / "state" / "ropewalk", environ={}, folder=folder)
    mine.secrets.mkdir(parents=True)
    (mine.secrets / "issuer-key").write_text("TOP SECRET")
    ann = accounts.prepare(mine, "ann")
    accounts.mark_first(mine, "ann")
    done = shell(
        mine, ann, f"ls {folder}/state; cat {mine.secrets}/issuer-key; echo ok > note; echo ok > {folder}/note"
    )
    assert done.out.split() == ["ropewalk"]
    assert "No such file" in done.err
    assert (ann.files / "note").exists() and (folder / "note").exists()


def test_a_log_of_ours_never_follows_a_persons_link(home: Settings, ann: AccountPaths, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (ann.root / "services" / "web").mkdir()
    (ann.root / "services" / "web" / "log").symlink_to(target)
    with pytest.raises(BadPath):
        accounts.open_inside(ann, "services/web/log")
    (ann.root / "services" / "linked").symlink_to(tmp_path)
    with pytest.raises(BadPath):
        accounts.open_inside(ann, "services/linked/target")
    os.link(target, ann.root / "services" / "web" / "hard")
    with pytest.raises(BadPath):
        accounts.open_inside(ann, "services/web/hard")
    os.mkfifo(ann.root / "services" / "web" / "pipe")
    with pytest.raises(BadPath):
        accounts.open_inside(ann, "services/web/pipe")
    assert target.read_text() == "precious"


def test_two_owners_prepare_at_once(home: Settings) -> None:
    names = [f"person-{number}" for number in range(8)]
    threads = [threading.Thread(target=accounts.prepare, args=(home, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    users = {accounts.uid_of(AccountPaths(home.home, name)) for name in names}
    assert len(users) == (8 if ROOT else 1)
    assert sys.platform == "linux"


# Accelerators

STEAL = """
import ctypes, fcntl, os, struct, sys
libc, tried = ctypes.CDLL(None, use_errno=True), []
for pid in [int(one) for one in os.listdir("/proc") if one.isdigit()]:
    try:
        of = os.pidfd_open(pid)
    except OSError:
        continue
    for number in range(64):
        tried.append(libc.syscall(438, of, number, 0))  # pidfd_getfd
for one in [*tried, *range(64)]:
    try:
        fcntl.fcntl(one, 37, struct.pack("hhqqi4x", 2, 0, 0, 0, 0))  # F_OFD_SETLK, F_UNLCK
    except (OSError, ValueError):
        continue
print("tried", flush=True)
"""


def test_an_accelerator_is_there_for_who_has_it_and_for_nobody_else(
    home: Settings, ann: AccountPaths, bob: AccountPaths, tmp_path: Path
) -> None:
    """Also where only a group may open it, and until nothing that was started in its sandbox lives."""
    node, other = tmp_path / "toy0", tmp_path / "toy1"
    for one in (node, other):
        one.write_text("a device")
        one.chmod(0o660)
        if ROOT:
            os.chown(one, 0, 4242)
    leases = Leases(home, [Device("toy-0", "toy", (str(node),)), Device("toy-1", "toy", (str(other),))])
    look = f"cat {node}; echo; cat {other}; echo; echo $ROPEWALK_ACCELERATOR"
    with started_with_one(home, ann, leases, ["/bin/sh", "-c", f"{look}; exec sleep 60"]) as log:
        until(lambda: log.read_text().split()[-1:] == ["toy"])
        assert log.read_text().startswith("a device\n") and "No such file" in log.read_text()
        assert [(one.device, one.account) for one in leases.held()] == [("toy-0", "ann")]
        assert shell(home, bob, look).out.split() == ["cpu"]
    assert leases.held() == []


def test_nothing_in_a_sandbox_can_give_up_its_accelerator(home: Settings, ann: AccountPaths, tmp_path: Path) -> None:
    """Else somebody else would get it while it is still in use."""
    leases = Leases(home, [Device("toy-0", "toy", (str(tmp_path / "toy"),))])
    steal = [sys.executable, "-c", f"{STEAL}\nimport time; time.sleep(60)"]
    with started_with_one(home, ann, leases, steal) as log:
        until(lambda: "tried" in log.read_text())
        assert [one.device for one in leases.held()] == ["toy-0"]
        assert leases.lock(leases.devices[0], "bob", "notebook") is None
    assert leases.held() == []


@contextmanager
def started_with_one(home: Settings, paths: AccountPaths, leases: Leases, argv: list[str]) -> Iterator[Path]:
    """Give the output of a command that has an accelerator."""
    processes, log = Processes(home.run / "processes"), home.home / "log"
    with leases.lend(("toy",), paths.account, "notebook") as lease:
        assert lease
        command = sandbox.command(home, paths, argv, lease=lease)
        env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
        lease.given(processes.spawn("notebook.ann", command, env=env, log=log, pass_fds=[lease.descriptor]))
    try:
        yield log
    finally:
        processes.end("notebook.ann", 0.0)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)

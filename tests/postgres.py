"""A real PostgreSQL server in a temporary folder, for the tests of the journal.

It listens on a unix socket of its own and on a free port of the loopback, keeps nothing, and ends with the tests.
Debian's programs are used; where they are missing a test fails under CI and is skipped elsewhere, saying what to
install.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.ports import free_port

_LACKS = "PostgreSQL's programs are missing: apt-get install postgresql"


def programs() -> Path:
    """Return the folder of initdb and postgres, or fail or skip."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[4]))
    if found:
        return found[-1].parent
    if initdb := shutil.which("initdb"):
        return Path(initdb).resolve().parent
    if os.environ.get("CI"):
        pytest.fail(_LACKS)
    pytest.skip(_LACKS)


def user() -> str:
    """Return the user that it runs as, which is never the superuser and must have a name."""
    names = {one.pw_name: one.pw_uid for one in pwd.getpwall()}
    if os.geteuid() == 0:
        return "postgres" if "postgres" in names else "nobody"
    mine = next((name for name, number in names.items() if number == os.geteuid()), None)
    if mine is None:
        pytest.skip("PostgreSQL's initdb wants a user with a name, and this one has none")
    return mine


class Postgres:
    """A server that can be stopped, killed and started again."""

    def __init__(self, folder: Path, bin: Path) -> None:
        self.folder, self._bin, self.port, self._user = folder, bin, free_port(), user()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def initialise(self) -> None:
        """Make the cluster's files."""
        self.folder.chmod(0o700)
        if os.geteuid() == 0:
            shutil.chown(self.folder, self._user)
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=ropewalk", "--no-sync"]
        done = subprocess.run(
            self._as_user([self._bin / "initdb", "-D", self.folder / "data", *options]), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",  # processes are killed here, not machines
            "max_connections": 50,
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user([self._bin / "postgres", "-D", self.folder / "data", *options]), stdout=log, stderr=log
            )
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.address("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text(errors="replace")[-3000:]) from None
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends every session at once, SIGQUIT as a crash does."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Signal the server."""
        assert self._process is not None
        self._process.send_signal(number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let none of its processes run meanwhile, while the kernel goes on taking what is sent to them."""
        assert self._process is not None
        main = self._process.pid
        self._process.send_signal(signal.SIGSTOP)  # it makes no more of them
        others = [int(one) for one in Path(f"/proc/{main}/task/{main}/children").read_text().split()]
        try:
            for one in others:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGSTOP)
            yield
        finally:
            for one in (*others, main):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGCONT)

    def address(self, database: str, *, tcp: bool = False) -> str:
        """Return the address of a database."""
        host = "127.0.0.1" if tcp else str(self.folder).replace("/", "%2F")
        return f"postgresql://ropewalk@{host}:{self.port}/{database}"

    def database(self) -> str:
        """Return the address of a new, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name)

    def _as_user(self, argv: Sequence[object]) -> list[str]:
        wrap = ["setpriv", f"--reuid={self._user}", "--clear-groups"] if os.geteuid() == 0 else []
        return [*wrap, *map(str, argv)]


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server meanwhile."""
    bin = programs()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path has at most 107 bytes
    one = Postgres(folder, bin)
    try:
        one.initialise()
        one.start()
        yield one
    finally:
        one.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)

"""A folder that a bench works in and the processes it starts there. Nothing of either stays, however the bench ends.

Each process is started through `ropewalk_core.processes`, which finds what it started by a record and by a mark; a
guard beside the bench does the cleaning when the bench is killed. Every wait has an end. Not here: what is measured.
Rejected: a process namespace for the whole bench (it needs rights that `ropewalk up` must not have), and asking the
kernel to signal children when we die (their children would stay).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ropewalk_core.local import cgroups
from ropewalk_core.processes import Processes, Running
from ropewalk_core.settings import Settings

CHECKOUT = Path(__file__).parent.parent
PREFIX = "ropewalk-bench-"
_GRACE = 30.0
_STEP = 0.02


class Scratch:
    """A folder, its processes, and the guard that ends them after us; use `scratch` to get one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes = Processes(folder / "processes")

    @contextlib.contextmanager
    def running(
        self,
        name: str,
        argv: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        cores: Sequence[int] = (),
        grace: float = 10.0,
    ) -> Iterator[Running]:
        """Have a program run meanwhile, on these cores only if there are any; what it prints is in ``logs``."""
        one = self._spawn(name, argv, env, cwd, cores)
        try:
            yield one
        finally:
            self._processes.end(name, grace)
            self._processes.sweep(lambda found: found == name, grace=0.5)  # what left its session has its mark

    def call(
        self,
        name: str,
        argv: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        cores: Sequence[int] = (),
        seconds: float = 900.0,
    ) -> str:
        """Run a program to its end and return what it printed.

        Raises
        ------
        RuntimeError
            If it fails, or does not end in so many seconds; the message has the end of what it printed.
        """
        self.log(name).unlink(missing_ok=True)
        with self.running(name, argv, env=env, cwd=cwd, cores=cores) as one:
            code = until(lambda: _ended(self._processes.exit_code(one)), f"the end of {name}", seconds)
        text = self.log(name).read_text(errors="replace")
        if code != "0":
            raise RuntimeError(f"{name} ended with {code}:\n{text[-2000:]}")
        return text

    def log(self, name: str) -> Path:
        """Return where a program's output is."""
        return self.folder / "logs" / f"{name}.log"

    def _spawn(
        self,
        name: str,
        argv: Sequence[object],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        cores: Sequence[int],
    ) -> Running:
        pinned = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
        variables = os.environ | dict(env or {})
        words = [*pinned, *map(str, argv)]
        return self._processes.spawn(name, words, env=variables, log=self.log(name), cwd=cwd)


@contextlib.contextmanager
def scratch() -> Iterator[Scratch]:
    """Give a scratch folder, and leave nothing of it; a kill -9 of this process does not change that.

    A signal that asks us to end is raised as `SystemExit`, so that what was started is ended in order.
    """
    before = signal.signal(signal.SIGTERM, _leave)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)  # accounts have users of their own
    read, write = os.pipe()
    argv = [sys.executable, "-m", "bench.scratch", str(folder)]
    guard = subprocess.Popen(argv, stdin=read, stdout=subprocess.DEVNULL, cwd=CHECKOUT, start_new_session=True)
    os.close(read)
    try:
        yield Scratch(folder)
    finally:
        os.close(write)  # the guard sees to the rest, also when we are interrupted a second time
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(2 * _GRACE)
        signal.signal(signal.SIGTERM, before)


def until(true: Callable[[], Any], what: str, seconds: float, every: float = _STEP) -> Any:
    """Look again and again until something is so, and return it.

    Raises
    ------
    TimeoutError
        If it is not so within so many seconds.
    """
    end = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(every)
    return found


def clean(folder: Path) -> None:
    """End what was started in a scratch folder, what that started in homes of its own, and remove the folder."""
    Processes(folder / "processes").sweep(grace=_GRACE)
    for home in folder.glob("*/run/processes"):
        Processes(home).sweep(grace=0.5)
        cgroups.remove(Settings(home=home.parents[1]))
    shutil.rmtree(folder, ignore_errors=True)


def _ended(code: int | None) -> str:
    return "" if code is None else str(code)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> int:
    """Wait until the bench is gone, then clean up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clean(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

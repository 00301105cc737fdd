"""The stage of the tour: a scratch home and folder, `ropewalk up` on free ports, and Debian's Chromium.

Not here: what is looked at (`promises`, `visits`). Everything is removed and ended on the way out, also after a
failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from playwright.sync_api import Browser, Page, sync_playwright

from tests.ports import free_port

if TYPE_CHECKING:
    from tests.tour.kills import Kills  # brings the cluster's clients, which one machine does not need

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "tour"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_FIRST = re.compile(r"https?://\S+/first/\S+")


class Missing(Exception):
    """Something that the machine must have is not there."""


Command = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Platform:
    """A running platform, on this machine or on a cluster.

    Parameters
    ----------
    origin, first, port
        Its address, the one-time link, and the port of both.
    folder
        The first administrator's files, as this machine sees them.
    command
        Runs the command line outside the notebook.
    settle
        Is called with the first administrator's page, once there is one: brings the files where there was no place
        for them before.
    left
        Says what is there of the platform after its end.
    patience
        By how much longer than on one machine each cell may take.
    kills
        What kills the platform's parts meanwhile, if it is to be.
    argo
        Runs lines of a shell where the notebook runs, with Argo's command in the folder; None where it is not built.
    """

    origin: str
    first: str
    port: int
    folder: Path
    command: Command
    left: Callable[[], list[str]]
    settle: Callable[[Page], None] = lambda page: None
    patience: float = 1
    kills: Kills | None = None
    argo: Callable[[str], str] | None = None


def ropewalk(*arguments: str, home: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the command line against the scratch home, as a person at a terminal would."""
    command = [str(Path(sys.executable).with_name("ropewalk")), *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=_environment())


@contextlib.contextmanager
def platform(*files: Path, options: tuple[str, ...] = ()) -> Iterator[Platform]:
    """Start `ropewalk up FOLDER` in the foreground with a scratch home; end it with Ctrl-C's signal."""
    scratch = Path(tempfile.mkdtemp(prefix="ropewalk-tour-"))
    scratch.chmod(0o755)
    folder, home, log = scratch / "folder", scratch / "home", scratch / "up.log"
    folder.mkdir()
    for file in files:
        shutil.copy(file, folder)
    port = free_port()
    up = [str(Path(sys.executable).with_name("ropewalk")), "up", str(folder), "--home", str(home), "--port", str(port)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*up, *options], stdout=sink, stderr=sink, env=_environment(), start_new_session=True
        )
    try:
        first = _await_link(process, log)
        origin = first.split("/first/")[0]
        yield Platform(origin, first, port, folder, partial(ropewalk, home=home), partial(left_behind, home))
    finally:
        _end(process)
        _keep_logs(home, log)
        ropewalk("down", home=home)
        shutil.rmtree(scratch, ignore_errors=True)


def left_behind(home: Path) -> list[str]:
    """Return the command lines of processes that still belong to the home."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = one.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(home) in command:
            found.append(command[:200])
    return found


def _environment() -> dict[str, str]:
    """Return the environment of a person's terminal: nothing that points at another platform."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ROPEWALK_", "JUPYTER"))}


def _await_link(process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = log.read_text(errors="replace")
        if found := _FIRST.search(text):
            return found[0].rstrip(".,")
        if process.poll() is not None:
            raise Missing(f"`ropewalk up` ended with status {process.returncode}:\n{text[-4000:]}")
        time.sleep(0.05)
    raise Missing(f"`ropewalk up` printed no link for the first administrator:\n{log.read_text()[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _keep_logs(home: Path, log: Path) -> None:
    """Keep the platform's logs beside the screenshots; they explain a failed tour."""
    target = BUILD / "logs"
    target.mkdir(parents=True, exist_ok=True)
    for file in [log, *sorted((home / "logs").glob("*.log"))]:
        if file.exists():
            shutil.copy(file, target / file.name)


def chromium() -> str:
    """Return the browser, or say which Debian package is missing."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        raise Missing("Chromium is not installed. On Debian: apt-get install chromium")
    return found


@contextlib.contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    """Start Chromium without a window."""
    executable = chromium()
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=executable, args=[*CHROMIUM_FLAGS, *flags])
        try:
            yield one
        finally:
            one.close()


def write_json(file: IO[str], value: object) -> None:
    """Write a report."""
    json.dump(value, file, indent=2)

"""A platform in a scratch home, what runs in it, and the people who work in it.

Nothing is asked of it that a person or a program of theirs would not ask too; its processes are read from /proc. Not
here: what is measured.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import peers
from bench.scratch import CHECKOUT, Scratch, until
from ropewalk_core.process_table import proportional_memory, tree
from ropewalk_core.processes import Processes
from ropewalk_runtime.zygote import SPARE_NAME

ROPEWALK = str(CHECKOUT / ".venv" / "bin" / "ropewalk")
PERSON = str(CHECKOUT / ".venv-user" / "bin" / "python")
"""The Python that notebooks and people's programs have."""
PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Inside:
    """A process of an account's sandbox: ``keeper``, ``zygote`` or ``worker``; a step counts as a worker."""

    pid: int
    kind: str
    spare: bool = False
    preloads: tuple[str, ...] = ()

    @property
    def memory(self) -> float:
        """Its proportional set size in MiB."""
        return proportional_memory(self.pid) / 2**20


@dataclass(frozen=True)
class Platform:
    """A running platform: its home, its port, the seconds to the sign-in page, and its first administrator."""

    home: Path
    port: int
    seconds: float
    account: str = "bench"
    _tokens: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)

    def run(self, *command: str, given: str | None = None) -> Any:
        """Run a `ropewalk` command on this home; return its JSON."""
        done = subprocess.run(
            [ROPEWALK, *command, "--home", str(self.home), "--json"],
            input=given, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return json.loads(done.stdout)

    def token(self, account: str = "", audience: str = "functions") -> str:
        """Return a token of an account, good for five minutes or more."""
        since, text = self._tokens.get((account, audience), (0.0, ""))
        if not text or time.monotonic() - since > 300:
            chosen = ("--as", account) if account else ()
            since, text = time.monotonic(), str(self.run("token", "--audience", audience, *chosen)["token"])
            self._tokens[account, audience] = since, text
        return text

    def memory(self, name: str) -> float:
        """Return the memory of one of the platform's own processes in MiB."""
        return next(one["memory"] for one in self.run("status")["processes"] if one["name"] == name) / 2**20

    def inside(self) -> list[Inside]:
        """Return the processes of all accounts' sandboxes in which functions run."""
        host = Processes(self.home / "run" / "processes").find("platform.host")
        return [one for pid in tree(host.pid) if (one := look(pid))] if host else []

    def of_kind(self, kind: str) -> list[Inside]:
        """Return those of one kind."""
        return [one for one in self.inside() if one.kind == kind]

    def wait_until_idle(self, seconds: float = 90.0) -> None:
        """Wait until no function has a worker."""
        until(lambda: not self.busy(), "the end of all workers", seconds, every=0.1)

    def busy(self) -> list[Inside]:
        """Return the workers that functions have."""
        return [one for one in self.of_kind("worker") if not one.spare]

    def add_account(self, name: str) -> None:
        """Have somebody ask for an account, and approve it."""
        form = {"account": name, "password": PASSWORD, "full_name": ""}
        post_form(self.port, "/sign-up", form)
        self.run("accounts", "approve", name)


def look(pid: int) -> Inside | None:
    """Return what a process of a sandbox is; None if it is gone, or neither of ours nor of a person's.

    Workers are told from the zygotes that they were forked from by the namespace of their own that they live in.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None
    if not Path(words[0]).name.startswith("python"):
        return None  # bubblewrap has the keeper's whole command line too
    source = words[-2] if len(words) > 1 else ""
    if "ropewalk_runtime.keeper" in source:
        return Inside(pid, "keeper")
    if "ropewalk_runtime.zygote" not in source:
        return None
    depth = len((re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE) or ["", ""])[1].split())
    if depth > _depth_of_sandbox(status):
        return Inside(pid, "worker", spare=name == SPARE_NAME)
    preloads = re.search(r"main\(3, \[(.*)\]\)", source)
    return Inside(pid, "zygote", preloads=tuple(re.findall(r"'([^']+)'", preloads[1] if preloads else "")))


def _depth_of_sandbox(status: str) -> int:
    """Return in how many process namespaces the parent is: the keeper's, whose children all these are."""
    parent = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
    try:
        text = Path(f"/proc/{parent[1] if parent else 0}/status").read_text(errors="replace")
    except OSError:
        return 99
    return len((re.search(r"^NSpid:\s+(.*)$", text, re.MULTILINE) or ["", ""])[1].split())


def free_pair() -> int:
    """Return a port that is free together with the next one."""
    while True:
        port = peers.free_port()
        with contextlib.suppress(OSError), peers.socket.create_server(("127.0.0.1", port + 1)):
            return port


@contextlib.contextmanager
def platform(ground: Scratch, cores: Sequence[int] = (), name: str = "home") -> Iterator[Platform]:
    """Run `ropewalk up` on an empty home, measured until the sign-in page answers, and make the administrator."""
    home, port = ground.folder / name, free_pair()
    begin = time.perf_counter()
    argv = [ROPEWALK, "up", "--home", home, "--port", port, "--json"]
    with ground.running(f"up-{name}", argv, cores=cores, grace=60.0):
        peers.wait_for(port, "/sign-in", (200,), host=f"localhost:{port}")
        running = Platform(home, port, time.perf_counter() - begin)
        link = until(lambda: first_link(ground.log(f"up-{name}")), "the one-time link", 30)
        make_administrator(port, link, running.account)
        yield running


def first_link(log: Path) -> str:
    """Return the path of the one-time link that `ropewalk up` printed; nothing before that."""
    for word in log.read_text(errors="replace").replace('"', " ").split():
        if "/first/" in word:
            return urllib.parse.urlparse(word).path
    return ""


def make_administrator(port: int, link: str, account: str) -> None:
    """Post the form behind the one-time link, as a browser would."""
    post_form(port, link, {"account": account, "full_name": "", "password": PASSWORD, "again": PASSWORD})


def post_form(port: int, path: str, form: dict[str, str]) -> None:
    """Post a form of the platform's own pages."""
    headers = {
        "Host": f"localhost:{port}",
        "Origin": f"http://localhost:{port}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body=urllib.parse.urlencode(form), headers=headers)
    status = connection.getresponse().status
    connection.close()
    if status not in (200, 302, 303):
        raise RuntimeError(f"{path} answered {status}")


def start_notebook(running: Platform) -> float:
    """Start the administrator's notebook; return the seconds until it answers."""
    headers = {"Authorization": f"Bearer {running.token(audience='api')}"}
    asked, path = f"localhost:{running.port}", f"/api/v1/notebooks/{running.account}/start"
    begin = time.perf_counter()
    status = peers.request(running.port, "POST", path, host=asked, headers=headers, body="{}")
    if status >= 300:
        raise RuntimeError(f"the start was answered with {status}")
    host = f"{running.account}.localhost:{running.port}"
    peers.wait_for(running.port, f"/user/{running.account}/api", (200,), host=host)
    return time.perf_counter() - begin

"""What every part of `bench.functions` stands on: a folder, sizes, cores, platforms, people's programs, load.

Servers run on one core, ours with all its processes, and load, people's programs and the bench itself on another. Not
here: what is measured, and what came of it (``promised``).
"""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.platforms import PERSON, Platform, platform
from bench.promised import Sizes
from bench.report import Row, in_turn
from bench.scratch import CHECKOUT, Scratch

FLOOR = Path(__file__).with_name("floor")
BODY = b'{"v":42}'
TYPE = "application/json"
Figures = dict[str, float]
Part = Callable[["Bench"], list[Row]]


class Bench:
    """One run.

    Parameters
    ----------
    ground
        Where it works.
    sizes
        How much is measured.
    say
        Says a line of what is done now.
    """

    def __init__(self, ground: Scratch, sizes: Sizes, say: Callable[[str], None]) -> None:
        self.ground, self.sizes, self.say = ground, sizes, say
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise RuntimeError("Servers and load need a core each, and there is one.")
        self.all_cores, self.serving, self.loading = cores, cores[0], cores[1]

    @contextmanager
    def platform(self, name: str = "home", cores: Sequence[int] = ()) -> Iterator[Platform]:
        """Run a platform meanwhile, on the servers' core unless others are given."""
        self.say("starting a platform")
        with platform(self.ground, cores or [self.serving], name) as running:
            yield running

    def person(self, running: Platform, module: str, *words: object, seconds: float = 900.0) -> dict[str, Any]:
        """Run a person's program on this platform and return its figures: the last line that it prints."""
        folder = self.ground.folder / "person"  # their home too, so that functions work in the account's own files
        folder.mkdir(exist_ok=True)
        variables = {
            "ROPEWALK_HOME": str(running.home),
            "ROPEWALK_DOOR_PORT": str(running.port),
            "HOME": str(folder),
            "PYTHONPATH": str(CHECKOUT),
        }
        argv = [PERSON, "-m", module, *words]
        text = self.ground.call(module, argv, env=variables, cwd=folder, cores=[self.loading], seconds=seconds)
        figures: dict[str, Any] = json.loads([line for line in text.splitlines() if line.startswith("{")][-1])
        return figures

    def deploy(self, running: Platform, kind: str, **options: object) -> list[str]:
        """Deploy functions of one of the kinds of `bench.deployed` and return their addresses."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        found: list[str] = self.person(running, "bench.deployed", kind, *words, seconds=1800.0)["urls"]
        return found

    def load(self, port: int, connections: int, headers: dict[str, str] | None = None, path: str = "/") -> Figures:
        """Return the calls per second and the percentiles, in microseconds, of a server under load."""
        program = start_load(self, port, connections, self.sizes.seconds, headers, path)
        return figures_of(program, self.sizes.seconds)

    def compiled(self, name: str, *flags: str) -> Path:
        """Return a program of ``floor``, compiled."""
        return _compiled(self.ground.folder, name, flags)

    def in_turn(self, what: str, ours: Callable[[], float], theirs: Callable[[], float]) -> list[tuple[float, float]]:
        """Return the pairs of all rounds, and say at each which one it is."""
        told = iter(range(1, self.sizes.rounds + 1))

        def first() -> float:
            self.say(f"{what}: round {next(told)} of {self.sizes.rounds}")
            return ours()

        return in_turn(first, theirs, self.sizes.rounds)


@functools.cache
def _compiled(folder: Path, name: str, flags: tuple[str, ...]) -> Path:
    program = folder / "-".join([name, *(one.strip("-") for one in flags)])
    argv = ["cc", "-O2", *flags, "-o", str(program), str(FLOOR / f"{name}.c")]
    subprocess.run(argv, check=True, timeout=120)
    return program


def headers_of(url: str, token: str) -> dict[str, str]:
    """Return the headers of a call at a function's address."""
    return {"Host": urllib.parse.urlsplit(url).netloc, "Authorization": f"Bearer {token}"}


def request_of(headers: dict[str, str], path: str = "/") -> bytes:
    """Return a whole request with our payload."""
    lines = headers | {"Content-Type": TYPE, "Content-Length": str(len(BODY))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + BODY


def start_load(
    bench: Bench, port: int, connections: int, seconds: float, headers: dict[str, str] | None = None, path: str = "/"
) -> subprocess.Popen[bytes]:
    """Start a load on the core for that; it ends by itself, and with us."""
    asked = request_of({"Host": f"127.0.0.1:{port}"} | (headers or {}), path)
    argv = ["taskset", "-c", str(bench.loading), str(bench.compiled("load")), str(port), str(connections), str(seconds)]
    program = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdin is not None
    program.stdin.write(asked)
    program.stdin.close()
    program.stdin = None
    return program


def figures_of(program: subprocess.Popen[bytes], seconds: float, *, refusals: bool = False) -> Figures:
    """Wait for a load and return its figures; where ``refusals`` are no failure, ``wrong`` says how many there were."""
    try:
        out, complaint = program.communicate(timeout=seconds + 60)
    except BaseException:  # also Ctrl-C: nothing may stay
        program.kill()
        program.wait()
        raise
    if program.returncode and not (refusals and out):
        raise RuntimeError(complaint.decode(errors="replace")[-2000:])
    figures: Figures = json.loads(out)
    return figures


class Caller:
    """Calls functions one at a time, each over a connection that is there before the clock starts.

    Parameters
    ----------
    port
        The gateway's.
    token
        A token for functions.
    """

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    def ask(self, url: str) -> tuple[float, bytes, bytes]:
        """Return the milliseconds until the whole answer was there, its head and its body."""
        asked = request_of(headers_of(url, self._token))
        with socket.create_connection(("127.0.0.1", self._port), timeout=120) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begin = time.perf_counter()
            line.sendall(asked)
            head, said = _answer(line)
            taken = (time.perf_counter() - begin) * 1e3
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"a call was answered with {head!r} {said[:300]!r}")
        return taken, head, said

    def call(self, url: str) -> tuple[float, bool]:
        """Call a function that returns what it gets; say also whether a worker was started for it."""
        taken, head, said = self.ask(url)
        if json.loads(said) != json.loads(BODY):
            raise RuntimeError(f"the function returned {said[:300]!r}")
        return taken, b"\r\nX-Ropewalk-Start: cold\r\n" in head

    def cold(self, url: str) -> float:
        """Return the milliseconds of a call for which a worker had to be started."""
        taken, cold = self.call(url)
        if not cold:
            raise RuntimeError("a worker was there already")
        return taken


def _answer(line: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while True:
        head, found, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        if found and length and len(rest) >= int(length[1]):
            return head + b"\r\n", rest
        got = line.recv(65536)
        if not got:
            raise RuntimeError(f"the connection was closed after {data[:300]!r}")
        data += got

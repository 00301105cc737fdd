"""Warm calls of a function beside the floors and a peer, in one run: `python -m bench.warm [--json]`.

Every server is pinned to one core, ours with all its processes, and the load, which is C, to another. The floors are an
echo in C with epoll, and uvloop with httptools; both only answer. Ours looks at a token, a limit and who may call, and
keeps a record. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from bench import peers
from bench.embedded import Platform, install_peers, platform
from bench.functions import program
from bench.report import Row, paired, publish

FLOOR = Path(__file__).with_name("floor")
BODY = b'{"v":42}'
Figures = dict[str, float]


class Bench:
    """The programs in C, and what is measured with them."""

    def __init__(self, folder: Path, seconds: float) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise RuntimeError("servers and load need a core each")
        self.serving, self._loading = cores[:2]
        self._seconds = seconds
        self._folder = folder
        for name in ("echo", "load"):
            source = str(FLOOR / f"{name}.c")
            subprocess.run(["cc", "-O2", "-o", str(folder / name), source], check=True)

    def measured(self, port: int, connections: int, headers: dict[str, str] | None = None) -> Figures:
        """Return the calls per second and the percentiles, in microseconds, of a server."""
        lines = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json"} | (headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        request = f"POST / HTTP/1.1\r\n{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        argv = ["taskset", "-c", str(self._loading), str(self._folder / "load")]
        done = subprocess.run(
            [*argv, str(port), str(connections), str(self._seconds)], input=request, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
        figures: Figures = json.loads(done.stdout)
        return figures

    @contextlib.contextmanager
    def serve(self, *argv: str) -> Iterator[int]:
        """Run a server on its core; yields its port."""
        port = peers.free_port()
        process = subprocess.Popen(["taskset", "-c", str(self.serving), *argv, str(port)])
        try:
            peers.wait_for(port, "/", tuple(range(200, 600)), seconds=10)
            yield port
        finally:
            process.terminate()
            process.wait(10)

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Have what is started meanwhile run on the servers' core."""
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.serving})
        try:
            yield
        finally:
            os.sched_setaffinity(0, cores)


def ours(running: Platform, bench: Bench, url: str, connections: int) -> Figures:
    """Measure a function of the platform."""
    headers = {"Host": urllib.parse.urlsplit(url).netloc, "Authorization": f"Bearer {running.run('token')['token']}"}
    return bench.measured(running.port + 1, connections, headers)


def rows(running: Platform, bench: Bench, folder: Path, rounds: int) -> list[Row]:
    """Measure everything in turn, so many times."""
    urls = program(running, "bench.warmed")
    echo, raw = str(folder / "echo"), str(FLOOR / "raw.py")
    single: list[tuple[Figures, Figures]] = []
    crowd: list[tuple[Figures, Figures]] = []
    framework: list[Figures] = []
    with contextlib.ExitStack() as stack:
        floor = stack.enter_context(bench.serve(echo))
        python = stack.enter_context(bench.serve(sys.executable, raw))
        with bench.pinned():
            stock = stack.enter_context(peers.functions_framework(folder))
        for turn in range(rounds):
            measured = [lambda: ours(running, bench, urls["one"], 1), lambda: bench.measured(floor, 1)]
            crowded = [lambda: ours(running, bench, urls["many"], 64), lambda: bench.measured(python, 64)]
            order = (0, 1) if turn % 2 else (1, 0)
            for found, pair in ((single, measured), (crowd, crowded)):
                figures = {at: pair[at]() for at in order}
                found.append((figures[0], figures[1]))
            framework.append(bench.measured(stock, 64))
    calls = [pair[0]["rate"] for pair in crowd]
    return [
        paired("warm call, 1 connection, p50", "us", "echo in C, epoll", _pairs(single, "p50"), "<= 1.8"),
        paired("warm call, 1 connection, p99", "us", "echo in C, epoll", _pairs(single, "p99")),
        paired("warm calls, 64 connections", "1/s", "uvloop and httptools", _pairs(crowd, "rate"), ">= 0.7"),
        paired(
            "warm calls, 64 connections", "1/s", "functions-framework",
            list(zip(calls, [it["rate"] for it in framework], strict=True)), ">= 20",
        ),
    ]  # fmt: skip


def _pairs(found: list[tuple[Figures, Figures]], name: str) -> list[tuple[float, float]]:
    return [(one[name], other[name]) for one, other in found]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.warm", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of ours and the peer, begun in turn")
    parser.add_argument("--seconds", type=float, default=2.0, help="that each measurement takes")
    chosen = parser.parse_args()
    install_peers()
    with tempfile.TemporaryDirectory(prefix="ropewalk-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        bench = Bench(folder, chosen.seconds)
        with contextlib.ExitStack() as stack:
            with bench.pinned():
                running = stack.enter_context(platform(folder))
            found = rows(running, bench, folder, chosen.rounds)
    publish(found, as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

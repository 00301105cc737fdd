"""The figures of the embedded platform beside its peers, in one run: `python -m bench.embedded [--json]`.

Each part starts what it measures in a scratch home, measures ours and the peer in turn, and ends both. Needs
`make setup`; it installs functions-framework into `.cache/bench` from `locks/bench.txt`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers
from bench.report import Row, middle, publish

CHECKOUT = Path(__file__).parent.parent
ROPEWALK = str(CHECKOUT / ".venv" / "bin" / "ropewalk")
PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Platform:
    """A running platform: its home, its port, the seconds to the sign-in page, and its first administrator."""

    home: Path
    port: int
    seconds: float
    account: str = "bench"

    def run(self, *command: str, given: str | None = None) -> Any:
        """Run a `ropewalk` command on this home; return its JSON."""
        done = subprocess.run(
            [ROPEWALK, *command, "--home", str(self.home), "--json"],
            input=given, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)


def free_pair() -> int:
    """Return a port that is free together with the next one."""
    while True:
        port = peers.free_port()
        with contextlib.suppress(OSError), peers.socket.create_server(("127.0.0.1", port + 1)):
            return port


@contextlib.contextmanager
def platform(folder: Path) -> Iterator[Platform]:
    """Run `ropewalk up` on an empty home, measured until the sign-in page answers, and make the administrator."""
    home, port = folder / "home", free_pair()
    begin = time.perf_counter()
    with (folder / "up.log").open("w+") as log:
        process = subprocess.Popen(
            [ROPEWALK, "up", "--home", str(home), "--port", str(port), "--json"], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            peers.wait_for(port, "/sign-in", (200,), host=f"localhost:{port}")
            running = Platform(home, port, time.perf_counter() - begin)
            make_administrator(port, first_link(folder / "up.log"), running.account)
            yield running
        finally:
            process.terminate()
            process.wait(60)


def first_link(log: Path) -> str:
    """Return the path of the one-time link once `ropewalk up` has printed it."""
    for _ in range(600):
        for word in log.read_text().replace('"', " ").split():
            if "/first/" in word:
                return urllib.parse.urlparse(word).path
        time.sleep(0.05)
    raise TimeoutError("no one-time link was printed")


def make_administrator(port: int, link: str, account: str) -> None:
    """Post the form behind the one-time link, as a browser would."""
    form = {"account": account, "full_name": "", "password": PASSWORD, "again": PASSWORD}
    origin = f"http://localhost:{port}"
    headers = {
        "Host": f"localhost:{port}",
        "Origin": origin,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", link, body=urllib.parse.urlencode(form), headers=headers)
    status = connection.getresponse().status
    connection.close()
    if status not in (200, 302, 303):
        raise RuntimeError(f"the one-time link answered {status}")


def idle_memory(running: Platform) -> float:
    """Return the proportional set size of the platform's own processes, in MiB."""
    time.sleep(5)
    return sum(one["memory"] for one in running.run("status")["processes"]) / 2**20


def our_notebook(running: Platform) -> float:
    """Start the person's notebook; return the seconds until it answers, and stop it again."""
    host = f"{running.account}.localhost:{running.port}"
    headers = {"Authorization": f"Bearer {running.run('token', '--audience', 'api')['token']}"}
    act = f"/api/v1/notebooks/{running.account}"
    begin = time.perf_counter()
    asked = f"localhost:{running.port}"
    status = peers.request(running.port, "POST", f"{act}/start", host=asked, headers=headers, body="{}")
    if status >= 300:
        raise RuntimeError(f"the start was answered with {status}")
    peers.wait_for(running.port, f"/user/{running.account}/api", (200,), host=host)
    taken = time.perf_counter() - begin
    running.run("notebooks", "stop")
    return taken


def notebooks(running: Platform, folder: Path) -> list[Row]:
    """Measure a first and further starts of a notebook beside a stock hub."""
    with peers.stock_hub(folder) as port:
        first = (our_notebook(running), peers.stock_notebook(port, "bench"))
        pairs = [(our_notebook(running), peers.stock_notebook(port, "bench")) for _ in range(3)]
    second = tuple(middle(side) for side in zip(*pairs, strict=True))
    return [
        Row(f"notebook, click to usable, {name}", ours, "s", ("stock JupyterHub, local process", stock), "<= 1.1")
        for name, (ours, stock) in (("first time", first), ("later (median of 3)", second))
    ]


IN_NOTEBOOK = Path(__file__).with_name("inside.py")


def inside(running: Platform) -> dict[str, Any]:
    """Run `bench/inside.py` on this home: it deploys, submits and returns its figures, and a token for calls."""
    calls = running.run("token")["token"]
    environment = os.environ | {"ROPEWALK_HOME": str(running.home), "ROPEWALK_DOOR_PORT": str(running.port)}
    done = subprocess.run(
        [sys.executable, str(IN_NOTEBOOK)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures | {"call_token": calls}


def functions(running: Platform, figures: dict[str, Any], folder: Path) -> list[Row]:
    """Measure the first answer after a deploy, and warm calls, beside functions-framework."""
    host = f"echo--fn--{running.account}.localhost:{running.port + 1}"
    begin = time.perf_counter()
    with peers.functions_framework(folder) as port:
        peer_first = time.perf_counter() - begin
        peers.warm_calls(port, 50)
        peers.warm_calls(running.port + 1, 50, host=host, token=figures["call_token"])
        rounds = [
            (
                middle(peers.warm_calls(running.port + 1, 200, host=host, token=figures["call_token"])),
                middle(peers.warm_calls(port, 200)),
            )
            for _ in range(5)
        ]
    ours, peer = (middle(side) * 1e3 for side in zip(*rounds, strict=True))
    return [
        Row("function, deploy to first answer", figures["deploy_ms"], "ms",
            ("functions-framework, start to first answer", peer_first * 1e3)),
        Row("function, warm call, 1 connection, p50", ours, "ms", ("functions-framework", peer)),
    ]  # fmt: skip


def workflows(figures: dict[str, Any]) -> list[Row]:
    """Compare a step's cost with a bare loop of subprocesses."""
    chain, wide = peers.bare_loop(100, wide=False), peers.bare_loop(100, wide=True)
    return [
        Row("workflow, 100-step chain, per step", figures["chain_ms"], "ms", ("loop of `python -c pass`", chain)),
        Row("workflow, 100-wide fan-out, per step", figures["wide_ms"], "ms", ("the same, one per core", wide)),
    ]


def install_peers() -> None:
    """Install functions-framework into `.cache/bench` once."""
    folder = CHECKOUT / ".cache" / "bench"
    if (folder / "bin" / "functions-framework").exists():
        return
    uv = str(CHECKOUT / ".venv" / "bin" / "uv")
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", str(folder)], check=True)
    lock = str(CHECKOUT / "locks" / "bench.txt")
    environment = os.environ | {"VIRTUAL_ENV": str(folder)}
    subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", lock], check=True, env=environment)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.embedded", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    install_peers()
    with tempfile.TemporaryDirectory(prefix="ropewalk-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with platform(folder) as running:
            rows = [
                Row("up, empty home, to the sign-in page", running.seconds, "s", None, "<= 4"),
                Row("idle platform, memory of all its processes", idle_memory(running), "MiB", None, "<= 400"),
            ]
            rows += notebooks(running, folder)
            figures = inside(running)
            rows += functions(running, figures, folder) + workflows(figures)
    publish(rows, as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

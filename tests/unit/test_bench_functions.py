"""The bench of functions names every row that was promised, runs its parts, and leaves nothing, however it ends."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench import profile_warm
from bench.command import sizes_of
from bench.functions import MEASURES, parser
from bench.parts import Bench, Caller, figures_of, start_load
from bench.platforms import look
from bench.promised import ALL, PARTS, SMOKE, Sizes
from bench.scratch import CHECKOUT, Scratch, scratch, until
from ropewalk_core.process_table import seen

PROMISED = [
    ("warm call, 1 connection, p50", "<= 1.8"),
    ("warm calls, 64 connections", ">= 0.7"),
    ("warm calls, 64 connections", ">= 20"),
    ("cold call, bare, p50", "<= 4"),
    ("cold call, pandas and scikit-learn preloaded, p50", "<= 8"),
    ("cold call, its zygote too, bare, p50", None),
    ("cold call, its zygote too, pandas and scikit-learn, p50", None),
    ("memory of all zygotes, 1 account", None),
    ("memory of all zygotes, 20 accounts", None),
    ("deploy from a cell to its first answer, p50", "<= 50"),
    ("processes of a function past its idle time", "<= 0"),
    ("the account's spare bare worker, memory", "<= 4"),
    ("f.map over 10,000 items, in order", "<= 1.3"),
    ("f.map, growth of memory from item 1,000 to 10,000", "<= 20"),
    ("durable spawn, 64 connections, on disk before its 202", ">= 3000"),
    ("durable spawn, 1 connection, p50", None),
    ("memory of the gateway, 1,000 functions, all idle", "<= 150"),
    ("cold call, 1,000 functions deployed, p50", "<= 1.1"),
    ("a user's calls while another floods, p99", "<= 2"),
    ("a model's fit, OpenMP (gradient boosting)", "<= 1.1"),
    ("a model's fit, BLAS (principal components)", "<= 1.1"),
]
"""Each row that was promised of functions, and its target."""
LEFT = """
import sys, time
from bench.scratch import scratch

with scratch() as ground:
    with ground.running("one", ["sleep", 600]) as one:
        with ground.running("two", ["setsid", "--fork", "sleep", "601"]):
            print(ground.folder, one.pid, flush=True)
            time.sleep(600)
"""


def names(sizes: Sizes, part: str = "") -> set[str]:
    return {one.alone(sizes, [1.0]).name for one in ALL if part in ("", one.part)}


def test_every_promise_is_a_row_with_its_target() -> None:
    assert [(one.alone(Sizes(), [1.0]).name, one.target) for one in ALL] == PROMISED
    assert tuple(MEASURES) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_each_part_makes_the_rows_that_are_promised_of_it(part: str) -> None:
    module = sys.modules[MEASURES[part].__module__]
    made = {one.id for one in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(one, ast.Name)}
    constants = vars(sys.modules["bench.promised"])
    wanted = {name for name, value in constants.items() if value in ALL and getattr(value, "part", "") == part}
    assert wanted and wanted <= made


def test_the_page_of_figures_has_every_row_and_target() -> None:
    text = (CHECKOUT / "docs" / "benchmarks.md").read_text().replace("`", "")
    for name, target in PROMISED:
        lines = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
        assert lines, name
        assert any((target or "") in line for line in lines), (name, target)


def test_a_run_can_be_made_smaller() -> None:
    options = parser().parse_args(["--only", "cold", "--only", "map", "--rounds", "3", "--smoke"])
    assert options.only == ["cold", "map"]
    assert sizes_of(options, Sizes(), SMOKE) == Sizes(**{**vars(SMOKE), "rounds": 3})
    assert sizes_of(parser().parse_args([]), Sizes(), SMOKE) == Sizes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_however_it_ends(number: signal.Signals) -> None:
    bench = subprocess.Popen([sys.executable, "-c", LEFT], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert bench.stdout is not None
    folder, pid = bench.stdout.readline().decode().split()
    until(lambda: sleeping("601", folder), "the one that left its session", 10)
    bench.send_signal(number)
    bench.communicate(timeout=30)
    until(lambda: not Path(folder).exists(), "the end of the folder", 30)
    left = seen(int(pid))
    assert left is None or left.dead
    assert not sleeping("601", folder)


def sleeping(argument: str, folder: str) -> list[str]:
    """Return the processes of that scratch folder that sleep so long."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words, environ = (one / "cmdline").read_bytes(), (one / "environ").read_bytes()
        except OSError:
            continue
        if words.split(b"\0")[:2] == [b"sleep", argument.encode()] and folder.encode() in environ:
            found.append(one.name)
    return found


@pytest.fixture
def ground() -> Iterator[Scratch]:
    with scratch() as one:
        yield one


def test_a_program_is_run_to_its_end_and_no_longer(ground: Scratch) -> None:
    assert ground.call("good", ["echo", "hello"]) == "hello\n"
    with pytest.raises(RuntimeError, match="ended with 3"):
        ground.call("bad", ["sh", "-c", "echo what; exit 3"])
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="the end of long"):
        ground.call("long", ["sleep", "600"], seconds=0.2)
    assert time.monotonic() - began < 30


def test_processes_of_a_sandbox_are_told_from_others(ground: Scratch) -> None:
    def kind_of(comment: str) -> object:
        with ground.running("looked-at", [sys.executable, "-c", f"import time; time.sleep(60)\n{comment}"]) as one:
            until(lambda: Path(f"/proc/{one.pid}/cmdline").read_bytes().startswith(sys.executable.encode()), "it", 10)
            return look(one.pid)

    keeper = kind_of("# from ropewalk_runtime.keeper import main")
    zygote = kind_of("# from ropewalk_runtime.zygote import main\n# main(3, ['pandas', 'sklearn.linear_model'])")
    assert kind_of("# nothing") is None
    assert keeper is not None and getattr(keeper, "kind", "") == "keeper"
    assert getattr(zygote, "kind", "") == "zygote"
    assert getattr(zygote, "preloads", ()) == ("pandas", "sklearn.linear_model")


class Answers(BaseHTTPRequestHandler):
    """Answers a body with itself, and with what its server was told to say."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("X-Ropewalk-Start", self.server.start)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answers() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.status, server.start = 200, "cold"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_call_that_found_a_worker_is_no_cold_one(answers: ThreadingHTTPServer) -> None:
    caller = Caller(answers.server_port, "token")
    assert caller.call("http://f--fn--a.localhost:1")[1] and caller.cold("http://f--fn--a.localhost:1") > 0
    answers.start = "warm"  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="there already"):
        caller.cold("http://f--fn--a.localhost:1")
    answers.status = 503  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="503"):
        caller.call("http://f--fn--a.localhost:1")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_load_counts_answers_and_refusals(ground: Scratch, answers: ThreadingHTTPServer) -> None:
    bench = Bench(ground, SMOKE, lambda _: None)
    with ground.running("echo", [bench.compiled("echo"), port := free_port()]):
        until(lambda: reached(port), "the floor", 10)
        figures = bench.load(port, 4)
    assert figures["rate"] > 100 and 0 < figures["p50"] <= figures["p99"] and not figures["wrong"]
    answers.status = 429  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="429"):
        bench.load(answers.server_port, 1)
    refused = figures_of(start_load(bench, answers.server_port, 1, 0.1), 0.1, refusals=True)
    assert refused["wrong"] > 0


def reached(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_steps_of_a_call_add_up_to_the_whole() -> None:
    tape, client = profile_warm.Tape(), []
    for number in range(profile_warm.WARM_UP + 5):
        at = number * 10**6
        clock = {name: at + step * 2_000 for step, (name, _) in enumerate(profile_warm.STEPS)}
        body = json.dumps([clock.pop("called"), clock.pop("returned")]).encode()
        client.append([clock.pop("sent"), at + len(profile_warm.STEPS) * 2_000])
        tape.calls.append({**clock, "body": body})
    del tape.calls[-1]["sending"]  # such a call was none of those that a free worker takes
    found = profile_warm.whole(tape, client)
    assert len(found) == 4
    assert [round(value, 3) for _, value in profile_warm.table(found)] == [2.0] * len(profile_warm.STEPS)
    with pytest.raises(RuntimeError, match="the client"):
        profile_warm.whole(tape, client[1:])


def test_what_is_noted_is_there_to_be_wrapped() -> None:
    tape = profile_warm.Tape()
    kept = [(owner, name, getattr(owner, name)) for owner, name in WRAPPED]
    try:
        tape.wrap()
        assert all(getattr(owner, name) is not inner for owner, name, inner in kept)
    finally:
        for owner, name, inner in kept:
            setattr(owner, name, inner)


WRAPPED = [
    (profile_warm.front.Connection, "data_received"),
    (profile_warm.front.Connection, "_read"),
    (profile_warm.tokens.Verifier, "caller"),
    (profile_warm.functions.Functions, "admit"),
    (profile_warm.functions.Functions, "begin"),
    (profile_warm.pool.Pool, "send"),
    (profile_warm.link.Link, "data_received"),
    (profile_warm.front._Call, "_answered"),
    (profile_warm.front._Call, "_send"),
]


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", PARTS)
def test_each_part_runs(part: str) -> None:
    argv = [sys.executable, "-m", "bench.functions", "--json", "--smoke", "--only", part]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)["rows"]
    assert names(SMOKE, part) <= {one["name"] for one in rows}
    assert all(line.startswith(f"[{part}] ") for line in done.stderr.splitlines()), done.stderr


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(200)
def test_the_profile_of_a_warm_call_runs() -> None:
    argv = [sys.executable, "-m", "bench.profile_warm", "--json", "--calls", "200"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert [one["step"] for one in figures["steps"]] == [said for _, said in profile_warm.STEPS]
    assert all(one["us"] > 0 for one in figures["steps"])

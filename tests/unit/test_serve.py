"""The server in a function's container: the same worker behind HTTP, and what becomes of bad code and bad calls."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_runtime.frames import Unpacker
from ropewalk_runtime.serve import DOES_NOT_LOAD, PACKED
from ropewalk_runtime.served import FRAME, FRAMES, HTTP
from tests.ports import free_port
from tests.unit.test_streams import ODD

SOURCE = """
import os, time
def handler(value: int, factor: int = 2):
    print("doubling", value)
    if value == 1:
        time.sleep(60)
    if value == 2:
        raise ValueError("no good")
    if value == 3:
        os._exit(3)
    if value == 4:
        time.sleep(0.7)
    if value == 5:
        return bytearray(2_000_000)
    return value * factor
"""


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.url = process, f"http://127.0.0.1:{port}/"

    def call(self, content: bytes = b"21", query: str = "", **headers: str) -> httpx.Response:
        kept = {"Content-Type": "application/json", **headers}
        return httpx.post(self.url + query, content=content, headers=kept, trust_env=False, timeout=20)

    def frame(self, content: bytes = b"21") -> tuple[dict[str, Any], bytes]:
        answer = self.call(content, Accept=FRAME)
        assert (answer.status_code, answer.headers["content-type"]) == (200, FRAME)
        return next(Unpacker().feed(answer.content))


def packed(folder: Path, source: str = SOURCE, form: str = "python") -> Path:
    content = {"files": {"cell.py": source}, "entry": "cell:handler", "origin": {}, "imports": [], "digest": "d"}
    content["form"] = form
    folder.mkdir()
    (folder / PACKED).write_bytes(gzip.compress(json.dumps(content).encode()))
    return folder


@contextmanager
def started(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    argv = [sys.executable, "-m", "ropewalk_runtime.serve", "--bundle", str(folder / "bundle"), "--home", str(folder)]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--last-words", str(folder / "words"), *more]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process, port
        finally:
            process.kill()


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[Served]:
    packed(folder / "bundle")
    with started(folder, "--timeout", "1", "--payload", "1000000", *more) as (process, port):
        end = time.monotonic() + 20
        while not open_port(port):
            assert process.poll() is None and time.monotonic() < end, process.stdout and process.stdout.read()
            time.sleep(0.02)
        yield Served(process, port)


def open_port(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as one:
        yield one


def test_calls_mean_what_they_mean_everywhere(served: Served) -> None:
    assert served.call().json() == 42
    assert served.call(b'{"value": 7, "factor": 3}').json() == 21
    assert served.call(b"", "?value=7&factor=5").json() == 35
    wrong = served.call(b'"x"')
    assert (wrong.status_code, wrong.json()["field"]) == (422, "value")
    header, body = served.frame()
    assert json.loads(body) == 42 and header["logs"] == "doubling 21\n" and header["age"] > 0
    assert header["worker"] == os.uname().nodename and header["took"] >= 0 and header["cpu"] >= 0
    header, _ = served.frame(b"2")
    assert header["error"]["code"] == "RW-USER-CODE"
    assert 'File "cell.py", line 8' in header["error"]["details"]["traceback"]
    assert httpx.get(served.url + "_ropewalk/ready", trust_env=False).text == "ready"


def test_a_call_over_its_time_really_ends(served: Served) -> None:
    header, _ = served.frame(b"1")
    assert (header["error"]["code"], header["error"]["field"]) == ("RW-TIMED-OUT", "timeout")
    assert served.call().json() == 42  # a fresh worker
    ended = served.call(b"3")
    assert ended.status_code == 500 and "exit code 3" in ended.json()["message"]
    assert served.call().json() == 42


def test_sizes_have_limits(served: Served) -> None:
    assert served.call(b'"' + b"x" * 1_000_001 + b'"').status_code == 413
    answer = served.call(b"5")
    assert (answer.status_code, answer.json()["field"]) == (413, "limits.payload")
    pieces = httpx.post(
        served.url, content=iter([b"2", b"1"]), headers={"Content-Type": "application/json"}, trust_env=False
    )
    assert pieces.json() == 42


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
    ids=["no request", "length", "both lengths", "piece", "header", "long"],
)
def test_what_is_no_request_is_refused(served: Served, said: bytes) -> None:
    host, _, port = served.url.removeprefix("http://").strip("/").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(said)
        assert sock.recv(100).startswith(b"HTTP/1.1 4")
    assert served.call().json() == 42


def test_it_ends_when_told_and_lets_calls_end_before(tmp_path: Path) -> None:
    with serving(tmp_path) as served, socket.socket() as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", int(served.url.rstrip("/").rpartition(":")[2])))
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.6)
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n4")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        assert served.process.wait(10) == 0


def test_code_that_does_not_load_leaves_why(tmp_path: Path) -> None:
    packed(tmp_path / "bundle", "import os\nraise ValueError('" + "x" * 10_000 + "')\n")
    with started(tmp_path) as (process, _):
        assert process.wait(20) == DOES_NOT_LOAD
    words = (tmp_path / "words").read_text()
    facts = json.loads(words)
    assert len(words) <= 4000 and facts["code"] == "RW-BAD-CODE" and facts["field"] == "cell line 2"
    assert "ValueError" in facts["details"]["traceback"]


def test_code_that_ends_python_is_said_so(tmp_path: Path) -> None:
    packed(tmp_path / "bundle", "import os\nos._exit(7)\n")
    with started(tmp_path) as (process, _):
        assert process.wait(20) == DOES_NOT_LOAD
    assert "exit code 7" in json.loads((tmp_path / "words").read_text())["message"]


STREAM = """
import time
def handler(count: int = 3, pause: float = 0.0, bad: int = -1):
    try:
        for number in range(count):
            if number == bad:
                raise ValueError("no good")
            yield {"n": number}
            time.sleep(pause)
    finally:
        open("closed", "a").write("closed ")
"""


@contextmanager
def serving_source(folder: Path, source: str, *more: str) -> Iterator[Served]:
    packed(folder / "bundle", source)
    with started(folder, "--timeout", "2", "--payload", "1000000", *more) as (process, port):
        end = time.monotonic() + 20
        while not open_port(port):
            assert process.poll() is None and time.monotonic() < end, process.stdout and process.stdout.read()
            time.sleep(0.02)
        yield Served(process, port)


def frames(answer: httpx.Response) -> list[tuple[dict[str, Any], bytes]]:
    return list(Unpacker().feed(answer.content))


def test_parts_travel_as_frames_to_the_gateway_and_as_they_are_to_others(tmp_path: Path) -> None:
    with serving_source(tmp_path, STREAM) as served:
        answer = served.call(b'{"count": 2}', Accept=FRAME)
        assert answer.headers["content-type"] == FRAMES and answer.headers["transfer-encoding"] == "chunked"
        (head, _), *parts, (last, _) = frames(answer)
        assert (head["op"], head["type"]) == ("head", "application/x-ndjson") and head["age"] > 0
        assert b"".join(body for _, body in parts) == b'{"n":0}\n{"n":1}\n' and last["op"] == "end"
        assert served.call(b'{"count": 2}').text == '{"n":0}\n{"n":1}\n'
        assert served.call(b'{"count": 1}', Accept="text/event-stream").text.endswith("event: end\ndata: {}\n\n")
        *_, (last, _) = frames(served.call(b'{"bad": 1}', Accept=FRAME))
        assert last["error"]["code"] == "RW-USER-CODE"
        with pytest.raises(httpx.RemoteProtocolError):
            served.call(b'{"bad": 1}')
        assert served.call(b'{"bad": 0}').status_code == 500
        begun = time.monotonic()
        *_, (last, _) = frames(served.call(b'{"count": 100, "pause": 0.3}', Accept=FRAME))
        assert last["error"]["code"] == "RW-TIMED-OUT" and time.monotonic() - begun < 4
        assert served.call(b'{"count": 1}').text == '{"n":0}\n'


@pytest.mark.parametrize("pause", ["0.01", "60"])
def test_a_caller_that_leaves_a_container_ends_its_call(tmp_path: Path, pause: str) -> None:
    with serving_source(tmp_path, STREAM, "--timeout", "30") as served:
        body = b'{"count": 1000, "pause": %s}' % pause.encode()
        with httpx.stream("POST", served.url, content=body, trust_env=False, timeout=5) as answer:
            next(answer.iter_raw())
        until = time.monotonic() + 5
        while not (tmp_path / "closed").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        assert served.call(b'{"count": 1}').text == '{"n":0}\n'
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(served.url, content=b'{"count": 1, "pause": 60}', trust_env=False, timeout=0.5)
        assert served.call(b'{"count": 0}').text == ""


def test_an_app_in_a_container_gets_the_request_as_the_gateway_saw_it(tmp_path: Path) -> None:
    source = """
async def handler(scope, receive, send):
    body = (await receive())["body"]
    said = f"{scope['method']} {scope['path']} {scope['query_string'].decode()}".encode()
    await send({"type": "http.response.start", "status": 202, "headers": [(b"x-mine", b"1")]})
    await send({"type": "http.response.body", "body": said + body})
"""
    packed(tmp_path / "bundle", source, form="asgi")
    with started(tmp_path) as (process, port):
        while not open_port(port):
            assert process.poll() is None
            time.sleep(0.02)
        served = Served(process, port)
        http = base64.b64encode(json.dumps({"method": "PATCH", "path": "/a"}).encode()).decode()
        answer = served.call(b"1", "?b=c", Accept=FRAME, **{HTTP: http})
        [(header, body)] = frames(answer)
        assert (header["status"], header["headers"], body) == (202, [["x-mine", "1"]], b"PATCH /a b=c1")
        plain = httpx.put(served.url + "x?y=z", content=b"2", trust_env=False)
        assert (plain.status_code, plain.text) == (202, "PUT /x y=z2")
        assert served.call(b"1", Accept=FRAME, **{HTTP: "?"}).status_code == 400


LYING = """
import os, socket, struct, sys
def handler(header: str = ""):
    if not header:
        return 42
    frame, number = sys._getframe(), 0
    while frame is not None:
        number = getattr(frame.f_locals.get("call"), "id", number)
        frame = frame.f_back
    data = header.encode("latin-1").replace(b'"id":1', b'"id":%d' % number, 1)
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                continue
        except OSError:
            continue
        socket.socket(fileno=os.dup(int(name))).sendall(struct.pack("!II", len(data), 0) + data)
    return 42
"""


def test_whatever_a_worker_says_the_server_answers_and_the_next_call_is_answered(tmp_path: Path) -> None:
    with serving_source(tmp_path, LYING) as served:
        for header in ODD:
            said = json.dumps({"header": header[:50_000].decode("latin-1")}).encode()
            for accept in ("*/*", FRAME):
                answer = served.call(said, Accept=accept)
                assert 200 <= answer.status_code < 600 and "X-Evil" not in answer.headers, header[:60]
                assert served.call(b"{}").json() == 42, header[:60]


def test_what_a_call_printed_breaks_no_connection(tmp_path: Path) -> None:
    source = "def handler(value: int):\n    print('half of a pair \\ud800')\n    return value\n"
    with serving_source(tmp_path, source) as served, httpx.Client(trust_env=False, timeout=10) as client:
        ports = set()
        for number in range(3):
            with client.stream("POST", served.url, content=str(number).encode()) as answer:
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
                assert json.loads(answer.read()) == number
        assert len(ports) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"POST / HTTP/1.1\r\nContent-",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n1",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n1",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
    ],
    ids=["half a head", "half a payload", "waits to be told", "half a piece", "asks for too much"],
)
def test_callers_that_say_half_and_leave_hold_no_place(served: Served, said: bytes) -> None:
    """There is one place; a hundred of them ask at once, and then are gone."""
    host, _, port = served.url.removeprefix("http://").strip("/").partition(":")
    callers = [socket.create_connection((host, int(port)), timeout=10) for _ in range(100)]
    for sock in callers:
        sock.sendall(said)
    assert served.call().json() == 42
    for sock in callers:
        sock.close()
    assert served.call().json() == 42


def test_a_worker_in_a_container_outlives_who_closes_the_pipe_that_it_writes_to(tmp_path: Path) -> None:
    """There it is not the first process of its namespace, which no such signal would end."""
    source = """
import os, subprocess
def handler():
    child = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    child.wait()
    try:
        child.stdin.write(b"x" * 1_000_000)
    except BrokenPipeError:
        return os.getpid()
"""
    with serving_source(tmp_path, source) as served:
        first = served.call(b"").json()
        assert isinstance(first, int) and served.call(b"").json() == first

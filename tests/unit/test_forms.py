"""The other forms of handlers in a worker: ASGI apps, programs for one call, programs that listen."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ropewalk_runtime.handler import CALL_TYPE
from ropewalk_runtime.programs import Calls, NotRunnable, Program, command
from ropewalk_runtime.serving import Call
from tests.worker_rig import Work, working

APP = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                scope["state"]["ready"] = "yes"
                if FAIL: return await send({"type": "lifespan.startup.failed", "message": "no database"})
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                open("shut", "w").close()
                return
    body = (await receive())["body"]
    print("asked", scope["path"])
    headers = [(b"content-type", b"text/x-special"), (b"x-state", scope["state"]["ready"].encode())]
    if scope["path"] == "/bad":
        raise ValueError("no such thing")
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    if scope["path"] == "/parts":
        for number in range(3):
            await send({"type": "http.response.body", "body": b"part ", "more_body": True})
        return await send({"type": "http.response.body"})
    if scope["path"] == "/endless":
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
        finally:
            print("closed")
    if scope["path"] == "/waits":
        assert (await receive())["type"] == "http.disconnect"
        print("left")
        return
    if scope["path"] == "/short":
        return
    answer = f"{scope['method']} {scope['query_string'].decode()} {dict(scope['headers'])[b'x-a'].decode()} ".encode()
    await send({"type": "http.response.body", "body": answer + body})
"""


def ask(work: Work, number: int, path: str, **more: Any) -> None:
    http = {"method": "PUT", "path": path, "headers": [["X-A", "b"]], "server": "f.localhost:81"}
    work.send(number, {"x": 1}, http=http, query="a=1", **more)


def test_an_app_gets_the_request_and_answers_as_it_wants(tmp_path: Path) -> None:
    with working(tmp_path, APP.replace("FAIL", "False"), entry="app", form="asgi", concurrency=4) as work:
        assert work.hello["op"] == "ready", work.hello
        ask(work, 1, "/a%20b")
        header, body = work.take()
        assert body == b'PUT a=1 b {"x": 1}' and (header["status"], header["type"]) == (201, "text/x-special")
        assert ["x-state", "yes"] in header["headers"] and header["logs"] == "asked /a b\n"
        ask(work, 2, "/parts")
        head, _ = work.take()
        assert (head["op"], head["status"], head["type"]) == ("head", 201, "text/x-special") and "values" not in head
        assert work.rest()[0] == b"part part part "
        ask(work, 3, "/bad")
        assert "no such thing" in work.take()[0]["error"]["details"]["traceback"]
        ask(work, 4, "/short")
        assert "before it sent a whole answer" in work.take()[0]["error"]["message"]
        work.sock.close()
        assert work.process.wait(10) == 0 and (tmp_path / "shut").exists()


@pytest.mark.parametrize(("path", "log"), [("/endless", "closed"), ("/waits", "left")])
def test_an_app_learns_that_its_caller_left(path: str, log: str, tmp_path: Path) -> None:
    with working(tmp_path, APP.replace("FAIL", "False"), entry="app", form="asgi") as work:
        ask(work, 1, path)
        if path == "/endless":
            assert work.take()[0]["op"] == "head"
        time.sleep(0.2)
        work.tell("cancel", 1)
        _, last = work.rest()
        assert last["id"] == 1 and log in last["logs"] and "caller left" in last["error"]["message"]
        ask(work, 2, "/")
        assert work.take()[0]["status"] == 201


def test_an_app_that_does_not_start_says_why(tmp_path: Path) -> None:
    with working(tmp_path, APP.replace("FAIL", "True"), entry="app", form="asgi") as work:
        assert work.hello["op"] == "failed" and "no database" in work.hello["error"]["message"]


def test_a_function_may_make_the_app(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    source = """
def make():
    import contextlib
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route
    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield {"model": "loaded"}
    async def one(request):
        return JSONResponse({"model": request.state.model, "name": request.path_params["name"]})
    async def many(request):
        async def lines():
            for number in range(3):
                yield f"{number}\\n"
        return StreamingResponse(lines(), media_type="text/plain")
    return Starlette(routes=[Route("/one/{name}", one), Route("/many", many)], lifespan=lifespan)
"""
    with working(tmp_path, source, entry="make", form="asgi") as work:
        assert work.hello["op"] == "ready", work.hello
        work.send(1, http={"method": "GET", "path": "/one/ada"})
        assert json.loads(work.take()[1]) == {"model": "loaded", "name": "ada"}
        work.send(2, http={"method": "GET", "path": "/many"})
        assert work.take()[0]["op"] == "head"
        assert work.rest()[0] == b"0\n1\n2\n"
        work.send(3, http={"method": "GET", "path": "/none"})
        assert work.take()[0]["status"] == 404


def test_headers_cross_byte_by_byte(tmp_path: Path) -> None:
    source = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    value = dict(scope["headers"])[b"x-a"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", value), (b"x-a", b"second")]})
    await send({"type": "http.response.body", "body": value})
"""
    with working(tmp_path, source, entry="app", form="asgi") as work:
        for sent in ("caf\u00e9".encode(), b"caf\xe9"):
            work.send(1, http={"path": "/", "headers": [["X-A", sent.decode("utf-8", "surrogateescape")]]})
            header, body = work.take()
            assert body == sent and header["headers"] == [["x-a", "caf\u00e9"], ["x-a", "second"]]


SCRIPT = """#!/bin/sh
read line
echo "to the log" >&2
case "$line" in
  bad) echo "why it failed" >&2; exit 7;;
  json) echo '{"a": 1}';;
  slow) sleep 60;;
  big) head -c 3000000 /dev/zero;;
  bytes) printf '\\377\\376';;
  query) echo "$Http_Query";;
  *) echo "got $line";;
esac
"""


def test_a_program_reads_the_payload_and_writes_the_answer(tmp_path: Path) -> None:
    with working(tmp_path, SCRIPT, form="program", payload=1_000_000) as work:
        assert work.hello["op"] == "ready", work.hello

        def call(text: str, **head: Any) -> tuple[dict[str, Any], bytes]:
            from ropewalk_runtime.frames import pack

            work.sock.sendall(pack({"id": 1, "type": "text/plain", **head}, text.encode()))
            return work.take()

        header, body = call("hello\n")
        assert body == b"got hello\n" and header["type"] == "text/plain; charset=utf-8"
        assert header["logs"] == "to the log\n"
        header, body = call("json")
        assert json.loads(body) == {"a": 1} and header["type"] == "application/json"
        assert call("bytes")[0]["type"] == "application/octet-stream"
        assert call("query", query="a=b")[1] == b"a=b\n"
        header, _ = call("bad")
        assert header["error"]["message"] == "The program ended with exit code 7."
        assert header["error"]["details"]["error"] == "why it failed"
        assert call("big")[0]["error"]["code"] == "RW-TOO-LARGE"
        header, body = call(json.dumps({"args": ["hello"], "kwargs": {}}), type=CALL_TYPE)
        assert json.loads(body) == "got hello\n" and header["type"] == CALL_TYPE
        header, body = call(json.dumps({"args": ["json"], "kwargs": {}}), type=CALL_TYPE)
        assert json.loads(body) == {"a": 1}
        header, _ = call(json.dumps({"args": [1, 2], "kwargs": {}}), type=CALL_TYPE)
        assert header["error"]["code"] == "RW-BAD-INPUT"


def test_a_caller_that_leaves_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    source = "#!/bin/sh\ntrap 'echo ended >&2; touch trapped; exit 0' TERM\nsleep 61 & echo $! > child\nwait\n"
    with working(tmp_path, source, form="program", concurrency=2) as work:
        work.send(1, {})
        until = time.monotonic() + 10
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
        work.tell("cancel", 1)
        header, _ = work.take()
        assert "caller left" in header["error"]["message"] and (tmp_path / "trapped").exists()
        child = int((tmp_path / "child").read_text())
        until = time.monotonic() + 5
        while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
            assert time.monotonic() < until
            time.sleep(0.02)


async def test_a_caller_that_leaves_while_its_program_starts_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program").write_text(f"#!/bin/sh\nsleep 61 & echo $! > {tmp_path}/child\nwait\n")
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    start = loop.subprocess_exec

    async def slow(*args: Any, **more: Any) -> Any:
        found = await start(*args, **more)
        there.set()
        await asyncio.sleep(0.3)
        return found

    monkeypatch.setattr(loop, "subprocess_exec", slow)
    calls: Any = Calls.__new__(Calls)
    calls._handler, calls._limit, calls._calls = Program(str(tmp_path / "program")), 1000, {}
    call = Call({"id": 1})
    call.begin()
    running = asyncio.create_task(calls._run(call, b""))
    await there.wait()
    async with asyncio.timeout(5):
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():  # noqa: ASYNC110 - a program writes it
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    async with asyncio.timeout(5):
        while child.exists() and (child / "stat").read_text().split()[2] != "Z":  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)


def test_the_first_line_says_what_runs_a_program(tmp_path: Path) -> None:
    def of(text: str) -> list[str]:
        (tmp_path / "p").write_text(text)
        return command(str(tmp_path / "p"))[:-1]

    assert of("echo hi") == ["/bin/sh"]
    assert of("#!/bin/sh -eu\n") == ["/bin/sh", "-eu"]
    assert of("#! /usr/bin/env python3\n") == ["/usr/bin/env", "python3"]
    assert of("#!/usr/bin/env -S python3 -u\n")[0] == "/usr/bin/env"
    for text in ("#!/no/such/thing\n", "#!\n", "#!/usr/bin/env no-such-thing\n"):
        with pytest.raises(NotRunnable):
            of(text)


def test_a_program_that_cannot_run_says_so_at_once(tmp_path: Path) -> None:
    with working(tmp_path, "#!/no/such/ruby\nputs 1\n", form="program") as work:
        assert work.hello["op"] == "failed" and "/no/such/ruby, which is not here" in work.hello["error"]["message"]


SERVER = """#!/usr/bin/env python3
import http.server, json, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/die":
            os._exit(3)
        if self.path == "/parts":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(3):
                self.wfile.write(b"2\\r\\n%d\\n\\r\\n" % number)
                self.wfile.flush()
            self.wfile.write(b"0\\r\\n\\r\\n")
            return
        answer = json.dumps({"path": self.path, "got": json.loads(body), "duration_ns": 1}).encode()
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Mine", self.headers["X-A"])
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *args): ...
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_program_that_listens_is_asked_over_http(tmp_path: Path) -> None:
    with working(tmp_path, SERVER, form="server", concurrency=4) as work:
        assert work.hello["op"] == "ready", work.hello
        http = {"method": "POST", "path": "/invoke", "headers": [["X-A", "b"], ["Content-Type", "application/json"]]}
        work.send(1, {"payload": [1]}, http=http, query="q=1")
        header, body = work.take()
        assert json.loads(body) == {"path": "/invoke?q=1", "got": {"payload": [1]}, "duration_ns": 1}
        assert (header["status"], header["type"]) == (202, "application/json") and ["x-mine", "b"] in header["headers"]
        work.send(2, {}, http={**http, "path": "/parts"})
        assert work.take()[0]["op"] == "head"
        assert work.rest()[0] == b"0\n1\n2\n"
        work.send(3, {"args": [1], "kwargs": {}}, type=CALL_TYPE)
        assert work.take()[0]["error"]["code"] == "RW-BAD-INPUT"
        work.send(4, {}, http={**http, "path": "/die"})
        assert "broke off" in work.take()[0]["error"]["message"]
        assert work.process.wait(10) == 3


def test_the_answer_of_a_program_that_listens_keeps_all_its_headers(tmp_path: Path) -> None:
    source = """#!/usr/bin/env python3
import os, socket
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    with listener.accept()[0] as one:
        if one.recv(65536):
            one.sendall(b"HTTP/1.1 103 Early Hints\\r\\nLink: x\\r\\n\\r\\nHTTP/1.1 200 OK\\r\\nSet-Cookie: a=1\\r\\n")
            one.sendall(b"Set-Cookie: b=2\\r\\nContent-Length: 2\\r\\n\\r\\nok")
"""
    with working(tmp_path, source, form="server") as work:
        work.send(1, {}, http={"method": "POST", "path": "/"})
        header, body = work.take()
        assert (header["status"], body) == (200, b"ok")
        assert [pair for pair in header["headers"] if pair[0] == "set-cookie"] == [
            ["set-cookie", "a=1"],
            ["set-cookie", "b=2"],
        ]


@pytest.mark.parametrize(
    ("source", "said", "shown"),
    [
        ("echo no port is free >&2; exit 4", "ended with exit code 4 before it listened", "no port is free\n"),
        ("#!/no\n", "/no, which is not here", "NotRunnable: Its first line names /no"),
    ],
)
def test_a_program_that_does_not_listen_says_why(source: str, said: str, shown: str, tmp_path: Path) -> None:
    with working(tmp_path, source, form="server") as work:
        assert work.hello["op"] == "failed" and said in work.hello["error"]["message"], work.hello
        assert shown in work.hello["error"]["details"]["traceback"]
        assert "asyncio" not in work.hello["error"]["details"]["traceback"]

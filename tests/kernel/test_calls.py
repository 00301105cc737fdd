"""Calls of functions over a real connection, to a small gateway on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ropewalk_core import sync
from ropewalk_core.errors import BadInput, Unavailable, UserCodeFailed
from ropewalk_kernel import calls
from ropewalk_runtime.handler import CALL_TYPE
from tests.kernel.fake import FakePlatform


class Gateway:
    """Answers each call with what it was sent, or with the failure it was told to give."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.status, self.body = 200, b""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                gateway.seen = {name.lower(): value for name, value in self.headers.items()}
                body = gateway.body or sent
                self.send_response(gateway.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://digits--fn--ada.localhost:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


async def close() -> None:
    calls.posts().close()


@pytest.fixture
def gateway(platform: FakePlatform) -> Iterator[Gateway]:
    one = Gateway()
    yield one
    sync.wait(close())
    one.server.shutdown()
    one.server.server_close()
    one.thread.join()


def test_arguments_travel_in_the_envelope_with_a_token(gateway: Gateway) -> None:
    assert calls.call(gateway.address, (1, {2}), {"name": "x"}) == {"args": [1, [2]], "kwargs": {"name": "x"}}
    assert gateway.seen["authorization"] == "Bearer token"
    assert gateway.seen["content-type"] == CALL_TYPE
    assert gateway.seen["host"] == gateway.address.split("/")[2]


def test_what_is_not_json_stays_bytes(gateway: Gateway) -> None:
    gateway.body = b"\x89PNG"
    assert calls.call(gateway.address, (), {}) == b"\x89PNG"


def test_the_handlers_failure_comes_back_with_its_traceback(gateway: Gateway) -> None:
    problem = UserCodeFailed("The function raised ValueError.", details={"traceback": "Traceback\nValueError"})
    gateway.status, gateway.body = 500, json.dumps(problem.problem()).encode()
    with pytest.raises(UserCodeFailed) as caught:
        calls.call(gateway.address, (), {})
    assert caught.value.details["traceback"] == "Traceback\nValueError"


def test_a_gateway_that_is_away_is_said_so(platform: FakePlatform) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        calls.call("http://digits--fn--ada.localhost:1/", (), {})


def test_a_value_without_json_form_is_refused_before_anything_is_sent(gateway: Gateway) -> None:
    with pytest.raises(BadInput, match="type complex"):
        calls.call(gateway.address, (1j,), {})
    assert gateway.seen == {}

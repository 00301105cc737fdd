"""A real running platform in a scratch home, and a person who works in it: pages, API, a kernel, a terminal's shell."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import websocket

from ropewalk_core.processes import Processes, run
from ropewalk_core.settings import package_environment
from tests.ports import free_port

ROPEWALK = str(Path(sys.prefix) / "bin" / "ropewalk")
OWN = ("proxy", "platform", "hub", "gateway", "engine", "host")


class Loopback(httpx.HTTPTransport):
    """Sends every request to the loopback address, as browsers do with names below localhost."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(host="127.0.0.1")
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
        headers.append((b"Host", request.url.netloc))
        sent = httpx.Request(request.method, url, headers=headers, stream=request.stream, extensions=request.extensions)
        return super().handle_request(sent)


class House:
    """A running platform in a scratch home, and the questions that the tests ask it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rw-"))
        self.home = self.folder / "home"
        self.port = free_port()
        self.processes = Processes(self.home / "run" / "processes")
        self.origin = f"http://localhost:{self.port}"
        self._open: list[httpx.Client | Kernel] = []
        self._tokens: dict[tuple[str, str], tuple[float, str]] = {}

    def ropewalk(self, *words: str) -> Any:
        """Run a command and return what it printed as JSON."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **package_environment()}
        done = run([ROPEWALK, *words, "--home", str(self.home), "--json"], env=env, timeout=120)
        assert done.out, (words, done.err)
        return json.loads(done.out)

    def up(self) -> dict[str, Any]:
        facts: dict[str, Any] = self.ropewalk("up", "--port", str(self.port), "--detach")
        return facts

    def pid(self, name: str) -> int:
        found = self.processes.find(f"platform.{name}")
        return found.pid if found else 0

    def door(self, path: str, host: str = "localhost", **more: Any) -> httpx.Response:
        """Ask the platform's door."""
        headers = {"Host": f"{host}:{self.port}", "Origin": self.origin, **more.pop("headers", {})}
        with httpx.Client(timeout=20, headers=headers) as client:
            return client.request(more.pop("method", "GET"), f"http://127.0.0.1:{self.port}{path}", **more)

    def token(self, audience: str = "api", account: str = "") -> str:
        """Return a token of an account, the first administrator's by default; it outlives a platform that is killed."""
        kept = self._tokens.get((audience, account))
        if kept and time.monotonic() - kept[0] < 300:
            return kept[1]
        transport = httpx.HTTPTransport(uds=str(self.home / "run" / "platform.sock"))
        with httpx.Client(transport=transport, base_url="http://platform", timeout=20) as inside:
            answer = inside.post("/internal/token", json={"audience": audience, "account": account})
            assert answer.status_code == 200, answer.text
            text = str(answer.json()["token"])
        self._tokens[audience, account] = (time.monotonic(), text)
        return text

    def ask(self, method: str, path: str, *, account: str = "", **more: Any) -> httpx.Response:
        """Ask the API as an account."""
        headers = {"Authorization": f"Bearer {self.token(account=account)}", **more.pop("headers", {})}
        return self.door(f"/api/v1/{path}", method=method, headers=headers, **more)

    def api(self, method: str, path: str, **more: Any) -> Any:
        """Ask the API and return its good answer."""
        answer = self.ask(method, path, **more)
        assert answer.status_code < 400, answer.text
        return answer.json()

    def notebook(self, account: str = "ann") -> dict[str, Any]:
        """Return a person's notebook."""
        found: dict[str, Any] = self.api("GET", f"notebooks/{account}", account=account)["items"][0]
        return found

    def sign_up(self, link: str, account: str = "ann") -> httpx.Client:
        """Make the first administrator with the one-time link; return a browser that is signed in."""
        person = self.browser()
        form = {"account": account, "password": "correct horse battery", "full_name": account.title()}
        answer = person.post(link, data=form, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        return person

    def browser(self) -> httpx.Client:
        """Return a client that keeps cookies and finds names below localhost, as a browser does."""
        headers = {"Origin": self.origin, "Accept": "text/html"}
        made = httpx.Client(transport=Loopback(), headers=headers, follow_redirects=True, timeout=20)
        self._open.append(made)
        return made

    def start_notebook(self, account: str = "ann") -> None:
        """Start a person's notebook server and wait for it."""
        self.api("POST", f"notebooks/{account}/start", json={}, account=account)
        until(lambda: self.notebook(account)["status"]["state"] == "running")

    def kernel(self, account: str = "ann") -> Kernel:
        """Return a new kernel in the person's notebook server."""
        made = Kernel(self, account)
        self._open.append(made)
        return made

    def leftovers(self) -> list[str]:
        """Return the command lines of processes that belong to this home."""
        lines = run(["ps", "-eo", "args"]).out.splitlines()
        return [line for line in lines if str(self.home) in line and "ps -eo" not in line]

    def end(self) -> None:
        """End everything, whatever state it is in."""
        for one in self._open:
            one.close()
        with contextlib.suppress(AssertionError):
            self.ropewalk("down")
        self.processes.sweep(grace=0.2)
        shutil.rmtree(self.folder, ignore_errors=True)


class Kernel:
    """A kernel of a running notebook server, spoken to through the platform's door as JupyterLab does."""

    def __init__(self, house: House, account: str = "ann") -> None:
        self._house, self._account = house, account
        self._host = f"{account}.localhost:{house.port}"
        self._token = self._hub_token()
        self._socket: websocket.WebSocket | None = None
        self.id = str(self.server("POST", "kernels", json={"name": "python3"}).json()["id"])

    def server(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the notebook server's own interface."""
        address = f"http://127.0.0.1:{self._house.port}/user/{self._account}/api/{path}"
        headers = {"Host": self._host, "Authorization": f"token {self._token}"}
        answer = httpx.request(method, address, headers=headers, timeout=30, **more)
        assert answer.status_code < 400, answer.text
        return answer

    def connect(self) -> None:
        """Open the connection anew, as a page does when it was dropped."""
        self.close()
        self._socket = websocket.create_connection(
            f"ws://127.0.0.1:{self._house.port}/user/{self._account}/api/kernels/{self.id}/channels",
            host=self._host,
            origin=f"http://{self._host}",
            header=[f"Authorization: token {self._token}"],
            timeout=60,
        )

    def close(self) -> None:
        """Drop the connection; the kernel stays."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def run(self, code: str) -> str:
        """Run a cell and return what it printed, and its traceback if it failed."""
        if self._socket is None:
            self.connect()
        assert self._socket is not None
        identifier, said, over, answered = uuid.uuid4().hex, [], False, False
        header = {"msg_id": identifier, "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        while not (over and answered):
            heard = json.loads(self._socket.recv())
            if heard["parent_header"].get("msg_id") != identifier:
                continue
            kind, body = heard["msg_type"], heard["content"]
            if kind == "stream":
                said.append(body["text"])
            elif kind == "error":
                said.append("\n".join(body["traceback"]))
            elif kind in ("execute_result", "display_data"):
                said.append(body["data"].get("text/plain", "") + "\n")
            answered = answered or kind == "execute_reply"
            over = over or (kind == "status" and body["execution_state"] == "idle")
        return "".join(said)

    def _hub_token(self) -> str:
        ports = json.loads((self._house.home / "run" / "ports.json").read_text())
        secret = (self._house.home / "secrets" / "platform-api-token").read_text().strip()
        answer = httpx.post(
            f"http://127.0.0.1:{ports['hub']}/hub/api/users/{self._account}/tokens",
            headers={"Host": f"localhost:{self._house.port}", "Authorization": f"token {secret}"},
            json={"note": "test"},
            timeout=20,
        )
        assert answer.status_code < 300, answer.text
        return str(answer.json()["token"])


@contextlib.contextmanager
def ended(house: House) -> Iterator[House]:
    """Lend a house and end it in any case."""
    try:
        yield house
    finally:
        house.end()


def until(true: Callable[[], Any], patience: float = 40.0, every: float = 0.1) -> Any:
    """Wait until something is so; questions that fail meanwhile are asked again."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(httpx.HTTPError, AssertionError, KeyError, ValueError, OSError):
            if answer := true():
                return answer
        assert time.monotonic() < deadline
        time.sleep(every)

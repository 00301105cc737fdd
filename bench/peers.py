"""The peers that `bench.embedded` runs beside ours: a stock JupyterHub, functions-framework, a bare loop.

They are installed into `.cache/bench` from `locks/bench.txt`, never into the platform's environment.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent

STOCK_CONFIG = """
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.command = {proxy!r}
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "jupyterhub.spawner.SimpleLocalProcessSpawner"
c.Authenticator.allow_all = True
c.Spawner.cmd = [{singleuser!r}]
c.Spawner.args = ["--allow-root"]
c.JupyterHub.services = [{{"name": "bench", "api_token": "bench-token-of-this-run"}}]
c.JupyterHub.load_roles = [{{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "admin:servers"]}}]
c.JupyterHub.log_level = "WARN"
"""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(
    port: int, method: str, path: str, *, host: str = "", headers: dict[str, str] | None = None, body: str | None = None
) -> int:
    """Send one request to loopback and return its status; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = (headers or {}) | ({"Host": host} if host else {}) | ({"Content-Type": "application/json"} if body else {})
    try:
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return 0
    finally:
        connection.close()


def wait_for(port: int, path: str, wanted: tuple[int, ...], *, host: str = "", seconds: float = 90) -> None:
    """Ask until one of the wanted statuses comes."""
    end = time.monotonic() + seconds
    status = 0
    while time.monotonic() < end:
        if (status := request(port, "GET", path, host=host)) in wanted:
            return
        time.sleep(0.01)
    raise TimeoutError(f"{path} answered {status} for {seconds:g} s")


@contextlib.contextmanager
def stock_hub(folder: Path) -> Iterator[int]:
    """Run a stock JupyterHub with SimpleLocalProcessSpawner; yields its port."""
    port, hub, api = free_port(), free_port(), free_port()
    proxy = [str(CHECKOUT / ".cache/proxy/node_modules/.bin/configurable-http-proxy")]
    config = folder / "stock_config.py"
    singleuser = str(Path(sys.executable).with_name("jupyterhub-singleuser"))
    config.write_text(STOCK_CONFIG.format(port=port, hub=hub, api=api, proxy=proxy, singleuser=singleuser))
    environment = os.environ | {"CONFIGPROXY_AUTH_TOKEN": "bench-proxy-token-of-this-run"}
    with (folder / "stock.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(config)],
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(port, "/hub/login", (200,))
            yield port
        finally:
            process.terminate()
            process.wait(30)


def stock_notebook(port: int, user: str) -> float:
    """Start a server of the stock hub; return the seconds from the request until it answers, and stop it again."""
    headers = {"Authorization": "token bench-token-of-this-run"}
    request(port, "POST", f"/hub/api/users/{user}", headers=headers)
    begin = time.perf_counter()
    request(port, "POST", f"/hub/api/users/{user}/server", headers=headers)
    wait_for(port, f"/user/{user}/api", (200,))
    taken = time.perf_counter() - begin
    while request(port, "DELETE", f"/hub/api/users/{user}/server", headers=headers) == 202:
        time.sleep(0.1)
    return taken


@contextlib.contextmanager
def functions_framework(folder: Path) -> Iterator[int]:
    """Run functions-framework with a handler that returns its payload; yields its port."""
    port = free_port()
    (folder / "main.py").write_text("def echo(request):\n    return request.get_json()\n")
    python = CHECKOUT / ".cache/bench/bin/functions-framework"
    with (folder / "framework.log").open("wb") as log:
        process = subprocess.Popen(
            [python, "--target", "echo", "--port", str(port), "--host", "127.0.0.1"],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            end = time.monotonic() + 60
            while request(port, "GET", "/") == 0 and time.monotonic() < end:
                time.sleep(0.005)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def warm_calls(port: int, count: int, *, host: str = "", token: str = "") -> list[float]:
    """Post `count` small payloads over one connection; return the seconds of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    body, samples = json.dumps({"value": 1}), []
    for _ in range(count):
        begin = time.perf_counter()
        connection.request("POST", "/", body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        samples.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise RuntimeError(f"a call answered {answer.status}")
    connection.close()
    return samples


def bare_loop(count: int, *, wide: bool) -> float:
    """Run `python -c pass` `count` times, two at a time when wide; return milliseconds for each."""
    command = [sys.executable, "-c", "pass"]
    begin = time.perf_counter()
    if not wide:
        for _ in range(count):
            subprocess.run(command, check=True)
    else:
        running: list[subprocess.Popen[bytes]] = []
        for _ in range(count):
            running.append(subprocess.Popen(command))
            if len(running) == (os.cpu_count() or 1):
                running.pop(0).wait()
        for process in running:
            process.wait()
    return (time.perf_counter() - begin) / count * 1e3

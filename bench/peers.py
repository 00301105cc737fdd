"""The peers that run beside ours: a stock JupyterHub, functions-framework, BentoML, Ray Serve, a bare loop.

functions-framework is installed into `.cache/bench` from `locks/bench.txt`, the heavy ones into `build/bench` from
`bench/peers.txt`, never into the platform's environment.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.scratch import CHECKOUT, Scratch

UV = str(CHECKOUT / ".venv" / "bin" / "uv")
FRAMEWORK = (CHECKOUT / ".cache" / "bench", CHECKOUT / "locks" / "bench.txt")
HEAVY = (CHECKOUT / "build" / "bench", CHECKOUT / "bench" / "peers.txt")
"""Where an environment of peers is, and the file that pins what is in it, with hashes."""

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


def wait_for(
    port: int, path: str, wanted: Sequence[int], *, host: str = "", seconds: float = 90, every: float = 0.01
) -> None:
    """Ask until one of the wanted statuses comes."""
    end = time.monotonic() + seconds
    status = 0
    while time.monotonic() < end:
        if (status := request(port, "GET", path, host=host)) in wanted:
            return
        time.sleep(every)
    raise TimeoutError(f"{path} answered {status} for {seconds:g} s")


@contextlib.contextmanager
def stock_hub(ground: Scratch) -> Iterator[int]:
    """Run a stock JupyterHub with SimpleLocalProcessSpawner; yields its port."""
    port, hub, api = free_port(), free_port(), free_port()
    proxy = [str(CHECKOUT / ".cache/proxy/node_modules/.bin/configurable-http-proxy")]
    config = ground.folder / "stock_config.py"
    singleuser = str(Path(sys.executable).with_name("jupyterhub-singleuser"))
    config.write_text(STOCK_CONFIG.format(port=port, hub=hub, api=api, proxy=proxy, singleuser=singleuser))
    token = {"CONFIGPROXY_AUTH_TOKEN": "bench-proxy-token-of-this-run"}
    argv = [sys.executable, "-m", "jupyterhub", "-f", config]
    with ground.running("stock", argv, env=token, cwd=ground.folder, grace=30.0):
        wait_for(port, "/hub/login", (200,))
        yield port


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


def install(folder: Path, lock: Path) -> None:
    """Make an environment of peers what its file says; quick when it is that already."""
    done = folder / "installed.txt"
    if done.exists() and done.read_bytes() == lock.read_bytes():
        return
    subprocess.run([UV, "venv", "--quiet", "--allow-existing", str(folder)], check=True, timeout=60)
    environment = os.environ | {"VIRTUAL_ENV": str(folder)}
    argv = [UV, "pip", "sync", "--quiet", "--require-hashes", str(lock)]
    subprocess.run(argv, check=True, env=environment, timeout=1800)
    done.write_bytes(lock.read_bytes())


@contextlib.contextmanager
def functions_framework(ground: Scratch, cores: Sequence[int] = ()) -> Iterator[int]:
    """Run functions-framework with a handler that returns its payload; yields its port."""
    port, program = free_port(), FRAMEWORK[0] / "bin" / "functions-framework"
    (ground.folder / "main.py").write_text("def echo(request):\n    return request.get_json()\n")
    argv = [program, "--target", "echo", "--port", port, "--host", "127.0.0.1"]
    with ground.running("framework", argv, cwd=ground.folder, cores=cores):
        wait_for(port, "/", tuple(range(200, 600)), seconds=60, every=0.002)
        yield port


BENTO = """
import bentoml


@bentoml.service(workers=1)
class Echo:
    @bentoml.api
    def echo(self, v: int) -> dict:
        return {"v": v}
"""
RAY = """
import sys
import time

import ray
from ray import serve


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Echo:
    async def __call__(self, request):
        return await request.json()


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[2])
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Echo.bind(), route_prefix="/")
while True:
    time.sleep(1)
"""


@contextlib.contextmanager
def bentoml(ground: Scratch, cores: Sequence[int] = ()) -> Iterator[int]:
    """Run BentoML with a service that returns its payload at /echo; yields its port."""
    port = free_port()
    (ground.folder / "bento_echo.py").write_text(BENTO)
    quiet = {"BENTOML_HOME": str(ground.folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    argv = [HEAVY[0] / "bin" / "bentoml", "serve", "bento_echo:Echo", "--port", port, "--host", "127.0.0.1"]
    with ground.running("bentoml", argv, cwd=ground.folder, env=quiet, cores=cores):
        wait_for(port, "/readyz", (200,), seconds=120)
        yield port


@contextlib.contextmanager
def ray_serve(ground: Scratch, cores: Sequence[int] = ()) -> Iterator[int]:
    """Run Ray Serve with a deployment that returns its payload; yields its port."""
    port, program = free_port(), ground.folder / "ray_echo.py"
    program.write_text(RAY)
    quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
    argv = [HEAVY[0] / "bin" / "python", program, port, ground.folder / "ray"]
    with ground.running("ray", argv, cwd=ground.folder, env=quiet, cores=cores, grace=20.0):
        wait_for(port, "/-/healthz", (200,), seconds=180)
        _until_good(lambda: request(port, "POST", "/", body='{"v": 42}'), 60)
        yield port


def _until_good(ask: Callable[[], int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (status := ask()) != 200:
        if time.monotonic() > end:
            raise TimeoutError(f"the peer answered {status} for {seconds:g} s")
        time.sleep(0.05)


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

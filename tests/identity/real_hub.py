"""JupyterHub, its proxy and the platform process as they are in a home, without the rest and without a sandbox.

The notebook servers are JupyterHub's own simple ones, since what is looked at is the sign-in and not the sandbox.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from ropewalk_core import settings as settings_module
from ropewalk_core.settings import Settings, child_environment
from ropewalk_hub import addresses, node
from ropewalk_hub.addresses import Addresses
from ropewalk_hub.secrets_store import Secret, SecretsStore
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROXY = ROOT / ".cache" / "proxy" / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
REFRESH_AGE = 3
"""Shorter than in a home, so that nobody waits for it; `test_ends_come_within_the_minute` looks at the real one."""
CONFIG = ROOT / "hub" / "ropewalk_hub" / "jupyterhub_config.py"


@dataclass
class RealHub:
    settings: Settings
    where: Addresses
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]]

    @property
    def origin(self) -> str:
        return self.settings.door.origin

    def commands(self) -> dict[str, list[str]]:
        python, port = sys.executable, str(self.settings.door.port)
        api = ["--api-ip", "127.0.0.1", "--api-port", str(self.where.proxy_api)]
        return {
            "proxy": [
                str(node.ensure() / "node"),
                str(PROXY),
                *("--ip", "127.0.0.1", "--port", port, *api),
                *("--host-routing", "--default-target", self.where.platform_url),
            ],
            "platform": [python, "-m", "ropewalk_hub.app"],
            "hub": [
                *(python, "-m", "jupyterhub", "-f", str(CONFIG), "--JupyterHub.spawner_class=simple"),
                f"--RopewalkAuthenticator.auth_refresh_age={REFRESH_AGE}",
            ],
        }

    def start(self, name: str) -> None:
        log = (self.settings.home / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(
                self.commands()[name], env=self.environment, cwd=self.settings.home, stdout=log, stderr=log
            )

    def end(self, name: str, sign: int = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(sign)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return (self.settings.home / f"{name}.log").read_text(errors="replace")

    async def first_link(self) -> str | None:
        transport = httpx.AsyncHTTPTransport(uds=str(self.settings.run / "platform.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as inside:
            link: str | None = (await inside.post("/internal/first")).json()["link"]
            return link

    def browser(self) -> httpx.AsyncClient:
        """A client that keeps cookies, writes Origin and follows redirects, as a browser."""
        return httpx.AsyncClient(
            base_url=self.origin, headers={"origin": self.origin}, follow_redirects=True, timeout=30, trust_env=False
        )


@contextlib.contextmanager
def running() -> Iterator[RealHub]:
    folder = Path(tempfile.mkdtemp(prefix="rw-"))
    settings = settings_module.load(folder / "home", environ={}, door_port=free_port())
    settings.run.mkdir(parents=True)
    (settings.home / "hub").mkdir()
    where = addresses.pick()
    addresses.write(settings, where)
    environment = child_environment(
        {
            "ROPEWALK_HOME": str(settings.home),
            "ROPEWALK_DOOR_PORT": str(settings.door.port),
            "CONFIGPROXY_AUTH_TOKEN": SecretsStore(settings).text(Secret.PROXY_TOKEN),
        }
    )
    one = RealHub(settings, where, environment, {})
    try:
        for name in ("proxy", "platform", "hub"):
            one.start(name)
        _answers(one, "/sign-in")
        _answers(one, "/hub/api/")
        yield one
    finally:
        for name in list(one.processes):
            one.end(name)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(one: RealHub, path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(one.origin + path, trust_env=False).status_code == 200:
                return
        dead = [name for name, process in one.processes.items() if process.poll() is not None]
        assert not dead, json.dumps({name: one.log(name)[-3000:] for name in dead})
        time.sleep(0.1)
    raise AssertionError(f"{path} does not answer: {one.log('platform')[-2000:]} {one.log('hub')[-2000:]}")

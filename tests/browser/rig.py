"""What the browser tests stand on: a real `ropewalk up` at a name of its own, people in it, and Debian's Chromium.

Three worlds: ``localhost``, where browsers take every name for a site of its own; ``rope.test`` over http and
``hemp.test`` over https, where the platform and people's pages are of one site, so that nothing protects but the
platform itself. Chromium is told where the names are; no name service is asked.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.front import Front
from tests.ports import free_port
from tests.tour import stage

PASSWORD = "seven ropes hold the mast"
HOSTILE = Path(__file__).with_name("hostile.html")
TLS_ADDRESS = "127.0.0.2"
"""Where the TLS front listens: the same ports as the platform, on another loopback address."""
NAMES = (
    "--host-resolver-rules="
    "MAP rope.test 127.0.0.1, MAP *.rope.test 127.0.0.1, "
    f"MAP hemp.test {TLS_ADDRESS}, MAP *.hemp.test {TLS_ADDRESS}"
)
DOORS = {"localhost": ("localhost", "http"), "http": ("rope.test", "http"), "https": ("hemp.test", "https")}
_FIRST = re.compile(r"https?://\S+/first/\S+")


@dataclass
class World:
    """A running platform with Ada (its administrator), Bob (active) and Carol (waits for approval)."""

    scheme: str
    host: str
    port: int
    home: Path
    folder: Path
    browser: Browser
    first: str
    front: Front
    contexts: dict[str, BrowserContext] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The platform's origin."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def people(self, name: str) -> str:
        """Return the origin of a service or function."""
        return f"{self.scheme}://{name}.{self.host}:{self.port + 1}"

    def notebook(self, account: str) -> str:
        """Return the address of somebody's notebook server."""
        return f"{self.scheme}://{account}.{self.host}:{self.port}/user/{account}/"

    def context(self) -> BrowserContext:
        """Return a browser that never signed in."""
        made = self.browser.new_context(ignore_https_errors=True)
        made.set_default_timeout(30_000)
        return made

    def signed_in(self, account: str = "ada") -> BrowserContext:
        """Return the browser in which a person is signed in; signs in when it is not."""
        context = self.contexts.get(account)
        if context is None:
            context = self.contexts[account] = self.context()
        page = context.new_page()
        page.goto(f"{self.origin}/account")
        if "/sign-in" in page.url:
            page.get_by_label("Account", exact=True).fill(account)
            page.get_by_label("Password", exact=True).fill(PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_url(lambda url: "/sign-in" not in url)
        page.close()
        return context

    def ask(self, method: str, path: str, *, account: str = "ada", **keywords: Any) -> httpx.Response:
        """Ask the REST interface as a person's own page would, past browser and front."""
        cookies = {str(one.get("name")): str(one.get("value")) for one in self.contexts[account].cookies(self.origin)}
        name = "__Host-ropewalk" if self.scheme == "https" else "ropewalk-session"
        headers = {"Host": f"{self.host}:{self.port}", "Origin": self.origin, "Cookie": f"{name}={cookies[name]}"}
        return httpx.request(
            method, f"http://127.0.0.1:{self.port}{path}", headers=headers, trust_env=False, timeout=30, **keywords
        )

    def post_form(self, path: str, **fields: str) -> httpx.Response:
        """Send a form of ours without a sign-in."""
        headers = {"Host": f"{self.host}:{self.port}", "Origin": self.origin}
        return httpx.post(f"http://127.0.0.1:{self.port}{path}", data=fields, headers=headers, trust_env=False)

    def state(self) -> dict[str, Any]:
        """Return everything that an attack could have changed, as REST tells it to Ada, once nothing is on its way."""
        self.until(lambda: self.notebook_state() not in ("starting", "stopping"), "the notebook is as it stays")
        found: dict[str, Any] = {}
        for path in ("me", "accounts", "services/ada", "functions/ada", "workflows/ada", "secrets/ada"):
            answer = self.ask("GET", f"/api/v1/{path}")
            assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
            found[path] = answer.json()
        planted = self.ask("GET", "/api/v1/files/ada/planted.txt").status_code
        return found | {"planted": planted, "notebook": self.notebook_state()}

    def until(self, look: Callable[[], bool], what: str, seconds: float = 60) -> float:
        """Wait; return the seconds it took."""
        started = time.monotonic()
        while not look():
            assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what}"
            time.sleep(0.1)
        return time.monotonic() - started

    def launch(self, name: str, account: str = "ada", **values: Any) -> None:
        """Launch a site service and wait until it runs."""
        body = {"name": name, "template": "site", "values": values}
        answer = self.ask("PUT", f"/api/v1/services/{account}/{name}", account=account, json=body)
        assert answer.status_code < 300, answer.text

        def runs() -> bool:
            status = self.ask("GET", f"/api/v1/services/{account}/{name}", account=account).json()["status"]
            assert status["state"] != "failed", status
            return bool(status["state"] == "running")

        self.until(runs, f"service {name} runs")

    def notebook_state(self, account: str = "ada") -> str:
        """Return the state of a notebook server."""
        items = self.ask("GET", f"/api/v1/notebooks/{account}", account=account).json()["items"]
        return str(items[0]["status"]["state"])

    def start_notebook(self, account: str = "ada") -> None:
        """Start a notebook server and wait until it runs."""
        answer = self.ask("POST", f"/api/v1/notebooks/{account}/start", account=account, json={})
        assert answer.status_code < 300, answer.text

        def runs() -> bool:
            state = self.notebook_state(account)
            assert state != "failed"
            return state in ("running", "idle")

        self.until(runs, f"the notebook of {account} runs")


@contextlib.contextmanager
def world(which: str, browser: Browser, front: Front) -> Iterator[World]:
    """Start a platform under one of the `DOORS`, let people in, and launch Ada's hostile service."""
    host, scheme = DOORS[which]
    scratch = Path(tempfile.mkdtemp(prefix="rw-browser-"))
    scratch.chmod(0o755)
    folder, home = scratch / "folder", scratch / "home"
    (folder / "site").mkdir(parents=True)
    home.mkdir()
    (home / "ropewalk.toml").write_text(f'[door]\nhost = "{host}"\nscheme = "{scheme}"\n')
    shutil.copy(HOSTILE, folder / "site" / "index.html")
    port = free_port()
    if scheme == "https":
        for one in (port, port + 1):
            front.listen(TLS_ADDRESS, one, to=one, tls=True)
    try:
        with _up(home, folder, port, scratch / "up.log") as first:
            made = World(scheme, host, port, home, folder, browser, first, front)
            _people(made)
            made.launch("evil", folder="site")
            yield made
            for context in made.contexts.values():
                context.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _up(home: Path, folder: Path, port: int, log: Path) -> Iterator[str]:
    """Run `ropewalk up` in the foreground; yield the link for the first administrator."""
    program = str(Path(sys.executable).with_name("ropewalk"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ROPEWALK_", "JUPYTER"))}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [program, "up", str(folder), "--home", str(home), "--port", str(port)],
            stdout=sink,
            stderr=sink,
            env=clean,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 90
        while (found := _FIRST.search(log.read_text(errors="replace"))) is None:
            assert process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")[-4000:]
            time.sleep(0.05)
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        stage.ropewalk("down", home=home)


def _people(world: World) -> None:
    context = world.contexts["ada"] = world.context()
    page = context.new_page()
    page.goto(world.first)
    page.get_by_label("Account", exact=True).fill("ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/first/" not in url)
    page.close()
    for name in ("bob", "carol"):
        assert world.post_form("/sign-up", account=name, password=PASSWORD).status_code < 400
    assert world.ask("POST", "/api/v1/accounts/bob/approve").status_code < 300


@dataclass
class Answer:
    """What a server said to one request of the browser, whether or not the page could read it."""

    method: str
    url: str
    status: int


@contextlib.contextmanager
def heard(page: Page, origin: str) -> Iterator[list[Answer]]:
    """Collect the answers of an origin to this browser while the block runs."""
    answers: list[Answer] = []

    def note(response: Any) -> None:
        if response.url.startswith(origin):
            answers.append(Answer(response.request.method, response.url.removeprefix(origin), response.status))

    page.context.on("response", note)
    try:
        yield answers
    finally:
        page.context.remove_listener("response", note)

"""What people have running survives kill -9 of each process of the platform, and of all: nothing acknowledged is lost.

A workflow is under way, a function answers, a service is open and a notebook has a kernel with state, each time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ropewalk_core.local import sandbox
from tests.platform_rig import OWN, House, Kernel, ended, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}"),
]
SETUP = """
import os, time
from ropewalk import step, workflow

@step
def first(tag):
    with open(f"{tag}.order", "a") as file:
        file.write("first\\n")
    return 1

@step
def slow(value, tag):
    with open(f"{tag}.order", "a") as file:
        file.write("slow\\n")
    time.sleep(3)
    return value + 1

@step
def last(value, tag):
    with open(f"{tag}.order", "a") as file:
        file.write("last\\n")
    return value + 1

@workflow
def flow(tag):
    return last(slow(first(tag), tag), tag)

state = {"kept": os.getpid()}
"""
FUNCTION = "%%function\ndef double(value):\n    return 2 * value\n"


class Work:
    """A person's work on a running platform, and whether it is still there."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.person = house.sign_up(house.up()["first"])
        self.house.start_notebook()
        self.kernel: Kernel = self.house.kernel()
        assert "Error" not in self.kernel.run(SETUP)
        assert "deployed" in self.kernel.run(FUNCTION)
        (self.files / "page").mkdir()
        (self.files / "page" / "index.html").write_text("hello from the service")
        spec = {"name": "web", "template": "site", "values": {"folder": "page"}}
        self.house.api("PUT", "services/ann/web", json=spec)
        self.process = self.kernel.run('print(state["kept"])').strip()
        until(self.service)
        until(self.function)

    @property
    def files(self) -> Path:
        return self.house.home / "accounts" / "ann" / "files"

    def submit(self, tag: str) -> str:
        """Start a run and return its identifier when its slow step is under way."""
        run = self.kernel.run(f'run = flow.submit("{tag}")\nprint("ID", run.id)').rpartition("ID ")[2].strip()
        until(lambda: "slow" in (self.files / f"{tag}.order").read_text())
        return run

    def order(self, tag: str) -> list[str]:
        return (self.files / f"{tag}.order").read_text().split()

    def run(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = self.house.api("GET", f"workflows/ann/{identifier}")
        return found

    def function(self) -> bool:
        """Say whether the function answers."""
        address = f"http://double--fn--ann.localhost:{self.house.port + 1}/"
        headers = {"Authorization": f"Bearer {self.house.token('functions')}"}
        with self.house.browser() as anybody:
            return bool(anybody.post(address, json=21, headers=headers).json() == 42)

    def service(self) -> bool:
        """Say whether the service's page opens, through the login."""
        answer = self.person.get(f"http://web--ann.localhost:{self.house.port + 1}/")
        return answer.status_code == 200 and answer.text == "hello from the service"

    def state(self) -> bool:
        """Say whether a page that connects again finds the kernel as it was."""
        with contextlib.suppress(Exception):
            self.kernel.connect()
            return self.kernel.run('print(state["kept"])').strip() == self.process
        return False

    def page(self) -> bool:
        """Say whether the dashboard opens and the person is still signed in."""
        answer = self.person.get(f"{self.house.origin}/")
        return answer.status_code == 200 and "/sign-in" not in str(answer.url)


@pytest.fixture(scope="module")
def work() -> Iterator[Work]:
    with ended(House()) as house:
        yield Work(house)


@pytest.mark.parametrize("name", OWN)
def test_everything_goes_on_after_a_kill_of(work: Work, name: str) -> None:
    until(lambda: all(work.house.pid(one) for one in OWN))
    run, before = work.submit(name), work.house.pid(name)
    killed = time.monotonic()
    os.kill(before, signal.SIGKILL)
    if name == "hub":
        assert work.kernel.run('print(state["kept"])').strip() == work.process, "an open notebook notices nothing"
    if name == "proxy":
        until(work.state, patience=10)
        assert time.monotonic() - killed < 10
    until(lambda: work.house.pid(name) not in (0, before))
    for promise in (work.page, work.function, work.service, work.state):
        until(promise)
    found = until(lambda: (one := work.run(run))["status"]["state"] in ("done", "failed") and one)
    assert found["status"]["state"] == "done", found["status"]
    again = name in ("engine", "host")  # an unfinished step ends with whoever runs it, and starts once more
    assert work.order(name) == ["first", *(["slow", "slow"] if again else ["slow"]), "last"]


def test_what_was_acknowledged_survives_a_kill_at_that_moment(work: Work) -> None:
    spec = {"name": "second", "template": "site", "values": {"folder": "page"}}
    work.house.api("PUT", "services/ann/second", json=spec)
    os.kill(work.house.pid("platform"), signal.SIGKILL)
    found = until(lambda: work.house.api("GET", "services/ann/second"))
    assert found["spec"]["name"] == "second"
    until(lambda: work.house.api("GET", "services/ann/second")["status"]["state"] == "running")
    work.house.api("DELETE", "services/ann/second")


def test_a_kill_of_everything_and_the_next_up(work: Work) -> None:
    run = work.submit("all")
    supervisor = work.house.ropewalk("status")["pid"]
    for pid in (supervisor, *(work.house.pid(one) for one in OWN)):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(httpx.TransportError):
        work.house.door("/sign-in")
    work.house.up()
    for promise in (work.page, work.function, work.service, work.state):
        until(promise)
    found = until(lambda: (one := work.run(run))["status"]["state"] in ("done", "failed") and one)
    assert found["status"]["state"] == "done", found["status"]
    assert work.order("all")[0] == "first" and work.order("all").count("first") == 1


def test_a_kill_of_people_s_processes_too(work: Work) -> None:
    """As after a power cut: nothing of the home is left but its files."""
    supervisor = work.house.ropewalk("status")["pid"]
    run = work.submit("power")
    for pid in (supervisor, *(one.pid for one in work.house.processes.living())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    work.house.up()
    for promise in (work.page, work.function, work.service):
        until(promise)
    found = until(lambda: (one := work.run(run))["status"]["state"] in ("done", "failed") and one)
    assert found["status"]["state"] == "done", found["status"]
    assert work.order("power").count("first") == 1
    assert work.house.notebook()["status"]["state"] == "stopped"


def test_a_regular_stop_brings_services_and_functions_back_and_says_why_the_notebook_stopped(work: Work) -> None:
    work.house.start_notebook()
    assert work.house.ropewalk("down")["stopped"]
    assert work.house.leftovers() == []
    work.house.up()
    for promise in (work.page, work.function, work.service):
        until(promise)
    found = work.house.notebook()
    assert found["status"]["state"] == "stopped"
    assert found["status"]["note"] == "It was stopped together with the platform."
    assert work.page()

"""Services on this machine pass the contract; and what only processes suffer: kills, restarts, programs that fail."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core import environments
from ropewalk_core import settings as settings_module
from ropewalk_core.catalog import Catalog, shipped
from ropewalk_core.errors import BadValues, Conflict, RopewalkError
from ropewalk_core.journal import Journal
from ropewalk_core.leases import Device
from ropewalk_core.local import accounts, sandbox, service_process
from ropewalk_core.local.leases import Leases
from ropewalk_core.local.service_process import log_path, socket_path
from ropewalk_core.local.services import LAST, LocalServices
from ropewalk_core.model import Service, ServiceSpec, State, Status, Why
from ropewalk_core.placement import Inventory, Node, Placement
from ropewalk_core.processes import Processes
from ropewalk_core.settings import Settings
from ropewalk_core.testing import ADA, ServicesContract, gone, take, until

INVENTORY = Inventory(nodes=(Node(name="here", arch="amd64", cpu=2, memory=8 * 2**30, accelerators={"toy": 1}),))
NOTEBOOK = {
    "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": ["print('hello from a cell')"],
               "execution_count": None}],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4, "nbformat_minor": 5,
}  # fmt: skip


class Clock:
    """The machine's clock, perhaps faster."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed

    def wall(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.monotonic() * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


def write_template(folder: Path, name: str, local: str) -> None:
    """Write a template without values that runs the given command."""
    target = folder / name
    target.mkdir(parents=True)
    (target / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 0.1.0\ndescription: a test\n")
    schema = {"type": "object", "additionalProperties": False, "properties": {"word": {"type": "string"}}}
    (target / "values.schema.json").write_text(json.dumps(schema))
    (target / "local.yaml").write_text(local)


class Home:
    """A home with an account, and backends over it that can be left and come back."""

    def __init__(self, root: Path) -> None:
        self.settings: Settings = settings_module.load(root, environ={})
        self.settings.run.mkdir(mode=0o700)
        self.settings.logs.mkdir(mode=0o700)
        self.processes = Processes(self.settings.run / "processes")
        self.templates = root / "more-templates"
        self.paths = accounts.prepare(self.settings, "ada")

    @asynccontextmanager
    async def backend(self, clock: Clock | None = None, leases: Leases | None = None) -> AsyncIterator[LocalServices]:
        journal = Journal(self.settings.home / "journal.db")
        services = LocalServices(
            self.settings,
            journal,
            Processes(self.settings.run / "processes"),
            clock or Clock(),
            templates=Catalog(shipped(), self.templates),
            inventory=INVENTORY,
            environment=environments.ensure,
            leases=leases,
        )
        task = asyncio.create_task(services.run())
        try:
            yield services
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            journal.close()

    def write(self, name: str, text: str) -> None:
        with open(accounts.open_inside(self.paths, f"files/{name}"), "w") as file:
            file.write(text)

    def leader(self, name: str) -> int:
        [running] = self.processes.living(f"service.ada.{name}.")
        return running.pid

    async def ask(self, name: str, path: str = "/") -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(socket_path(self.settings, "ada", name)))
        host = f"{name}--ada.localhost:8001"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        try:
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()


@pytest.fixture
def home() -> AsyncIterator[Home] | Any:
    # Not pytest's folder: its parents are closed to the account's own user.
    root = Path(tempfile.mkdtemp(prefix="ropewalk-services-"))
    root.chmod(0o711)
    made = Home(root)
    yield made
    made.processes.sweep()
    shutil.rmtree(root, ignore_errors=True)


async def reach(services: LocalServices, name: str, *states: State, seconds: float = 45.0) -> Service:
    """Wait until a service is in one of these states."""
    seen: list[Service] = []

    async def look() -> bool:
        seen[:] = [await services.get(ADA, "ada", name)]
        return seen[0].status.state in states

    await until(look, seconds=seconds)
    return seen[0]


def site(name: str = "one", **changes: Any) -> ServiceSpec:
    return ServiceSpec(**({"name": name, "template": "site", "values": {"folder": "pages"}} | changes))


class TestLocalServices(ServicesContract):
    template = "site"

    @pytest.fixture
    async def port(self, home: Home) -> AsyncIterator[LocalServices]:
        async with home.backend() as services:
            yield services


@pytest.mark.parametrize(
    ("template", "values", "path", "says"),
    [
        ("voila", {"notebook": "page.ipynb"}, "/", b"hello from a cell"),
        ("tensorboard", {"folder": "logs"}, "/data/plugins_listing", b"scalars"),
        ("editor", {"folder": ""}, "/", b"marimo"),
    ],
)
async def test_each_template_really_runs(
    home: Home, template: str, values: dict[str, Any], path: str, says: bytes
) -> None:
    home.write("page.ipynb", json.dumps(NOTEBOOK))
    async with home.backend() as services:
        await services.apply(ADA, "ada", ServiceSpec(name="app", template=template, values=values))
        seen = await reach(services, "app", State.RUNNING, State.FAILED)
        assert seen.status.state is State.RUNNING, seen.status.why
        assert seen.address == "http://app--ada.localhost:8001/"
        assert says in await home.ask("app", path)


async def test_it_serves_the_persons_files_and_nothing_reaches_its_port(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
        home.write("pages/index.html", "<h1>mine</h1>")
        assert b"<h1>mine</h1>" in await home.ask("one")
        if sandbox.probe().works:
            with socket.socket() as stranger, pytest.raises(ConnectionRefusedError):
                stranger.connect(("127.0.0.1", 8080))
        assert socket_path(home.settings, "ada", "one").stat().st_mode & 0o777 == 0o600
        assert not socket_path(home.settings, "ada", "one").is_relative_to(home.paths.root)


async def test_a_killed_program_comes_back(home: Home) -> None:
    async with home.backend(Clock(4)) as services:
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
        before = home.leader("one")
        os.kill(before, signal.SIGKILL)
        await reach(services, "one", State.WAITING, State.STARTING)
        await reach(services, "one", State.RUNNING)
        assert home.leader("one") != before
        assert b"200 OK" in await home.ask("one")


async def test_the_next_platform_adopts_what_runs(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
        before = home.leader("one")
    assert b"200 OK" in await home.ask("one")  # nobody is there, and it goes on
    async with home.backend() as services:
        await asyncio.sleep(1.0)
        assert (await reach(services, "one", State.RUNNING)).status.state is State.RUNNING
        assert home.leader("one") == before
        os.kill(before, signal.SIGKILL)
        await reach(services, "one", State.WAITING, State.STARTING)
        await reach(services, "one", State.RUNNING)


async def test_what_is_wanted_comes_back_after_everything_died(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        await services.apply(ADA, "ada", site("two"))
        await reach(services, "one", State.RUNNING)
        await reach(services, "two", State.RUNNING)
        await services.remove(ADA, "ada", "two")
    home.processes.sweep()
    async with home.backend() as services:
        await reach(services, "one", State.RUNNING)
        await gone(lambda: services.get(ADA, "ada", "two"))
        await until(lambda: _answers(home, "one"))
    assert not home.processes.living("service.ada.two.")


async def _answers(home: Home, name: str) -> bool:
    try:
        return b"200 OK" in await home.ask(name)
    except OSError:
        return False


async def test_a_process_that_nobody_wants_is_ended(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
    (home.settings.home / "journal.db").unlink()
    for rest in home.settings.home.glob("journal.db-*"):
        rest.unlink()
    async with home.backend():
        await until(_quiet(home))


def _quiet(home: Home) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def look() -> bool:
        return not home.processes.living("service.")

    return look


async def test_other_values_restart_it_at_the_same_address(home: Home) -> None:
    async with home.backend() as services:
        first = await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
        before = home.leader("one")
        home.write("other/index.html", "another folder")
        changed = await services.apply(ADA, "ada", site(values={"folder": "other"}))
        assert changed.address == first.address and changed.created == first.created
        await reach(services, "one", State.RUNNING)
        assert home.leader("one") != before
        assert b"another folder" in await home.ask("one")


async def test_a_program_that_fails_says_why_and_can_be_launched_again(home: Home) -> None:
    command = 'command: ["{python}", "-c", "print(42 * \'=\'); raise SystemExit(3)"]\nport: 8080\n'
    write_template(home.templates, "broken", command)
    async with home.backend(Clock(40)) as services:
        await services.apply(ADA, "ada", ServiceSpec(name="bad", template="broken"))
        failed = await reach(services, "bad", State.FAILED)
        assert failed.status.why and "exit code 3" in failed.status.why.cause
        assert failed.status.why.next and 42 * "=" in failed.status.why.raw
        lines = [line.text async for line in services.logs(ADA, "ada", "bad")]
        assert lines.count(42 * "=") == 5
        again = await services.apply(ADA, "ada", ServiceSpec(name="bad", template="broken"))
        assert again.status.state is State.ASKED
        await reach(services, "bad", State.FAILED)


async def test_a_program_that_never_answers_has_failed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_process, "_ANSWER", 0.2)
    command = "command: [sleep, '1000']\nport: 8080\nreadiness: {seconds: 4}\n"
    write_template(home.templates, "silent", command)
    async with home.backend(Clock(10)) as services:
        await services.apply(ADA, "ada", ServiceSpec(name="mute", template="silent"))
        failed = await reach(services, "mute", State.FAILED)
        assert failed.status.why and "did not answer within 4 seconds" in failed.status.why.cause
        await until(_quiet(home))


async def test_words_reach_the_program_whole(home: Home) -> None:
    code = (
        "import sys, http.server as web; print(sys.argv, flush=True); "
        "web.test(web.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"
    )
    write_template(
        home.templates, "echo", f'command: ["{{python}}", "-c", "{code}", "{{port}}", "--x={{word}}"]\nport: 8080\n'
    )
    word = "a b; $(touch /tmp/x) '\" {port} {python} && exit"
    async with home.backend() as services:
        await services.apply(ADA, "ada", ServiceSpec(name="echo", template="echo", values={"word": word}))
        await reach(services, "echo", State.RUNNING)
        text = "\n".join([line.text async for line in services.logs(ADA, "ada", "echo")])
        assert repr(f"--x={word}") in text


async def test_files_and_folders_must_lie_in_the_persons_own(home: Home) -> None:
    outside = home.settings.home / "outside.ipynb"
    outside.write_text("{}")
    (home.paths.files / "link").symlink_to(home.settings.home)
    async with home.backend() as services:
        for template, values, field in [
            ("voila", {"notebook": "missing.ipynb"}, "notebook"),
            ("voila", {"notebook": "../../outside.ipynb"}, "notebook"),
            ("site", {"folder": str(home.settings.home)}, "folder"),
            ("site", {"folder": "a/../../.."}, "folder"),
        ]:
            with pytest.raises(BadValues) as caught:
                await services.apply(ADA, "ada", ServiceSpec(name="bad", template=template, values=values))
            assert caught.value.field == field
        await services.apply(ADA, "ada", site("linked", values={"folder": "link/new"}))
        await reach(services, "linked", State.WAITING)  # a planted link is not followed, so no folder is made there
        assert not (home.settings.home / "new").exists()


async def test_removing_forgets_all_but_files_and_last_values(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
        assert log_path(home.settings, "ada", "one").exists()
        stopping = await services.remove(ADA, "ada", "one")
        assert stopping.status.state is State.STOPPING
        await gone(lambda: services.get(ADA, "ada", "one"))
        assert not log_path(home.settings, "ada", "one").exists()
        assert not socket_path(home.settings, "ada", "one").exists()
        assert (home.paths.files / "pages").is_dir()
        assert services._journal.get(LAST, "ada", "site").body == {"folder": "pages"}  # type: ignore[union-attr]
        kinds = [one.status.state async for one in _states(services)]
        assert kinds[0] is State.ASKED and kinds[-1] is State.STOPPED and State.RUNNING in kinds


async def _states(services: LocalServices) -> AsyncIterator[Service]:
    count = len(services._journal.events(kind="service"))
    for service, _ in await take(services.watch(ADA, "ada"), count):
        yield service


async def test_logs_follow_until_it_is_gone(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
        stream = services.logs(ADA, "ada", "one", follow=True)
        first = (await take(stream, 1))[0]
        rest = services.logs(ADA, "ada", "one", after=first.offset, follow=True)
        waiting = asyncio.ensure_future(take(rest, 2, seconds=20))
        await home.ask("one", "/a-page-that-is-asked-for")
        assert any("a-page-that-is-asked-for" in line.text for line in await waiting)


async def test_more_memory_than_there_is_is_refused(home: Home) -> None:
    async with home.backend() as services:
        with pytest.raises(Exception, match="No machine here"):
            await services.apply(ADA, "ada", site(placement=Placement(memory=2**50)))


async def test_another_template_is_refused_until_the_service_is_removed(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        other = ServiceSpec(name="one", template="tensorboard")
        with pytest.raises(Conflict) as caught:
            await services.apply(ADA, "ada", other)
        assert caught.value.field == "template" and "services remove one" in caught.value.hint
        assert (await services.get(ADA, "ada", "one")).spec.template == "site"
        await services.remove(ADA, "ada", "one")
        assert (await services.apply(ADA, "ada", other)).spec.template == "tensorboard"
        await services.remove(ADA, "ada", "one")
        await gone_of(home, "one")


async def test_all_of_an_account_stops_and_can_be_launched_again(home: Home) -> None:
    async with home.backend() as services:
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)
        await services.stop_all("ada", Why(cause="The account was deactivated."))
        await until(lambda: gone_of(home, "one"))
        seen = await services.get(ADA, "ada", "one")
        assert seen.status.state is State.STOPPED
        assert seen.status.why is not None and "deactivated" in seen.status.why.cause
    async with home.backend() as services:  # nor does the next platform start it
        await asyncio.sleep(0.3)
        assert await gone_of(home, "one")
        await services.apply(ADA, "ada", site())
        await reach(services, "one", State.RUNNING)


async def gone_of(home: Home, name: str) -> bool:
    return not home.processes.living(f"service.ada.{name}.")


async def test_files_that_are_a_link_lead_the_platform_nowhere(home: Home, tmp_path: Path) -> None:
    (tmp_path / "secret.ipynb").write_text("{}")
    shutil.rmtree(home.paths.files)
    home.paths.files.symlink_to(tmp_path)
    processes = service_process.ServiceProcesses(
        home.settings,
        home.processes,
        Catalog(shipped(), home.templates),
        environments.ensure,
        Leases(home.settings, ()),
    )
    with pytest.raises(RopewalkError):
        processes.start(Service(owner="ada", spec=site(), status=Status(state=State.ASKED), address="http://a.b:1/"))
    assert [one.name for one in tmp_path.iterdir()] == ["secret.ipynb"]
    entry = Catalog(shipped()).get("voila")
    for name in ("secret.ipynb", "other.ipynb"):  # the same answer, whether it is there or not
        processes.check_files("ada", entry, {"notebook": name})


async def test_an_accelerator_is_its_own_while_it_lives(home: Home, tmp_path: Path) -> None:
    """Nobody else gets it, also while nobody looks after the service; killed, it gets it again; stopped, it is free."""
    node = tmp_path / "toy"
    node.write_text("a device")
    leases = Leases(home.settings, [Device("toy-0", "toy", (str(node),))])
    asks = site(placement=Placement(accelerator="toy"))

    async def free() -> bool:
        return leases.held() == []

    async with home.backend(leases=leases) as services:
        await services.apply(ADA, "ada", asks)
        await reach(services, "one", State.RUNNING)
        inner = home.leader("one")
        assert [one.what for one in leases.held()] == ["service 'one'"]
        await services.apply(ADA, "ada", site("two", placement=Placement(accelerator=("toy", "cpu"))))
        await reach(services, "two", State.RUNNING)
    assert [one.what for one in leases.held()] == ["service 'one'"]
    async with home.backend(Clock(4), leases=leases) as services:
        os.kill(inner, signal.SIGKILL)
        await reach(services, "one", State.WAITING, State.STARTING)
        await reach(services, "one", State.RUNNING)
        await services.remove(ADA, "ada", "one")
        await until(free)

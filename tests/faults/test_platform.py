"""The real platform under kill -9: each process alone, all at once; notebooks stay, Ctrl-C leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from ropewalk_core.process_table import seen, tree
from ropewalk_core.processes import run
from tests.platform_rig import OWN, ROPEWALK, House, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    one = House()
    facts = one.up()
    one.sign_up(facts["first"])
    yield one
    one.end()


def test_a_notebook_starts(house: House) -> None:
    house.start_notebook()
    assert house.processes.alive("notebook.ann")
    # Signed out: the server sends a visitor to sign in, so the way to it is open and nobody gets in.
    assert house.door("/user/ann/lab", host="ann.localhost").status_code == 302


@pytest.mark.parametrize("name", OWN)
def test_each_process_comes_back_alone(house: House, name: str) -> None:
    until(lambda: all(house.pid(one) for one in OWN))
    before = {one: house.pid(one) for one in OWN}
    notebook = house.processes.find("notebook.ann")
    os.kill(before[name], signal.SIGKILL)
    until(lambda: house.pid(name) not in (0, before[name]))
    until(lambda: house.door("/sign-in").status_code == 200)
    until(lambda: house.door("/hub/api").status_code == 200)
    until(lambda: house.door("/user/ann/lab", host="ann.localhost").status_code == 302)
    until(lambda: house.notebook()["status"]["state"] == "running")
    assert {one: house.pid(one) for one in OWN if one != name} == {one: before[one] for one in OWN if one != name}
    assert house.processes.find("notebook.ann") == notebook


def test_status_and_doctor(house: House) -> None:
    facts = house.ropewalk("status")
    assert facts["running"] and facts["address"] == f"http://localhost:{house.port}"
    names = {one["name"] for one in facts["processes"]}
    assert names >= {*OWN, "supervisor", "notebook.ann"}
    assert 2**20 < facts["memory"] < 2**30
    lines = {one["check"]: one for one in house.ropewalk("doctor")}
    assert lines["ports"]["state"] == lines["secrets"]["state"] == lines["sandbox"]["state"] == "ok"


def test_a_second_up_is_refused(house: House) -> None:
    env = {"PATH": os.environ["PATH"]}
    for more in ([], ["--detach"]):
        words = [ROPEWALK, "up", "--home", str(house.home), "--port", str(house.port), *more]
        done = run(words, env=env, timeout=60)
        assert done.code != 0
        assert f"http://localhost:{house.port}" in done.err and "RW-HOME-HELD" in done.err


def test_a_taken_port_is_named(house: House) -> None:
    env = {"PATH": os.environ["PATH"]}
    words = [ROPEWALK, "up", "--home", str(house.folder / "other"), "--port", str(house.port), "--detach"]
    done = run(words, env=env, timeout=60)
    assert done.code == 2
    assert f"Port {house.port} is taken" in done.err and "--port" in done.err
    assert run([*words[:4], "--port", "65535"], env=env).code != 0


def test_after_a_kill_of_everything_the_next_up_goes_on(house: House) -> None:
    supervisor = house.ropewalk("status")["pid"]
    notebook = house.processes.find("notebook.ann")
    assert notebook
    os.kill(supervisor, signal.SIGKILL)
    for name in OWN:
        with contextlib.suppress(ProcessLookupError):
            os.kill(house.pid(name) or 2**22, signal.SIGKILL)
    house.up()
    until(lambda: house.door("/user/ann/lab", host="ann.localhost").status_code == 302)
    until(lambda: house.notebook()["status"]["state"] == "running")
    assert house.processes.find("notebook.ann") == notebook


def test_after_a_kill_of_the_supervisor_alone_too(house: House) -> None:
    supervisor, before = house.ropewalk("status")["pid"], {one: house.pid(one) for one in OWN}
    os.kill(supervisor, signal.SIGKILL)
    house.up()
    assert all(house.pid(one) not in (0, before[one]) for one in OWN)
    until(lambda: house.notebook()["status"]["state"] == "running")


def test_a_regular_stop_leaves_nothing(house: House) -> None:
    supervisor = house.ropewalk("status")["pid"]
    everything = {pid: seen(pid) for one in house.processes.living() for pid in tree(one.pid)}
    os.kill(supervisor, signal.SIGINT)
    until(lambda: not house.ropewalk("status")["running"])
    assert house.leftovers() == []
    for pid, was in everything.items():
        now = seen(pid)
        assert now is None or now.dead or now.started != (was.started if was else 0)
    house.up()
    assert house.ropewalk("down")["stopped"]
    assert house.leftovers() == []
    assert not house.ropewalk("down")["stopped"]

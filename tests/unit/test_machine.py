"""The commands about this machine, the spawner's words, and Node.js: the parts that need no running platform."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from ropewalk_core import cli
from ropewalk_core import settings as settings_module
from ropewalk_core.errors import BadInput, Denied, Unavailable
from ropewalk_core.local import accounts, cgroups, sandbox
from ropewalk_core.placement import Placement
from ropewalk_core.settings import Settings
from ropewalk_hub import commands, doctor, node, siblings, spawner
from ropewalk_hub import home as home_module
from ropewalk_hub.supervisor import greeting


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return settings_module.load(tmp_path, environ={})


@pytest.mark.parametrize(("system", "words"), [("darwin", "Linux"), ("win32", "WSL"), ("cygwin", "WSL")])
def test_other_systems_are_told_at_once(system: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        commands.check_system(system)
    assert words in caught.value.hint
    commands.check_system("linux")


def test_status_and_down_of_a_home_where_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--home", str(tmp_path), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert not facts["running"] and facts["processes"] == [] and facts["memory"] == 0
    assert cli.main(["status", "--home", str(tmp_path)]) == 1
    assert "ropewalk up" in capsys.readouterr().out
    assert cli.main(["down", "--home", str(tmp_path)]) == 0
    assert "Nothing runs" in capsys.readouterr().out


def test_greeting() -> None:
    facts = {"address": "http://localhost:8000", "first": "http://localhost:8000/first/x"}
    assert greeting(facts).splitlines() == [
        "Ropewalk is ready: http://localhost:8000",
        "Make the first administrator with this link. It works once:",
        "  http://localhost:8000/first/x",
    ]
    assert len(greeting({**facts, "first": None}).splitlines()) == 1


async def test_doctor_names_each_problem_and_a_next_step(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        if port == 65535:
            pytest.skip("no port after this one")
        broken = settings_module.load(tmp_path, environ={}, door_port=port, environments_base=tmp_path / "none")
        broken.secrets.mkdir()
        (broken.secrets / "key").touch(mode=0o644)
        broken.secrets.chmod(0o755)
        lines = {one["check"]: one for one in await doctor.examine(broken)}
    for check in ("ports", "environment", "secrets"):
        assert lines[check]["state"] == "problem", lines[check]
        assert lines[check]["hint"]
        assert lines[check]["text"] in doctor.written(lines[check])
    assert str(port) in lines["ports"]["text"]
    assert lines["system"]["state"] == "ok"


@pytest.mark.parametrize("works", [True, False])
async def test_doctor_says_what_holds_workers_to_their_memory(
    home: Settings, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    monkeypatch.setattr(cgroups, "works", lambda _settings: works)
    line = {one["check"]: one for one in await doctor.examine(home)}["limits"]
    assert (line["state"], bool(line["hint"])) == (("ok", False) if works else ("note", True))
    assert ("one limit" if works else "together have none") in line["text"]


def test_a_trial_of_control_groups_leaves_none(home: Settings) -> None:
    works = cgroups.works(home)
    assert [one for one in cgroups._bases(home) if one.exists()] == []
    if not works:
        pytest.skip("this machine gives no control groups")
    group = cgroups.worker_group(home, "ada", "one")
    assert cgroups.works(home) and group is not None and group.folder.is_dir()  # what is there stays
    group.remove()
    cgroups.remove(home)


def test_children_get_the_settings_that_were_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_LIMITS_STEPS", "7")
    monkeypatch.setenv("ROPEWALK_SOMETHING_ELSE", "x")
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x")
    chosen = settings_module.load(tmp_path, door_port=9123, folder=tmp_path)
    found = siblings.environment(chosen)
    assert found["ROPEWALK_LIMITS_STEPS"] == "7"
    assert found["ROPEWALK_DOOR_PORT"] == "9123"
    assert not {"ROPEWALK_SOMETHING_ELSE", "SECRET_OF_THE_SHELL"} & set(found)
    assert settings_module.load(environ=found, home=tmp_path) == chosen


def test_what_a_notebook_knows(home: Settings) -> None:
    found = spawner.variables(home, "ann", Placement(cpu=1.5))
    assert found["ROPEWALK_PEOPLE"] % "site--ann" == "http://site--ann.localhost:8001"
    assert found["ROPEWALK_API"] == "http://127.0.0.1:8000"
    assert found["ROPEWALK_HOST"] == "localhost:8000"
    assert found["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in spawner.variables(home, "ann", Placement())


def test_a_second_account_is_refused_without_a_sandbox(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.mark_first(home, "ann")
    spawner.check_alone(home, "ann")
    monkeypatch.setattr(sandbox, "probe", lambda: sandbox.SandboxReport(False, why="no user namespaces"))
    spawner.check_alone(home, "ann")
    with pytest.raises(Denied, match="no user namespaces"):
        spawner.check_alone(home, "bob")
    trusting = settings_module.load(home.home, environ={}, accounts_shared_trust=True)
    spawner.check_alone(trusting, "bob")


def test_without_a_sandbox_the_command_still_has_its_environment_and_limits(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "probe", lambda: sandbox.SandboxReport(False, why="no user namespaces"))
    monkeypatch.setattr(sandbox.os, "geteuid", lambda: 1000)
    paths = accounts.prepare(home, "ann")
    argv = sandbox.command(home, paths, ["/bin/true"], memory=2**20, environment={"A": "b"})
    assert argv[:2] == ["/usr/bin/env", "-i"]
    assert "A=b" in argv and f"HOME={paths.files}" in argv
    assert "ulimit -d 1024" in " ".join(argv)


def test_node(tmp_path: Path) -> None:
    found = node.find()
    assert found and node.version(found / "node") >= node.OLDEST
    assert node.version(tmp_path / "none") == 0
    old = tmp_path / ".cache" / "node" / "bin" / "node"
    old.parent.mkdir(parents=True)
    old.write_text("#!/bin/sh\necho v12.1.0\n")
    old.chmod(0o755)
    assert node.version(old) == 12
    assert node.find(tmp_path) != old.parent
    with pytest.raises(Unavailable, match="proxy is not installed"):
        node.proxy_script(tmp_path)
    with pytest.raises(Unavailable, match="cannot be installed"):
        node.install(tmp_path)


def test_packages_lie_beside_an_image_s_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node.packages(tmp_path) == tmp_path / ".cache" / "proxy" / "node_modules"  # what `make setup` makes
    (tmp_path / "proxy").mkdir()
    monkeypatch.setattr(node.sys, "prefix", str(tmp_path / "platform"))
    assert node.packages(tmp_path / "no-checkout") == tmp_path / "proxy" / "node_modules"


def test_a_home_that_nobody_holds(tmp_path: Path) -> None:
    assert home_module.holder(tmp_path) is None
    (tmp_path / "lock").write_text('{"pid": 1}')
    assert home_module.holder(tmp_path) is None
    with home_module.Hold(settings_module.load(tmp_path, environ={})) as hold:
        hold.say(address="http://localhost:1")
        held = home_module.holder(tmp_path)
        assert held and held["address"] == "http://localhost:1"


@pytest.mark.parametrize(("name", "words"), [("notes.txt", "is a file"), ("nowhere", "There is no folder")])
def test_up_names_a_folder_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert cli.main(["up", str(tmp_path / name), "--home", str(tmp_path / "home")]) == 2
    said = capsys.readouterr().err
    assert words in said and name in said and "folder" in said.lower()
    assert not (tmp_path / "home").exists()


def test_up_makes_nothing_where_its_port_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert cli.main(["up", "--port", port, "--home", str(tmp_path / "home"), "--detach"]) == 2
    assert f"Port {port}" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("port", ["0", "-1", "65535", "80000"])
def test_up_says_which_ports_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str) -> None:
    assert cli.main(["up", f"--port={port}", "--home", str(tmp_path / "home")]) == 2
    said = capsys.readouterr().err
    assert f"Port {port} cannot" in said and "from 1 to 65534" in said and "from 1024 to 65534" in said


def test_jupyterlab_links_to_the_dashboard() -> None:
    """The link is data that JupyterLab reads: what it names must exist in the JupyterLab that is locked."""
    folder = Path(spawner.__file__).with_name("lab")
    assert f"--LabApp.app_settings_dir={folder}" in spawner.ARGUMENTS
    overrides = json.loads((folder / "overrides.json").read_text())
    jupyter = Path(sys.prefix) / "share" / "jupyter"
    schemas = {}
    for plugin, chosen in overrides.items():
        package, name = plugin.split(":")
        [schema] = [
            found
            for folder in (jupyter / "lab", jupyter / "labextensions" / package)  # its own, or one that is added
            if (found := folder / "schemas" / package / f"{name}.json").is_file()
        ]
        schemas[plugin] = json.loads(schema.read_text())
        assert set(chosen) <= {"toolbar"} | set(schemas[plugin].get("properties", {})), plugin
    [plugin] = [one for one, chosen in overrides.items() if "toolbar" in chosen]
    [item] = overrides[plugin]["toolbar"]
    Draft7Validator(schemas[plugin]["definitions"]["toolbarItem"]).validate(item)
    assert item["args"]["url"] == "/dashboard"  # of the person's own host, which leads there whatever its address
    assert any(f'"{item["command"]}"' in one.read_text() for one in (jupyter / "lab" / "static").glob("jlab_core*.js"))

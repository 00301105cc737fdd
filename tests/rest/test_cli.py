"""The command line against the real application: what it prints, what it returns, and its help."""

from __future__ import annotations

import asyncio
import fcntl
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core import cli
from ropewalk_core.cli import argo, program
from ropewalk_core.cli.output import age, clean, table
from ropewalk_core.client import Client, FixedToken
from ropewalk_core.client.wire import Wire
from ropewalk_core.errors import all_errors
from ropewalk_core.flows import ON_EXIT
from ropewalk_core.local.leases import Leases
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.placement import Placement
from ropewalk_core.testing import ADA
from ropewalk_devices.found import devices
from ropewalk_hub.platform import Platform
from tests.rest.conftest import API, bearer


class Shell:
    """Runs commands as somebody and keeps what they said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.account = capsys, "ada"

    def __call__(self, *words: str, code: int = 0) -> str:
        returned = cli.main(words)
        self.out, self.err = self.capsys.readouterr()
        assert returned == code, self.out + self.err
        return self.out

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def shell(
    app: FastAPI, platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    one = Shell(capsys)

    def connect(*, home: Path | None, account: str) -> Client:
        source = FixedToken(bearer(platform, account or one.account))
        return Client(Wire(API, source, transport=httpx.ASGITransport(app), patience=0.2))

    monkeypatch.setattr(program, "connect", connect)
    return one


def test_services(shell: Shell) -> None:
    assert "ropewalk services launch" in shell("services", "list")
    launched = shell.json("services", "launch", "editor", "--name", "edit", "--set", "port=3", "--memory", "2Gi")
    assert launched["spec"]["values"] == {"port": 3} and launched["spec"]["placement"]["memory"] == "2Gi"
    assert "edit" in shell("services", "list") and "running" in shell.out
    assert "http://x/" in shell("services", "get", "edit")
    assert shell("services", "logs", "edit").splitlines() == ["line 1", "line 2", "line 3"]
    assert [one["spec"]["name"] for one in shell.json("services", "list")] == ["edit"]
    shell("services", "remove", "edit")
    assert shell.json("services", "list") == []


def test_functions(shell: Shell, platform: Platform) -> None:
    platform.journal.write_now()
    assert "%%function" in shell("functions", "list")
    shell("functions", "call", "nothing", "1", code=4)
    assert "RW-NOT-FOUND" in shell.err and not shell.out
    shell("functions", "call", "nothing", "{", code=2)
    assert "not JSON" in shell.err


def test_a_program_is_deployed_from_its_file(shell: Shell, platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "my_count.sh").write_text("#!/bin/sh\nwc -l\n")
    said = shell("functions", "deploy", str(tmp_path / "my_count.sh"), "--timeout", "5")
    assert said.startswith("my-count is deployed, revision 1: ")
    spec = asyncio.run(platform.functions.get(ADA, "ada", "my-count")).revision.spec
    assert (spec.bundle.form, spec.timeout, spec.bundle.files) == ("program", 5, {"program": "#!/bin/sh\nwc -l\n"})
    shell("functions", "deploy", str(tmp_path / "my_count.sh"), "--server", "--timeout", "-1", code=2)


def test_figures_and_costs(shell: Shell, platform: Platform) -> None:
    spec = FunctionSpec(name="digits", bundle=Bundle(files={"cell.py": "x = 1\n"}, entry="cell:x", digest="a"))
    asyncio.run(platform.functions.deploy(ADA, "ada", spec))
    first, head, *rows = shell("functions", "figures", "digits").splitlines()
    assert first.startswith("The last hour, by minute: 4 calls, 2 failed, p50 ")
    assert head.split()[:3] == ["FROM", "CALLS", "ERRORS"] and len(rows) == 2 and rows[0].split()[1:3] == ["2", "1"]
    told = shell.json("functions", "figures", "digits", "--window", "day")
    assert (told["window"], told["step"], len(told["bars"])) == ("day", 900, 96)
    for names in (["digits"], []):
        assert shell("functions", "costs", *names).splitlines()[1].split()[:2] == ["2026-11-22", "4"]
        assert shell.json("functions", "costs", *names)["days"][0]["gb_seconds"] == 2.0
    shell("functions", "figures", "nothing", code=4)
    for chosen in (["--call", "c1"], ["-f"]):
        assert shell("functions", "logs", "digits", *chosen).splitlines() == ["line 1", "line 2", "line 3"]
    assert shell("functions", "logs", "digits").splitlines()[1].split()[0] == "c1"


def test_revisions(shell: Shell, platform: Platform) -> None:
    spec = FunctionSpec(name="digits", bundle=Bundle(files={"cell.py": "x = 1\n"}, entry="cell:x", digest="a"))
    other = Bundle(files={"cell.py": "x = \x1b[31m2\n"}, entry="cell:x", digest="b")
    for one in (spec, spec.model_copy(update={"bundle": other, "timeout": 5.0})):
        asyncio.run(platform.functions.deploy(ADA, "ada", one))
    assert shell.json("functions", "openapi", "digits")["info"] == {"title": "digits", "version": "2"}
    assert json.loads(shell("functions", "openapi", "digits"))["openapi"] == "3.1.0"
    shell("functions", "openapi", "nothing", code=4)
    rows = [line.split() for line in shell("functions", "versions", "digits").splitlines()]
    assert rows[1][:2] == ["2", "current"] and "code, timeout" in " ".join(rows[1]) and "first" in rows[2]
    assert [one["number"] for one in shell.json("functions", "versions", "digits")] == [2, 1]
    shown = shell("functions", "diff", "digits")
    assert "-x = 1\n+x = ?[31m2" in shown and "-timeout: 60.0\n+timeout: 5.0" in shown
    assert shell("functions", "diff", "digits", "1", "1") == "Nothing differs between revisions 1 and 1.\n"
    assert shell.json("functions", "diff", "digits", "1", "2")["changed"] == ["code", "timeout"]
    shell("functions", "diff", "digits", "7", code=4)
    again, already = "as revision 3, which takes all calls", "already, and that takes all calls"
    assert shell("functions", "rollback", "digits") == f"digits is what revision 1 was, {again}.\n"
    assert shell("functions", "rollback", "digits", "1") == f"digits is what revision 1 was {already}.\n"
    assert shell.json("functions", "rollback", "digits", "2")["revision"]["number"] == 4
    shell("functions", "rollback", "digits", "77", code=4)
    assert "ropewalk functions versions digits" in shell.err
    assert shell("functions", "traffic", "digits").split() == ["latest", "(now", "4)", "100", "of", "100"]
    assert shell.json("functions", "traffic", "digits", "1=90", "latest=10")["traffic"]["shares"][0]["weight"] == 90
    said = "Of 100 calls revision 1 takes 90, revision 4, the latest, takes 10."
    assert said in shell("functions", "get", "digits")
    assert "revision 1      90 of 100  r1" in shell("functions", "traffic", "digits")
    for wrong, why in (
        (["1=90"], "add up to 90"),
        (["1=x"], "REVISION=SHARE"),
        (["x=100"], "no number"),
        (["1=50", "01=50"], "twice"),
    ):
        shell("functions", "traffic", "digits", *wrong, code=2)
        assert why in shell.err
    shell("functions", "traffic", "digits", "77=0", "latest=100", code=4)
    shell("functions", "rollback", "digits", "1")
    assert shell.json("functions", "get", "digits")["traffic"]["latest"] == 100
    assert "Only you can call it" in shell("functions", "access", "digits")
    shell("functions", "access", "digits", "bob", "eve", "--origin", "https://example.org")
    assert "so can 'bob' and 'eve'" in shell("functions", "get", "digits")
    assert shell.json("functions", "access", "digits", "public")["access"]["origins"] == ["https://example.org"]
    assert "Anybody can call it, without signing in." in shell("functions", "access", "digits", "--no-origins")
    shell("functions", "access", "digits", "nobody-here", code=2)
    assert "no account 'nobody-here'" in shell.err
    shell("functions", "access", "digits", "--origin", "example.org", code=2)
    assert "no origin" in shell.err
    assert "No keys" in shell("functions", "keys", "digits")
    secret = shell("functions", "add-key", "digits", "--label", "web", "--calls", "5").strip()
    assert secret.startswith("rwk-") and "not shown again" in shell.err and secret not in shell.err
    [listed] = shell.json("functions", "keys", "digits")
    assert listed["label"] == "web" and "digest" not in listed and secret not in str(listed)
    assert listed["id"] in shell("functions", "revoke-key", "digits", listed["id"])
    shell("functions", "revoke-key", "digits", listed["id"], code=4)
    shell("functions", "add-key", "digits", "--calls", "0", code=2)
    shell("functions", "remove", "digits")


def test_workflows(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "train-"}}
    path.write_text(yaml.safe_dump(manifest))
    run = shell.json("workflows", "submit", str(path), "-p", "epochs=3", "--wait")
    assert run["name"] == "train"
    assert run["id"] in shell("workflows", "list")
    assert "train" in shell("workflows", "get", "last") and "done" in shell.out
    assert "line 2" in shell("workflows", "logs", run["id"])
    step = shell.json("workflows", "get", "last")["steps"][0]
    assert step["name"] in shell("workflows", "lineage", "last", step["name"]) and "WAS GIVEN" in shell.out
    assert shell.json("workflows", "lineage", "last", step["id"])[0]["step"]["id"] == step["id"]
    shell("workflows", "lineage", "last", "nothing", code=4)
    shell("workflows", "logs", "last", "--step", "nothing", code=4)
    table = shell("workflows", "compare", "train", "--sort=-epochs", "--step", "score")
    assert table.split()[:4] == ["RUN", "STATE", "epochs", "score"] and table.split()[4:] == [
        run["id"],
        "done",
        "3",
        "1",
    ]
    assert shell("workflows", "compare", "train", "--column", "score").split() == [
        "RUN",
        "STATE",
        "score",
        run["id"],
        "done",
        "1",
    ]
    assert shell.json("workflows", "compare", "train")[0]["metrics"] == {"score": 1.0}
    shell("workflows", "compare", "train", "--sort", "nothing", code=4)
    shell("workflows", "compare", "nothing", code=4)
    assert shell.json("workflows", "cancel", run["id"])["status"]["note"] == ""
    assert shell.json("workflows", "cancel", run["id"], "--on-exit")["status"]["note"] == ON_EXIT
    assert "no further step starts" in shell("workflows", "suspend", "last")
    assert shell.json("workflows", "get", "last")["status"]["note"] == "suspended"
    assert "running, suspended" in shell("workflows", "get", "last") and "suspended" in shell("workflows", "list")
    assert shell("workflows", "resume", run["id"]) == f"{run['id']} goes on.\n"
    answered = ("workflows", "answer", "last", "train", "--fail", "--message", "no & no")
    assert shell.json(*answered)["status"]["note"] == "s1 False no & no" and "has failed" in shell(*answered)
    assert shell.json("workflows", "get", "last")["status"]["note"] == ""
    assert f"{run['id']} is removed." in shell("workflows", "remove", "last")
    shell("workflows", "get", run["id"], code=4)
    path.write_text("a: [")
    shell("workflows", "submit", str(path), code=2)
    path.write_text("kind: Pod")
    shell("workflows", "submit", str(path), code=2)
    shell("workflows", "submit", str(tmp_path / "missing.yaml"), code=2)


def test_argo_env(shell: Shell, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_HOST", "localhost:8000")
    monkeypatch.setenv("ROPEWALK_PEOPLE", "http://%s.localhost:8001")
    found = shell.json("argo-env")
    token = found.pop("ARGO_TOKEN")
    assert platform.issuer.tokens.actor(token.removeprefix("Bearer "), "api").account == "ada"
    assert found == {
        "ARGO_SERVER": "localhost:8000",
        "ARGO_BASE_HREF": "/argo",
        "ARGO_HTTP1": "true",
        "ARGO_SECURE": "false",
        "ARGO_NAMESPACE": "ada",
        "KUBECONFIG": "/dev/null",
    }
    said = shell("argo-env")
    assert "export ARGO_SERVER=localhost:8000\n" in said and "export ARGO_TOKEN='Bearer ey" in said
    assert argo.variables("https://x.test", "ada", "t")["ARGO_SERVER"] == "x.test:443"
    monkeypatch.setenv("ROPEWALK_ARGO", "http://platform.ropewalk:8000")
    assert shell.json("argo-env")["ARGO_SERVER"] == "platform.ropewalk:8000"


def test_files(shell: Shell, tmp_path: Path) -> None:
    here = tmp_path / "here.txt"
    here.write_bytes(b"hello")
    shell("files", "put", str(here), "there/x.txt")
    assert "x.txt" in shell("files", "list", "there")
    shell("files", "get", "there/x.txt", "-o", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_bytes() == b"hello"
    shell("files", "get", "there/none", "-o", str(tmp_path / "none.txt"), code=4)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["back.txt", "here.txt"]
    shell("files", "remove", "there")
    assert "Nothing here" in shell("files", "list")


def test_accounts(shell: Shell) -> None:
    shell("accounts", "list", code=3)
    assert "RW-DENIED" in shell.err
    shell.account = "eve"
    assert [one["name"] for one in shell.json("accounts", "list")] == ["ada", "bob", "eve"]
    assert shell("accounts", "approve", "bob") == "bob is active.\n"
    assert "ada" in shell("services", "list", "--as", "ada") or "No services" in shell.out


def test_accelerators_and_who_has_them(shell: Shell, platform: Platform) -> None:
    """What is somebody else's is not told."""
    settings = platform.settings
    leases = Leases(settings, devices(settings))
    assert "2 x toy (2 free)" in shell("accelerators", "list")
    with leases.lend(("toy",), "ada", "function 'digits'"), leases.lend(("toy",), "bob", "notebook"):
        assert "2 x toy (0 free)  your function 'digits' (toy), somebody else (toy)" in shell("accelerators", "list")
        assert shell.json("accelerators", "list")[0]["leases"] == [
            {"accelerator": "toy", "holder": "your function 'digits'"},
            {"accelerator": "toy", "holder": "somebody else"},
        ]
        shell.account = "bob"
        assert "somebody else (toy), your notebook (toy)" in shell("accelerators", "list")
    assert "2 x toy (2 free)" in shell("accelerators", "list")


def test_what_a_function_ran_on(shell: Shell, platform: Platform) -> None:
    spec = FunctionSpec(name="seen", bundle=Bundle(files={"cell.py": "x = 1\n"}, entry="cell:x", digest="a"))
    asyncio.run(platform.functions.deploy(ADA, "ada", spec))
    assert "last ran on" not in shell("functions", "get", "seen")
    wants = spec.model_copy(update={"placement": Placement(accelerator=("toy", "cpu"))})
    asyncio.run(platform.functions.deploy(ADA, "ada", wants))
    (line,) = [one for one in shell("functions", "get", "seen").splitlines() if one.startswith("last ran on")]
    assert line.split()[-1] == "toy"
    head, row = shell("functions", "logs", "seen").splitlines()
    assert head.split()[-2] == "ON" and row.split()[-1] == "toy"
    asyncio.run(platform.functions.remove(ADA, "ada", "seen"))


def test_the_rest(shell: Shell) -> None:
    assert "editor" in shell("templates", "list")
    assert "amd64" in shell("accelerators", "list") or shell.out
    assert shell("version").strip().count(".") == 2
    token = shell("token").strip()
    assert token.count(".") == 2 and shell.json("token")["audience"] == "functions"


def test_errors_as_json(shell: Shell) -> None:
    shell("services", "get", "nothing", "--json", code=4)
    assert json.loads(shell.err)["code"] == "RW-NOT-FOUND"


@pytest.mark.parametrize("words", [[], ["services"], ["services", "paint"], ["services", "get"], ["paint"]])
def test_wrong_use_says_where_the_help_is(shell: Shell, words: list[str]) -> None:
    shell(*words, code=2)
    assert "--help" in shell.err and "RW-BAD-INPUT" in shell.err


def test_every_command_has_help_with_an_example(shell: Shell) -> None:
    nouns = ("services", "functions", "workflows", "notebooks", "files", "accounts", "templates", "accelerators")
    for noun in nouns:
        with pytest.raises(SystemExit) as left:
            cli.main([noun, "list", "--help"])
        text = shell.capsys.readouterr().out
        assert left.value.code == 0 and f"ropewalk {noun} list" in text and "--json" in text


def test_no_platform_here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROPEWALK_API", raising=False)
    assert cli.main(["services", "list", "--home", str(tmp_path / "nowhere")]) == 75
    assert "ropewalk up" in capsys.readouterr().err


def test_an_error_links_to_its_explanation_where_a_platform_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API", "HOST", "PEOPLE"):
        monkeypatch.delenv(f"ROPEWALK_{name}", raising=False)
    words = ["services", "list", "--home", str(tmp_path)]
    assert cli.main(words) == 75 and "/help/errors" not in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    ready = tmp_path / "run" / "ready.json"
    for broken in ("", "[]", "{}"):
        ready.write_text(broken)
        assert cli.main(words) == 75 and "/help/errors" not in capsys.readouterr().err
    ready.write_text('{"address": "http://localhost:8111"}')
    assert cli.main(words) == 75 and "/help/errors" not in capsys.readouterr().err  # a killed platform left it behind
    assert cli.main([*words, "--json"]) == 75 and "type" not in json.loads(capsys.readouterr().err)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main([*words[:1], "nonsense", *words[2:]]) == 2
        assert "http://localhost:8111/help/errors#RW-BAD-INPUT" in capsys.readouterr().err


def test_every_error_has_an_exit_code() -> None:
    from ropewalk_core.cli.output import exit_code

    assert {exit_code(one("x")) for one in all_errors()} == {1, 2, 3, 4, 75}


cells = st.text(max_size=30)


@given(rows=st.lists(st.tuples(cells, cells, cells), max_size=5), width=st.integers(40, 120))
def test_a_table_fits_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    printed = table(["NAME", "STATE", "ADDRESS"], [[clean(one) for one in row] for row in rows], width)
    assert len(printed) == len(rows) + 1
    assert all(len(line) <= width for line in printed)


@given(text=st.text())
def test_nothing_that_people_write_drives_the_terminal(text: str) -> None:
    assert clean(text).isprintable()
    assert all(one.isprintable() or one in "\n\t" for one in clean(text, lines=True))


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (3 * 86400, "3 d")]
)
def test_ages(seconds: float, words: str) -> None:
    assert age(1000.0, 1000.0 + seconds) == words and age(None) == ""

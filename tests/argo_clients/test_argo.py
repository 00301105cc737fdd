"""A session with the real `argo` command against a real embedded platform: what a person types, and what it prints.

Needs the command, which the test cluster's programs hold, and no cluster.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ropewalk_core.local import sandbox
from ropewalk_core.processes import run
from tests.argo_clients import manifests
from tests.cluster.builder import Builder
from tests.cluster.layout import layout
from tests.platform_rig import House, ended

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}"),
]


class Shell:
    """A person's shell after `eval "$(ropewalk argo-env)"`."""

    def __init__(self, house: House, program: Path) -> None:
        self._program, self._folder = program, house.folder
        self.env = {"PATH": os.environ["PATH"], "HOME": str(house.folder), **house.ropewalk("argo-env")}

    def try_(self, *words: str) -> tuple[int, str]:
        done = run([str(self._program), *words], env=self.env, timeout=90, cwd=self._folder)
        return done.code, re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.out + done.err)

    def __call__(self, *words: str) -> str:
        code, said = self.try_(*words)
        assert code == 0, (words, said)
        return said

    def file(self, manifest: dict[str, Any]) -> str:
        path = self._folder / "workflow.yaml"
        path.write_text(yaml.safe_dump(manifest))
        return str(path)


@pytest.fixture(scope="module")
def argo() -> Iterator[Shell]:
    program = Builder(layout()).binary("argo")
    assert program.exists(), "argo is not built: make cluster PROFILE=argo builds it"
    with ended(House()) as house:
        facts = house.up()
        house.sign_up(facts["first"])
        yield Shell(house, program)


def test_submit_and_look(argo: Shell) -> None:
    said = argo("submit", "--wait", argo.file(manifests.say("hello", name="hello")), "-p", "text=hello world")
    assert "Succeeded" in said
    said = argo("get", "hello")
    assert re.search(r"Status:\s+Succeeded", said) and re.search(r"text:\s+hello world", said)
    assert re.search(r"hello\s+main", said) and re.search(r"├─.*a\s+first\s+hello-first-\d+", said)
    assert re.search(r"Progress:\s+2/2", said)
    told = argo("logs", "hello", "--no-color")
    assert told == argo("logs", "@latest", "--no-color") and told.count("\n") == 3
    pod = re.search(r"hello-second-\d+", said)
    assert pod is not None and argo("logs", "hello", pod[0], "--no-color").endswith(": hello world\n")


def test_watch_and_follow(argo: Shell) -> None:
    said = argo("submit", "--watch", argo.file(manifests.say("again", generateName="seen-")))
    assert re.search(r"Status:\s+Succeeded", said)
    said = argo("submit", "--log", argo.file(manifests.say("followed", generateName="told-")))
    assert "followed" in said


def test_lists(argo: Shell) -> None:
    assert "hello" in argo("list").split()
    assert argo("list", "-o", "name", "--status", "Succeeded", "--prefix", "hel").split() == ["hello"]
    assert "No workflows found" in argo("list", "--running")
    assert re.search(r"hello\s+Succeeded", argo("list", "--completed", "--chunk-size", "1"))
    assert yaml.safe_load(argo("get", "hello", "-o", "yaml"))["status"]["phase"] == "Succeeded"
    assert yaml.safe_load(argo("list", "-o", "yaml"))


def test_templates_and_schedules(argo: Shell) -> None:
    spec = manifests.say("hello", name="greet")["spec"]
    kept = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": "greet"},
        "spec": spec,
    }
    assert "greet" in argo("template", "create", argo.file(kept))
    assert "greet" in argo("template", "list") and "greet" in argo("template", "get", "greet")
    said = argo("submit", "--wait", "--from", "workflowtemplate/greet", "-p", "text=from a template")
    assert "Succeeded" in said and re.search(r"text:\s+from a template", said)
    refers = {**manifests.say("x", name="refers"), "spec": {"workflowTemplateRef": {"name": "greet"}}}
    assert "Succeeded" in argo("submit", "--wait", argo.file(refers), "-p", "text=referred to")
    assert "referred to" in argo("logs", "refers", "--no-color")
    body = {"schedules": ["0 2 * * *"], "timezone": "Europe/Athens", "workflowSpec": spec}
    night = {"apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "metadata": {"name": "night"}, "spec": body}
    said = argo("cron", "create", argo.file(night))
    assert re.search(r"Schedules?:\s+0 2 \* \* \*", said) and "Europe/Athens" in said
    assert "night" in argo("cron", "list")
    argo("cron", "suspend", "night")
    assert re.search(r"Suspended:\s+true", argo("cron", "get", "night"))
    argo("cron", "resume", "night")
    assert "Succeeded" in argo("submit", "--wait", "--from", "cronwf/night")
    argo("cron", "delete", "night")
    argo("template", "delete", "greet")
    assert "greet" not in argo("template", "list")


def test_a_failure_is_retried_and_resubmitted(argo: Shell) -> None:
    code, said = argo.try_("submit", "--wait", argo.file(manifests.fails(name="picky")))
    assert code == 1 and "Failed" in said
    said = argo("get", "picky")
    assert "exit code 3" in said
    argo("retry", "picky")
    code, _ = argo.try_("wait", "picky")
    assert code == 1
    said = argo("resubmit", "picky", "-o", "name")
    assert said.startswith("picky-")
    assert argo("list", "--resubmitted", "-o", "name").split() == said.split()
    code, said = argo.try_("resubmit", "--memoized", "picky")
    assert code == 1 and "not taken over here" in said


def test_what_runs_is_terminated(argo: Shell) -> None:
    argo("submit", argo.file(manifests.sleeps(name="long")))
    code, said = argo.try_("delete", "long")
    assert code == 1 and "argo terminate long" in said
    assert "terminated" in argo("terminate", "long")
    argo.try_("wait", "long")
    assert "Stopped with strategy 'Terminate'" in argo("get", "long")
    assert "deleted" in argo("delete", "long")
    assert "not found" in argo("delete", "long")


def test_what_runs_is_stopped_with_its_exit_handler(argo: Shell) -> None:
    manifest = manifests.sleeps(name="stops")
    manifest["spec"]["onExit"] = "last"
    source = "print('the status is {{workflow.status}}')"
    manifest["spec"]["templates"].append(
        {"name": "last", "script": {"image": "python", "command": ["python"], "source": source}}
    )
    argo("submit", argo.file(manifest))
    assert "stopped" in argo("stop", "stops")
    argo.try_("wait", "stops")
    said = argo("get", "stops")
    assert "Stopped with strategy 'Stop'" in said and re.search(r"stops.onExit\s+last", said)
    assert "the status is Failed" in argo("logs", "stops", "--no-color")
    argo("delete", "stops")


def test_what_runs_is_suspended_and_resumed(argo: Shell) -> None:
    argo("submit", argo.file(manifests.asks(name="asks")))
    assert "suspended" in argo("suspend", "asks")
    assert "Suspended" in argo("get", "asks")
    assert "resumed" in argo("resume", "asks")
    assert "Succeeded" in argo("wait", "asks")
    assert re.search(r"approve\s+pause", argo("get", "asks"))
    argo("delete", "asks")


def test_a_chosen_pause_is_answered(argo: Shell) -> None:
    approve = ("--node-field-selector", "displayName=approve")
    for words, phase in (
        (("node", "set", "answered", "--phase", "Succeeded", "--message", "fine by me", *approve), "Succeeded"),
        (("stop", "answered", "--message", "not today", *approve), "Failed"),
        (("resume", "answered", *approve), "Succeeded"),
    ):
        argo("submit", argo.file(manifests.asks(name="answered")))
        for _ in range(100):
            if re.search(r"approve\s+pause", argo("get", "answered")):
                break
            time.sleep(0.1)
        code, said = argo.try_("node", "set", "answered", "--phase", "Failed", "-p", "x=1", *approve)
        assert code == 1 and "gives no values here" in said
        argo(*words)
        argo.try_("wait", "answered")
        said = argo("get", "answered")
        assert re.search(rf"Status:\s+{phase}", said), said
        if "--message" in words:
            assert words[words.index("--message") + 1] in said
        argo("delete", "answered")


def test_lint(argo: Shell) -> None:
    assert "no linting errors" in argo("lint", argo.file(manifests.say("x", name="fine")))
    wrong = manifests.say("x", name="wrong")
    wrong["spec"]["entrypoint"] = "nowhere"
    code, said = argo.try_("lint", argo.file(wrong))
    assert code == 1 and "There is no template 'nowhere'" in said
    assert argo.try_("get", "fine")[0] == 1


def test_artifacts_are_copied(argo: Shell, tmp_path: Path) -> None:
    argo("cp", "hello", str(tmp_path))
    [note] = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert note.read_text() == "hello world\n"


def test_what_has_ended_is_in_the_archive(argo: Shell) -> None:
    listed = yaml.safe_load(argo("archive", "list", "-o", "yaml", "--chunk-size", "1"))
    uid = next(one["metadata"]["uid"] for one in listed if one["metadata"]["name"] == "hello")
    assert re.search(rf"ann\s+hello\s+Succeeded.*{uid}", argo("archive", "list"))
    assert argo("archive", "list", "-l", "workflows.argoproj.io/phase=Failed", "-o", "name").count("picky") == 2
    assert re.search(r"Name:\s+hello", argo("archive", "get", uid))
    assert "workflows.argoproj.io/phase" in argo("archive", "list-label-keys").split()
    values = argo("archive", "list-label-values", "-l", "workflows.argoproj.io/phase")
    assert values.split() == ["Failed", "Succeeded"]
    code, said = argo.try_("archive", "get", "hello")
    assert code == 1 and "argo archive list" in said
    said = argo("archive", "resubmit", "--wait", uid)
    made = re.search(r"Name:\s+(\S+)", said)
    assert made is not None and made[1].startswith("hello-")
    again = yaml.safe_load(argo("get", made[1], "-o", "yaml"))["metadata"]["uid"]
    assert "deleted" in argo("archive", "delete", again)
    assert argo.try_("get", made[1])[0] == 1


def test_what_is_not_answered(argo: Shell) -> None:
    code, said = argo.try_("cluster-template", "list")
    assert code == 1 and "not answered by Ropewalk" in said
    code, said = argo.try_("list", "-n", "somebody")
    assert code == 1 and "Permission denied" in said
    assert "argo-server" in argo("version")


def test_all_is_deleted(argo: Shell) -> None:
    argo("delete", "--all")
    assert "No workflows found" in argo("list")

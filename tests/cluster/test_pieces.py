"""The pieces of the test cluster that need no cluster: keys, images, rules, volumes, addresses."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ropewalk_core.settings import load
from tests.cluster import builder as builder_module
from tests.cluster import dockerfiles, installed, leftovers, policy_enforcer, volumes
from tests.cluster import layout as layout_module
from tests.cluster.builder import PROGRAMS, Builder, lacking, parts
from tests.cluster.cluster import PACKAGES
from tests.cluster.images import Image, layer
from tests.cluster.inside import started_at
from tests.cluster.installed import Installed
from tests.cluster.layout import ROOT, TOOLS, ClusterError, Layout
from tests.cluster.policy_enforcer import Pod
from tests.ports import free_port


def test_a_port_that_is_taken_is_said_before_anything_is_done(tmp_path: Path) -> None:
    port = free_port() + 1
    with socket.create_server(("127.0.0.1", port)):
        for first in (port, port - 1):
            one = Installed(Layout(tmp_path / "run", tmp_path / "cache"), first)
            for act in (one.prepare, one.sync):
                with pytest.raises(ClusterError, match=rf"port {port} cannot be used .*PORT=9000"):
                    act()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["sync", "down", "link"])
def test_without_a_cluster_that_is_said(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROPEWALK_TEST_CLUSTER_RUN", str(tmp_path / "run"))
    monkeypatch.setattr("sys.argv", ["installed", verb])
    assert installed.main() == 1
    assert capsys.readouterr().err == f"no cluster runs in {tmp_path / 'run'}; `make kube` starts one\n"


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    made = Builder(Layout(tmp_path / "run", tmp_path / "cache"))
    made._go = "go1.26.0"  # so that this needs no Go
    return made


def test_a_binary_is_kept_under_what_decides_it(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = builder.binary("pause")
    for one in (TOOLS / "pause").iterdir():
        (tmp_path / "pause").mkdir(exist_ok=True)
        (tmp_path / "pause" / one.name).write_bytes(one.read_bytes())
    monkeypatch.setattr(builder_module, "TOOLS", tmp_path)
    again = Builder(builder.layout)
    again._go = "go1.26.0"
    assert again.binary("pause") == before
    (tmp_path / "pause" / "main.go").write_text("package main\n")
    changed = Builder(builder.layout)
    changed._go = "go1.26.0"
    assert changed.binary("pause") != before


def test_every_program_is_pinned_by_its_module() -> None:
    for one in PROGRAMS:
        text = (TOOLS / one.module / "go.mod").read_text()
        if one.package.startswith("."):
            assert one.module == "argo" or list((TOOLS / one.module).glob("*.go"))
        else:
            assert re.search(rf"^(tool )?\s*{re.escape(one.package)}$", text, re.M), one.name


def test_a_version_is_read_from_the_module(builder: Builder) -> None:
    assert re.fullmatch(r"v1\.\d+\.\d+", builder.version("kubernetes", "k8s.io/kubernetes"))
    with pytest.raises(ClusterError, match="does not require"):
        builder.version("kubernetes", "example.test/nothing")


def test_a_profile_is_the_core_and_more() -> None:
    assert parts("core") == {"core"}
    assert parts("argo") == {"core", "argo"}
    assert parts("all") == {"core", "argo", "knative", "helm"}


def test_what_lacks_is_named(tmp_path: Path) -> None:
    wanted = {"sh": "dash", "no-such-command": "something", str(tmp_path / "no"): "files"}
    assert lacking(wanted) == ["files", "something"]


def test_ci_installs_every_package_that_the_cluster_asks_for() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    wanted = [*PACKAGES.values(), *dockerfiles.PACKAGES.values()]
    assert [one for one in wanted if not re.search(rf"\b{one}\b", text)] == []


def test_the_same_files_make_the_same_layer(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("one")
    image = Image("it:1", {"bin/program": program}, links={"bin/other": "program"})
    first = layer(image)
    program.touch()
    assert layer(image) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert tar.getnames() == ["bin", "tmp", "bin/program", "bin/other"]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({}, True),
        (None, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_a_selector_selects(selector: dict[str, object] | None, chosen: bool) -> None:
    assert policy_enforcer.selected(selector, {"a": "1"}) is chosen


def test_only_chosen_pods_are_closed_and_named_ports_are_the_receivers() -> None:
    one = Pod("x", "one", "10.244.1.2", {"app": "one"}, {("TCP", "http"): 8080})
    two = Pod("x", "two", "10.244.2.2", {}, {("TCP", "http"): 9090})
    spec = {"podSelector": {"matchLabels": {"app": "one"}}, "egress": [{"ports": [{"port": "http"}]}]}
    text = policy_enforcer.rules([one, two], {"x": {}}, [{"metadata": {"namespace": "x"}, "spec": spec}])
    assert "ip daddr { 10.244.2.2 } meta l4proto tcp th dport 9090 return" in text
    assert "10.244.1.2 : jump ingress_10_244_1_2" in text  # a policy without types closes what comes in, too
    assert "jump egress_10_244_2_2" not in text


def test_a_pod_that_ended_or_has_no_address_of_its_own_is_no_part_of_the_rules() -> None:
    pod = {"metadata": {"namespace": "x", "name": "p"}, "spec": {"containers": []}}
    running = {"phase": "Running", "podIP": "10.244.1.2"}
    assert policy_enforcer.pod_of({**pod, "status": running}) is not None
    assert policy_enforcer.pod_of({**pod, "status": {**running, "phase": "Succeeded"}}) is None
    assert policy_enforcer.pod_of({**pod, "status": {}}) is None
    assert policy_enforcer.pod_of({**pod, "spec": {"containers": [], "hostNetwork": True}, "status": running}) is None


def test_a_volume_answers_its_claim_and_no_other() -> None:
    claim: dict[str, Any] = {
        "metadata": {"namespace": "x", "name": "c", "uid": "1-2"},
        "spec": {
            "storageClassName": volumes.CLASS,
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    made = volumes.volume(claim, Path("/volumes/pvc-1-2"))
    assert made["metadata"]["name"] == "pvc-1-2"
    assert made["spec"]["claimRef"]["uid"] == "1-2"
    assert made["spec"]["hostPath"]["path"] == "/volumes/pvc-1-2"
    assert volumes.waits(claim)
    assert not volumes.waits({**claim, "spec": {**claim["spec"], "storageClassName": "other"}})


def test_a_folder_that_is_no_cluster_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ClusterError, match="no run folder"):
        leftovers.take_down(Layout(tmp_path, tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_process_that_ended_lives_no_more_though_nobody_waited_for_it() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        known = {(child.pid, started_at(child.pid))}
        assert leftovers.still(known) == {child.pid}
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays to be waited for
        assert Path(f"/proc/{child.pid}").exists()
        assert leftovers.still(known) == set() and started_at(child.pid) == ""


def test_the_second_node_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_TEST_CLUSTER_ARCH", "riscv64")
    monkeypatch.setenv("ROPEWALK_TEST_CLUSTER_ACCELERATORS", "amd.com/gpu=1,example.test/npu=4")
    first, second = layout_module.nodes()
    assert (first.arch, first.accelerators) == (layout_module.machine(), {})
    assert (second.arch, second.accelerators) == ("riscv64", {"amd.com/gpu": 1, "example.test/npu": 4})
    monkeypatch.setenv("ROPEWALK_TEST_CLUSTER_ACCELERATORS", "amd.com/gpu")
    with pytest.raises(ClusterError, match="NAME=COUNT"):
        layout_module.nodes()


def test_a_run_folder_that_the_cluster_would_hide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_TEST_CLUSTER_RUN", "/var/lib/cluster")
    with pytest.raises(ClusterError, match="take another place"):
        layout_module.layout()


def test_nothing_of_the_test_cluster_is_a_setting_of_the_platform(tmp_path: Path) -> None:
    told = re.findall(r"ROPEWALK_TEST_\w+", (ROOT / "CONTRIBUTING.md").read_text())
    assert "ROPEWALK_TEST_CLUSTER_ACCELERATORS" in told
    assert load(tmp_path, environ=dict.fromkeys(told, "gpu=nvidia.com/gpu")) == load(tmp_path, environ={})


SLOW = re.compile(r"^pytestmark = .*\bmark\.cluster_slow\b", re.MULTILINE)


def test_what_takes_longest_is_named_for_whoever_runs_it() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    slow = [one for one in sorted((ROOT / "tests").rglob("test_*.py")) if SLOW.search(one.read_text())]
    assert slow
    for one in slow:
        assert "pytest.mark.cluster, " in one.read_text(), "the fast tests leave out what is marked `cluster`"
        assert str(one.relative_to(ROOT)) in told


@pytest.mark.parametrize(
    ("used", "takes", "results", "told", "status"),
    [
        (10, 300, "true", ["passed in 30"], "0"),
        (10, 300, "false true", ["FAILED after 30", "passed at the second try in 30"], "0"),
        (10, 300, "false false", ["FAILED after 30", "FAILED twice, in 30"], "1"),
        (4600, 300, "false true", ["FAILED after 30"], "1"),
        (3000, 1400, "false true", ["FAILED after 140", "passed at the second try"], "0"),
        (3200, 1400, "false true", ["FAILED after 140"], "1"),
        (4400, 300, "false true", ["FAILED after 30", "passed at the second try"], "0"),
    ],
)
def test_a_part_is_tried_again_only_where_there_is_time(
    tmp_path: Path, used: int, takes: int, results: str, told: list[str], status: str
) -> None:
    lines = _ci_part(tmp_path, 'part "make test" work', used, takes, results)
    assert lines[0] == "== make test" and lines[-1] == f"status {status}", lines
    assert len(lines) == 2 + len(told)
    for line, words in zip(lines[1:], told, strict=False):
        assert line.startswith(f"== make test: {words}")


def test_the_last_part_is_left_out_where_it_would_not_end_in_time(tmp_path: Path) -> None:
    call = 'if fits 600 "a tour"; then part "a tour" work; fi'
    fits, late = (_ci_part(tmp_path, call, used, 500, "true") for used in (4400, 4600))
    assert fits == ["== a tour", "== a tour: passed in 500 s", "status 0"]
    assert late[0].startswith("== a tour: LEFT OUT after 4600 s") and late[1:] == ["status 0"]


def test_a_part_that_hangs_is_ended(tmp_path: Path) -> None:
    said = _ci_part(tmp_path, 'patience=1 part "hangs" sleep 50', 4900, 0, "true")
    assert "ended after 1 s" in said[1] and said[2].startswith("== hangs: FAILED") and said[-1] == "status 1"


def _ci_part(folder: Path, call: str, used: int, takes: int, results: str) -> list[str]:
    """Return what `.ci/run` says of a part that gives these results, each after so many seconds."""
    ci = (ROOT / ".ci" / "run").read_text()
    functions = re.findall(r"^(?:part|fits|logged|tell)\(\) \{.*?^\}$", ci, re.DOTALL | re.MULTILINE)
    settings = re.findall(r"^(?:failed|longest|patience|repeats?|told)=.*$", ci, re.MULTILINE)
    script = f"""
    results=({results})
    work() {{ local now=${{results[0]}}; results=("${{results[@]:1}}"); SECONDS=$((SECONDS + {takes})); $now; }}
    SECONDS={used}
    {call}
    echo "status $failed"
    """
    argv = ["bash", "-u", "-c", "\n".join([*settings, *functions, script])]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()

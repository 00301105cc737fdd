"""Running Helm, with a program that plays it: what it is given, what is left of it, and what its failures mean."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ropewalk_core.errors import BadValues, Conflict, Denied, Internal, RopewalkError, Unavailable
from ropewalk_core.kube.config import Access, Token, from_kubeconfig, kubeconfig
from ropewalk_core.kube.helm import Helm, Reach
from ropewalk_core.process_table import seen
from tests.kube.real import Authority

CHART = Path(__file__).parents[2] / "charts" / "services" / "site"
REACH = Reach(Access("http://127.0.0.1:1", None, Token("the-platforms-own")), "of-releases", "ropewalk--ada")


def played(tmp_path: Path, script: str) -> Helm:
    program = tmp_path / "helm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Helm(tmp_path / "run", program=str(program))


async def test_it_gets_a_home_a_token_and_values_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_SECRET", "s")
    out = tmp_path / "out"
    script = f'env > {out}.env; stat -c %a "$KUBECONFIG" > {out}.mode; echo "$@" > {out}.argv'
    helm = played(
        tmp_path, f'{script}; cp "$KUBECONFIG" {out}.kubeconfig; cp -r chart {out}.chart; cp values.yaml {out}.values'
    )
    objects = [{"kind": "ConfigMap", "data": {"a": "{{ .Values.x }}"}}, {"kind": "Service"}]
    await helm.install(REACH, CHART, "service--one", objects, {"word": "secret \U0001f600\u2028"})
    environment = (out.with_suffix(".env")).read_text()
    assert "ROPEWALK" not in environment and f"HOME={tmp_path / 'run'}/helm-" in environment
    assert out.with_suffix(".mode").read_text().strip() == "600"
    config = yaml.safe_load(out.with_suffix(".kubeconfig").read_text())
    assert [one["user"] for one in config["users"]] == [{"token": "of-releases"}]
    assert "the-platforms-own" not in out.with_suffix(".kubeconfig").read_text()
    argv = out.with_suffix(".argv").read_text()
    assert "secret" not in argv and "--set" not in argv and "--namespace ropewalk--ada" in argv
    assert yaml.safe_load(out.with_suffix(".values").read_text()) == {"word": "secret \U0001f600\u2028"}
    chart = out.with_suffix(".chart")
    assert (chart / "templates" / "objects.yaml").read_text() == '{{ .Files.Get "objects.yaml" }}'
    assert list(yaml.safe_load_all((chart / "objects.yaml").read_text())) == objects
    assert not list((tmp_path / "run").iterdir())


async def test_what_a_killed_platform_left_is_removed_first(tmp_path: Path) -> None:
    left = tmp_path / "run" / "helm-left"
    left.mkdir(parents=True)
    (left / "kubeconfig").write_text("token")
    (tmp_path / "run" / "other").mkdir()
    await played(tmp_path, "true").uninstall(REACH, "one")
    assert [one.name for one in (tmp_path / "run").iterdir()] == ["other"]


async def test_what_hangs_for_one_account_takes_one_turn_only(tmp_path: Path) -> None:
    began, let = tmp_path / "began", tmp_path / "let"
    hangs = f"*ada*) while [ ! -e {let} ]; do sleep 0.05; done;;"
    helm = played(tmp_path, f'echo "$@" >> {began}; case "$*" in {hangs} esac')
    ada = [asyncio.create_task(helm.uninstall(REACH, f"service--{number}")) for number in range(5)]
    try:
        async with asyncio.timeout(20):
            while not began.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            for _ in range(2):
                await helm.uninstall(Reach(REACH.access, REACH.token, "ropewalk--bob"), "service--one")
        assert [line.rpartition("--")[2] for line in began.read_text().splitlines()] == ["ada", "bob", "bob"]
    finally:
        let.touch()
        await asyncio.gather(*ada)
    assert len(began.read_text().splitlines()) == 7


def test_it_ends_with_the_platform(tmp_path: Path) -> None:
    helm = played(
        tmp_path, f"echo $$ > {tmp_path / 'pid.new'}; mv {tmp_path / 'pid.new'} {tmp_path / 'pid'}; exec sleep 300"
    )
    code = (
        "import asyncio, sys; from pathlib import Path; from ropewalk_core.kube.helm import Helm; "
        "asyncio.run(Helm(Path(sys.argv[1]), program=sys.argv[2]).render(Path('/x'), 'a', 'b', {}))"
    )
    platform = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run"), helm._program])
    end = time.monotonic() + 30
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    os.kill(platform.pid, signal.SIGKILL)
    platform.wait()
    while lives(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not lives(pid)


def lives(pid: int) -> bool:
    there = seen(pid)
    return there is not None and not there.dead


@pytest.mark.parametrize(
    ("says", "error", "words"),
    [
        ("Error: Kubernetes cluster unreachable: dial tcp: i/o timeout", Unavailable, "unreachable"),
        ("Error: the server has asked for the client to provide credentials (Unauthorized)", Unavailable, ""),
        (
            'Error: UPGRADE FAILED: services "x" is forbidden: exceeded quota: tenant, requested: services=1, '
            "used: services=50, limited: services=50",
            Denied,
            "You use 50 of 50 services",
        ),
        (
            'Error: Service "x" exists and cannot be imported into the current release: invalid ownership metadata',
            Conflict,
            "belongs to something else",
        ),
        ("Error: something new", Denied, "something new"),
    ],
)
async def test_what_a_failure_means(tmp_path: Path, says: str, error: type[RopewalkError], words: str) -> None:
    text = says.replace("'", "'\\''")
    helm = played(tmp_path, f"echo 'WARNING: be careful' >&2; echo '{text}' >&2; exit 1")
    with pytest.raises(error) as caught:
        await helm.install(REACH, CHART, "one", [], {})
    assert words in caught.value.message and "careful" not in caught.value.message


async def test_a_killed_helm_passes_and_a_missing_one_does_not(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await played(tmp_path, "kill -9 $$").uninstall(REACH, "one")
    with pytest.raises(Internal):
        await Helm(tmp_path / "run", program=str(tmp_path / "nothing")).uninstall(REACH, "one")
    with pytest.raises(BadValues):
        says = "values don't meet the specifications of the schema(s)"
        await played(tmp_path, f'echo "{says}" >&2; exit 1').render(CHART, "one", "two", {})


def test_a_kubeconfig_for_another_program_says_the_same_way(tmp_path: Path) -> None:
    authority = Authority().pem
    cluster = {"server": "https://10.0.0.1:6443", "tls-server-name": "api", "certificate-authority-data": ""}
    cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "c", "user": {"token": "ours"}}],
    }
    (tmp_path / "ours").write_text(yaml.safe_dump(document))
    ours = from_kubeconfig(tmp_path / "ours")
    (tmp_path / "theirs").write_text(kubeconfig(ours, token="theirs", namespace="space"))
    theirs = from_kubeconfig(tmp_path / "theirs")
    assert (theirs.server, theirs.server_name, theirs.namespace) == (ours.server, ours.server_name, "space")
    assert theirs.token.text == "theirs"
    assert ours.context is not None and theirs.context is not None
    assert theirs.context.get_ca_certs() == ours.context.get_ca_certs() != []

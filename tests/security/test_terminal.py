"""Attacks from one person's terminal, inside a running platform, on the platform and on another person's work.

A hostile administrator is out of scope; the attacker is an ordinary account, the victim the first administrator. The
answers are those of a real shell in the real notebook server of the attacker.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest

from ropewalk_core.local import sandbox
from tests.platform_rig import House, Kernel, ended, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not sandbox.probe().works, reason=f"no working bubblewrap: {sandbox.probe().why}"),
]
SECRET = "TOP-SECRET"
VICTIM = f'''
import os, subprocess, sys
os.environ["MINE"] = "{SECRET}"
with open("diary", "w") as file:
    file.write("{SECRET}")
os.chmod("diary", 0o644)
sleeper = subprocess.Popen(["sleep", "600"])
'''
FUNCTION = f'''%%function vault
import os, subprocess
with open("/tmp/{SECRET}", "w") as file:
    file.write("{SECRET}")
sleeper = subprocess.Popen(["sleep", "601"], env={{"MINE": "{SECRET}"}})
def vault(value):
    return os.getpid()
'''


class Scene:
    """A running platform with a victim at work and an attacker at a shell."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.house.sign_up(self.house.up()["first"]).close()
        with self.house.browser() as page:
            form = {"account": "eve", "password": "correct horse battery", "full_name": "Eve"}
            assert page.post(f"{self.house.origin}/sign-up", data=form).status_code == 200
        self.house.api("POST", "accounts/eve/approve")
        self.house.start_notebook("ann")
        self.victim = self.house.kernel("ann")
        self.victim.run(VICTIM)
        assert "deployed" in self.victim.run(FUNCTION)
        self.victim.run("vault(1)")
        spec = {"name": "web", "template": "site", "values": {"folder": "."}}
        self.house.api("PUT", "services/ann/web", json=spec)
        until(lambda: self.house.api("GET", "services/ann/web")["status"]["state"] == "running")
        self.house.start_notebook("eve")
        self.attacker: Kernel = self.house.kernel("eve")
        self.ports = json.loads((self.house.home / "run" / "ports.json").read_text())

    def shell(self, script: str) -> str:
        """Run a script in the attacker's terminal and return all that it printed."""
        code = (
            "import subprocess\n"
            f"print(subprocess.run(['bash', '-c', {script!r}], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, "
            "timeout=30, text=True, errors='replace').stdout)"
        )
        return re.sub(r"\x1b\[[0-9;]*m", "", self.attacker.run(code))

    def status(self, address: str, *words: str) -> str:
        """Ask an address from the attacker's terminal; return the status, and fail where a secret comes back."""
        curl = ["curl", "-s", "-m", "10", "-w", "\\nSTATUS %{http_code}", *words, address]
        said = self.shell(
            shlex.join(curl).replace("'Authorization: token ME'", '"Authorization: token $JUPYTERHUB_API_TOKEN"')
        )
        assert SECRET not in said
        return said.rpartition("STATUS ")[2].strip()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with ended(House()) as house:
        yield Scene(house)


@pytest.mark.parametrize(
    "what",
    [
        "secrets/issuer-keys.json",
        "secrets/proxy-token",
        "secrets/platform-api-token",
        "hub/jupyterhub.sqlite",
        "journal.db",
        "journal.db-wal",
        "logs/platform.log",
        "logs/notebooks/ann.log",
        "run/platform.sock",
        "run/gateway/platform.sock",
        "run/host.sock",
        "run/ready.json",
        "run/processes",
        "accounts/ann/files/diary",
        "accounts/ann/artifacts",
        "accounts/ann/functions",
    ],
)
def test_nothing_of_the_home_is_there(scene: Scene, what: str) -> None:
    assert (scene.house.home / what).exists() or what == "accounts/ann/artifacts"
    for path in (
        scene.house.home / what,
        f"/proc/1/root{scene.house.home / what}",
        f"/proc/self/root{scene.house.home / what}",
    ):
        said = scene.shell(f"cat {path} || ls {path}; cp -r {path} /tmp/stolen; ls /tmp/stolen")
        assert "No such file" in said
        assert SECRET not in said


def test_nothing_can_be_planted_beside_it(scene: Scene) -> None:
    home = scene.house.home
    said = scene.shell(
        f"mkdir {home}/secrets; touch {home}/x; mkdir -p {home}/accounts/ann/files; echo x > {home}/accounts/x"
    )
    assert len(re.findall("Read-only file system|Permission denied", said)) == 4, said
    assert sorted(one.name for one in (home / "accounts").iterdir()) == ["ann", "eve"]
    said = scene.shell(
        f"ln -s {home}/secrets ~/link; ln {home}/journal.db ~/hard; cat ~/link/issuer-keys.json; rm -f ~/link"
    )
    assert said.count("No such file") == 2


def test_sockets_of_the_platform_cannot_be_reached(scene: Scene) -> None:
    for name in ("platform.sock", "gateway/platform.sock", "host.sock"):
        for kind in ("SOCK_STREAM", "SOCK_SEQPACKET"):
            path = f"{scene.house.home}/run/{name}"
            line = f"import socket; socket.socket(socket.AF_UNIX, socket.{kind}).connect({path!r})"
            said = scene.shell(shlex.join(["python", "-c", line]))
            assert "FileNotFoundError" in said


def test_other_processes_are_not_there(scene: Scene) -> None:
    assert int(scene.shell("ls -d /proc/[0-9]* | wc -l")) < 15
    said = scene.shell("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    assert SECRET not in said and "CONFIGPROXY_AUTH_TOKEN" not in said and "ROPEWALK_HOME" not in said
    theirs = scene.victim.run("print(sleeper.pid)").strip()
    outside = scene.house.processes.find("notebook.ann")
    assert outside and theirs
    for pid in (outside.pid, scene.house.pid("platform"), scene.house.pid("host")):
        assert "No such process" in scene.shell(f"kill -9 {pid}")
    assert "None" in scene.victim.run("print(sleeper.poll())")


def test_no_power_can_be_gained(scene: Scene) -> None:
    said = scene.shell("grep -E 'Cap(Eff|Prm|Bnd)|NoNewPrivs' /proc/self/status")
    assert said.count("0000000000000000") == 3 and "NoNewPrivs:\t1" in said
    for attempt in (
        "unshare -Ur true",
        "mount -t tmpfs x /mnt",
        "nsenter -t 1 -a true",
        "chroot / true",
        "mknod x b 8 0",
    ):
        assert "OK" not in scene.shell(f"{attempt} && echo OK"), attempt
    said = scene.shell(
        f"dd if=/dev/mem bs=1 count=1; echo x > /proc/sys/kernel/core_pattern; echo x >> {sandbox.__file__}"
    )
    assert len(re.findall("No such file|Read-only file system|Permission denied", said)) >= 3, said


def test_a_sibling_worker_cannot_be_seen(scene: Scene) -> None:
    """A function of the attacker looks for one of the victim: another sandbox, another file system, other processes."""
    code = f'''%%function spy
import glob, os
def spy(value):
    found = []
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/tmp/*") + glob.glob("{scene.house.home}/accounts/*"):
        found.append(path)
        try:
            with open(path, "rb") as file:
                found.append(file.read().decode(errors="replace"))
        except OSError:
            pass
    return found
'''
    assert "deployed" in scene.attacker.run(code)
    said = scene.attacker.run("print(spy(1))")
    assert "/proc/" in said
    assert SECRET not in said and "accounts/ann" not in said
    assert scene.victim.run("print(vault(1))").strip().isdigit()


def test_another_persons_function_and_service_refuse(scene: Scene) -> None:
    people = f"http://127.0.0.1:{scene.house.port + 1}/"
    function = ["-H", f"Host: vault--fn--ann.localhost:{scene.house.port + 1}", "-X", "POST", "-d", "1"]
    assert scene.status(people, *function) == "401"
    token = scene.house.token("functions", "eve")
    assert scene.status(people, *function, "-H", f"Authorization: Bearer {token}") == "404"
    service = ["-H", f"Host: web--ann.localhost:{scene.house.port + 1}"]
    assert scene.status(people, *service) == "401"
    assert scene.status(people, *service, "-H", f"Authorization: Bearer {token}") == "401"
    # The service listens in a network of its own: no port of this machine leads to it.
    open_ports = set(re.findall(r"127\.0\.0\.1:(\d+)", scene.shell("ss -ltn")))
    for port in open_ports:
        said = scene.shell(f"curl -s -m 2 http://127.0.0.1:{port}/diary")
        assert SECRET not in said, port


def test_the_proxy_and_the_hub_refuse_who_has_no_token(scene: Scene) -> None:
    proxy, hub = (
        f"http://127.0.0.1:{scene.ports['proxy_api']}/api/routes",
        f"http://127.0.0.1:{scene.ports['hub']}/hub/api",
    )
    mine = ["-H", "Authorization: token ME"]
    assert scene.status(proxy) == "403"
    assert scene.status(proxy, *mine) == "403"
    assert scene.status(f"{proxy}/evil", "-X", "POST", "-d", '{"target": "http://127.0.0.1:9"}', *mine) == "403"
    for words in ([], mine):
        assert scene.status(f"{hub}/users", *words) in ("200", "403")
        assert scene.status(f"{hub}/users/ann", *words) in ("403", "404")
        assert scene.status(f"{hub}/users/ann/tokens", "-X", "POST", *words) in ("403", "404")
        assert scene.status(f"{hub}/users/ann/server", "-X", "DELETE", *words) in ("403", "404")
        assert scene.status(f"{hub}/shutdown", "-X", "POST", *words) == "403"
    assert "ann" not in scene.shell(f'curl -s -H "Authorization: token $JUPYTERHUB_API_TOKEN" {hub}/users')


def test_another_notebook_refuses(scene: Scene) -> None:
    door = f"http://127.0.0.1:{scene.house.port}/user/ann/api/contents/diary"
    host = ["-H", f"Host: ann.localhost:{scene.house.port}"]
    assert scene.status(door, *host) == "403"
    assert scene.status(door, *host, "-H", "Authorization: token ME") == "403"
    assert scene.status(f"{door}?token=x", *host) == "403"


def test_the_platform_knows_who_asks(scene: Scene) -> None:
    origin, token = f"http://127.0.0.1:{scene.house.port}", scene.house.token("api", "eve")
    mine = ["-H", f"Host: localhost:{scene.house.port}", "-H", f"Authorization: Bearer {token}"]
    for path in ("notebooks/ann", "functions/ann", "services/ann/web", "workflows/ann", "files/ann/diary", "watch/ann"):
        assert scene.status(f"{origin}/api/v1/{path}", *mine) in ("403", "404"), path
    assert scene.status(f"{origin}/api/v1/accounts", *mine) == "403"
    assert scene.status(f"{origin}/api/v1/accounts/eve/approve", "-X", "POST", *mine) == "403"
    for path in ("internal/snapshot", "internal/token", "internal/runs"):
        assert scene.status(f"{origin}/{path}", *mine) in ("404", "405"), path
    command = scene.shell("ropewalk functions list --as ann --json; ropewalk token --as ann")
    assert SECRET not in command and "vault" not in command

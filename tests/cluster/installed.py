"""Ropewalk on the test cluster, as helmfile installs it: ``python -m tests.cluster.installed up``, and other verbs.

`prepare` starts a cluster where none runs, builds and pushes images, and says what to run by hand; `up` installs too,
and `sync` only installs again. What helmfile
does here it does anywhere, from the same files; only images and manifests come from this machine. Ports of this
machine's loopback lead in, so that http://localhost:PORT is the platform's own address in a browser.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import parts
from tests.cluster.cluster import Cluster
from tests.cluster.dockerfiles import Dockerfiles
from tests.cluster.images import Registry
from tests.cluster.inside import alive
from tests.cluster.kube import Kube
from tests.cluster.layout import ROOT, ClusterError, Layout, carried_out, layout, say

SPACE = "ropewalk"
PORT = 8000
_PLATFORM = ("exec", "deploy/platform", "--container", "platform", "--namespace", SPACE, "--")


class Installed:
    """The installation on one cluster."""

    def __init__(self, at: Layout, port: int = PORT, **values: Any) -> None:
        self.at, self.port = at, port
        self._values = values  # of the chart, beside those of the environment

    @property
    def origin(self) -> str:
        """Return the platform's address in a browser of this machine."""
        return f"http://localhost:{self.port}"

    def prepare(self) -> None:
        """Have a cluster, Helm's clients, and every image in its registry; once the ports are seen to be free."""
        self._look()
        Cluster(self.at).up("helm")
        registry = self._registry()
        if not {"argo", "knative"} <= set(self._state()["parts"]):
            with Registry(registry) as pushed:
                parts.push(self.at, pushed)
        ours = Dockerfiles(self.at)
        ours.build()
        images = ours.push(registry)
        ours.push_peoples(registry)
        self._file("images").write_text(yaml.safe_dump(images))

    def values(self) -> Path:
        """Write what helmfile is told beside its environment, and return the file."""
        file = self._file("values")
        file.write_text(yaml.safe_dump(self._chosen()))
        return file

    def sync(self) -> float:
        """Run `helmfile sync`, open the ports, and return its seconds."""
        self._look()
        file = self.values()
        say("helmfile sync: some minutes the first time, as the nodes pull each image")
        started = time.monotonic()
        self.helmfile("--state-values-file", str(file), "sync")
        took = time.monotonic() - started
        self._open()
        return took

    def destroy(self) -> float:
        """Run `helmfile destroy` and return its seconds."""
        started = time.monotonic()
        self.helmfile("--state-values-file", str(self._file("values")), "destroy")
        return time.monotonic() - started

    def first(self) -> str:
        """Return the link of the first administrator, or what is said when there is one."""
        return self.kubectl(*_PLATFORM, "python", "-m", "ropewalk_hub.first").strip()

    def ropewalk(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line inside the platform's pod."""
        argv = [str(self.at.run / "bin" / "kubectl"), *_PLATFORM, "ropewalk", *words]
        return subprocess.run(argv, env=self._environment(), capture_output=True, text=True, check=False, timeout=120)

    def kubectl(self, *words: str) -> str:
        """Run kubectl and return what it says."""
        return self._run("kubectl", *words)

    def helmfile(self, *words: str) -> str:
        """Run helmfile in the checkout and return what it says."""
        return self._run("helmfile", "--environment", "test", "--log-level", "warn", *words)

    def helm(self, *words: str) -> str:
        """Run Helm and return what it says."""
        return self._run("helm", "--namespace", SPACE, *words)

    def _chosen(self) -> dict[str, Any]:
        images = yaml.safe_load(self._file("images").read_text()) if self._file("images").exists() else {}
        here = set(self._state()["parts"])
        return {
            "argo": {"enabled": "argo" not in here},
            "knative": {"enabled": "knative" not in here},
            "ropewalk": {"images": images, "settings": {"door": {"port": self.port}}, **self._values},
        }

    def _open(self) -> None:
        """Let two ports of this machine lead to the two doors."""
        inside = alive(self.at)
        if inside is None:
            raise ClusterError(f"no cluster runs in {self.at.run}")
        kube = Kube(self.at.kubeconfig)
        for service, port in (("proxy", self.port), ("gateway", self.port + 1)):
            found = kube.get(f"/api/v1/namespaces/{SPACE}/services/{service}")
            try:
                inside.door(str((found or {})["spec"]["clusterIP"]), port, listen=port)
            except OSError as error:
                raise _taken(port, error) from error
        kube.close()

    def _look(self) -> None:
        """See that both ports are free or lead in already: that they are taken is not to be said after minutes."""
        inside = alive(self.at)
        for port in {self.port, self.port + 1} - (inside.doors() if inside else set()):
            try:
                with socket.socket() as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind(("127.0.0.1", port))
            except (OSError, OverflowError) as error:
                raise _taken(port, error) from error

    def _registry(self) -> str:
        return f"127.0.0.1:{self._state()['doors']['registry']}"

    def _state(self) -> dict[str, Any]:
        return dict(json.loads(self.at.state.read_text()))

    def _file(self, name: str) -> Path:
        return self.at.folder("ropewalk") / f"{name}.yaml"

    def _environment(self) -> dict[str, str]:
        path = f"{self.at.run / 'bin'}:{os.environ['PATH']}"
        kept = {"ROPEWALK_TEST_CLUSTER_RUN": str(self.at.run), "ROPEWALK_TEST_CLUSTER_CACHE": str(self.at.cache)}
        return {**os.environ, **kept, "PATH": path, "KUBECONFIG": str(self.at.kubeconfig)}

    def _run(self, program: str, *words: str) -> str:
        argv = [str(self.at.run / "bin" / program), *words]
        done = subprocess.run(argv, cwd=ROOT, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-3000:]
            raise ClusterError(f"{program} {' '.join(words)[:200]} failed:\n{said}")
        return done.stdout


def _taken(port: int, error: Exception) -> ClusterError:
    return ClusterError(f"port {port} cannot be used ({getattr(error, 'strerror', error)}); take others: PORT=9000")


def main() -> int:
    """Do what was asked; a failure is one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.installed", description=__doc__)
    parser.add_argument("verb", choices=("up", "prepare", "sync", "down", "link"))
    parser.add_argument("--port", type=int, default=PORT)
    asked = parser.parse_args()
    return carried_out(lambda: _do(asked.verb, Installed(layout(), asked.port)))


def _do(verb: str, one: Installed) -> None:
    if verb not in ("up", "prepare") and alive(one.at) is None:
        raise ClusterError(f"no cluster runs in {one.at.run}; `make kube` starts one")
    if verb == "down":
        say(f"removed all but volumes in {one.destroy():.0f} s")
        return
    if verb in ("up", "prepare"):
        one.prepare()
    if verb == "prepare":
        say(f'export KUBECONFIG={one.at.kubeconfig} PATH="{one.at.run / "bin"}:$PATH"')
        say(f"helmfile --environment test --state-values-file {one.values()} sync")
        return
    if verb in ("up", "sync"):
        say(f"helmfile sync: {one.sync():.0f} s")
        say(f"Ropewalk is at {one.origin}. Make the first administrator with this link. It works once:")
    say(f"  {one.first()}")


if __name__ == "__main__":
    sys.exit(main())

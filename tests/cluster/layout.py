"""Where the test cluster keeps things, and the addresses inside it. Knows no program and starts nothing.

Everything that a cluster writes lies under one run folder, everything that is built under one cache folder outside the
tree. Addresses are fixed: they live in network namespaces of the cluster's own, where they can meet nobody else's.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent / "tools"

WIRE = "10.250.0.0/24"  # between the control plane and the nodes
CONTROL = "10.250.0.1"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
DNS = "10.96.0.10"
METADATA = "169.254.169.254"  # where clouds keep their keys: a listener stands there, for attacks to fail against
API_PORT = 6443
REGISTRY_PORT = 5000
REGISTRY = f"registry.local:{REGISTRY_PORT}"  # a .local name: the usual clients then speak plain HTTP to it
PROFILES = ("core", "argo", "knative", "helm", "all")


class ClusterError(Exception):
    """Something that a person can mend: the message names what lacks or failed and where to look."""


@dataclass(frozen=True)
class Node:
    """One node and what it presents itself as."""

    name: str
    address: str
    pods: str
    arch: str
    accelerators: dict[str, int]

    @property
    def gateway(self) -> str:
        """Return the first address of its pods' range, which its own end of their wires has."""
        return self.pods.rsplit(".", 1)[0] + ".1"


def nodes() -> tuple[Node, Node]:
    """Return the two nodes; the second is what ROPEWALK_TEST_CLUSTER_ARCH and ..._ACCELERATORS say."""
    claimed = os.environ.get("ROPEWALK_TEST_CLUSTER_ACCELERATORS", "nvidia.com/gpu=2")
    accelerators = {}
    for one in filter(None, claimed.split(",")):
        name, _, count = one.partition("=")
        if not count.isdigit():
            raise ClusterError(f"ROPEWALK_TEST_CLUSTER_ACCELERATORS: write NAME=COUNT, not {one!r}")
        accelerators[name] = int(count)
    arch = os.environ.get("ROPEWALK_TEST_CLUSTER_ARCH", "arm64")
    return (
        Node("node1", "10.250.0.11", "10.244.1.0/24", machine(), {}),
        Node("node2", "10.250.0.12", "10.244.2.0/24", arch, accelerators),
    )


def lost_after() -> int:
    """Return the seconds after which a silent node, and then its pods, count as lost; 0 means Kubernetes' own."""
    return int(os.environ.get("ROPEWALK_TEST_CLUSTER_LOST_AFTER", "0"))


def machine() -> str:
    """Return this machine's architecture in Kubernetes' words."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def other_machine() -> str:
    """Return an architecture that this machine cannot run."""
    return "arm64" if machine() != "arm64" else "amd64"


@dataclass(frozen=True)
class Layout:
    """The run folder of one cluster and the cache that all share."""

    run: Path
    cache: Path

    @property
    def state(self) -> Path:
        """Return the file that says which cluster runs here."""
        return self.run / "state.json"

    @property
    def control(self) -> Path:
        """Return the socket of the cluster's first process."""
        return self.run / "control.sock"

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's way in from this machine."""
        return self.run / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Return the folder of certificates."""
        return self.run / "pki"

    @property
    def logs(self) -> Path:
        """Return the folder with one log for each process."""
        return self.run / "logs"

    @property
    def volumes(self) -> Path:
        """Return the folder that persistent volumes live in; both nodes see it."""
        return self.run / "volumes"

    @property
    def cgroup(self) -> str:
        """Return the control group that everything of this cluster lies under."""
        return f"ropewalk-cluster-{hashlib.sha256(str(self.run).encode()).hexdigest()[:8]}"

    def folder(self, *names: str) -> Path:
        """Return a folder of the run folder, made when it lacks."""
        path = self.run.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path


def layout() -> Layout:
    """Return the folders that the environment asks for."""
    run = os.environ.get("ROPEWALK_TEST_CLUSTER_RUN", "/var/tmp/ropewalk-cluster")
    cache = os.environ.get("ROPEWALK_TEST_CLUSTER_CACHE") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ropewalk" / "cluster"
    )
    path = Path(run).resolve()
    for hidden in ("/run", "/var/log", "/var/lib", "/proc", "/sys", "/dev"):
        if path.is_relative_to(hidden):
            raise ClusterError(
                f"ROPEWALK_TEST_CLUSTER_RUN={run}: the cluster has a {hidden} of its own; take another place"
            )
    return Layout(path, Path(cache).resolve())


def carried_out(work: Callable[[], None]) -> int:
    """Do what somebody asked for at the prompt, and return the exit status; a failure is one message."""
    try:
        work()
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. The same command goes on here; `make cluster-down` removes what was started.\n")
        return 130
    return 0


def say(words: str) -> None:
    """Tell the person how far it is."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()

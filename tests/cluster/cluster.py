"""Brings a whole cluster up and down: the order in which the other modules are called, and what is waited for."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster import (
    argo,
    certificates,
    control_plane,
    dns,
    images,
    knative,
    leftovers,
    network,
    node,
    registry,
    volumes,
)
from tests.cluster.builder import Builder, lacking, parts
from tests.cluster.inside import Inside, alive, environment, started_at
from tests.cluster.kube import Kube, deployed, wait
from tests.cluster.layout import API_PORT, CONTROL, PROFILES, REGISTRY_PORT, ROOT, ClusterError, Layout, nodes, say

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    f"{node.PLUGINS}/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    str(registry.BUSYBOX): "busybox-static",
}
_OWN = ("--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "slave")


class Cluster:
    """The cluster of one run folder."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.builder = Builder(layout)
        self.state: dict[str, Any] = {}
        self._since = self._began = time.monotonic()
        self._outer: subprocess.Popen[bytes] | None = None

    def up(self, profile: str) -> None:
        """Build what lacks, start the cluster unless it runs, and add what the profile needs."""
        check(profile, self.layout)
        self.builder.build(profile)
        self._began = time.monotonic()
        with self._alone():
            inside = alive(self.layout)
            self.state = json.loads(self.layout.state.read_text()) if inside else {}
            if inside is None or not self.state.get("parts"):
                leftovers.take_down(self.layout)
                inside = self._boot()
            kube = Kube(self.layout.kubeconfig)
            for part in sorted(parts(profile) - set(self.state["parts"])):
                self._add(part, inside, kube)
            kube.close()
        took = time.monotonic() - self._began
        say(f"{' + '.join(self.state['parts'])}: ready in {took:.1f} s; export KUBECONFIG={self.layout.kubeconfig}")

    def down(self) -> None:
        """End the cluster and leave nothing behind."""
        with self._alone():
            there = leftovers.take_down(self.layout)
        if self._outer is not None:
            self._outer.wait()
        say("the cluster is gone" if there else "there is no cluster")

    def _boot(self) -> Inside:
        """Start the core: namespaces, control plane, registry, both nodes and names."""
        self._since = time.monotonic()
        pair = nodes()
        inside = self._world()
        leftovers.make_groups(self.layout, pair)
        network.lay(inside, pair)
        control_plane.start_etcd(inside, self.builder)
        registry.start(inside, self.builder)
        network.haunt(inside, self.builder)
        version = self.builder.version("kubernetes", "k8s.io/kubernetes")
        certificates.write(self.layout, self.builder.binary("kubeadm"), version, pair)
        control_plane.start_api_server(inside, self.builder)
        doors = {"api": inside.door(CONTROL, API_PORT), "registry": inside.door(CONTROL, REGISTRY_PORT)}
        certificates.outside(self.layout, doors["api"])
        self._offer("kubectl")
        self._note(inside, doors=doors)
        self._lap("namespaces, certificates")
        with images.Registry(f"127.0.0.1:{doors['registry']}") as pushed:
            wait("the registry", lambda: "" if pushed.ready() else "it does not answer", hint=self._log("registry"))
            registry.fill(pushed, self.builder)
        self._lap("registry")
        kube = Kube(self.layout.kubeconfig)
        api = self._log("kube-apiserver")
        wait("the API server", lambda: "" if kube.ready() else "it is not ready", 60, api)
        self._lap("API server")
        self._populate(inside, kube)
        kube.close()
        self._note(inside, parts=["core"])
        return inside

    def _populate(self, inside: Inside, kube: Kube) -> None:
        pair = nodes()
        for one in pair:
            node.disguise(kube, one)
        control_plane.start_rest(inside, self.builder)
        self._allow(kube)
        for one in pair:
            node.start(inside, self.builder, one)
        dns.apply(kube)
        volumes.start(inside, kube)
        for one in pair:
            joined = f"/api/v1/nodes/{one.name}"
            logs = self._log(f"{one.name}-kubelet")
            wait(one.name, lambda at=joined: "" if kube.get(at) else "it has not joined", 60, logs)  # type: ignore[misc]
            node.equip(kube, one)
        for one in pair:
            logs = self._log(f"{one.name}-kubelet")
            wait(one.name, lambda it=one: node.ready(kube, it), 60, logs)  # type: ignore[misc]
        self._lap("nodes")
        wait("CoreDNS", lambda: deployed(kube, "kube-system", "coredns"), 60)
        self._lap("names")

    def _add(self, part: str, inside: Inside, kube: Kube) -> None:
        """Add Argo, Knative or the clients of Helm to a running core."""
        self._since = time.monotonic()
        doors = dict(self.state["doors"])
        if part == "helm":
            self._offer("helm", "helmfile")
        else:
            self._install(part, kube)
        if part == "argo":
            self._offer("argo")
        if part == "knative":
            doors["ingress"] = knative.door(inside, kube)
        self._note(inside, parts=[*self.state["parts"], part], doors=doors)
        self._lap(part)

    def _install(self, part: str, kube: Kube) -> None:
        profile = argo if part == "argo" else knative
        with images.Registry(f"127.0.0.1:{self.state['doors']['registry']}") as pushed:
            profile.push(pushed, self.builder)
        self._lap(f"images of {part}")
        profile.install(kube, self.builder)

    @staticmethod
    def _allow(kube: Kube) -> None:
        """Let the API server read logs at the kubelets; kubeadm would do this in a later phase."""
        rbac = "rbac.authorization.k8s.io"
        user = "kube-apiserver-kubelet-client"
        kube.apply(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": user},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
            }
        )

    def _world(self) -> Inside:
        """Start the first process in namespaces of its own."""
        leftovers.mark(self.layout.run)
        log = self.layout.folder("logs") / "world.log"
        argv = ["unshare", *_OWN, sys.executable, "-m", "tests.cluster.world", str(self.layout.run)]
        with log.open("w") as out:
            self._outer = outer = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env=environment(self.layout),
                start_new_session=True,
            )

        def problem() -> str:
            if outer.poll() is not None:
                return f"it ended with {outer.returncode}"
            return "" if self.layout.control.exists() else "it is not there yet"

        wait("the cluster's first process", problem, 20, self._log("world"))
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        inside = Inside(self.layout, int(children[0]))
        self._note(inside)
        return inside

    def _offer(self, *commands: str) -> None:
        """Put client commands where a person finds them."""
        for command in commands:
            link = self.layout.folder("bin") / command
            link.unlink(missing_ok=True)
            link.symlink_to(self.builder.binary(command))

    def _note(self, inside: Inside, **more: object) -> None:
        self.state |= {"pid": inside.pid, "started": started_at(inside.pid), **more}
        part = self.layout.state.with_suffix(".part")
        part.write_text(json.dumps(self.state, indent=2))
        part.replace(self.layout.state)

    def _log(self, name: str) -> Callable[[], str]:
        path = self.layout.logs / f"{name}.log"

        def tail() -> str:
            lines = path.read_text(errors="replace").splitlines()[-12:] if path.exists() else []
            return "\n".join([f"; {path} ends so:", *lines])

        return tail

    def _lap(self, what: str) -> None:
        now = time.monotonic()
        say(f"  {what:<24} {now - self._since:5.1f} s")
        self._since = now

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others who bring this cluster up or down waiting."""
        lock = self.layout.run.with_name(self.layout.run.name + ".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with lock.open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(held.fileno())):
                    continue  # who held it removed it with the last cluster
                try:
                    yield
                finally:
                    if not self.layout.run.exists():
                        lock.unlink(missing_ok=True)
                return


def check(profile: str, layout: Layout) -> None:
    """Refuse, by name, what this machine lacks."""
    if profile not in PROFILES:
        raise ClusterError(f"there is no profile {profile}; take one of {', '.join(PROFILES)}")
    if os.geteuid() != 0:
        raise ClusterError("the test cluster needs to be the superuser: it makes namespaces and mounts")
    missing = lacking(PACKAGES)
    if missing:
        raise ClusterError(
            f"missing from this machine: {', '.join(missing)}. On Debian: apt-get install --no-install-recommends "
            f"{' '.join(missing)}. Where that starts a containerd of the machine's own, end it again: "
            "systemctl disable --now containerd"
        )
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists() and not Path("/sys/fs/cgroup/memory").exists():
        raise ClusterError("there are no control groups under /sys/fs/cgroup")
    disk = next(one for one in (layout.run, *layout.run.parents) if one.exists())
    if shutil.disk_usage(disk).free < 5 << 30:
        raise ClusterError(f"the test cluster needs 5 GB of free disk in {disk}")

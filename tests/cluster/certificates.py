"""Makes the cluster's certificates and its kubeconfigs, with kubeadm's own phases."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.cluster.layout import API_PORT, CONTROL, DNS, PODS, SERVICES, ClusterError, Layout, Node

_KIND = "kubeadm.k8s.io/v1beta4"


def write(layout: Layout, kubeadm: Path, version: str, nodes: tuple[Node, ...]) -> None:
    """Write certificates, and a kubeconfig for the administrator, each control program and each node."""
    config = layout.run / "kubeadm.yaml"
    cluster = {
        "apiVersion": _KIND,
        "kind": "ClusterConfiguration",
        "kubernetesVersion": version,
        "clusterName": "ropewalk-test",
        "certificatesDir": str(layout.pki),
        "encryptionAlgorithm": "ECDSA-P256",
        "controlPlaneEndpoint": f"{CONTROL}:{API_PORT}",
        "apiServer": {"certSANs": ["127.0.0.1", "localhost", CONTROL]},
        "networking": {"serviceSubnet": SERVICES, "podSubnet": PODS, "dnsDomain": "cluster.local"},
    }
    local = {
        "apiVersion": _KIND,
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": CONTROL, "bindPort": API_PORT},
        "nodeRegistration": {"name": "control", "criSocket": "unix:///run/none.sock"},
    }
    config.write_text(yaml.safe_dump_all([cluster, local]))
    _run(kubeadm, "init", "phase", "certs", "all", "--config", config)
    folder = layout.folder("kubeconfigs")
    for name, user, group in (
        ("admin", "kubernetes-admin", "system:masters"),
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("kube-proxy", "system:kube-proxy", ""),
        *((one.name, f"system:node:{one.name}", "system:nodes") for one in nodes),
    ):
        groups = ["--org", group] if group else []
        text = _run(kubeadm, "kubeconfig", "user", "--client-name", user, *groups, "--config", config)
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)


def outside(layout: Layout, port: int) -> None:
    """Write the administrator's kubeconfig for this machine, which reaches the API server through a door."""
    text = (layout.run / "kubeconfigs" / "admin").read_text()
    layout.kubeconfig.touch(mode=0o600)
    layout.kubeconfig.write_text(text.replace(f"https://{CONTROL}:{API_PORT}", f"https://127.0.0.1:{port}"))


def kubelet(node: Node, layout: Layout) -> dict[str, object]:
    """Return what a kubelet's configuration says of who may ask it, and of names."""
    return {
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "address": node.address,
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
    }


def _run(kubeadm: Path, *words: str | Path) -> str:
    done = subprocess.run([kubeadm, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"kubeadm {' '.join(map(str, words))} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout

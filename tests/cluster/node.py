"""Starts the nodes: containerd, a kubelet and kube-proxy for each, in the node's own network namespace.

The second node presents itself as another architecture by an admission policy over its status, as no kubelet can be
told to; and with accelerators by a patch of that status, which is how a cluster's administrator advertises a resource.
Both are fixtures: its programs are this machine's, and the accelerators are numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import certificates
from tests.cluster.builder import Builder
from tests.cluster.inside import Inside
from tests.cluster.kube import Kube
from tests.cluster.layout import CONTROL, PODS, REGISTRY, REGISTRY_PORT, Node, lost_after, machine

PLUGINS = "/usr/lib/cni"
_CRI = "io.containerd.grpc.v1.cri"
_UNUSED = (
    *(f"io.containerd.snapshotter.v1.{one}" for one in ("aufs", "btrfs", "devmapper", "zfs")),
    "io.containerd.internal.v1.opt",  # it would make /opt/containerd
)


def start(inside: Inside, builder: Builder, node: Node) -> None:
    """Start the programs of one node."""
    folder = inside.layout.folder(node.name)
    _pod_network(folder, node)
    socket = _containerd(inside, folder, node)
    _kubelet(inside, builder, folder, node, socket)
    _proxy(inside, builder, folder, node)


def _containerd(inside: Inside, folder: Path, node: Node) -> Path:
    mirror = folder / "registries" / "_default"
    mirror.mkdir(parents=True, exist_ok=True)
    own = f"http://{CONTROL}:{REGISTRY_PORT}"
    (mirror / "hosts.toml").write_text(f'server = "{own}"\n\n[host."{own}"]\n  capabilities = ["pull", "resolve"]\n')
    socket = folder / "containerd.sock"
    config = folder / "containerd.toml"
    config.write_text(
        f"""version = 2
root = "{folder}/containerd"
state = "/run/{node.name}/containerd"
oom_score = 0
disabled_plugins = [{", ".join(f'"{one}"' for one in _UNUSED)}]

[grpc]
  address = "{socket}"
[plugins."{_CRI}"]
  sandbox_image = "{REGISTRY}/pause:1"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  stream_server_address = "{node.address}"
  [plugins."{_CRI}".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."{_CRI}".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{folder}/pod-network"
  [plugins."{_CRI}".registry]
    config_path = "{folder}/registries"
"""
    )
    inside.start(f"{node.name}-containerd", ["containerd", "--config", config], node.name)
    return socket


def _pod_network(folder: Path, node: Node) -> None:
    """Give each pod a wire of its own to the node: what passes between any two pods is routed, and can be filtered."""
    configs = folder / "pod-network"
    configs.mkdir(exist_ok=True)
    ranges = [[{"subnet": node.pods}]]
    plugin = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "dataDir": str(folder / "addresses"),
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    text = {"cniVersion": "0.4.0", "name": node.name, "plugins": [plugin]}
    (configs / "10-wires.conflist").write_text(json.dumps(text, indent=2))


def _kubelet(inside: Inside, builder: Builder, folder: Path, node: Node, socket: Path) -> None:
    layout = inside.layout
    resolve = layout.run / "resolv.conf"
    resolve.write_text("options ndots:1\n")  # a pod that asks for its node's names finds none
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        **certificates.kubelet(node, layout),
        "containerRuntimeEndpoint": f"unix://{socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "resolvConf": str(resolve),
        "podLogsDir": str(layout.folder(node.name, "pod-logs")),
        "volumePluginDir": str(layout.folder(node.name, "volume-plugins")),
        "healthzBindAddress": "127.0.0.1",
        "oomScoreAdj": 0,
        "maxPods": 200,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": lost_after() or 40,
        "runtimeRequestTimeout": "1m",
    }
    path = folder / "kubelet.yaml"
    path.write_text(yaml.safe_dump(config))
    inside.start(
        f"{node.name}-kubelet",
        [
            builder.binary("kubelet"),
            f"--config={path}",
            f"--kubeconfig={layout.run / 'kubeconfigs' / node.name}",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={folder / 'kubelet-pki'}",
        ],
        node.name,
    )


def _proxy(inside: Inside, builder: Builder, folder: Path, node: Node) -> None:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "hostnameOverride": node.name,
        "bindAddress": node.address,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(inside.layout.run / "kubeconfigs" / "kube-proxy")},
        "conntrack": {
            "maxPerCore": 0,  # these are the whole machine's
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nftables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
    }
    path = folder / "kube-proxy.yaml"
    path.write_text(yaml.safe_dump(config))
    inside.start(f"{node.name}-kube-proxy", [builder.binary("kube-proxy"), f"--config={path}"], node.name)


def disguise(kube: Kube, node: Node) -> None:
    """Have the API server write another architecture into what this node's kubelet says; before the kubelet starts."""
    if node.arch == machine():
        return
    name = f"presents-{node.name}"
    labels = [f"/metadata/labels/{domain}kubernetes.io~1arch" for domain in ("", "beta.")]
    patches = ", ".join(f'JSONPatch{{op: "add", path: "{one}", value: "{node.arch}"}}' for one in labels)
    status = f'JSONPatch{{op: "replace", path: "/status/nodeInfo/architecture", value: "{node.arch}"}}'
    rules = [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [one]}
        for one in ("nodes", "nodes/status")
    ]
    kube.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": rules},
                "matchConditions": [{"name": "it", "expression": f"object.metadata.name == '{node.name}'"}],
                "mutations": [
                    {
                        "patchType": "JSONPatch",
                        "jsonPatch": {
                            "expression": f"has(object.metadata.labels) ? [{patches}, {status}] : [{status}]"
                        },
                    }
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        },
    )


def equip(kube: Kube, node: Node) -> None:
    """Advertise the accelerators that this node claims to have."""
    if node.accelerators:
        capacity = {name: str(count) for name, count in node.accelerators.items()}
        kube.patch(f"/api/v1/nodes/{node.name}/status", {"status": {"capacity": capacity}})


def ready(kube: Kube, node: Node) -> str:
    """Return what is not yet as it must be on this node, or nothing."""
    found = kube.get(f"/api/v1/nodes/{node.name}")
    if found is None:
        return "it has not joined"
    conditions = {one["type"]: one for one in found["status"].get("conditions", [])}
    if conditions.get("Ready", {}).get("status") != "True":
        return str(conditions.get("Ready", {}).get("message", "it is not ready"))
    labels, allocatable = found["metadata"].get("labels", {}), found["status"].get("allocatable", {})
    if labels.get("kubernetes.io/arch") != node.arch:
        return f"it presents itself as {labels.get('kubernetes.io/arch')}, not {node.arch}"
    short = {name for name, count in node.accelerators.items() if allocatable.get(name) != str(count)}
    return f"it does not show {', '.join(sorted(short))}" if short else ""

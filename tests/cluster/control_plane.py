"""Starts etcd, the API server, the controllers and the scheduler."""

from __future__ import annotations

import json

from tests.cluster.builder import Builder
from tests.cluster.inside import Inside
from tests.cluster.layout import API_PORT, CONTROL, PODS, SERVICES, Layout, lost_after

_ETCD = "http://127.0.0.1:2379"


def start_etcd(inside: Inside, builder: Builder) -> None:
    """Start etcd on the control plane's own loopback, where no pod and no node can reach it."""
    data = inside.layout.folder("etcd")
    data.chmod(0o700)
    inside.start(
        "etcd",
        [
            builder.binary("etcd"),
            f"--data-dir={data}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",  # its data does not outlive this cluster
            "--log-level=warn",
        ],
    )


def start_api_server(inside: Inside, builder: Builder) -> None:
    """Start the API server."""
    pki, layout, seconds = inside.layout.pki, inside.layout, lost_after()
    inside.start(
        "kube-apiserver",
        [
            builder.binary("kube-apiserver"),
            f"--etcd-servers={_ETCD}",
            f"--advertise-address={CONTROL}",
            f"--bind-address={CONTROL}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
            f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-aggregator-routing=true",  # webhooks are called at their pods: no kube-proxy runs here
            "--allow-privileged=true",
            "--profiling=false",
            f"--audit-log-path={layout.logs / 'audit.log'}",
            f"--audit-policy-file={_audit(layout)}",
            *(f"--default-{one}-toleration-seconds={seconds}" for one in ("not-ready", "unreachable") if seconds),
        ],
    )


def start_rest(inside: Inside, builder: Builder) -> None:
    """Start the controllers and the scheduler."""
    pki, configs = inside.layout.pki, inside.layout.run / "kubeconfigs"
    inside.start(
        "kube-controller-manager",
        [
            builder.binary("kube-controller-manager"),
            *_client(configs / "controller-manager"),
            "--use-service-account-credentials=true",
            f"--cluster-cidr={PODS}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            *([f"--node-monitor-grace-period={lost_after()}s"] if lost_after() else []),
        ],
    )
    inside.start("kube-scheduler", [builder.binary("kube-scheduler"), *_client(configs / "scheduler")])


def _client(kubeconfig: object) -> list[str]:
    shared = [
        f"--{one}={kubeconfig}" for one in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    ]
    return [*shared, "--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false"]


def _audit(layout: Layout) -> str:
    """Write the audit policy: who changed what, without bodies and without the cluster's own chatter."""
    path = layout.run / "audit-policy.json"
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "verbs": ["get", "list", "watch"], "userGroups": ["system:nodes"]},
            {"level": "None", "users": ["system:apiserver"]},
            {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {"level": "Metadata"},
        ],
    }
    path.write_text(json.dumps(policy))
    return str(path)

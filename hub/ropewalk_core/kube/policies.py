"""Policies: who a tenant's pods may speak to, and who may speak to them. Pure rendering.

Everything is denied both ways; each further policy opens one thing and says which: names, the namespace itself, the
platform's programs, the world outside without private networks and the API server, which only a step's reporter and a
notebook with a token may reach. Never ``namespaceSelector: {}``. A network plugin that does not enforce policies
ignores all of this in silence, which only a probe shows.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from ropewalk_core.errors import BadInput
from ropewalk_core.kube.kinds import NETWORK_POLICY, Object
from ropewalk_core.settings import Cluster, Settings

NOTEBOOK_PORT, HUB_PORT, OBJECTS_PORT = 8888, 8081, 7070
KNATIVE_PORTS = (8012, 8013, 9090)  # its proxy beside a function: both protocols, and figures for the autoscaler
_SPACE = "kubernetes.io/metadata.name"
_PART = "app.kubernetes.io/component"
_STEP = {"matchExpressions": [{"key": "workflows.argoproj.io/workflow", "operator": "Exists"}]}
_NOTEBOOK = {"matchLabels": {"ropewalk.dev/kind": "notebook"}}  # a label that no chart, function or step can have


def policies(settings: Settings) -> list[Object]:
    """Return the network policies of every tenant, without a namespace."""
    cluster, door = settings.cluster, settings.door
    opened = [
        _policy("default-deny", types=["Egress", "Ingress"]),
        _policy("allow-names", egress=[{"to": [_names(cluster)], "ports": _ports(53, udp=True)}]),
        _policy(
            "allow-own-namespace",
            egress=[{"to": [{"podSelector": {}}]}],
            ingress=[{"from": [{"podSelector": {}}]}],
        ),
        _policy(
            "allow-from-platform",
            ingress=[
                {"from": [_platform(cluster, "platform")]},  # its pod holds the gateway
                {"from": [_platform(cluster, "hub", "proxy")], "ports": _ports(NOTEBOOK_PORT)},
                *_from_gateways(cluster),
            ],
        ),
        _policy(
            "allow-to-platform",
            egress=[
                {"to": [_platform(cluster, "hub")], "ports": _ports(HUB_PORT)},
                {"to": [_platform(cluster, "platform", "proxy")], "ports": _ports(door.port)},
                {"to": [_platform(cluster, "platform")], "ports": _ports(door.people_port)},
                {"to": [_platform(cluster, "objects")], "ports": _ports(OBJECTS_PORT)},
            ],
        ),
        _policy("allow-world", egress=[{"to": _world(cluster)}]),
    ]
    if cluster.api_server:
        those = {"allow-step-reports": _STEP} | ({"allow-notebook-token": _NOTEBOOK} if cluster.notebook_token else {})
        for name, pods in those.items():
            opened.append(_policy(name, egress=[_to_api_server(one) for one in cluster.api_server], pods=pods))
    return [one for one in opened if one["spec"].get("egress") != [{"to": []}]]


def _policy(
    name: str,
    *,
    egress: list[Object] | None = None,
    ingress: list[Object] | None = None,
    types: list[str] | None = None,
    pods: Object | None = None,
) -> Object:
    named = types or [word for word, rules in (("Egress", egress), ("Ingress", ingress)) if rules is not None]
    spec: Object = {"podSelector": pods or {}, "policyTypes": named}
    spec |= {"egress": egress} if egress is not None else {}
    spec |= {"ingress": ingress} if ingress is not None else {}
    return NETWORK_POLICY.of({"metadata": {"name": name}, "spec": spec})


def _ports(*numbers: int, udp: bool = False) -> list[Object]:
    protocols = ["TCP", "UDP"] if udp else ["TCP"]
    return [{"protocol": one, "port": number} for number in numbers for one in protocols]


def _platform(cluster: Cluster, *parts: str) -> Object:
    """Return the pods of the platform that are one of these parts."""
    return {
        "namespaceSelector": {"matchLabels": {_SPACE: cluster.namespace}},
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/name": "ropewalk"},
            "matchExpressions": [{"key": _PART, "operator": "In", "values": list(parts)}],
        },
    }


def _names(cluster: Cluster) -> Object:
    space, _, label = cluster.dns.partition("/")
    key, _, value = label.partition("=")
    if not (space and key and value):
        raise BadInput(
            f"{cluster.dns!r} does not say where names are looked up.",
            field="cluster.dns",
            hint="Write for example 'kube-system/k8s-app=kube-dns'.",
        )
    return {
        "namespaceSelector": {"matchLabels": {_SPACE: space}},
        "podSelector": {"matchLabels": {key: value}},
    }


def _from_gateways(cluster: Cluster) -> list[Object]:
    if not cluster.gateways:
        return []
    chosen = {"matchExpressions": [{"key": _SPACE, "operator": "In", "values": sorted(cluster.gateways)}]}
    return [{"from": [{"namespaceSelector": chosen}], "ports": _ports(*KNATIVE_PORTS)}]


def _world(cluster: Cluster) -> list[Object]:
    """Return the world without private networks and the API server; nothing when they are all of it."""
    private = [_network(one, "cluster.private") for one in cluster.private]
    for network in (_address(one)[0] for one in cluster.api_server):
        if not any(network.version == one.version and network.subnet_of(one) for one in private):
            private.append(network)
    blocks: list[Object] = []
    for whole in (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")):
        kept = [str(one) for one in private if one.version == whole.version]
        if str(whole) not in kept:
            blocks.append({"ipBlock": {"cidr": str(whole)} | ({"except": kept} if kept else {})})
    return blocks


def _to_api_server(address: str) -> Object:
    network, port = _address(address)
    return {"to": [{"ipBlock": {"cidr": str(network)}}], "ports": _ports(port)}


def _address(text: str) -> tuple[Any, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise BadInput(f"{text!r} is no address with a port.", field="cluster.api_server")
    return _network(host.strip("[]"), "cluster.api_server"), int(port)


def _network(text: str, setting: str) -> Any:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is no network: {error}.", field=setting) from error

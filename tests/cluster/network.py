"""Lays the cluster's wires: one network namespace for each node, one wire between them and the control plane.

None has a default route, so nothing that runs there can leave the machine. Service addresses are led to an interface
with nothing behind it: kube-proxy rewrites them before they get there, and what names no service ends there.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.cluster.builder import Builder
from tests.cluster.inside import Inside
from tests.cluster.layout import CONTROL, METADATA, SERVICES, Node


def lay(inside: Inside, nodes: Iterable[Node]) -> None:
    """Make the namespaces, wires, addresses and routes."""
    nodes = tuple(nodes)
    inside.run("sh", "-euc", "\n".join(["mkdir -p /run/netns", *_control(nodes)]))
    for node in nodes:
        inside.run("sh", "-euc", "\n".join(_node(node, nodes)), network=node.name)


def haunt(inside: Inside, builder: Builder) -> None:
    """Have a listener stand on the address where clouds keep their keys, for attacks to find or not to find."""
    inside.start("metadata", [builder.binary("probe"), "-at", METADATA, "-ask", "80"])


def _control(nodes: tuple[Node, ...]) -> Iterable[str]:
    yield from _quiet()
    yield "ip link add wire type bridge"
    yield f"ip address add {CONTROL}/24 dev wire"
    yield f"ip address add {METADATA}/32 dev wire"
    yield "ip link set wire up"
    for node in nodes:
        yield f"ip netns add {node.name}"
        yield f"ip link add {node.name} type veth peer name eth0 netns {node.name}"
        yield f"ip link set {node.name} master wire up"
        yield f"ip -n {node.name} address add {node.address}/24 dev eth0"
        yield f"ip -n {node.name} link set eth0 up"
        yield f"ip route add {node.pods} via {node.address}"
    yield f"ip route add {SERVICES} via {nodes[0].address}"


def _node(node: Node, nodes: tuple[Node, ...]) -> Iterable[str]:
    yield from _quiet()
    for other in nodes:
        if other != node:
            yield f"ip route add {other.pods} via {other.address}"
    yield f"ip route add {METADATA} via {CONTROL}"
    yield "ip link add services type bridge"
    yield "ip link set services up"
    yield f"ip route add {SERVICES} dev services src {node.address}"


def _quiet() -> Iterable[str]:
    yield "ip link set lo up"
    for name in ("all", "default"):
        yield f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6 2>/dev/null || true"
        yield f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter"
    yield "echo 1 > /proc/sys/net/ipv4/ip_forward"

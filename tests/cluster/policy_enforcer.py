"""A fixture: enforces network policies with nftables on both nodes, as no kept engine runs on these machines.

Runs inside the cluster as ``python -m tests.cluster.policy_enforcer RUN``. Every pod has a wire of its own to its
node, so whatever enters or leaves one is forwarded there and meets these rules after services were resolved to pods.
Each node gets the same rules. It fails closed: a pod whose address it has not heard of yet reaches nobody. Connections
that exist are left alone when a policy changes, as Kubernetes leaves open. Never part of the product.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.inside import Inside
from tests.cluster.kube import Kube, Manifest
from tests.cluster.layout import PODS, ClusterError, nodes, say

TABLE = "ropewalk_policies"
PART = "policies"
_WATCHED = ("/api/v1/pods", "/api/v1/namespaces", "/apis/networking.k8s.io/v1/networkpolicies")


@dataclass(frozen=True)
class Pod:
    """What rules are made of: an address with labels and named ports."""

    namespace: str
    name: str
    address: str
    labels: Mapping[str, str]
    ports: Mapping[tuple[str, str], int]  # by protocol and name


def on(inside: Inside) -> None:
    """Enforce policies from now on."""
    inside.start(PART, [sys.executable, "-m", "tests.cluster.policy_enforcer", inside.layout.run])


def off(inside: Inside) -> None:
    """Enforce none, as on a cluster whose network plugin knows no policies."""
    if PART in inside.parts():
        inside.stop(PART, kill=True)
    for node in nodes():
        inside.run("nft", "-f", "-", network=node.name, text=f"table inet {TABLE}\ndelete table inet {TABLE}\n")


def rules(pods: Iterable[Pod], namespaces: Mapping[str, Mapping[str, str]], policies: Iterable[Manifest]) -> str:
    """Return the rules that these policies mean for these pods, as one transaction for nft."""
    there, asked = sorted(pods, key=lambda one: (one.namespace, one.name)), list(policies)
    chains, verdicts = [], {"ingress": list[str](), "egress": list[str]()}
    for pod in there:
        for direction in verdicts:
            chosen = [one for one in asked if _selects(one, pod) and direction in _directions(one)]
            if chosen:
                name = f"{direction}_{pod.address.replace('.', '_')}"
                lines = [line for one in chosen for line in _allowed(one, direction, pod, there, namespaces)]
                chains.append(_block(f"chain {name}", [*dict.fromkeys(lines), "drop"]))
                verdicts[direction].append(f"{pod.address} : jump {name}")
    known = [one.address for one in there]
    body = [
        _elements("set known", "ipv4_addr", known),
        _elements("set selves", "ipv4_addr . ipv4_addr", [f"{one} . {one}" for one in known]),
        *chains,
        *(_elements(f"map {name}", "ipv4_addr : verdict", found) for name, found in verdicts.items()),
        _block("chain forward", [*_hook("forward"), *_PASSING, "ip saddr vmap @egress", "ip daddr vmap @ingress"]),
        _block("chain input", [*_hook("input"), "ip saddr vmap @egress"]),  # to the node itself
    ]
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n" + _block(f"table inet {TABLE}", body) + "\n"


_PASSING = (
    "ip saddr . ip daddr @selves accept",
    f"ip saddr {PODS} ip saddr != @known drop",
    f"ip daddr {PODS} ip daddr != @known drop",
)


def _hook(name: str) -> tuple[str, str]:
    return f"type filter hook {name} priority 10; policy accept;", "ct state established,related accept"


def _block(head: str, lines: Iterable[str]) -> str:
    return "\n".join([f"{head} {{", *lines, "}"])


def _elements(head: str, kind: str, elements: list[str]) -> str:
    filled = [f"elements = {{ {', '.join(elements)} }};"] if elements else []
    return _block(head, [f"type {kind};", *filled])


def _directions(policy: Manifest) -> set[str]:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return {one.lower() for one in types}


def _selects(policy: Manifest, pod: Pod) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and selected(policy["spec"].get("podSelector"), pod.labels)


def selected(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects all."""
    wanted = (selector or {}).get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    return all(_expressed(one, labels) for one in (selector or {}).get("matchExpressions") or ())


def _expressed(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    name, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(name) in values
        case "NotIn":
            return labels.get(name) not in values
        case "Exists":
            return name in labels
        case _:
            return name not in labels


def _allowed(
    policy: Manifest, direction: str, pod: Pod, pods: list[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield what a policy lets pass in one direction; passing is to return to the chain that called."""
    side, key = ("saddr", "from") if direction == "ingress" else ("daddr", "to")
    for rule in policy["spec"].get(direction) or ():
        peers = rule.get(key) or ()
        found = [one for peer in peers for one in pods if _is_peer(peer, one, pod.namespace, namespaces)]
        places = list(_blocks(peers, side))
        if found:
            places.append(_addresses(side, found))
        if not peers:
            places, found = [""], pods
        for wanted in rule.get("ports") or [None]:
            for place in places:
                yield from _ports(wanted, place, side, [pod] if direction == "ingress" else found)


def _is_peer(peer: Manifest, other: Pod, home: str, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        near = other.namespace in namespaces and selected(peer["namespaceSelector"], namespaces[other.namespace])
    else:
        near = other.namespace == home
    return near and selected(peer.get("podSelector"), other.labels)


def _addresses(side: str, pods: Iterable[Pod]) -> str:
    return f"ip {side} {{ {', '.join(sorted({one.address for one in pods}))} }}"


def _blocks(peers: Iterable[Manifest], side: str) -> Iterator[str]:
    for block in (one["ipBlock"] for one in peers if "ipBlock" in one):
        if ":" not in block["cidr"]:
            outside = [one for one in block.get("except") or () if ":" not in one]
            yield f"ip {side} {block['cidr']}" + (f" ip {side} != {{ {', '.join(outside)} }}" if outside else "")


def _ports(wanted: Mapping[str, Any] | None, place: str, side: str, receivers: list[Pod]) -> Iterator[str]:
    """Yield one rule for a place and a port; a named port is looked up in the pods that receive."""
    if wanted is None:
        yield f"{place} return"
        return
    protocol, port = wanted.get("protocol", "TCP"), wanted.get("port")
    kind = f"meta l4proto {protocol.lower()}"
    if port is None:
        yield f"{place} {kind} return"
    elif isinstance(port, int):
        yield f"{place} {kind} th dport {port}-{wanted.get('endPort', port)} return"
    else:
        by_number: dict[int, list[Pod]] = {}
        for one in receivers:
            if (protocol, port) in one.ports:
                by_number.setdefault(one.ports[protocol, port], []).append(one)
        for number, holders in by_number.items():
            here = place if side == "saddr" else _addresses(side, holders)
            yield f"{here} {kind} th dport {number} return"


def pod_of(manifest: Manifest) -> Pod | None:
    """Return a pod that has an address of its own and still uses it."""
    status, spec, metadata = manifest.get("status", {}), manifest["spec"], manifest["metadata"]
    if spec.get("hostNetwork") or not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    ports = {
        (port.get("protocol", "TCP"), port["name"]): int(port["containerPort"])
        for container in [*spec["containers"], *(spec.get("initContainers") or ())]
        for port in container.get("ports") or ()
        if "name" in port
    }
    return Pod(metadata["namespace"], metadata["name"], status["podIP"], metadata.get("labels") or {}, ports)


class Mirror(threading.Thread):
    """The objects of one list, kept as the API server has them."""

    def __init__(self, kube: Kube, path: str, changed: threading.Event) -> None:
        super().__init__(daemon=True)
        self.kube, self.path, self.changed = kube, path, changed
        self.objects: dict[str, Manifest] | None = None

    def run(self) -> None:
        """List, then follow; begin again when that ends."""
        while True:
            try:
                self._follow()
            except (httpx.HTTPError, ClusterError, ValueError) as error:
                say(f"{self.path}: following again: {error}")
                time.sleep(0.5)

    def _follow(self) -> None:
        listed = self.kube.get(self.path) or {}
        self.objects = {one["metadata"]["uid"]: one for one in listed["items"]}
        self.changed.set()
        for event in self.kube.watch(self.path, listed["metadata"]["resourceVersion"]):
            if event["type"] == "ERROR":
                return
            if event["type"] == "BOOKMARK":
                continue
            one = event["object"]
            objects = {uid: kept for uid, kept in self.objects.items() if uid != one["metadata"]["uid"]}
            self.objects = objects if event["type"] == "DELETED" else objects | {one["metadata"]["uid"]: one}
            self.changed.set()


def apply(text: str) -> None:
    """Give the rules to every node, whole or not at all."""
    for node in nodes():
        argv = ["nsenter", f"--net=/run/netns/{node.name}", "nft", "-f", "-"]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"nft on {node.name}: {done.stderr.strip()[-2000:]}")


def main() -> None:
    """Enforce until ended."""
    kube = Kube(Path(sys.argv[1]) / "kubeconfigs" / "admin")
    changed, last = threading.Event(), ""
    pods, namespaces, policies = (Mirror(kube, path, changed) for path in _WATCHED)
    for one in (pods, namespaces, policies):
        one.start()
    while True:
        changed.wait()
        changed.clear()
        if pods.objects is None or namespaces.objects is None or policies.objects is None:
            continue
        labels = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in namespaces.objects.values()}
        there = filter(None, map(pod_of, pods.objects.values()))
        text = rules(there, labels, policies.objects.values())
        if text != last:
            try:
                apply(text)
                last = text
            except ClusterError as error:
                say(str(error))


if __name__ == "__main__":
    main()

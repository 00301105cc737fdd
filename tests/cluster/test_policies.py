"""The policy enforcer, a fixture, does what Kubernetes' own tests list (k8s.io/kubernetes, test/e2e/network/netpol).

As there: three namespaces of three pods, each answering on two ports. Every case is a policy and the truth table it
must give; without the enforcer everyone reaches everyone, which is what makes the refusals say something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster import policy_enforcer
from tests.cluster.inside import Inside
from tests.cluster.kube import Kube, Manifest
from tests.cluster.layout import CONTROL, METADATA, nodes
from tests.cluster.scene import PROBE, Scene, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(120)]

SPACES, PODS = ("x", "y", "z"), ("a", "b", "c")
Who = tuple[str, str]  # namespace, pod
Truth = dict[tuple[Who, Who, str], bool]
Rule = Callable[[Who, Who, str], bool]


@dataclass
class Model:
    """Nine probing pods in three namespaces."""

    scene: Scene
    spaces: dict[str, str]
    pods: dict[Who, Manifest] = field(default_factory=dict)

    def truth(self, ports: tuple[str, ...]) -> Truth:
        """Return who reaches whom on which port."""
        targets = {f"{port.replace('/', f'/{self.address(to)}:')}": (to, port) for to in self.pods for port in ports}
        with ThreadPoolExecutor(len(self.pods)) as asking:
            said = list(asking.map(lambda source: self.scene.reach(self.pods[source], targets), self.pods))
        return {
            (source, to, port): bool(answers[target])
            for source, answers in zip(self.pods, said, strict=True)
            for target, (to, port) in targets.items()
        }

    def address(self, who: Who) -> str:
        """Return a pod's address."""
        return str(self.pods[who]["status"]["podIP"])

    def apply(self, space: str, name: str = "policy", **spec: Any) -> None:
        """Bring a policy into one of the namespaces."""
        selector = spec.pop("podSelector", {})
        place = {"name": name, "namespace": self.spaces[space]}
        body = {"podSelector": selector, **spec}
        kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        self.scene.kube.apply({**kind, "metadata": place, "spec": body})

    def label(self, path: str, labels: dict[str, str | None]) -> None:
        """Change labels."""
        self.scene.kube.patch(path, {"metadata": {"labels": labels}})

    def path(self, who: Who) -> str:
        """Return where a pod lives."""
        return f"/api/v1/namespaces/{self.spaces[who[0]]}/pods/{who[1]}"

    def expect(self, rule: Rule, *ports: str) -> None:
        """Wait until exactly those whom the rule lets reach each other do; a pod always reaches itself."""

        def check() -> None:
            found = self.truth(ports or ("tcp/80",))
            assert [one for one in found if found[one] != (one[0] == one[1] or rule(*one))] == []

        eventually(check)


def anyone(source: Who, to: Who, port: str) -> bool:
    return True


@pytest.fixture(scope="module")
def model(inside: Inside, kube: Kube) -> Iterator[Model]:
    """Return the nine pods, spread over both nodes."""
    scene = Scene(inside, kube)
    spaces = {one: scene.space(f"policies-{one}", ns=one) for one in SPACES}
    made = Model(scene, spaces)
    ports = [
        {"name": f"serve-{port}-{kind}", "containerPort": port, "protocol": kind.upper()}
        for port in (80, 81)
        for kind in ("tcp", "udp")
    ]
    args = ["-listen", "tcp/80,tcp/81,udp/80,udp/81", "-ask", "8079"]
    for number, (space, pod) in enumerate((space, pod) for space in SPACES for pod in PODS):
        node = {"kubernetes.io/hostname": nodes()[number % 2].name}
        scene.pod(
            pod,
            image=PROBE,
            namespace=spaces[space],
            labels={"pod": pod},
            nodeSelector=node,
            container={"args": args, "ports": ports},
        )
    made.pods = {(space, pod): scene.ready(made.path((space, pod))) for space in SPACES for pod in PODS}
    policy_enforcer.off(inside)
    made.expect(anyone, "tcp/80", "udp/81")
    yield made
    policy_enforcer.off(inside)
    for name in spaces.values():
        kube.delete(f"/api/v1/namespaces/{name}")
    scene.close()


@pytest.fixture
def policies(model: Model, inside: Inside) -> Iterator[Model]:
    """Return the pods with the enforcer on; policies are removed after the test."""
    policy_enforcer.on(inside)
    model.expect(anyone)
    yield model
    for name in model.spaces.values():
        model.scene.kube.delete(f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies")


def pods(**labels: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


def spaces(**labels: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": labels}}


def within(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def ingress(*peers: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"from": list(peers)} if peers else {}
    return {"policyTypes": ["Ingress"], "ingress": [rule | ({"ports": ports} if ports else {})]}


def egress(*peers: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": list(peers)} if peers else {}
    return {"policyTypes": ["Egress"], "egress": [rule | ({"ports": ports} if ports else {})]}


XA: Who = ("x", "a")


def into(target: Callable[[Who], bool], allowed: Rule) -> Rule:
    """Return the truth where only what is allowed comes into the targets, and all else passes."""
    return lambda source, to, port: allowed(source, to, port) if target(to) else True


def out_of(origin: Callable[[Who], bool], allowed: Rule) -> Rule:
    """Return the truth where only what is allowed leaves the origins."""
    return lambda source, to, port: allowed(source, to, port) if origin(source) else True


def in_x(who: Who) -> bool:
    return who[0] == "x"


def is_xa(who: Who) -> bool:
    return who == XA


# Each: the policies (namespace, spec) and the truth they must give.
CASES: dict[str, tuple[list[tuple[str, dict[str, Any]]], Rule]] = {
    "default-deny-ingress": (
        [("x", {"policyTypes": ["Ingress"], "ingress": []})],
        into(in_x, lambda source, to, port: False),
    ),
    "default-deny-all": (
        [("x", {"policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []})],
        lambda source, to, port: not in_x(source) and not in_x(to),
    ),
    "allow from pods of the namespace by label": (
        [("x", {**pods(pod="a"), **ingress(pods(pod="b"))})],
        into(is_xa, lambda source, to, port: source == ("x", "b")),
    ),
    "allow ingress for a target": (
        [("x", {**pods(pod="a"), **ingress(spaces())}), ("x", {"policyTypes": ["Ingress"], "ingress": []})],
        into(in_x, lambda source, to, port: is_xa(to)),
    ),
    "allow from all namespaces": (
        [("x", ingress({"namespaceSelector": {}}))],
        anyone,
    ),
    "allow only from another namespace": (
        [("x", {**pods(pod="a"), **ingress(spaces(ns="y"))})],
        into(is_xa, lambda source, to, port: source[0] == "y"),
    ),
    "pod expressions": (
        [("x", {**pods(pod="a"), **ingress({"podSelector": within("pod", "In", "b", "c")})})],
        into(is_xa, lambda source, to, port: source[0] == "x"),
    ),
    "namespace expressions": (
        [("x", {**pods(pod="a"), **ingress({"namespaceSelector": within("ns", "NotIn", "x", "z")})})],
        into(is_xa, lambda source, to, port: source[0] == "y"),
    ),
    "pod or namespace": (
        [("x", {**pods(pod="a"), **ingress({"namespaceSelector": within("ns", "NotIn", "x")}, pods(pod="b"))})],
        into(is_xa, lambda source, to, port: source[0] != "x" or source[1] == "b"),
    ),
    "pod and namespace": (
        [("x", {**pods(pod="a"), **ingress({"namespaceSelector": within("ns", "NotIn", "x"), **pods(pod="b")})})],
        into(is_xa, lambda source, to, port: source[0] != "x" and source[1] == "b"),
    ),
    "several pods and namespaces": (
        [
            (
                "x",
                {
                    **pods(pod="a"),
                    **ingress(
                        {
                            "namespaceSelector": within("ns", "NotIn", "x"),
                            "podSelector": within("pod", "In", "b", "c"),
                        }
                    ),
                },
            )
        ],
        into(is_xa, lambda source, to, port: source[0] != "x" and source[1] != "a"),
    ),
    "any pods": (
        [("x", {"podSelector": within("pod", "In", "a", "b"), **ingress(pods(pod="c"))})],
        into(lambda to: in_x(to) and to[1] != "c", lambda source, to, port: source == ("x", "c")),
    ),
    "one pod of another namespace": (
        [("x", {**pods(pod="a"), **ingress({**spaces(ns="y"), **pods(pod="a")})})],
        into(is_xa, lambda source, to, port: source == ("y", "a")),
    ),
    "ports": (
        [("x", {**pods(pod="a"), **ingress(spaces(ns="y"), ports=[{"port": 81}])})],
        into(is_xa, lambda source, to, port: source[0] == "y" and port == "tcp/81"),
    ),
    "a range of ports": (
        [("x", {**pods(pod="a"), **ingress(ports=[{"port": 70, "endPort": 80}])})],
        into(is_xa, lambda source, to, port: port == "tcp/80"),
    ),
    "stacked policies": (
        [
            ("x", {**pods(pod="a"), **ingress(spaces(ns="y"), ports=[{"port": 80}])}),
            ("x", {**pods(pod="a"), **ingress(spaces(ns="y"), ports=[{"port": 81}])}),
        ],
        into(is_xa, lambda source, to, port: source[0] == "y" and port.startswith("tcp")),
    ),
    "allow all": ([("x", ingress())], anyone),
    "a named port": (
        [("x", {**pods(pod="a"), **ingress(ports=[{"port": "serve-80-tcp"}])})],
        into(is_xa, lambda source, to, port: port == "tcp/80"),
    ),
    "a named port from a namespace": (
        [("x", {**pods(pod="a"), **ingress(spaces(ns="y"), ports=[{"port": "serve-80-tcp"}])})],
        into(is_xa, lambda source, to, port: port == "tcp/80" and source[0] == "y"),
    ),
    "egress to a named port": (
        [("x", {**pods(pod="a"), **egress(ports=[{"port": "serve-80-tcp"}])})],
        out_of(is_xa, lambda source, to, port: port == "tcp/80"),
    ),
    "egress to pods by label": (
        [("x", {**pods(pod="a"), **egress(pods(pod="b"))})],
        out_of(is_xa, lambda source, to, port: to == ("x", "b")),
    ),
    "no egress from a namespace": (
        [("x", {"policyTypes": ["Egress"], "egress": []})],
        out_of(in_x, lambda source, to, port: False),
    ),
    "ingress and egress together": (
        [
            (
                "x",
                {
                    **pods(pod="a"),
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"ports": [{"port": "serve-80-tcp"}]}],
                    "egress": [{"ports": [{"port": "serve-81-tcp"}]}],
                },
            )
        ],
        lambda source, to, port: not (is_xa(to) and port != "tcp/80") and not (is_xa(source) and port != "tcp/81"),
    ),
    "egress denied though the server allows": (
        [
            ("x", {**pods(pod="a"), **egress(pods(pod="b"))}),
            ("y", {**pods(pod="a"), **ingress(spaces(ns="x"))}),
        ],
        lambda source, to, port: (not is_xa(source) or to == ("x", "b")) and (to != ("y", "a") or in_x(source)),
    ),
    "egress to a pod of another namespace": (
        [("x", {**pods(pod="a"), **egress({**spaces(ns="y"), **pods(pod="a")})})],
        out_of(is_xa, lambda source, to, port: to == ("y", "a")),
    ),
    "any port of a protocol": (
        [("x", {**pods(pod="a"), **ingress(ports=[{"protocol": "TCP"}])})],
        into(is_xa, lambda source, to, port: port.startswith("tcp")),
    ),
    "allow-all ingress wins": (
        [("x", {**pods(pod="a"), **ingress(pods(pod="b"))}), ("x", {**pods(pod="a"), **ingress()})],
        anyone,
    ),
    "allow-all egress wins": (
        [("x", {**pods(pod="a"), **egress(pods(pod="b"))}), ("x", {**pods(pod="a"), **egress()})],
        anyone,
    ),
    "controlled independently": (
        [
            ("x", {**pods(pod="a"), **ingress(pods(pod="b"))}),
            ("x", {**pods(pod="a"), **egress(pods(pod="b"))}),
        ],
        lambda source, to, port: (not is_xa(to) or source == ("x", "b")) and (not is_xa(source) or to == ("x", "b")),
    ),
    "SCTP is not TCP": (
        [("x", {**pods(pod="a"), **ingress(ports=[{"port": 80, "protocol": "SCTP"}])})],
        into(is_xa, lambda source, to, port: False),
    ),
    "UDP is not TCP": (
        [("x", {**pods(pod="a"), **ingress(ports=[{"port": 81, "protocol": "UDP"}])})],
        into(is_xa, lambda source, to, port: port == "udp/81"),
    ),
    "no ingress over UDP either": (
        [("x", {"policyTypes": ["Ingress"], "ingress": []})],
        into(in_x, lambda source, to, port: False),
    ),
}
PORTS = ("tcp/80", "tcp/81", "udp/81")


@pytest.mark.parametrize("name", CASES)
def test_a_policy_gives_the_truth_that_kubernetes_expects(policies: Model, name: str) -> None:
    asked, rule = CASES[name]
    for number, (space, spec) in enumerate(asked):
        policies.apply(space, f"policy-{number}", **spec)
    policies.expect(rule, *PORTS)


def test_the_default_label_of_a_namespace_is_enough(policies: Model) -> None:
    name = policies.spaces["y"]
    policies.apply("x", **pods(pod="a"), **ingress(spaces(**{"kubernetes.io/metadata.name": name})))
    policies.expect(into(is_xa, lambda source, to, port: source[0] == "y"))


def test_policies_are_followed_as_they_change_and_end(policies: Model) -> None:
    policies.apply("x", **pods(pod="a"), **ingress(ports=[{"port": 81}]))
    policies.expect(into(is_xa, lambda source, to, port: False))
    policies.apply("x", **pods(pod="a"), **ingress(ports=[{"port": 80}]))
    policies.expect(anyone)
    policies.apply("x", **pods(pod="a"), policyTypes=["Ingress"], ingress=[])
    policies.expect(into(is_xa, lambda source, to, port: False))
    policies.scene.kube.delete(f"/apis/networking.k8s.io/v1/namespaces/{policies.spaces['x']}/networkpolicies/policy")
    policies.expect(anyone)


def test_labels_of_namespaces_and_pods_are_followed(policies: Model) -> None:
    space = f"/api/v1/namespaces/{policies.spaces['y']}"
    policies.apply("x", "of-space", **pods(pod="a"), **ingress(spaces(ns="chosen")))
    policies.expect(into(is_xa, lambda source, to, port: False))
    policies.label(space, {"ns": "chosen"})
    policies.expect(into(is_xa, lambda source, to, port: source[0] == "y"))
    policies.label(space, {"ns": "y"})
    policies.apply("x", "of-space", **pods(pod="chosen"), policyTypes=["Ingress"], ingress=[])
    policies.expect(anyone)
    policies.label(policies.path(XA), {"pod": "chosen"})
    policies.expect(into(is_xa, lambda source, to, port: False))
    policies.label(policies.path(XA), {"pod": "a"})
    policies.expect(anyone)


def test_blocks_of_addresses_and_their_exceptions(policies: Model) -> None:
    near, far = policies.address(("y", "a")), policies.address(("y", "b"))
    own = {"ipBlock": {"cidr": f"{near}/32"}}
    policies.apply("x", **pods(pod="a"), **egress(own))
    policies.expect(out_of(is_xa, lambda source, to, port: to == ("y", "a")))
    all_but = {"ipBlock": {"cidr": "10.244.0.0/16", "except": [f"{far}/32"]}}
    policies.apply("x", **pods(pod="a"), **egress(all_but))
    policies.expect(out_of(is_xa, lambda source, to, port: to != ("y", "b")))
    policies.apply("x", "second", **pods(pod="a"), **egress({"ipBlock": {"cidr": f"{far}/32"}}))
    policies.expect(anyone)


def test_a_closed_namespace_reaches_neither_machine_nor_metadata(policies: Model) -> None:
    pod = policies.pods[XA]
    targets = [f"http/{METADATA}:80", *(f"tcp/{one.address}:10250" for one in nodes()), f"tcp/{CONTROL}:6443"]
    metadata = targets[0]
    assert "hello" in policies.scene.reach(pod, targets)[metadata]
    policies.apply("x", policyTypes=["Egress"], egress=[])
    eventually(lambda: _assert(policies.scene.reach(pod, targets)[metadata] == ""))


def _assert(holds: bool) -> None:
    assert holds

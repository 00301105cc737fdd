"""Nodes: what a cluster has, in the words of ``placement``, from its node, runtime class and pod objects. Pure.

An accelerator is a resource of a device plugin; where the plugin labels its nodes with a product, the product gives
the name (``nvidia-h100``), as on a single machine. A taint keeps a node for what it names: an architecture, an
accelerator, or a label that settings let people ask for; a node with any other taint is nobody's. Not here: pod specs
(``kube/placement.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ropewalk_core.errors import BadInput
from ropewalk_core.kube.kinds import Object
from ropewalk_core.kube.quantities import parse
from ropewalk_core.names import accelerator_name
from ropewalk_core.placement import Inventory, Node, parse_size
from ropewalk_core.settings import Cluster

ARCH = "kubernetes.io/arch"
_OF_THE_MOMENT = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")  # taints that come and go by themselves
_PRODUCTS = (".product", ".product-name")
_OF_KUBERNETES = ("kubernetes.io", "k8s.io")


@dataclass(frozen=True)
class Device:
    """What an accelerator's name stands for: a resource, and the label that tells models of one resource apart."""

    resource: str
    label: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """What exists: nodes in our words, what each accelerator is, and the labels whose taints people may pass."""

    inventory: Inventory = field(default_factory=Inventory)
    devices: Mapping[str, Device] = field(default_factory=dict)
    askable: frozenset[str] = frozenset()


def survey(nodes: Iterable[Object], classes: Iterable[Object], cluster: Cluster) -> Site:
    """Return what the cluster has when it is empty, with the node pools that settings name.

    Parameters
    ----------
    nodes, classes
        ``Node`` and ``RuntimeClass`` objects.
    cluster
        Names of accelerators, labels that may be asked for, and pools that could bring nodes.
    """
    nodes, classes = list(nodes), list(classes)
    devices = _devices(nodes, cluster)
    askable = frozenset(cluster.tolerated)
    found = [one for node in nodes if (one := _node(node, classes, devices, askable)) is not None]
    pools = [_pool(name, text) for name, text in sorted(cluster.pools.items())]
    return Site(Inventory(nodes=(*found, *pools)), devices, askable)


def free(site: Site, nodes: Iterable[Object], pods: Iterable[Object]) -> Inventory:
    """Return what is free now: the nodes that take work, less what the pods on them have asked for."""
    used: dict[str, dict[str, Fraction]] = {}
    for pod in pods:
        name = (pod.get("spec") or {}).get("nodeName")
        if name and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            total = used.setdefault(name, {})
            for resource, amount in asked_by(pod).items():
                total[resource] = total.get(resource, Fraction(0)) + amount
    takes = {_name(one) for one in nodes if _takes_work(one)}
    left = [_less(one, used.get(one.name, {}), site.devices) for one in site.inventory.nodes if one.name in takes]
    return Inventory(nodes=tuple(left))


def asked_by(pod: Object) -> dict[str, Fraction]:
    """Return what a pod has asked for, as the scheduler counts it: containers and sidecars, or the largest start."""
    spec = pod.get("spec") or {}
    running = [_requests(one) for one in spec.get("containers") or ()]
    total: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for one in spec.get("initContainers") or ():
        asked = _requests(one)
        if one.get("restartPolicy") == "Always":
            running.append(asked)
            _add(total, asked)
            asked = {}
        for name in {*asked, *total}:
            peak[name] = max(peak.get(name, Fraction(0)), asked.get(name, Fraction(0)) + total.get(name, Fraction(0)))
    whole: dict[str, Fraction] = {}
    for asked in running:
        _add(whole, asked)
    for name, amount in peak.items():
        whole[name] = max(whole.get(name, Fraction(0)), amount)
    _add(whole, {name: parse(one) for name, one in (spec.get("overhead") or {}).items()})
    return whole


def _add(total: dict[str, Fraction], more: Mapping[str, Fraction]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Fraction(0)) + amount


def _requests(container: Object) -> dict[str, Fraction]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse(one) for name, one in asked.items()}


def _node(node: Object, classes: list[Object], devices: Mapping[str, Device], askable: frozenset[str]) -> Node | None:
    labels = _labels(node)
    room = (node.get("status") or {}).get("allocatable") or {}
    there = {name: int(parse(room[one.resource])) for name, one in devices.items() if _has(node, one)}
    reserved = _reserved(node, devices, askable)
    if reserved is None:
        return None
    return Node(
        name=_name(node),
        arch=labels.get(ARCH, ""),
        cpu=float(parse(room.get("cpu", 0))),
        memory=int(parse(room.get("memory", 0))),
        scratch=int(parse(room.get("ephemeral-storage", 0))),
        accelerators=there,
        labels=labels,
        isolations=tuple(sorted(_name(one) for one in classes if _runs_on(one, labels))),
        reserved=reserved,
    )


def _reserved(node: Object, devices: Mapping[str, Device], askable: frozenset[str]) -> tuple[str, ...] | None:
    """Return what the node's taints keep it for, or None if that is nothing that anybody can ask for."""
    kept = []
    for one in (node.get("spec") or {}).get("taints") or ():
        key, value = str(one.get("key")), str(one.get("value") or "")
        if one.get("effect") == "PreferNoSchedule" or key.startswith(_OF_THE_MOMENT):
            continue
        same = sorted(name for name, device in devices.items() if device.resource == key and _has(node, device))
        if key == ARCH and value == _labels(node).get(ARCH):
            kept.append(f"arch:{value}")
        elif same:
            kept.append(f"accelerator:{','.join(same)}")
        elif key in askable and _labels(node).get(key) == value:
            kept.append(f"labels:{key}={value}")
        else:
            return None
    return tuple(kept)


def _devices(nodes: list[Object], cluster: Cluster) -> dict[str, Device]:
    found = {name: _named(name, text) for name, text in cluster.accelerators.items()}
    for node in nodes:
        labels, room = _labels(node), (node.get("status") or {}).get("allocatable") or {}
        for resource in sorted(room):
            domain, slash, kind = resource.partition("/")
            if not slash or domain.endswith(_OF_KUBERNETES) or parse(room[resource]) < 1:
                continue
            if any(one.resource == resource and _has(node, one) for one in found.values()):
                continue
            vendor = domain.split(".")[0]
            label = next((f"{resource}{one}" for one in _PRODUCTS if labels.get(f"{resource}{one}")), "")
            name = accelerator_name(labels[label] if label else kind, vendor)
            known = found.get(name)
            values = (*(known.values if known else ()), labels[label]) if label else ()
            found[name] = Device(resource, label, tuple(sorted(set(values))))
    return found


def _named(name: str, text: str) -> Device:
    """Return what a line of settings says: ``resource`` or ``resource,label=value``."""
    resource, _, rest = text.partition(",")
    label, _, value = rest.partition("=")
    if "/" not in resource or (rest and not (label and value)):
        raise BadInput(
            f"The accelerator {name!r} is {text!r}, which names no resource.",
            field=f"cluster.accelerators.{name}",
            hint="Write for example 'nvidia.com/gpu' or 'nvidia.com/gpu,nvidia.com/gpu.product=NVIDIA-H100'.",
        )
    return Device(resource.strip(), label.strip(), (value.strip(),) if value else ())


def _pool(name: str, text: str) -> Node:
    """Return the node that a pool could bring: ``arch=arm64,cpu=16,memory=64Gi,nvidia-h100=8``."""
    values = dict(part.strip().partition("=")[::2] for part in text.split(",") if part.strip())
    try:
        return Node(
            name=name,
            arch=values.pop("arch"),
            cpu=float(values.pop("cpu")),
            memory=parse_size(values.pop("memory")),
            scratch=parse_size(values.pop("scratch", 0)),
            accelerators={one: int(count) for one, count in values.items() if "/" not in one},
            labels={one: value for one, value in values.items() if "/" in one},
        )
    except (KeyError, ValueError) as error:
        raise BadInput(
            f"The node pool {name!r} cannot be read: {error}.",
            field=f"cluster.pools.{name}",
            hint="Write for example 'arch=arm64,cpu=16,memory=64Gi,nvidia-h100=8'.",
        ) from error


def _less(node: Node, used: Mapping[str, Fraction], devices: Mapping[str, Device]) -> Node:
    def left(resource: str, whole: float) -> Fraction:
        return max(Fraction(0), Fraction(whole).limit_denominator(10**6) - used.get(resource, Fraction(0)))

    there = {name: int(left(devices[name].resource, count)) for name, count in node.accelerators.items()}
    return node.model_copy(
        update={
            "cpu": float(left("cpu", node.cpu)),
            "memory": int(left("memory", node.memory)),
            "scratch": max(1, int(left("ephemeral-storage", node.scratch))) if node.scratch else 0,
            "accelerators": there,
        }
    )


def _takes_work(node: Object) -> bool:
    spec = node.get("spec") or {}
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    gone = any(
        str(one.get("key")).startswith(_OF_THE_MOMENT) and one.get("effect") != "PreferNoSchedule"
        for one in spec.get("taints") or ()
    )
    return ready and not gone and not spec.get("unschedulable")


def _runs_on(runtime_class: Object, labels: Mapping[str, str]) -> bool:
    wanted = (runtime_class.get("scheduling") or {}).get("nodeSelector") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _has(node: Object, device: Device) -> bool:
    room: Mapping[str, Any] = (node.get("status") or {}).get("allocatable") or {}
    if device.resource not in room or parse(room[device.resource]) < 1:
        return False
    return not device.label or _labels(node).get(device.label) in device.values


def _labels(one: Object) -> dict[str, str]:
    return dict((one.get("metadata") or {}).get("labels") or {})


def _name(one: Object) -> str:
    return str((one.get("metadata") or {}).get("name") or "")

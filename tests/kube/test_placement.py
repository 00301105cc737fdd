"""One placement, the same part of a pod everywhere; and what the nodes are, in its words."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadInput, Unavailable, Unsatisfiable
from ropewalk_core.kube.census import site_of, written
from ropewalk_core.kube.nodes import Device, asked_by, free, survey
from ropewalk_core.kube.placement import Fragment, busy, place
from ropewalk_core.kube.quantities import cores, equal, parse
from ropewalk_core.placement import Inventory, Placement, fit
from ropewalk_core.settings import Cluster

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
SITE_KEY = "site.json.gz"
PRODUCT = "nvidia.com/gpu.product"


def node(name: str, arch: str = "amd64", *, taints: list[Object] | None = None, **more: Any) -> Object:
    room = {"cpu": "3920m", "memory": "16252928Ki", "ephemeral-storage": "100Gi", "pods": "110"} | more.get("room", {})
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/arch": arch, **more.get("labels", {})}},
        "spec": {"taints": taints or [], "unschedulable": more.get("cordoned", False)},
        "status": {
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True" if more.get("ready", True) else "Unknown"}],
        },
    }


def taint(key: str, value: str = "", effect: str = "NoSchedule") -> Object:
    return {"key": key, "value": value, "effect": effect}


H100 = {"room": {GPU: "8"}, "labels": {PRODUCT: "NVIDIA-H100-80GB-HBM3"}}
NODES = [
    node("plain"),
    node("arm", "arm64", taints=[taint("kubernetes.io/arch", "arm64")]),
    node("gpu", taints=[taint(GPU, "present")], **H100),
    node("npu", room={"vendor.example.test/npu": "2"}),
    node("blue", labels={"pool": "blue"}, taints=[taint("pool", "blue")]),
    node("control", taints=[taint("node-role.kubernetes.io/control-plane")]),
]
KATA = {"metadata": {"name": "kata"}, "handler": "kata", "scheduling": {"nodeSelector": {"pool": "blue"}}}
SITE = survey(NODES, [KATA], Cluster(tolerated=("pool",)))


def test_nodes_in_the_words_of_a_placement() -> None:
    assert [one.describe() for one in SITE.inventory.nodes] == [
        "plain: arch amd64, 3.92 cores, 15.5 GiB of memory, no accelerator",
        "arm: arch arm64, 3.92 cores, 15.5 GiB of memory, no accelerator, kept for arch:arm64",
        "gpu: arch amd64, 3.92 cores, 15.5 GiB of memory, 8 x nvidia-h100, kept for accelerator:nvidia-h100",
        "npu: arch amd64, 3.92 cores, 15.5 GiB of memory, 2 x vendor-npu",
        "blue: arch amd64, 3.92 cores, 15.5 GiB of memory, no accelerator, kept for labels:pool=blue",
    ]
    assert SITE.devices == {
        "nvidia-h100": Device(GPU, PRODUCT, ("NVIDIA-H100-80GB-HBM3",)),
        "vendor-npu": Device("vendor.example.test/npu"),
    }
    assert {one.name: one.isolations for one in SITE.inventory.nodes if one.isolations} == {"blue": ("kata",)}


def test_the_fragment_of_everything_at_once() -> None:
    placement = Placement(
        arch=("amd64", "arm64"),
        accelerator=("npu", "nvidia-h100", "cpu"),
        cpu=1.5,
        memory="2Gi",
        scratch="10Gi",
        labels={PRODUCT: "NVIDIA-H100-80GB-HBM3"},
    )
    weights = [
        {
            "weight": weight,
            "preference": {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": [arch]}]},
        }
        for weight, arch in ((100, "amd64"), (60, "arm64"))
    ]
    required = [
        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]},
        {"key": PRODUCT, "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3"]},
    ]
    resources = {"cpu": "1500m", "memory": "2Gi", "ephemeral-storage": "10Gi", GPU: "1"}
    fragment = place(placement, SITE)
    assert fragment.pod == {
        "nodeSelector": {PRODUCT: "NVIDIA-H100-80GB-HBM3"},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": required}]
                },
                "preferredDuringSchedulingIgnoredDuringExecution": weights,
            }
        },
        "tolerations": [
            {"key": "kubernetes.io/arch", "operator": "Equal", "value": "amd64"},
            {"key": "kubernetes.io/arch", "operator": "Equal", "value": "arm64"},
            {"key": GPU, "operator": "Exists"},
        ],
    }
    assert fragment.resources == {"requests": resources, "limits": resources}
    spec = {"containers": [{"name": "main", "image": "x"}, {"name": "other"}], "serviceAccountName": "work"}
    assert fragment.onto(spec, container="main") == {
        **spec,
        **fragment.pod,
        "containers": [{"name": "main", "image": "x", "resources": fragment.resources}, {"name": "other"}],
    }


def test_one_architecture_a_label_and_an_isolation() -> None:
    placement = Placement(arch="amd64", labels={"pool": "blue"}, isolation="kata")
    assert place(placement, SITE).pod == {
        "nodeSelector": {"kubernetes.io/arch": "amd64", "pool": "blue"},
        "tolerations": [
            {"key": "kubernetes.io/arch", "operator": "Equal", "value": "amd64"},
            {"key": "pool", "operator": "Equal", "value": "blue"},
        ],
        "runtimeClassName": "kata",
    }
    assert place(Placement(), SITE) == Fragment()


@pytest.mark.parametrize(
    ("placement", "field", "words"),
    [
        (
            Placement(arch="riscv64"),
            "placement.arch",
            "No machine here can give arch riscv64. There is plain: arch amd64",
        ),
        (Placement(accelerator="nvidia-a100"), "placement.accelerator", "accelerator nvidia-a100"),
        (Placement(memory="64Gi"), "placement.memory", "64Gi of memory"),
        (Placement(isolation="gvisor"), "placement.isolation", "isolation gvisor"),
        (Placement(labels={"pool": "green"}), "placement.labels", "label pool=green"),
        (Placement(labels={"node-role.kubernetes.io/control-plane": ""}), "placement.labels", "control-plane="),
    ],
)
def test_what_no_node_can_ever_give_is_refused_at_once(placement: Placement, field: str, words: str) -> None:
    with pytest.raises(Unsatisfiable) as found:
        place(placement, SITE)
    assert words in found.value.message


def test_a_pool_that_has_no_node_now_counts() -> None:
    pools = {"big": "arch=riscv64,cpu=64,memory=256Gi,nvidia-h100=8,example.test/rack=3"}
    named = {"nvidia-h100": f"{GPU},{PRODUCT}=NVIDIA-H100-80GB-HBM3"}
    site = survey(NODES[:1], [], Cluster(pools=pools, accelerators=named))
    fragment = place(Placement(arch="riscv64", accelerator="nvidia-h100", labels={"example.test/rack": "3"}), site)
    assert fragment.resources["limits"] == {GPU: "1"}
    unnamed = survey(NODES[:1], [], Cluster(pools=pools))
    with pytest.raises(Unsatisfiable, match="Nobody has said what the accelerator 'nvidia-h100'"):
        place(Placement(accelerator="nvidia-h100"), unnamed)


def test_what_there_is_is_read_back_from_what_was_published() -> None:
    cluster = Cluster(prefix="other", namespace="place")
    told = written(SITE, cluster)
    assert (told["metadata"]["namespace"], told["metadata"]["name"]) == ("place", "other-site")
    assert site_of(told) == SITE and written(SITE, cluster) == told


@given(
    st.dictionaries(st.sampled_from(["binaryData", "data"]), st.none() | st.dictionaries(st.just(SITE_KEY), st.text()))
)
def test_what_cannot_be_read_is_not_known_yet(body: Object) -> None:
    with pytest.raises(Unavailable):
        site_of(body)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (Cluster(pools={"big": "cpu=1"}), "cluster.pools.big"),
        (Cluster(pools={"big": "arch=arm64,cpu=x,memory=1Gi"}), "cluster.pools.big"),
        (Cluster(accelerators={"x": "gpu"}), "cluster.accelerators.x"),
        (Cluster(accelerators={"x": "a/gpu,label"}), "cluster.accelerators.x"),
    ],
)
def test_settings_that_cannot_be_read_are_named(settings: Cluster, field: str) -> None:
    with pytest.raises(BadInput) as found:
        survey(NODES, [], settings)
    assert found.value.field == field


def pod(where: str, *containers: Object, init: tuple[Object, ...] = (), phase: str = "Running") -> Object:
    return {
        "spec": {"nodeName": where, "containers": list(containers), "initContainers": list(init)},
        "status": {"phase": phase},
    }


def asks(**resources: str) -> Object:
    return {"resources": {"requests": {name.replace("_", "-"): one for name, one in resources.items()}}}


def test_what_exists_and_is_busy_waits_and_says_so() -> None:
    gpus = [pod("gpu", {"resources": {"limits": {GPU: "1"}}}) for _ in range(8)]
    placement = Placement(accelerator="nvidia-h100")
    assert busy("The notebook", placement, free(SITE, NODES, gpus[:7])) is None
    told = busy("The notebook", placement, free(SITE, NODES, gpus))
    assert told is not None
    assert told.cause == "The notebook waits for a machine with accelerator nvidia-h100 to be free."
    gpus[0]["status"]["phase"] = "Succeeded"
    assert busy("The notebook", placement, free(SITE, NODES, gpus)) is None


def test_nodes_that_take_no_work_have_nothing_free() -> None:
    nodes = [
        node("cordoned", cordoned=True),
        node("lost", ready=False),
        node("full", taints=[taint("node.kubernetes.io/disk-pressure")]),
        node("fine"),
    ]
    site = survey(nodes, [], Cluster())
    assert len(site.inventory.nodes) == 4
    assert [one.name for one in free(site, nodes, []).nodes] == ["fine"]


def test_a_pod_counts_as_the_scheduler_counts_it() -> None:
    one = pod(
        "x", asks(cpu="500m"), asks(cpu="1"), init=(asks(cpu="2"), {**asks(cpu="250m"), "restartPolicy": "Always"})
    )
    assert asked_by(one) == {"cpu": Fraction(2)}
    one["spec"]["overhead"] = {"cpu": "250m"}
    one["spec"]["initContainers"].reverse()
    assert asked_by(one) == {"cpu": Fraction("2.5")}


@given(st.integers(0, 10**9), st.sampled_from(["", "m", "k", "Ki", "Mi", "Gi", "e3"]))
def test_quantities_are_exact(number: int, suffix: str) -> None:
    amount = parse(f"{number}{suffix}")
    assert amount == parse(f"{number}.0{suffix}") and equal(f"{number}{suffix}", f"0{number}{suffix}")
    assert equal("1Gi", "1024Mi") and equal("0.5", "500m") and not equal("1G", "1Gi") and not equal("x", "1")
    assert [cores(one) for one in (2.0, 0.5, 0.0001, 1.25)] == ["2", "500m", "1m", "1250m"]


# The same question asked of a scheduler: a small one, by Kubernetes' own rules, over the rendered pod and raw nodes.


def accepts(fragment: Fragment, one: Object, classes: list[Object]) -> bool:
    labels, room = one["metadata"]["labels"], one["status"]["allocatable"]
    wanted = list(fragment.selector.items())
    if fragment.runtime_class:
        known = {each["metadata"]["name"]: each for each in classes}
        if fragment.runtime_class not in known:
            return False
        wanted += known[fragment.runtime_class].get("scheduling", {}).get("nodeSelector", {}).items()
    if any(labels.get(key) != value for key, value in wanted):
        return False
    affinity = fragment.affinity.get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if affinity and not any(
        all(labels.get(each["key"]) in each["values"] for each in term["matchExpressions"])
        for term in affinity["nodeSelectorTerms"]
    ):
        return False
    for each in one["spec"]["taints"]:
        if each["effect"] != "PreferNoSchedule" and not any(tolerates(known, each) for known in fragment.tolerations):
            return False
    asked = fragment.resources.get("requests", {})
    return all(parse(amount) <= parse(room.get(name, "0")) for name, amount in asked.items())


def tolerates(toleration: Object, one: Object) -> bool:
    same = toleration["key"] == one["key"]
    return same and (toleration["operator"] == "Exists" or toleration["value"] == one["value"])


def labelled(arch: str, pool: str, product: str) -> dict[str, str]:
    return {"kubernetes.io/arch": arch} | ({"pool": pool} if pool else {}) | ({PRODUCT: product} if product else {})


@st.composite
def any_node(draw: st.DrawFn, number: int) -> Object:
    arch = draw(st.sampled_from(["amd64", "arm64"]))
    pool = draw(st.sampled_from(["", "blue", "green"]))
    gpus = draw(st.integers(0, 2))
    product = draw(st.sampled_from(["", "NVIDIA-H100-NVL", "NVIDIA-A100-PCIE"])) if gpus else ""
    kept = [taint("kubernetes.io/arch", arch), taint(GPU), taint("pool", pool), taint("dedicated", "x")]
    kept.append(taint("gone", "", "PreferNoSchedule"))
    taints = [one for one in kept if draw(st.booleans()) and draw(st.booleans())]
    room = {"cpu": draw(st.sampled_from(["1", "4"])), "memory": draw(st.sampled_from(["2Gi", "8Gi"])), GPU: str(gpus)}
    one = node(f"n{number}", arch, taints=taints, room=room)
    one["metadata"]["labels"] = labelled(arch, pool, product)
    return one


@st.composite
def any_placement(draw: st.DrawFn) -> Placement:
    names = ["nvidia-h100", "nvidia-a100", "nvidia-gpu"]
    return Placement(
        arch=draw(st.lists(st.sampled_from(["amd64", "arm64", "riscv64"]), max_size=2).map(tuple)),
        accelerator=draw(st.none() | st.sampled_from(names)) or (),
        cpu=draw(st.none() | st.sampled_from([0.5, 2.0, 8.0])),
        memory=draw(st.none() | st.sampled_from(["1Gi", "4Gi"])),
        labels=draw(st.sampled_from([{}, {"pool": "blue"}, {"pool": "green"}, {"other": "x"}])),
        isolation=draw(st.none() | st.sampled_from(["kata", "gvisor"])),
    )


@given(st.integers(0, 4).flatmap(lambda n: st.tuples(*(any_node(one) for one in range(n)))), any_placement())
def test_what_we_say_fits_is_what_a_scheduler_takes(nodes: tuple[Object, ...], placement: Placement) -> None:
    site = survey(nodes, [KATA], Cluster(tolerated=("pool",)))
    try:
        fragment = place(placement, site)
    except Unsatisfiable:
        device = site.devices.get(placement.accelerator[0]) if placement.accelerator else None
        if placement.accelerator and device is None:
            return
        # Rendered all the same, as if a node could: no node takes it.
        everything = survey([*nodes, *extra(placement, site.devices)], EASY, Cluster(tolerated=("pool",)))
        fragment = place(placement, everything)
        assert not any(accepts(fragment, one, [KATA]) for one in nodes)
        return
    chosen = fit(placement, site.inventory)
    raw = next(one for one in nodes if one["metadata"]["name"] == chosen.node.name)
    assert accepts(fragment, raw, [KATA])
    if not placement.accelerator:  # with one, a node of another model of the same resource may come first
        first = next(one for one in nodes if accepts(fragment, one, [KATA]))
        assert first is raw
    assert isinstance(free(site, nodes, []), Inventory)


EASY = [{"metadata": {"name": one}, "handler": one} for one in ("kata", "gvisor")]  # on every node


def extra(placement: Placement, devices: Any) -> list[Object]:
    """Return a node that satisfies everything, under whose eyes a refused placement can be rendered."""
    labels = {"pool": "blue", **placement.labels}
    room = {"cpu": "64", "memory": "64Gi"}
    if placement.accelerator:
        device = devices[placement.accelerator[0]]
        labels |= {device.label: device.values[0]} if device.label else {}
        room |= {device.resource: "1"}
    one = node("extra", placement.arch[0] if placement.arch else "amd64", room=room)
    one["metadata"]["labels"] |= labels
    return [one]

"""The cluster is a real one: pods, names, services, volumes, pulls, placement, and no way out."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest

from tests.cluster.inside import Inside
from tests.cluster.kube import Kube, wait
from tests.cluster.layout import CONTROL, METADATA, REGISTRY, REGISTRY_PORT, Layout, machine, nodes
from tests.cluster.scene import PROBE, Scene, eventually, kubectl, service

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(180)]


@pytest.mark.parametrize("node", [one.name for one in nodes()])
def test_a_pod_runs_to_its_end_on_each_node(scene: Scene, node: str) -> None:
    path = scene.pod("hello", "sh", "-c", "echo hello from $(hostname)", nodeSelector={"kubernetes.io/hostname": node})
    assert scene.said(path) == "hello from hello\n"
    assert (scene.kube.get(path) or {})["spec"]["nodeName"] == node


def test_the_second_node_presents_what_it_was_told_to(kube: Kube, scene: Scene) -> None:
    second = nodes()[1]
    found = kube.get(f"/api/v1/nodes/{second.name}") or {}
    assert found["metadata"]["labels"]["kubernetes.io/arch"] == second.arch != machine()
    assert found["status"]["nodeInfo"]["architecture"] == second.arch
    accelerator, count = next(iter(second.accelerators.items()))
    wanted = {"resources": {"limits": {accelerator: str(count)}}}
    path = scene.pod("all", "sleep", "1000", container=wanted)
    assert scene.until(path, "Running")["spec"]["nodeName"] == second.name
    more = scene.pod("more", "true", container={"resources": {"limits": {accelerator: "1"}}})
    assert f"Insufficient {accelerator}" in scene.events(more, "Insufficient")
    kube.delete(path)
    assert scene.said(more) == ""


def test_a_pod_that_no_node_suits_says_so(scene: Scene) -> None:
    path = scene.pod("nowhere", "true", nodeSelector={"kubernetes.io/arch": "riscv64"})
    assert "didn't match" in scene.events(path, "0/2 nodes are available")


def test_names_are_known_and_what_is_outside_is_not(scene: Scene) -> None:
    names = ("kubernetes.default.svc.cluster.local", REGISTRY.partition(":")[0], "example.com")
    script = "; ".join(f"nslookup {one} >/dev/null 2>&1 && echo {one}" for one in names)
    assert scene.said(scene.pod("names", "sh", "-c", f"{script}; true")).split() == list(names[:2])


def test_a_service_leads_to_its_pods_from_both_nodes(scene: Scene) -> None:
    path = scene.pod("server", image=PROBE, labels={"app": "server"}, container={"args": ["-listen", "tcp/80"]})
    scene.ready(path)
    scene.kube.apply(service("server", scene.namespace, {"app": "server"}, 80))
    target = f"tcp/server.{scene.namespace}.svc.cluster.local:80"
    for node in nodes():
        ask = scene.pod(
            f"ask-{node.name}",
            image=PROBE,
            nodeSelector={"kubernetes.io/hostname": node.name},
            container={"args": ["-ask", "8079"]},
        )
        pod = scene.ready(ask)
        eventually(lambda pod=pod: _assert(scene.reach(pod, [target]) == {target: "server"}))  # type: ignore[misc]


def test_an_image_that_does_not_exist_cannot_be_pulled(scene: Scene) -> None:
    for name, image in (("own", f"{REGISTRY}/nothing:1"), ("public", "docker.io/library/nothing:1")):
        path = scene.pod(name, "true", image=image)
        assert "ErrImagePull" in scene.complaint(path) or "ImagePullBackOff" in scene.complaint(path)
        assert "not found" in scene.events(path, "Failed to pull")


def test_a_public_name_is_pulled_from_the_registry_of_the_cluster(scene: Scene) -> None:
    assert scene.said(scene.pod("public", "echo", "here", image="busybox:1")) == "here\n"


def test_an_image_of_another_architecture_does_not_run(scene: Scene) -> None:
    single = scene.pod("single", image=f"{REGISTRY}/elsewhere:1")
    several = scene.pod("several", image=f"{REGISTRY}/elsewhere-only:1")
    assert scene.until(single, "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] != 0
    assert "exec format error" in scene.kube.text(f"{single}/log")
    assert "no match for platform" in scene.events(several, "Failed to pull")


def test_both_nodes_see_the_same_folder(scene: Scene) -> None:
    shared: dict[str, Any] = {
        "container": {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True},
        **scene.claim("both"),
    }
    first, second = ({"kubernetes.io/hostname": one.name} for one in nodes())
    write = "echo from the first > /data/one; until [ -e /data/two ]; do sleep 0.1; done; cat /data/two"
    read = "until [ -e /data/one ]; do sleep 0.1; done; cat /data/one; echo from the second > /data/two"
    one = scene.pod("one", "sh", "-c", write, nodeSelector=first, **shared)
    two = scene.pod("two", "sh", "-c", read, nodeSelector=second, **shared)
    assert scene.said(two) == "from the first\n"
    assert scene.said(one) == "from the second\n"


def test_a_volume_goes_with_its_claim(scene: Scene, at: Layout) -> None:
    scene.claim("short")
    path = f"/api/v1/namespaces/{scene.namespace}/persistentvolumeclaims/short"
    folder = at.volumes / f"pvc-{(scene.kube.get(path) or {})['metadata']['uid']}"
    assert folder.is_dir()
    scene.kube.delete(path)
    wait("the volume", lambda: "it is still there" if folder.exists() else "", 60)


def test_nothing_leads_out(scene: Scene, inside: Inside) -> None:
    for network in ("", *(one.name for one in nodes())):
        routes = inside.run("ip", "-4", "route", "show", "table", "all", network=network)
        assert "default" not in routes
        assert inside.run("ip", "-6", "route", "show", "default", network=network) == ""
    said = scene.pod("out", "sh", "-c", "nc -w 2 192.0.2.1 80 </dev/null && echo out; echo done")
    assert "out\n" not in scene.said(said)
    links = json.loads(inside.run("ip", "-j", "link", network="node1"))
    assert {one["ifname"].rstrip("0123456789abcdef") for one in links} <= {"lo", "eth", "services", "veth", "v", "s"}


def test_a_listener_stands_on_the_metadata_address(scene: Scene) -> None:
    target = f"http/{METADATA}:80"
    said = scene.said(scene.pod("thief", image=PROBE, container={"args": ["-reach", target]}))
    assert "hello" in json.loads(said)[target]


def test_kubectl_reads_logs_and_runs_commands(scene: Scene, at: Layout) -> None:
    scene.until(scene.pod("shell", "sh", "-c", "echo started; sleep 1000"), "Running")
    place = ("-n", scene.namespace)
    eventually(lambda: _assert(kubectl(at, *place, "logs", "shell") == "started\n"))
    assert kubectl(at, *place, "exec", "shell", "--", "echo", "inside") == "inside\n"


def test_a_door_leads_where_it_was_last_told_to(inside: Inside) -> None:
    """A service that was removed and made again has another address."""
    port = inside.door(CONTROL, 1)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False)
    assert inside.door(CONTROL, REGISTRY_PORT, listen=port) == port
    assert httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).status_code == 200
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        inside.door(CONTROL, REGISTRY_PORT, listen=other.getsockname()[1])


def test_a_part_that_is_killed_comes_back_and_one_that_is_stopped_stays_away(inside: Inside, kube: Kube) -> None:
    before = inside.parts()["kube-scheduler"]
    inside.run("kill", "-9", str(before["pid"]))
    wait("the scheduler", lambda: "" if inside.parts()["kube-scheduler"]["pid"] not in (0, before["pid"]) else "gone")
    inside.stop("kube-scheduler")
    wait("the scheduler", lambda: "it runs" if inside.parts()["kube-scheduler"]["pid"] else "")
    inside.start("kube-scheduler")
    wait("the scheduler", lambda: "" if inside.parts()["kube-scheduler"]["pid"] else "it does not run")
    assert kube.ready()


def _assert(holds: bool) -> None:
    assert holds

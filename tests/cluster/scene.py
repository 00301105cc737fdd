"""What tests do with a running cluster: a namespace of their own, pods in it, and who reaches whom."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.cluster.builder import Builder
from tests.cluster.inside import Inside
from tests.cluster.kube import Kube, Manifest, wait, waiting
from tests.cluster.layout import REGISTRY, ClusterError, Layout

BUSYBOX = f"{REGISTRY}/busybox:1"
PROBE = f"{REGISTRY}/probe:1"


class Scene:
    """A namespace of one test, removed after it."""

    def __init__(self, inside: Inside, kube: Kube) -> None:
        self.inside = inside
        self.kube = kube
        self.namespace = self.space("test")

    def space(self, prefix: str, **labels: str) -> str:
        """Make a namespace."""
        name = f"{prefix}-{secrets.token_hex(3)}"
        metadata = {"name": name, "labels": labels}
        self.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait(f"the account of {name}", lambda: "" if self.kube.get(account) else "it is not there", 20)
        return name

    def close(self) -> None:
        """Remove the namespace and what is in it; the cluster does so in its own time."""
        self.kube.delete(f"/api/v1/namespaces/{self.namespace}")

    def pod(self, name: str, *command: str, image: str = BUSYBOX, namespace: str = "", **spec: Any) -> str:
        """Make a pod with one container and return its path."""
        container: dict[str, Any] = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}
        container |= spec.pop("container", {})
        if command:
            container["command"] = list(command)
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace or self.namespace, "labels": spec.pop("labels", {})},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container], **spec},
        }
        self.kube.apply(body)
        return f"/api/v1/namespaces/{namespace or self.namespace}/pods/{name}"

    def claim(self, name: str, mode: str = "ReadWriteMany") -> dict[str, Any]:
        """Claim a volume and return what a pod says to have it under the name `data`."""
        spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}
        place = {"name": name, "namespace": self.namespace}
        self.kube.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": place, "spec": spec})
        path = f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims/{name}"
        wait(f"the claim {name}", lambda: "" if self._phase(path) == "Bound" else "it is not bound", 30)
        return {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]}

    def until(self, path: str, *phases: str, seconds: float = 60) -> Manifest:
        """Wait until an object is in one of these phases and return it."""

        def problem() -> str:
            found = self.kube.get(path) or {}
            phase = found.get("status", {}).get("phase", "not there")
            return "" if phase in phases else "; ".join([f"it is {phase}", *(waiting(found) if found else ())])

        wait(path, problem, seconds)
        return self.kube.get(path) or {}

    def said(self, path: str, seconds: float = 60) -> str:
        """Wait until a pod has ended well and return what it wrote."""
        found = self.until(path, "Succeeded", "Failed", seconds=seconds)
        text = self.kube.text(f"{path}/log")
        if found["status"]["phase"] == "Failed":
            raise AssertionError(f"{path} failed: {text}")
        return text

    def ready(self, path: str, seconds: float = 60) -> Manifest:
        """Wait until every container of a pod is ready and return the pod."""

        def problem() -> str:
            found = self.kube.get(path) or {}
            conditions = {one["type"]: one["status"] for one in found.get("status", {}).get("conditions", [])}
            return "" if conditions.get("Ready") == "True" else "; ".join(["it is not ready", *waiting(found)])

        wait(path, problem, seconds)
        return self.kube.get(path) or {}

    def complaint(self, path: str, seconds: float = 60) -> str:
        """Wait until something is said of why a pod's container does not run, and return it."""
        found = ""

        def problem() -> str:
            nonlocal found
            pod = self.kube.get(path) or {}
            ended = [
                state["terminated"].get("message", "") or state["terminated"].get("reason", "")
                for one in pod.get("status", {}).get("containerStatuses", [])
                if "terminated" in (state := one.get("state", {}))
            ]
            found = "; ".join([*waiting(pod), *ended])
            return "" if found else "nothing is said of it"

        wait(path, problem, seconds)
        return found

    def events(self, path: str, part: str, seconds: float = 30) -> str:
        """Wait until an event about an object says this, and return the event's message."""
        name = path.rpartition("/")[2]
        found: list[str] = []

        def problem() -> str:
            chosen = {"fieldSelector": f"involvedObject.name={name}"}
            said = self.kube.listed(f"/api/v1/namespaces/{self.namespace}/events", **chosen)
            found[:] = [one["message"] for one in said if part in one["message"]]
            return "" if found else "events say: " + "; ".join(one["message"] for one in said)

        wait(path, problem, seconds)
        return found[-1]

    def reach(self, pod: Manifest, targets: Iterable[str]) -> dict[str, str]:
        """Ask a probing pod whom it reaches. The question comes from its own node, which every policy lets in."""
        address, node = pod["status"]["podIP"], pod["spec"]["nodeName"]
        query = "&".join(f"to={one}" for one in targets)
        ask = f"exec 3<>/dev/tcp/{address}/8079; cat >&3; cat <&3"
        text = f"GET /reach?{query} HTTP/1.0\r\nHost: probe\r\n\r\n"
        said = self.inside.run("timeout", "10", "bash", "-c", ask, network=node, text=text)
        return dict(json.loads(said.partition("\n\n")[2]))

    def _phase(self, path: str) -> str:
        return str((self.kube.get(path) or {}).get("status", {}).get("phase"))


def eventually(check: Callable[[], None], seconds: float = 20) -> None:
    """Repeat a check until it holds; when the time is over it fails as it does."""
    end = time.monotonic() + seconds
    while True:
        try:
            check()
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def kubectl(layout: Layout, *words: str, text: str = "") -> str:
    """Run kubectl on this machine and return what it says."""
    argv = [str(Builder(layout).binary("kubectl")), f"--kubeconfig={layout.kubeconfig}", *words]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def service(name: str, namespace: str, selector: Mapping[str, str], port: int) -> Manifest:
    """Return a service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": dict(selector), "ports": [{"port": port}]},
    }

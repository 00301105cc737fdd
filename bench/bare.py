"""The peers of `bench.cluster`: Knative and Argo as somebody uses them with kubectl, on the same cluster and images.

The bare function is the runner's image with a server of one line, with the resources and times of ours. The bare
workflow is the very manifest that the platform gave to Argo, under another name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.cluster.installed import Installed
from tests.cluster.kube import Kube

SPACE = "ropewalk-bench"
# It buffers what it writes: head and body in two packets would wait 40 ms for an acknowledgement that is delayed.
SERVER = (
    "import http.server as h; R = h.BaseHTTPRequestHandler; R.protocol_version = 'HTTP/1.1'; R.wbufsize = -1; "
    "R.do_POST = lambda s: (s.rfile.read(int(s.headers['Content-Length'])), s.send_response(200), "
    "s.send_header('Content-Length', '1'), s.end_headers(), s.wfile.write(b'3')); "
    "import signal; signal.signal(15, lambda *a: exit(0)); h.ThreadingHTTPServer(('', 8080), R).serve_forever()"
)
_HELD = {"cpu": "100m", "memory": "128Mi"}
_WINDOW = "6s"
_WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/{}/workflows"
Manifest = dict[str, Any]


def service(name: str, image: str) -> Manifest:
    """Return a Knative Service with one line of a server."""
    container = {
        "image": image,
        "command": ["python", "-c", SERVER],
        "ports": [{"containerPort": 8080}],
        "resources": {"requests": _HELD, "limits": {"memory": "512Mi"}},
    }
    annotations = {"autoscaling.knative.dev/window": _WINDOW, "autoscaling.knative.dev/min-scale": "0"}
    template = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [container], "containerConcurrency": 1},
    }
    metadata = {"name": name, "namespace": SPACE}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"template": template},
    }


def open_space(kube: Kube) -> None:
    """Make the namespace of the peers."""
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})


def at_zero(kube: Kube, space: str, labels: str, seconds: float = 180) -> None:
    """Wait until no pod with these labels is there, not even one that is ending."""
    until(
        lambda: not kube.listed(f"/api/v1/namespaces/{space}/pods", labelSelector=labels),
        f"no pod of {labels}",
        seconds,
    )


def workflow_again(kube: Kube, space: str, name: str) -> Manifest:
    """Return a workflow of the platform's as a manifest for kubectl: what was asked for, without what came of it."""
    found = kube.get(f"{_WORKFLOWS.format(space)}/{name}")
    if found is None:
        raise RuntimeError(f"there is no workflow {name} in {space}")
    kinds = {key: found[key] for key in ("apiVersion", "kind", "spec")}
    return kinds | {"metadata": {"generateName": "bare-", "namespace": space}}


def submit(installed: Installed, manifest: Manifest) -> str:
    """Give a manifest to Argo with kubectl and return its name."""
    file = installed.at.folder("ropewalk") / "bench.json"
    file.write_text(json.dumps(manifest))
    return installed.kubectl("create", "--filename", str(file), "--output=jsonpath={.metadata.name}").strip()


def first_step(kube: Kube, space: str, name: str) -> None:
    """Wait until the first pod of a workflow runs, or has run."""

    def runs() -> bool:
        labels = {"labelSelector": f"workflows.argoproj.io/workflow={name}"}
        pods = kube.listed(f"/api/v1/namespaces/{space}/pods", **labels)
        return any(one["status"].get("phase") in ("Running", "Succeeded") for one in pods)

    until(runs, f"the first step of {name}", 180)


def ended(kube: Kube, space: str, name: str) -> None:
    """Wait until a workflow has succeeded."""

    def over() -> bool:
        phase = (kube.get(f"{_WORKFLOWS.format(space)}/{name}") or {}).get("status", {}).get("phase", "")
        if phase in ("Failed", "Error"):
            raise RuntimeError(f"the workflow {name} ended as {phase}")
        return bool(phase == "Succeeded")

    until(over, f"the end of {name}", 600)


def until(look: Callable[[], bool], what: str, seconds: float) -> None:
    """Look again and again until something is so."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)

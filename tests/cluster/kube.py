"""Speaks to the test cluster's API server: applies manifests, reads, patches, watches. For the cluster and its tests.

It gives up when something fails: what must outlive an API server that goes away is the product's business, not this.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cluster.layout import ClusterError

Manifest = dict[str, Any]
_MANAGER = "ropewalk-test-cluster"


class Kube:
    """The API server as the holder of this kubeconfig sees it."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
            pair.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        self.http = httpx.Client(base_url=cluster["server"], verify=context, timeout=30, trust_env=False)
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    def close(self) -> None:
        """End the connections."""
        self.http.close()

    def ready(self) -> bool:
        """Whether the API server answers that it is ready."""
        try:
            return self.http.get("/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str, **query: str) -> Manifest | None:
        """Return an object or a list, or None when there is none."""
        answer = self.http.get(path, params=query)
        return None if answer.status_code == 404 else _checked(answer)

    def listed(self, path: str, **query: str) -> list[Manifest]:
        """Return the objects of a list."""
        return list((self.get(path, **query) or {"items": []})["items"])

    def text(self, path: str, **query: str) -> str:
        """Return what is no object, like a log."""
        answer = self.http.get(path, params=query)
        if answer.is_error:
            raise ClusterError(f"GET {path}: {answer.text[:500]}")
        return answer.text

    def patch(self, path: str, body: Manifest) -> Manifest:
        """Merge a patch into an object."""
        content = json.dumps(body)
        return _checked(
            self.http.patch(path, content=content, headers={"Content-Type": "application/merge-patch+json"})
        )

    def delete(self, path: str, **query: str) -> None:
        """Remove an object, or what a list names; that it is not there is as good."""
        answer = self.http.delete(path, params=query)
        if answer.status_code != 404:
            _checked(answer)

    def apply(self, *manifests: Manifest) -> None:
        """Bring objects to what these manifests say."""
        for one in manifests:
            body = json.dumps(one)
            answer = self.http.patch(
                self.path_of(one),
                content=body,
                params={"fieldManager": _MANAGER, "force": "true"},
                headers={"Content-Type": "application/apply-patch+yaml"},
            )
            _checked(answer)

    def path_of(self, manifest: Manifest) -> str:
        """Return where an object lives."""
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural, namespaced = self._kind(base, kind)
        place = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{base}{place}/{plural}/{metadata['name']}"

    def watch(self, path: str, version: str, **query: str) -> Iterator[Manifest]:
        """Yield the events of a list from a version on, until the API server ends the stream."""
        params = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", **query}
        with self.http.stream("GET", path, params=params, timeout=httpx.Timeout(30, read=None)) as answer:
            if answer.is_error:
                raise ClusterError(f"watching {path}: {answer.status_code}")
            for line in answer.iter_lines():
                yield json.loads(line)

    def _kind(self, base: str, kind: str) -> tuple[str, bool]:
        if kind not in self._kinds.get(base, {}):
            found = _checked(self.http.get(base))["resources"]
            self._kinds[base] = {
                one["kind"]: (one["name"], one["namespaced"]) for one in found if "/" not in one["name"]
            }
        if kind not in self._kinds[base]:
            raise ClusterError(f"the cluster knows no {kind} in {base}")
        return self._kinds[base][kind]


def wait(what: str, problem: Callable[[], str], seconds: float = 60, hint: Callable[[], str] = str) -> None:
    """Wait until nothing is left to say about something; when the time is over, say what it was."""
    end = time.monotonic() + seconds
    while left := _asked(problem):
        if time.monotonic() > end:
            raise ClusterError(f"{what}: {left} (after {seconds:.0f} s){hint()}")
        time.sleep(0.1)


def _asked(problem: Callable[[], str]) -> str:
    try:
        return problem()
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"


def deployed(kube: Kube, namespace: str, name: str) -> str:
    """Return why a deployment is not whole yet, or nothing."""
    found = kube.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    if found is None:
        return "there is no such deployment"
    status, wanted = found.get("status", {}), found["spec"].get("replicas", 1)
    current = status.get("observedGeneration") == found["metadata"]["generation"]
    if current and status.get("updatedReplicas") == status.get("readyReplicas") == wanted:
        return ""
    reasons = [reason for pod in kube.listed(f"/api/v1/namespaces/{namespace}/pods") for reason in waiting(pod)]
    return "; ".join(sorted(set(reasons))) or "its pods are not ready"


def established(kube: Kube, definitions: list[Manifest]) -> str:
    """Return which definitions the API server does not serve yet, or nothing."""
    short = []
    for one in definitions:
        found = kube.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{one['metadata']['name']}") or {}
        conditions = {one["type"]: one["status"] for one in found.get("status", {}).get("conditions") or ()}
        if conditions.get("Established") != "True":
            short.append(one["metadata"]["name"])
    return f"not served yet: {', '.join(short)}" if short else ""


def waiting(pod: Manifest) -> Iterator[str]:
    """Yield why the containers of a pod wait."""
    for one in pod.get("status", {}).get("containerStatuses", []):
        state = one.get("state", {}).get("waiting") or {}
        if state.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{pod['metadata']['name']}: {state['reason']}: {state.get('message', '')[:200]}"


def documents(text: str) -> list[Manifest]:
    """Return the objects of a file of manifests."""
    return [one for one in yaml.safe_load_all(text) if one]


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _checked(answer: httpx.Response) -> Manifest:
    if answer.is_error:
        try:
            message = answer.json().get("message", answer.text)
        except ValueError:
            message = answer.text
        raise ClusterError(f"{answer.request.method} {answer.request.url.path}: {answer.status_code}: {message[:800]}")
    return dict(answer.json())

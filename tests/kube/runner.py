"""Our images with this checkout's code on top: one small layer, so that tests never run yesterday's code."""

from __future__ import annotations

import hashlib
import io
import json
import py_compile
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.layout import REGISTRY, ROOT, Layout

_INDEX = "application/vnd.oci.image.index.v1+json"
_KINDS = f"application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, {_INDEX}"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_SITE = "opt/ropewalk/{}/lib/python3.11/site-packages/{}"
_CODE = {
    "hub": ("ropewalk_core", "ropewalk_hub"),
    "workflows": ("ropewalk_workflows", "ropewalk_runtime"),
    "extensions": ("ropewalk", "ropewalk_kernel", "ropewalk_devices"),
}
_ENVIRONMENTS = {"hub": ("platform",), "notebook": ("platform", "user"), "runner": ("user",)}


def runner(at: Layout) -> str:
    """Return the runner image with this checkout's runtime, as nodes know it; it is pushed unless it is there."""
    return _pushed(at, "runner", {_SITE.format("user", "ropewalk_runtime"): ROOT / "workflows" / "ropewalk_runtime"})


def fresh(at: Layout, name: str) -> str:
    """Return the image `hub`, `notebook` or `runner` with all of this checkout's code, as nodes know it."""
    folders = {
        _SITE.format(environment, package): ROOT / part / package
        for environment in _ENVIRONMENTS[name]
        for part, packages in _CODE.items()
        for package in packages
    }
    return _pushed(at, name, folders)


def _pushed(at: Layout, name: str, folders: Mapping[str, Path]) -> str:
    port = json.loads(at.state.read_text())["doors"]["registry"]
    content = _layer(folders)
    repository, reference = f"ropewalk/{name}", "0.1"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/v2/{repository}", timeout=60, trust_env=False) as http:
        manifest = http.get(f"/manifests/{reference}", headers={"Accept": _KINDS})
        assert manifest.status_code == 200, f"{repository} is not in the registry: make images builds it"
        body = manifest.json()
        if "manifests" in body:
            body = http.get(f"/manifests/{body['manifests'][0]['digest']}", headers={"Accept": _KINDS}).json()
        config = http.get(f"/blobs/{body['config']['digest']}", follow_redirects=True).json()
        config["rootfs"]["diff_ids"].append(_digest(content))
        config["history"] = [*(config.get("history") or []), {"created_by": "this checkout's code"}]
        kind = _LAYER if "oci" in body["mediaType"] else "application/vnd.docker.image.rootfs.diff.tar"
        body["layers"].append({"mediaType": kind, **_blob(http, content)})
        body["config"] = {"mediaType": body["config"]["mediaType"], **_blob(http, json.dumps(config).encode())}
        tag = f"test-{_digest(json.dumps(body).encode())[7:19]}"
        pushed = http.put(
            f"/manifests/{tag}", content=json.dumps(body), headers={"Content-Type": str(body["mediaType"])}
        )
        assert pushed.is_success, pushed.text
    return f"{REGISTRY}/{repository}:{tag}"


def _layer(folders: Mapping[str, Path]) -> bytes:
    """Return the files and what Python makes of them, in place of what the image compiled and never checks again."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for inside, folder in folders.items():
            for name, content in _files(inside, folder):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _files(inside: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as temp:
        for path in sorted(one for one in folder.rglob("*") if one.is_file() and "__pycache__" not in one.parts):
            place = f"{inside}/{path.relative_to(folder)}"
            yield place, path.read_bytes()
            if path.suffix == ".py":
                compiled, unchecked = Path(temp) / "pyc", py_compile.PycInvalidationMode.UNCHECKED_HASH
                py_compile.compile(str(path), str(compiled), f"/{place}", doraise=True, invalidation_mode=unchecked)
                yield f"{Path(place).parent}/__pycache__/{path.stem}.cpython-311.pyc", compiled.read_bytes()


def _blob(http: httpx.Client, content: bytes) -> dict[str, Any]:
    digest = _digest(content)
    if http.head(f"/blobs/{digest}").status_code != 200:
        begun = http.post("/blobs/uploads/")
        place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        done = http.put(f"http://{http.base_url.host}:{http.base_url.port}{place.raw_path.decode()}", content=content)
        assert done.is_success, done.text
    return {"digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()

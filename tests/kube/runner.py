"""The runner image with this checkout's runtime on top: one small layer, so that tests never run yesterday's code."""

from __future__ import annotations

import hashlib
import io
import json
import py_compile
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.layout import REGISTRY, ROOT, Layout

_INDEX = "application/vnd.oci.image.index.v1+json"
_KINDS = f"application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, {_INDEX}"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_SITE = "opt/ropewalk/user/lib/python3.11/site-packages/ropewalk_runtime"
_BASE = ("ropewalk/runner", "0.1")


def runner(at: Layout) -> str:
    """Push it to the test cluster's registry, unless it is there, and return the name that nodes know."""
    port = json.loads(at.state.read_text())["doors"]["registry"]
    content = _layer(ROOT / "workflows" / "ropewalk_runtime")
    repository, reference = _BASE
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/v2/{repository}", timeout=60, trust_env=False) as http:
        manifest = http.get(f"/manifests/{reference}", headers={"Accept": _KINDS})
        assert manifest.status_code == 200, "the runner image is not in the registry: make images builds it"
        body = manifest.json()
        if "manifests" in body:
            body = http.get(f"/manifests/{body['manifests'][0]['digest']}", headers={"Accept": _KINDS}).json()
        config = http.get(f"/blobs/{body['config']['digest']}", follow_redirects=True).json()
        config["rootfs"]["diff_ids"].append(_digest(content))
        config["history"] = [*(config.get("history") or []), {"created_by": "this checkout's runtime"}]
        kind = _LAYER if "oci" in body["mediaType"] else "application/vnd.docker.image.rootfs.diff.tar"
        body["layers"].append({"mediaType": kind, **_blob(http, content)})
        body["config"] = {"mediaType": body["config"]["mediaType"], **_blob(http, json.dumps(config).encode())}
        tag = f"test-{_digest(json.dumps(body).encode())[7:19]}"
        pushed = http.put(
            f"/manifests/{tag}", content=json.dumps(body), headers={"Content-Type": str(body["mediaType"])}
        )
        assert pushed.is_success, pushed.text
    return f"{REGISTRY}/{repository}:{tag}"


def _layer(folder: Path) -> bytes:
    """Return the modules and what Python makes of them, in place of what the image compiled and never checks again."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar,
        tempfile.TemporaryDirectory() as temp,
    ):
        for path in sorted(folder.glob("*.py")):
            compiled = Path(temp) / f"{path.stem}.cpython-311.pyc"
            inside, unchecked = f"/{_SITE}/{path.name}", py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(path), str(compiled), inside, doraise=True, invalidation_mode=unchecked)
            for name, source in ((path.name, path), (f"__pycache__/{compiled.name}", compiled)):
                entry = tarfile.TarInfo(f"{_SITE}/{name}")
                entry.size, entry.mode = source.stat().st_size, 0o644
                with source.open("rb") as file:
                    tar.addfile(entry, file)
    return buffer.getvalue()


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

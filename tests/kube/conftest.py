"""One real API server for all tests that ask for it, the test cluster, and one installation on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from ropewalk_core.kube.api import Api
from ropewalk_core.kube.config import find
from ropewalk_hub.platform import SystemClock
from tests.cluster.inside import alive
from tests.cluster.layout import ROOT, Layout, layout
from tests.kube.real import Cluster, running
from tests.kube.stage import Installation, Stage, installed


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as one:
        yield one


@pytest.fixture(scope="session")
def administrator(cluster: Cluster) -> Path:
    return cluster.kubeconfig("administrator", "system:masters")


@pytest.fixture
async def api(administrator: Path) -> AsyncIterator[Api]:
    one = Api(find(administrator), SystemClock())
    yield one
    await one.close()


@pytest.fixture(scope="session")
def at() -> Iterator[Layout]:
    """Return the folders of the test cluster with its nodes; what was not up before is taken down after."""
    folders = layout()
    before = alive(folders) is not None
    command = [sys.executable, "-m", "tests.cluster"]
    subprocess.run([*command, "up"], check=True)
    yield folders
    if not before:
        subprocess.run([*command, "down"], check=True)


@pytest.fixture(scope="session")
def images(at: Layout) -> None:
    """Build those of our own images that the cluster's registry lacks."""
    port = json.loads(at.state.read_text())["doors"]["registry"]
    ours = sorted(one.parent.name for one in (ROOT / "images").glob("*/Dockerfile"))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/v2/ropewalk", trust_env=False) as registry:
        lacking = [one for one in ours if registry.get(f"/{one}/tags/list").status_code == 404]
    if lacking:
        subprocess.run([sys.executable, "-m", "tests.cluster", "images"], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def installation(at: Layout, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an installation on the test cluster, the same for all tests, which removes itself."""
    with installed(at, tmp_path_factory.mktemp("installation")) as one:
        yield one


@pytest.fixture
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    """Return that installation for one test."""
    one = Stage(installation)
    yield one
    await one.close()

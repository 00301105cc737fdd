"""What a cluster leaves behind: nothing, whether it was taken down or killed. Each test has a cluster of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.cluster import leftovers
from tests.cluster.cluster import Cluster
from tests.cluster.inside import Inside, alive
from tests.cluster.layout import ROOT, Layout, layout

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(300)]


_UP = [sys.executable, "-m", "tests.cluster", "up"]


@pytest.fixture
def other() -> Iterator[Layout]:
    """Return the folders of a second cluster beside the one of the other tests."""
    usual = layout()
    one = Layout(usual.run.with_name(usual.run.name + "-other"), usual.cache)
    Cluster(one).down()
    yield one
    Cluster(one).down()


def environment(at: Layout) -> dict[str, str]:
    return {**os.environ, "ROPEWALK_TEST_CLUSTER_RUN": str(at.run), "ROPEWALK_TEST_CLUSTER_CACHE": str(at.cache)}


def up(at: Layout, profile: str = "core") -> Inside:
    subprocess.run([*_UP, "--profile", profile], env=environment(at), cwd=ROOT, check=True)
    inside = alive(at)
    assert inside is not None
    return inside


def same(before: dict[str, object], after: dict[str, object]) -> None:
    for name in before:
        assert after[name] == before[name], name


def test_down_leaves_nothing(other: Layout) -> None:
    before = leftovers.picture(other)
    cluster = Cluster(other)
    cluster.up("core")  # here and not in a process of its own: nobody waits for what ends before we do
    inside = alive(other)
    assert inside is not None
    known = leftovers.processes(inside)
    assert len(known) > 10
    spaces = leftovers.spaces(known)
    assert len([one for one in spaces if one.startswith("net:")]) >= 3  # the control plane's and both nodes'
    cluster.down()
    assert leftovers.still(known) == set()
    assert leftovers.kept(spaces) == set()
    assert not other.run.exists()
    same(before, leftovers.picture(other))


# Before the cluster's first process was written down, and after.
@pytest.mark.cluster_slow
@pytest.mark.parametrize("moment", ["control.sock", "kubeconfig"])
def test_a_start_that_was_cut_off_is_cleared_away_by_the_next(other: Layout, moment: str) -> None:
    before = leftovers.picture(other)
    starting = subprocess.Popen(_UP, env=environment(other), cwd=ROOT)
    while not (other.run / moment).exists():
        assert starting.poll() is None
        time.sleep(0.001)
    starting.kill()
    starting.wait()
    half = alive(other)
    assert moment == "control.sock" or half is not None  # its first process does not end with it
    whole = up(other)
    assert half is None or whole.pid != half.pid
    Cluster(other).down()
    same(before, leftovers.picture(other))


@pytest.mark.cluster_slow
@pytest.mark.parametrize("profile", ["core", "all"])
def test_a_cluster_that_was_killed_is_cleared_away_by_the_next(other: Layout, profile: str) -> None:
    before = leftovers.picture(other)
    inside = up(other, profile)
    known = leftovers.processes(inside)
    spaces = leftovers.spaces(known)
    os.kill(inside.pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while leftovers.still(known) and time.monotonic() < end:
        time.sleep(0.1)
    assert leftovers.still(known) == set()
    assert leftovers.kept(spaces) == set()
    again = up(other)
    assert again.pid != inside.pid
    Cluster(other).down()
    same(before, leftovers.picture(other))

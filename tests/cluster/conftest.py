"""A running cluster for the tests marked `cluster`: the one that is up, with what they need added, or their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import policy_enforcer
from tests.cluster.cluster import Cluster
from tests.cluster.inside import Inside, alive
from tests.cluster.kube import Kube
from tests.cluster.layout import Layout, layout
from tests.cluster.scene import Scene


@pytest.fixture(scope="session")
def at() -> Iterator[Layout]:
    """Return the folders of the cluster; what was not up before is taken down after."""
    folders = layout()
    before = alive(folders) is not None
    Cluster(folders).up("core")
    yield folders
    if not before:
        Cluster(folders).down()


@pytest.fixture(scope="session")
def inside(at: Layout) -> Inside:
    """Return the way into the cluster, whose network policies are not enforced."""
    found = alive(at)
    assert found is not None
    policy_enforcer.off(found)
    return found


@pytest.fixture(scope="session")
def kube(at: Layout, inside: Inside) -> Iterator[Kube]:
    """Return the API server as its administrator."""
    client = Kube(at.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def scene(inside: Inside, kube: Kube) -> Iterator[Scene]:
    """Return a namespace of the test's own."""
    one = Scene(inside, kube)
    yield one
    one.close()

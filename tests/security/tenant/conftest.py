"""Tenants on the test cluster, whose network policies are enforced when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster import policy_enforcer
from tests.cluster.layout import Layout
from tests.kube.conftest import at, stage
from tests.kube.stage import Installation, Stage, installed
from tests.security.tenant.street import Street, push_tools, settle

__all__ = ["at", "stage"]


@pytest.fixture(scope="session")
def installation(at: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(at, tmp_path_factory.mktemp("installation")) as one:
        yield one


@pytest.fixture
async def street(request: pytest.FixtureRequest, stage: Stage) -> AsyncIterator[Street]:
    """Return two tenants and an open namespace; network policies are written but not enforced."""
    policy_enforcer.off(stage.inside)
    push_tools(stage.installation.at)
    yield await settle(stage, request.node.name)
    policy_enforcer.off(stage.inside)

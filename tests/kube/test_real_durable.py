"""Durable calls on the real cluster pass the contract, on Knative and as plain Deployments."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ropewalk_core.durable import DurableDesk
from ropewalk_core.kube.function_objects import KNATIVE, PLAIN
from ropewalk_core.kube.functions import KubeFunctions
from ropewalk_core.testing import ADA, DurableContract
from tests.kube.function_rig import KubeRig, running
from tests.kube.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_slow, pytest.mark.root, pytest.mark.timeout(400)]


class TestKnativeDurable(DurableContract):
    how = KNATIVE

    @pytest.fixture
    async def rig(self, stage: Stage) -> AsyncIterator[KubeRig]:
        async with running(stage, self.how, stage.spaces()) as one:
            yield one

    @pytest.fixture
    async def ports(self, rig: KubeRig) -> tuple[KubeFunctions, DurableDesk]:  # type: ignore[override]
        return rig.functions, rig.desk

    async def test_a_killed_platform_keeps_what_it_accepted(self, rig: KubeRig) -> None:
        """Another life of the platform hands it out; the gateway is the same."""
        await rig.functions.deploy(ADA, "ada", rig.spec("def handler(value):\n    return 2 * value\n"))
        calls = [await rig.desk.spawn(ADA, "ada", "double", str(one).encode()) for one in range(5)]
        await rig.again()
        for number, call in enumerate(calls):
            assert (await rig.desk.result(ADA, "ada", call.id, wait=90)).body == str(2 * number).encode()


class TestPlainDurable(TestKnativeDurable):
    how = PLAIN

"""Functions on the real cluster pass the contract, on Knative and as plain Deployments."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ropewalk_core.kube.function_objects import KNATIVE, PLAIN
from ropewalk_core.kube.functions import KubeFunctions
from ropewalk_core.testing import FunctionsContract
from tests.kube.function_rig import KubeRig, running
from tests.kube.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(240)]


class TestKnativeFunctions(FunctionsContract):
    how = KNATIVE

    @pytest.fixture
    async def rig(self, stage: Stage) -> AsyncIterator[KubeRig]:
        async with running(stage, self.how, stage.spaces("functions")) as one:
            yield one

    @pytest.fixture
    async def port(self, rig: KubeRig) -> KubeFunctions:  # type: ignore[override]
        return rig.functions  # type: ignore[no-any-return]


class TestPlainFunctions(TestKnativeFunctions):
    how = PLAIN

"""What a function finds around it on the real cluster: variables, secrets that the platform cannot read, kept pods."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from ropewalk_core.errors import Denied, NotFound
from ropewalk_core.kube.function_objects import KNATIVE, PLAIN
from ropewalk_core.kube.kinds import SECRET
from ropewalk_core.kube.safe import KubeSafe, object_of
from ropewalk_core.model import State
from ropewalk_core.secrets import SecretBook
from ropewalk_core.testing import ADA
from ropewalk_hub.platform import SystemClock
from tests.kube.function_rig import KubeRig, running
from tests.kube.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(400)]
SHOWN = """
import os
def handler(value: str):
    print("the secret is", os.environ["DB_PASSWORD"])
    return [os.environ["MODE"], os.environ["DB_PASSWORD"], value]
"""


@pytest.fixture(params=[KNATIVE, PLAIN])
async def rig(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[KubeRig]:
    async with running(stage, request.param, stage.spaces()) as one:
        yield one


async def test_variables_and_secrets_reach_the_handler_and_nobody_else(rig: KubeRig) -> None:
    spec = rig.spec(SHOWN, environment={"MODE": "$(fast)"}, secrets=("DB_PASSWORD",), min_workers=1)
    with pytest.raises(NotFound) as caught:
        await rig.functions.deploy(ADA, "ada", spec)
    assert caught.value.field == "secrets"
    book = SecretBook(rig.journal, SystemClock(), KubeSafe(rig.stage.api("platform"), rig.space))
    await book.set(ADA, "ada", "DB_PASSWORD", "first guess")
    await book.set(ADA, "ada", "DB_PASSWORD", "hunter2 & co")
    function = await rig.functions.deploy(ADA, "ada", spec)
    assert function.status.state is State.RUNNING, function.status
    assert (
        await rig.functions.call(ADA, "ada", "double", b'"x"') == json.dumps(["$(fast)", "hunter2 & co", "x"]).encode()
    )
    [call] = [one for one in (await rig.functions.calls(ADA, "ada", "double")).items if one.logs]
    assert "***" in call.logs and "hunter2" not in call.logs
    with pytest.raises(Denied):
        await rig.stage.api("platform").get(SECRET, object_of("DB_PASSWORD"), await rig.space("ada"))
    await book.remove(ADA, "ada", "DB_PASSWORD")
    kept = await rig.stage.api("administrator").get(SECRET, object_of("DB_PASSWORD"), await rig.space("ada"))
    assert not kept.get("data")

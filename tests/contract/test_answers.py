"""What the answer of a function may be, over a real gateway: its size, its numbers, and what no worker can give."""

from __future__ import annotations

import math
import shutil
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ropewalk_core.errors import Unavailable
from ropewalk_core.local.host_client import StepOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.testing import ADA
from ropewalk_runtime.handler import CALL_TYPE
from tests.function_rig import Rig, running

PAYLOAD = 100_000
ANSWERS = """
import os
KEPT = []
def handler(kind):
    KEPT.append(kind)
    if kind == "big":
        return "x" * 200_000
    if kind == "error":
        raise ValueError("y" * 10_000_000)
    if kind == "scores":
        return {"score": [0.5, float("nan")]}
    if kind == "leave":
        os._exit(0)
    if kind == "scribble":
        for number in map(int, os.listdir("/proc/self/fd")):
            try:
                os.write(number, b"z" * 64)
            except OSError:
                pass
    return [os.getpid(), len(KEPT)]
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(limits_payload=PAYLOAD) as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(ANSWERS, max_workers=1))
        yield rig


async def test_an_answer_over_the_limit_is_said_so_and_its_worker_lives(rig: Rig) -> None:
    before = (await rig.call(b'"ok"')).json()
    for kind, status, code in (("big", 413, "RW-TOO-LARGE"), ("error", 500, "RW-USER-CODE")):
        answer = await rig.call(f'"{kind}"'.encode())
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    big = (await rig.call(b'"big"')).json()
    assert big["type"] == f"{rig.settings.door.origin}/help/errors#RW-TOO-LARGE"
    assert big["field"] == "limits.payload" and str(PAYLOAD) in big["message"] and "file" in big["hint"]
    assert (await rig.call(b'"ok"')).json() == [before[0], before[1] + 4]


async def test_numbers_that_json_has_not(rig: Rig) -> None:
    answer = await rig.call(b'"scores"')
    assert (answer.status_code, answer.json()["field"]) == (500, 'answer["score"][1]')
    sent = await rig.call(b'["a", NaN]')
    assert (sent.status_code, sent.json()["field"]) == (422, "payload[1]")
    headers = {"Authorization": f"Bearer {rig.token()}", "Content-Type": CALL_TYPE}
    exact = await rig.request("POST", "double--fn--ada", headers=headers, content=b'{"args": ["scores"]}')
    assert exact.headers["content-type"] == CALL_TYPE and math.isnan(exact.json()["score"][1])


@pytest.mark.parametrize("kind", ["leave", "scribble"])
async def test_no_traceback_is_promised_where_there_is_none(rig: Rig, kind: str) -> None:
    answer: httpx.Response = await rig.call(f'"{kind}"'.encode())
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["code"]) == (500, "RW-USER-CODE")
    assert "traceback" not in said["hint"] and "traceback" not in said["details"]
    assert (await rig.call(b'"ok"')).status_code == 200


async def test_an_environment_that_is_gone_is_made_again_and_a_broken_one_is_explained(rig: Rig) -> None:
    paths = AccountPaths(rig.settings.home, "ada")
    assert paths.python.exists()
    shutil.rmtree(paths.environment)
    assert (await rig.client.run_step(StepOrder("one", "ada", kind="command", argv=("true",)))).code == 0
    package = next(paths.environment.glob("lib/python3.*/site-packages"))
    (package / "spoiled.pth").write_text("import os; os._exit(3)\n")
    with pytest.raises(Unavailable, match="your Python ends") as caught:
        await rig.client.run_step(StepOrder("two", "ada", kind="command", argv=("true",)))
    assert "%pip install" in caught.value.hint and str(paths.environment) in caught.value.hint
    shutil.rmtree(paths.environment)
    paths.environment.write_text("something else")
    with pytest.raises(Unavailable) as caught:
        await rig.client.run_step(StepOrder("three", "ada", kind="command", argv=("true",)))
    assert f"rm -rf {paths.environment}" in caught.value.hint
    paths.environment.unlink()
    assert (await rig.client.run_step(StepOrder("four", "ada", kind="command", argv=("true",)))).code == 0

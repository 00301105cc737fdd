"""Workers that are kept while nobody calls: there before the first call, and back when something ended them."""

from __future__ import annotations

import asyncio

import pytest

from ropewalk_core.errors import BadInput, Unsatisfiable
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

SOURCE = "import os\n\ndef handler(value: int):\n    if value < 0:\n        os._exit(3)\n    return value\n"


async def warm(rig: Rig) -> None:
    """Wait until a call finds a worker that was there, as a kept one is once it has started."""
    async with asyncio.timeout(30):
        while True:
            answer = await rig.call()
            if (answer.status_code, answer.headers.get("x-ropewalk-start")) == (200, "warm"):
                return
            await asyncio.sleep(2.0)  # longer than idle: what a call started is gone by then


async def test_a_kept_worker_is_there_before_the_first_call_and_after_its_end() -> None:
    async with running() as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(SOURCE, min_workers=1, idle=0.1))
        await asyncio.sleep(2)
        assert (await rig.call()).headers["x-ropewalk-start"] == "warm"  # the very first
        assert (await rig.call(b"-1")).status_code == 500  # it ended its process
        await warm(rig)
        await rig.functions.deploy(ADA, "ada", rig.spec(SOURCE, idle=0.1))
        await asyncio.sleep(3)
        assert (await rig.call()).headers["x-ropewalk-start"] == "cold"


async def test_kept_workers_come_back_with_their_host() -> None:
    async with running(apart=True) as rig:
        await rig.functions.deploy(ADA, "ada", rig.spec(SOURCE, min_workers=1, idle=0.1))
        await warm(rig)
        await rig.kill("ropewalk_hub.host")
        await rig.start_host(apart=True)
        await warm(rig)


async def test_more_than_there_is_room_for_is_refused() -> None:
    async with running() as rig:
        with pytest.raises(Unsatisfiable) as caught:
            spec = rig.spec(SOURCE, min_workers=64, max_workers=64, placement={"memory": "8Gi"})
            await rig.functions.deploy(ADA, "ada", spec)
        assert caught.value.field == "min_workers"
        with pytest.raises(BadInput) as refused:
            await rig.functions.deploy(ADA, "ada", rig.spec(SOURCE, min_workers=5))
        assert refused.value.field == "min_workers"

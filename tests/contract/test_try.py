"""The form that tries a function, with a real worker behind it: what it took, printed, answered and raised."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ropewalk_core import guard, samples
from ropewalk_core.signatures import read
from ropewalk_core.testing import ADA
from ropewalk_hub.app import create_app
from tests.function_rig import Rig, running
from tests.pages.stage import Stage, make
from tests.pages.test_pages import Document
from tests.unit.test_openapi import ANSWER, BODY, accepts

SOURCE = """
import dataclasses, enum

class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"

@dataclasses.dataclass
class Answer:
    total: float
    mode: Mode

def handler(count: int, mode: Mode = Mode.SLOW, scale: float = 0.5, note: str | None = None) -> Answer:
    print("counting", count, note)
    if count < 0:
        raise ValueError("<b>below zero</b>")
    return Answer(count * scale, Mode(mode))
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


@pytest.fixture
async def stage(rig: Rig, tmp_path: Path) -> AsyncIterator[Stage]:
    made = make(tmp_path / "home")
    platform = dataclasses.replace(made.platform, functions=guard.GuardedFunctions(rig.functions))
    yield dataclasses.replace(made, platform=platform, app=create_app(platform))
    await made.platform.close()


async def test_a_call_from_the_page_is_told_whole(stage: Stage, rig: Rig) -> None:
    function = await rig.functions.deploy(ADA, "ada", rig.spec(SOURCE))
    address = f"/functions/{function.name}/call"
    typed = {"value.count": "3", "value.mode": '"fast"', "value.scale": "2", "value.note": ""}
    async with stage.client() as browser:
        answer = await browser.post(address, data=typed)
        told = (await browser.get(f"/api/v1/functions/ada/{function.name}/openapi.json")).json()
        page = Document(answer.text).words.partition("Call it from elsewhere")[0]
        assert answer.status_code == 200 and "a worker was started for it (cold)" in page
        assert '{"total":6,"mode":"fast"}' in page and "counting 3 None" in page.partition("What it printed")[2]
        assert "a worker was there (warm)" in Document((await browser.post(address, data=typed)).text).words

        raised = await browser.post(address, data=typed | {"value.count": "-1"})
        page = Document(raised.text).words.partition("Call it from elsewhere")[0]
        assert raised.status_code == 500 and "ValueError: <b>below zero</b>" in page and "counting -1 None" in page
        assert "<b>" not in raised.text and 'raise ValueError("' in page

        missing = Document((await browser.post(address, data=typed | {"value.count": ""})).text)
        assert [one["name"] for _, one in missing.tags if one.get("aria-invalid")] == ["value.count"]
        assert "The value for 'count' is missing." in missing.words

    payload = samples.payload(read(function.revision.spec.bundle))
    assert accepts(told, BODY, payload)
    given = json.loads(await rig.functions.call(ADA, "ada", function.name, json.dumps(payload).encode()))
    assert given == {"total": 0.5, "mode": "slow"} and accepts(told, ANSWER, given)

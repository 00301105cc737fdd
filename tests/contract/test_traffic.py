"""Calls split between revisions on this machine: each at its own address, and no call fails while things change."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from ropewalk_core.errors import BadCode
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running

LANES, MOST = 12, 1500
"""How many callers there are, and how many calls they make at most: a load of a known size on two cores."""
SOURCE = "import time\ndef handler(value):\n    time.sleep(0.004)\n    return FACTOR * value\n"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


async def deployed(rig: Rig, factor: int) -> int:
    spec = rig.spec(SOURCE.replace("FACTOR", str(factor)), max_workers=2)
    return (await rig.functions.deploy(ADA, "ada", spec)).revision.number


async def test_a_revision_has_its_own_address(rig: Rig) -> None:
    for factor in (2, 3):
        await deployed(rig, factor)
    refused = await rig.call(b"1", function="r1--double")
    assert refused.status_code == 404 and "no address of its own" in refused.json()["message"]
    split = await rig.functions.traffic(ADA, "ada", "double", {0: 100, 1: 0})
    [share] = split.traffic.shares
    assert share.address == f"http://{rig.host_of('r1--double--fn--ada')}/"
    answer = await rig.call(b"1", function="r1--double")
    assert (answer.json(), answer.headers["x-ropewalk-revision"]) == (2, share.revision)
    assert (await rig.call(b"1")).json() == 3
    for _ in range(100):
        records = (await rig.functions.calls(ADA, "ada", "double")).items
        if {one.revision for one in records} == {share.revision, split.revision.id}:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("a record names another revision than the one that answered")
    await deployed(rig, 4)  # what is chosen by number stays what it is
    assert (await rig.call(b"1", function="r1--double")).json() == 2
    assert (await rig.call(b"1", function="r3--double")).status_code == 404


async def test_strangers_learn_nothing_of_revisions(rig: Rig) -> None:
    await deployed(rig, 2)
    await rig.functions.traffic(ADA, "ada", "double", {0: 100, 1: 0})
    there, missing = [await rig.call(function=one, account="bob") for one in ("r1--double", "r7--nothing")]
    assert there.status_code == missing.status_code == 404
    assert there.json()["message"].replace("double", "nothing") == missing.json()["message"]
    assert (await rig.request("POST", "r1--double--fn--ada", content=b"1")).status_code == 401


async def test_a_revision_that_does_not_load_any_more_takes_no_calls(rig: Rig) -> None:
    """It is tried before calls reach it, and what it would take stays where it was."""
    source = "import pathlib\nvalue = int(pathlib.Path('factor').read_text())\ndef handler(_):\n    return value\n"
    (rig.settings.home / "accounts" / "ada" / "files" / "factor").write_text("2")
    await rig.functions.deploy(ADA, "ada", rig.spec(source))
    await deployed(rig, 3)
    (rig.settings.home / "accounts" / "ada" / "files" / "factor").unlink()
    with pytest.raises(BadCode):
        await rig.functions.traffic(ADA, "ada", "double", {1: 100})
    assert (await rig.call(b"1")).json() == 3


@pytest.mark.slow
async def test_no_call_fails_while_revisions_come_and_shares_move(rig: Rig) -> None:
    """A load of bounded size; every answer must be one that some revision of that time gives."""
    await deployed(rig, 2)
    assert (await rig.call(b"1")).json() == 2
    seen: Counter[tuple[int, object]] = Counter()
    ended = asyncio.Event()

    async def lane() -> None:
        while not ended.is_set() and sum(seen.values()) < MOST:
            answer = await rig.call(b"1")
            seen[answer.status_code, answer.json() if answer.status_code == 200 else answer.text] += 1

    lanes = [asyncio.create_task(lane()) for _ in range(LANES)]
    try:
        for factor in (3, 4, 5):
            number = await deployed(rig, factor)
            await rig.functions.traffic(ADA, "ada", "double", {1: 50, number: 50})
            await asyncio.sleep(0.3)
            await rig.functions.traffic(ADA, "ada", "double", {0: 10, 1: 90})
            await rig.functions.traffic(ADA, "ada", "double", {0: 100})
            await asyncio.sleep(0.2)
    finally:
        ended.set()
        await asyncio.gather(*lanes)
    assert {status for status, _ in seen} == {200}, seen
    assert {value for _, value in seen} == {2, 3, 4, 5} and sum(seen.values()) > 40
    assert (await rig.call(b"1")).json() == 5

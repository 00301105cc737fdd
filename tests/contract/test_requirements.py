"""Functions with requirements of their own: each revision runs in the environment that its lines were resolved to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from ropewalk_core.errors import BadCode, BadInput, Denied, NotFound, Unavailable
from ropewalk_core.functions import roll_back
from ropewalk_core.model import Bundle, FunctionSpec, Requirements
from ropewalk_core.testing import ADA
from tests.function_rig import Rig, running
from tests.package_index import Index, serving

SOURCE = "import {NAME}\ndef handler(value):\n    return [{NAME}.version, value]\n"
OWN = "def handler(value):\n    import sys\n    return sys.prefix\n"


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as one:
        one.wheel("rope_toy", "1.0")
        one.wheel("rope_toy", "2.0")
        yield one


@pytest.fixture
async def rig(index: Index) -> AsyncIterator[Rig]:
    async with running(environments_index=index.url) as rig:
        yield rig


def spec(rig: Rig, line: str, name: str = "rope_toy", **changes: object) -> FunctionSpec:
    return rig.spec(SOURCE.replace("{NAME}", name), requirements=(line,), **changes)


async def test_each_revision_runs_with_its_own(rig: Rig) -> None:
    first = await rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy==1.0"))
    assert (await rig.call(b"7")).json() == ["1.0", 7]
    assert first.revision.packages == ("rope-toy==1.0",) and len(first.revision.environment) == 32
    second = await rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy==2.0"))
    assert (await rig.call(b"7")).json() == ["2.0", 7]
    assert second.revision.id != first.revision.id != "" and second.revision.environment != first.revision.environment
    again = await rig.functions.deploy(ADA, "ada", spec(rig, " Rope_Toy == 2.0 "))
    assert again.unchanged and again.revision.id == second.revision.id
    await roll_back(rig.functions, ADA, "ada", "double", 1)
    assert (await rig.call(b"7")).json() == ["1.0", 7]
    await rig.functions.traffic(ADA, "ada", "double", {0: 0, 2: 100})
    assert (await rig.call(b"7")).json() == ["2.0", 7]


async def test_without_any_the_accounts_own_is_used_and_recorded(rig: Rig) -> None:
    function = await rig.functions.deploy(ADA, "ada", rig.spec(OWN))
    assert (await rig.call()).json() == str(rig.settings.home / "accounts/ada/environment")
    assert len(function.revision.environment) == 16 and function.revision.packages == ()
    await rig.functions.deploy(ADA, "ada", rig.spec(OWN, requirements=("rope-toy",)))
    assert (await rig.call()).json().startswith(str(rig.settings.home / "environments/shared"))


async def test_the_log_comes_first_and_a_deploy_finds_it_ready(rig: Rig, index: Index) -> None:
    needs = Requirements(requirements=("rope-toy",))
    lines = [line.text async for line in rig.functions.prepare(ADA, "ada", needs)]
    assert any("rope-toy==2.0" in one for one in lines)
    index.asked.clear()
    await rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy"))
    assert not index.asked and [line async for line in rig.functions.prepare(ADA, "ada", needs)] == []
    with pytest.raises(NotFound):
        _ = [line async for line in rig.functions.prepare(ADA, "nobody", needs)]


async def test_a_function_is_removed_at_once_while_a_deploy_of_it_builds(rig: Rig, index: Index) -> None:
    await rig.functions.deploy(ADA, "ada", rig.spec(OWN))
    index.hold.clear()
    deploying = asyncio.create_task(rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy")))
    while not any(path.startswith("/files/") for path in index.asked):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    async with asyncio.timeout(20):  # it holds back the package for 30
        await rig.functions.remove(ADA, "ada", "double")
    index.hold.set()
    with pytest.raises(NotFound):  # and does not come back
        await deploying
    assert (await rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy"))).revision.number == 1


async def test_a_deploy_for_an_account_that_is_deactivated_ends(rig: Rig, index: Index) -> None:
    index.hold.clear()
    deploying = asyncio.create_task(rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy")))
    while not any(path.startswith("/files/") for path in index.asked):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await rig.functions.end_builds("ada")
    with pytest.raises(Denied):
        await deploying
    with pytest.raises(NotFound):
        await rig.functions.get(ADA, "ada", "double")


async def test_what_cannot_be_met_changes_nothing(rig: Rig) -> None:
    before = await rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy==1.0"))
    for line, python, field in [
        ("rope-toy==9", "", "requirements"),
        ("-e .", "", "requirements"),
        ("rope-toy", ">=4", "requires_python"),
    ]:
        with pytest.raises(BadInput) as caught:
            await rig.functions.deploy(ADA, "ada", spec(rig, line, requires_python=python))
        assert caught.value.field == field and caught.value.hint
    with pytest.raises(BadInput) as caught:
        await rig.functions.deploy(ADA, "ada", rig.spec(OWN, requires_python="<3"))
    assert caught.value.field == "requires_python"
    assert (await rig.functions.get(ADA, "ada", "double")).revision == before.revision
    assert (await rig.call(b"7")).json() == ["1.0", 7]


async def test_a_missing_import_names_package_line_and_fix(rig: Rig) -> None:
    missing = "\nimport sklearn_missing_one\ndef handler(value): ...\n"
    with pytest.raises(BadCode) as caught:
        await rig.functions.deploy(ADA, "ada", rig.spec(missing))
    assert caught.value.field == "cell line 2" and "sklearn_missing_one" in caught.value.message
    assert "%pip install sklearn-missing-one" in caught.value.hint and "-r sklearn-missing-one" in caught.value.hint
    with pytest.raises(BadCode) as caught:
        await rig.functions.deploy(ADA, "ada", rig.spec(missing, requirements=("rope-toy",)))
    assert caught.value.hint.endswith("%%function -r sklearn-missing-one")
    late = "def handler(value):\n    import cv2\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(late, requirements=("rope-toy",)))
    said = (await rig.call(b"1")).json()
    assert (said["code"], said["field"]) == ("RW-USER-CODE", "cell line 2")
    assert "cv2 (the package opencv-python-headless)" in said["message"]
    assert (
        said["hint"].endswith("%%function -r opencv-python-headless") and "import cv2" in said["details"]["traceback"]
    )


async def test_programs_find_their_python(rig: Rig) -> None:
    script = "#!/usr/bin/env python3\nimport rope_toy\nprint(rope_toy.version)\n"
    bundle = Bundle(files={"program": script}, entry="program:main", form="program")
    wish = FunctionSpec(name="double", bundle=bundle, requirements=("rope-toy==1.0",))
    await rig.functions.deploy(ADA, "ada", wish)
    assert (await rig.call(b"1")).text.strip() == "1.0"


async def test_an_environment_in_use_stays_and_one_that_is_not_goes(rig: Rig) -> None:
    source = (
        "import time\ndef handler(value):\n    time.sleep(value)\n    import rope_toy\n    return rope_toy.version\n"
    )
    await rig.functions.deploy(ADA, "ada", rig.spec(source, requirements=("rope-toy==1.0",)))
    later = time.time() + 2 * rig.settings.environments.unused
    assert await rig.functions.tidy(later) == []  # its revision names it
    call = asyncio.create_task(rig.call(b"3"))
    await asyncio.sleep(1)
    await rig.functions.remove(ADA, "ada", "double")
    await rig.settled()
    later += 2 * rig.settings.environments.unused
    assert await rig.functions.tidy(later) == []  # a worker runs in it
    assert (await call).json() == "1.0"
    async with asyncio.timeout(20):
        while await rig.client.environments():  # noqa: ASYNC110 - the host tells when it is asked
            await asyncio.sleep(0.1)
    later += 2 * rig.settings.environments.unused
    assert len(await rig.functions.tidy(later)) == 1


async def test_a_look_that_failed_is_not_put_off_for_hours(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    class Clock:
        wall = staticmethod(time.time)
        steady = staticmethod(time.monotonic)

        async def sleep(self, seconds: float) -> None:
            paused.append(seconds)
            await asyncio.sleep(0 if len(paused) < 3 else 60)

    async def away(now: float) -> list[str]:
        raise Unavailable("The host is being restarted.")

    monkeypatch.setattr(rig.functions, "_clock", Clock())
    monkeypatch.setattr(rig.functions, "tidy", away)
    running = asyncio.create_task(rig.functions.run())
    while len(paused) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    running.cancel()
    assert max(paused) < rig.functions.TIDY / 60


async def test_one_that_is_gone_is_said_and_a_deploy_brings_it_back(rig: Rig) -> None:
    function = await rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy==1.0"))
    folder = rig.settings.home / "environments/shared" / function.revision.environment
    folder.rename(rig.settings.home / "elsewhere")
    answer = await rig.call(b"7")
    assert answer.status_code == 503 and "Deploy the function" in answer.json()["hint"]
    again = await rig.functions.deploy(ADA, "ada", spec(rig, "rope-toy==1.0"))
    assert again.unchanged and (await rig.call(b"7")).json() == ["1.0", 7]

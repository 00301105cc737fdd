"""Secrets by reference with real workers: there in the worker, and in clear words nowhere else."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ropewalk_core.errors import BadCode, BadInput, NotFound, TooLarge
from ropewalk_core.guard import GuardedFunctions, GuardedSecrets
from ropewalk_core.local.safe import LocalSafe, folder_of
from ropewalk_core.model import Access, Actor
from ropewalk_core.secrets import SecretBook
from ropewalk_core.testing import ADA, BOB
from ropewalk_hub.platform import SystemClock
from tests.function_rig import Rig, running
from tests.held import holding

VALUE = "open-sesame-4711"
TELLS = """
import os

LOADED = os.environ["DB_PASSWORD"]

def handler(what: str):
    if what == "length":
        return [len(os.environ["DB_PASSWORD"]), len(LOADED)]
    if what == "print":
        print("connecting with", LOADED)
        os.system("echo $DB_PASSWORD")
        return "done"
    raise ValueError(f"postgres://me:{LOADED}@db is away")
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


def book(rig: Rig) -> SecretBook:
    return SecretBook(rig.journal, SystemClock(), LocalSafe(rig.settings))


async def call(rig: Rig, what: str) -> Any:
    return (await rig.call(f'"{what}"'.encode())).json()


async def test_a_secret_is_in_the_worker_and_nowhere_else(rig: Rig) -> None:
    await book(rig).set(ADA, "ada", "DB_PASSWORD", VALUE)
    deployed = await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, secrets=("DB_PASSWORD",)))
    assert deployed.revision.spec.secrets == ("DB_PASSWORD",) and VALUE not in deployed.model_dump_json()
    assert await call(rig, "length") == [len(VALUE)] * 2
    assert await call(rig, "print") == "done"
    problem = await call(rig, "fail")
    assert VALUE not in str(problem) and "postgres://me:***@db is away" in problem["details"]["error"]
    await asyncio.sleep(0.5)  # records follow the answers
    records = (await rig.functions.calls(ADA, "ada", "double")).items
    assert any("connecting with ***\n***" in one.logs for one in records), [one.logs for one in records]
    assert VALUE not in str(records)
    assert [one for one in holding(rig.settings.home, VALUE) if not one.startswith("secrets/")] == []


async def test_its_file_is_the_platforms_own(rig: Rig) -> None:
    await book(rig).set(ADA, "ada", "DB_PASSWORD", "before")
    await book(rig).set(ADA, "ada", "DB_PASSWORD", VALUE)
    folder = folder_of(rig.settings, "ada")
    assert [one.name for one in folder.iterdir()] == ["DB_PASSWORD"]
    assert (folder / "DB_PASSWORD").read_text() == VALUE
    assert stat.S_IMODE((folder / "DB_PASSWORD").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.stat().st_uid == os.geteuid()
    looks = "import os\n\ndef handler(path: str):\n    return os.path.exists(path)\n"
    await rig.functions.deploy(ADA, "ada", rig.spec(looks))
    assert await call(rig, str(folder / "DB_PASSWORD")) is False  # no sandbox shows it


async def test_a_missing_secret_is_refused_at_deploy_and_named_by_a_call(rig: Rig) -> None:
    with pytest.raises(NotFound) as caught:
        await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, secrets=("DB_PASSWORD",)))
    assert caught.value.field == "secrets" and "`ropewalk secrets set DB_PASSWORD`" in str(caught.value.hint)
    await book(rig).set(BOB, "bob", "DB_PASSWORD", VALUE)  # which is not Ada's
    with pytest.raises(NotFound):
        await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, secrets=("DB_PASSWORD",)))
    await book(rig).set(ADA, "ada", "DB_PASSWORD", VALUE)
    await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, secrets=("DB_PASSWORD",), idle=0.0))
    await book(rig).remove(ADA, "ada", "DB_PASSWORD")
    problem = await call(rig, "length")
    assert (problem["code"], problem["field"]) == ("RW-USER-CODE", "secrets")
    assert problem["message"] == "The function cannot start: there is no secret DB_PASSWORD."
    await rig.functions.access(ADA, "ada", "double", Access(who="public"))
    await rig.settled()
    stranger = await rig.request("POST", "double--fn--ada", content=b'"length"')
    assert stranger.status_code == 500 and "DB_PASSWORD" not in stranger.text


async def test_code_that_holds_a_secret_is_refused_without_repeating_it(rig: Rig) -> None:
    await book(rig).set(ADA, "ada", "DB_PASSWORD", VALUE)
    source = f"PASSWORD = {VALUE!r}\n\ndef handler(value):\n    return value\n"
    for spec in (rig.spec(source), rig.spec("def handler(x):\n    return x\n", environment={"P": f"a{VALUE}"})):
        with pytest.raises(BadCode) as caught:
            await rig.functions.deploy(ADA, "ada", spec)
        assert caught.value.field in ("cell.py", "environment.P") and VALUE not in str(caught.value.problem())
        assert 'secrets=["DB_PASSWORD"]' in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "value", "kind", "field"),
    [
        ("../x", "abcd", BadInput, "name"),
        ("PYTHONPATH", "abcd", BadInput, "name"),
        ("GOOD", "", BadInput, "value"),
        ("GOOD", "a\0b", BadInput, "value"),
        ("GOOD", "a\ud800b", BadInput, "value"),
        ("GOOD", "x" * 9000, TooLarge, "value"),
    ],
)
async def test_what_cannot_be_a_secret_is_refused_by_field(
    rig: Rig, name: str, value: str, kind: type[BadInput], field: str
) -> None:
    with pytest.raises(kind) as caught:
        await book(rig).set(ADA, "ada", name, value)
    assert caught.value.field == field
    assert (await book(rig).list(ADA, "ada")).items == ()


async def test_secrets_are_their_owners_alone(rig: Rig) -> None:
    guarded = GuardedSecrets(book(rig))
    await guarded.set(ADA, "ada", "DB_PASSWORD", VALUE)
    head = Actor(account="root", subject="subject-root", administrator=True, session="s", audience="api")
    for actor in (BOB, head):
        with pytest.raises(Exception) as caught:
            await guarded.list(actor, "ada")
        assert getattr(caught.value, "code", "") in ("RW-NOT-FOUND", "RW-DENIED")
    await rig.functions.deploy(ADA, "ada", rig.spec(TELLS, secrets=("DB_PASSWORD",), environment={"MODE": "x"}))
    seen = await GuardedFunctions(rig.functions).get(head, "ada", "double")
    assert seen.revision.spec.secrets == () and seen.revision.spec.environment == {}
    assert [one.name for one in (await guarded.list(ADA, "ada")).items] == ["DB_PASSWORD"]
    assert (await guarded.remove(ADA, "ada", "DB_PASSWORD")).name == "DB_PASSWORD"
    assert (await guarded.list(ADA, "ada")).items == ()

"""Names of secrets and their values, when the platform is killed between the two; and values that stand in code."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_core.errors import BadCode, StorageFull, Unavailable
from ropewalk_core.journal import Journal, Operation
from ropewalk_core.local import safe
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.local.safe import LocalSafe, folder_of
from ropewalk_core.model import Bundle, FunctionSpec
from ropewalk_core.secrets import SecretBook
from ropewalk_core.settings import Settings
from ropewalk_core.testing import ADA
from tests.clock import Hands
from tests.function_rig import INVENTORY


def spec_of(text: str, **variables: str) -> FunctionSpec:
    bundle = Bundle(files={"first.py": "pass\n", "cell.py": text}, entry="cell:handler")
    return FunctionSpec(name="double", bundle=bundle, environment=variables)


@given(st.integers(0, 40), st.integers(1, 20))
def test_a_value_is_found_wherever_it_stands(before: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safe, "_PIECE", piece)
        assert safe._holds("x" * before + "open sesame" + "x" * 9, "open sesame")
        assert not safe._holds("x" * before + "open sesam", "open sesame")


async def test_what_is_compared_has_a_limit_for_all_values_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe, "LOOKED", 400)
    settings = Settings(home=tmp_path)
    for name in ("A", "B", "C", "D"):
        await LocalSafe(settings).put("ada", name, f"value of {name}")
    await LocalSafe(settings).put("ada", "SHORT", "pass")
    for text in ("x" * 80 + "value of D", "value of A"):
        with pytest.raises(BadCode) as caught:
            safe.check(settings, "ada", spec_of(text))
        assert caught.value.field == "cell.py"
    with pytest.raises(BadCode) as caught:
        safe.check(settings, "ada", spec_of("x" * 5000, P="a value of B"))
    assert caught.value.field == "environment.P"
    safe.check(settings, "ada", spec_of("x" * 100 + "value of D"))


async def test_code_is_looked_through_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def check(*_: object) -> None:
        asked.append(threading.current_thread())
        raise BadCode("It holds one.")

    monkeypatch.setattr(safe, "check", check)
    settings, journal = Settings(home=tmp_path), Journal(tmp_path / "journal.db")
    parts = cast(Any, None)
    functions = LocalFunctions(settings, journal, INVENTORY, Hands(), host=parts, token=parts)
    with pytest.raises(BadCode):
        await functions.deploy(ADA, "ada", spec_of("def handler(x):\n    return x\n"))
    assert len(asked) == 1 and asked[0] is not threading.main_thread()
    journal.close()


async def test_a_full_disk_is_named_and_leaves_the_value_before(tmp_path: Path) -> None:
    kept = LocalSafe(Settings(home=tmp_path))
    await kept.put("ada", "DB_PASSWORD", "open sesame")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, hard))
    try:
        with pytest.raises(StorageFull):
            await kept.put("ada", "DB_PASSWORD", "another value")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [path] = folder_of(Settings(home=tmp_path), "ada").iterdir()
    assert path.read_text() == "open sesame"


class Killed(Journal):
    """A journal that is told nothing while the platform is killed."""

    gone = False

    async def write(self, *operations: Operation) -> int:
        if self.gone:
            raise Unavailable("killed")
        return await super().write(*operations)


async def test_a_removal_that_was_killed_leaves_no_value_and_is_done_again(tmp_path: Path) -> None:
    settings, journal = Settings(home=tmp_path), Killed(tmp_path / "journal.db")
    book = SecretBook(journal, Hands(), LocalSafe(settings))
    await book.set(ADA, "ada", "DB_PASSWORD", "open sesame")
    journal.gone = True
    with pytest.raises(Unavailable):
        await book.remove(ADA, "ada", "DB_PASSWORD")
    assert list(folder_of(settings, "ada").iterdir()) == []
    journal.gone = False
    assert (await book.remove(ADA, "ada", "DB_PASSWORD")).name == "DB_PASSWORD"
    assert (await book.list(ADA, "ada")).items == ()
    journal.close()

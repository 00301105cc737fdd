"""The names of secrets and their values, when the platform is killed between the two."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk_core.errors import Unavailable
from ropewalk_core.journal import Journal, Operation
from ropewalk_core.local.safe import LocalSafe, folder_of
from ropewalk_core.secrets import SecretBook
from ropewalk_core.settings import Settings
from ropewalk_core.testing import ADA
from tests.clock import Hands


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

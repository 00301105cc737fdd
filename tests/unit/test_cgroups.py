"""Control groups that cannot be made: the superuser of a container whose groups are read-only goes on without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ropewalk_core.local import cgroups
from ropewalk_core.settings import Settings


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser has groups")
@pytest.mark.parametrize("version", ["cgroup.controllers", "memory/in-the-way"])
def test_a_worker_has_no_group_where_none_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    root, chosen = tmp_path / "groups", Settings(home=tmp_path / "home")
    (root / version).parent.mkdir(parents=True)
    (root / version).touch()
    monkeypatch.setattr(cgroups, "_ROOT", root)
    for base in cgroups._bases(chosen):
        base.touch()  # where the home's groups would be: nothing can be made below it
    assert cgroups.worker_group(chosen, "ada", "worker") is None
    assert cgroups.prepare(chosen, "notebook.ada", 2**20) == []
    assert not cgroups.works(chosen)

"""Control groups: what shares processor time, and what goes on where the superuser of a container can make none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ropewalk_core.local import cgroups
from ropewalk_core.settings import Settings

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser has groups")


@ROOT
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


@ROOT
def test_sandboxes_share_processor_time_however_many_processes_each_runs(tmp_path: Path) -> None:
    chosen = Settings(home=tmp_path)
    try:
        groups = {name: cgroups.prepare(chosen, name, None) for name in ("notebook.ada", "notebook.bob")}
        if not all(groups.values()):
            pytest.skip("no control groups can be made here")
        unified = (cgroups._ROOT / "cgroup.controllers").exists()
        if not unified and not (cgroups._ROOT / "cpu").is_dir():
            pytest.skip("the kernel shares no processor time by groups")
        for name, joined in groups.items():
            joins = "".join(f"echo 0 > {one}/cgroup.procs; " for one in joined)
            told = subprocess.run(["sh", "-c", f"{joins} cat /proc/self/cgroup"], capture_output=True, text=True)
            lines = [line.split(":", 2) for line in told.stdout.splitlines()]
            mine = [path for _, kinds, path in lines if "cpu" in kinds.split(",") or (unified and not kinds)]
            assert mine and all(path.endswith(f"/{name}") for path in mine)
            [folder] = [one for one in joined if unified or one.parent.parent.name == "cpu"]
            share, weight = (folder / file for file in ("cpu.shares", "cpu.weight"))
            assert (weight if unified else share).read_text() == ("100\n" if unified else "1024\n")
    finally:
        cgroups.remove(chosen)

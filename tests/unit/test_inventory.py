"""The inventory: this machine, a container's limits, accelerators by the driver's own list."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import Unsatisfiable
from ropewalk_core.names import accelerator_name
from ropewalk_core.placement import ARCHITECTURES, Placement, fit
from ropewalk_devices.inventory import accelerators, cores, discover, memory


def test_this_machine(tmp_path: Path) -> None:
    inventory = discover(settings_module.load(tmp_path / "not-yet-there", environ={}))
    (node,) = inventory.nodes
    assert node.arch in ARCHITECTURES
    assert node.cpu > 0 and node.memory > 2**28 and node.scratch > 0
    assert fit(Placement(cpu=0.1, memory="16Mi"), inventory).node == node
    with pytest.raises(Unsatisfiable, match="npu"):
        fit(Placement(accelerator="npu"), inventory)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:       16777216 kB\nMemFree: 1 kB\n")
    return tmp_path


def test_limits_of_a_container(root: Path) -> None:
    assert memory(root) == 16 * 2**30
    (root / "proc/self/cgroup").write_text("0::/a/b\n")
    inner = root / "sys/fs/cgroup/a/b"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text(f"{2**30}\n")
    (inner / "cpu.max").write_text("50000 100000\n")
    assert memory(root) == 2**30
    assert cores(root) == 0.5


def test_limits_of_an_older_container(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("4:memory:/x\n3:cpu,cpuacct:/x\n1:name=systemd:/x\n")
    for name, file, text in (
        ("memory", "memory.limit_in_bytes", str(2**31)),
        ("cpu", "cpu.cfs_quota_us", "25000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
    ):
        (root / f"sys/fs/cgroup/{name}/x").mkdir(parents=True, exist_ok=True)
        (root / f"sys/fs/cgroup/{name}/x/{file}").write_text(text)
    assert memory(root) == 2**31
    assert cores(root) == 0.25


def test_accelerators(root: Path) -> None:
    assert accelerators(root) == []
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (root / "dev").mkdir(exist_ok=True)
        (root / "dev" / name).touch()
    assert accelerators(root) == ["nvidia-gpu", "nvidia-gpu"]
    for number in range(2):
        folder = root / f"proc/driver/nvidia/gpus/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    assert accelerators(root) == ["nvidia-h100", "nvidia-h100"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100"),
        ("Tesla T4", "nvidia-t4"),
        ("NVIDIA A100-SXM4-40GB", "nvidia-a100"),
        ("NVIDIA GeForce RTX 4090", "nvidia-rtx-4090"),
        ("NVIDIA GPU", "nvidia-gpu"),
    ],
)
def test_names(model: str, name: str) -> None:
    assert accelerator_name(model) == name

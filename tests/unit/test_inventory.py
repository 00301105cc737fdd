"""The inventory: this machine, a container's limits, accelerators by the driver's own list."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk_core import settings as settings_module
from ropewalk_core.errors import BadInput, Unsatisfiable
from ropewalk_core.names import accelerator_name
from ropewalk_core.placement import ARCHITECTURES, Placement, fit
from ropewalk_core.settings import Devices, Settings
from ropewalk_devices.found import devices
from ropewalk_devices.inventory import cores, discover, memory


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


def gpu(root: Path, bus: str, *lines: str) -> None:
    folder = root / f"proc/driver/nvidia/gpus/0000:{bus}:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\n" + "".join(f"{one}\n" for one in lines))


def test_gpus_by_their_nodes(root: Path) -> None:
    settings = Settings(home=root)
    assert devices(settings, root=root) == ()
    (root / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (root / "dev" / name).touch()
    assert [one.name for one in devices(settings, root=root)] == ["nvidia-gpu", "nvidia-gpu"]
    for bus in ("01", "02"):
        gpu(root, bus, "IRQ: 1")
    assert [one.name for one in devices(settings, root=root)] == ["nvidia-h100", "nvidia-h100"]


def test_a_gpu_is_the_node_that_its_driver_says(root: Path) -> None:
    """Not the first in order, and not one that this container was not given."""
    (root / "dev").mkdir()
    (root / "dev/nvidia1").touch()
    (root / "dev/nvidia2").touch()
    gpu(root, "01", "GPU UUID: \t GPU-one", "Device Minor: \t 1")
    gpu(root, "02", "GPU UUID: \t GPU-none", "Device Minor: \t 0")
    gpu(root, "03", "GPU UUID: \t GPU-????????", "Device Minor: \t 2")
    first, second = devices(Settings(home=root), root=root)
    assert (first.id, first.nodes[0]) == ("nvidia1", "/dev/nvidia1")
    assert "/dev/nvidiactl" in first.nodes and "/dev/nvidia2" not in first.nodes
    assert first.variables["CUDA_VISIBLE_DEVICES"] == first.variables["NVIDIA_VISIBLE_DEVICES"] == "GPU-one"
    assert second.variables["CUDA_VISIBLE_DEVICES"] == "0"  # not known yet: the only one that a sandbox shows
    assert first.variables["ROPEWALK_ACCELERATOR"] == "nvidia-h100"


def test_npus_by_their_drivers(root: Path) -> None:
    (root / "dev/accel").mkdir(parents=True)
    for number, driver in enumerate(("intel_vpu", "some_new", "")):
        (root / f"dev/accel/accel{number}").touch()
        if driver:
            where = root / f"sys/devices/pci0000:00/0000:00:0{number}.0"
            where.mkdir(parents=True)
            (where / "uevent").write_text(f"DRIVER={driver}\nPCI_ID=8086:7D1D\n")
            about = root / f"sys/class/accel/accel{number}"
            about.mkdir(parents=True)
            (about / "device").symlink_to(where)
    (root / "dev/accel/accel_controlD0").touch()
    found = devices(Settings(home=root), root=root)
    assert [one.name for one in found] == ["intel-npu", "some-new", "npu"]
    assert found[0].nodes == ("/dev/accel/accel0", "/dev/accel/accel_controlD0")
    assert found[0].reads == ("/sys/class/accel", "/sys/devices/pci0000:00/0000:00:00.0") and found[2].reads == ()
    assert found[0].variables["CUDA_VISIBLE_DEVICES"] == ""


def test_accelerators_that_settings_name(root: Path) -> None:
    said = Devices(extra={"fpga": "/dev/fpga0 /dev/fpga0-ctl, /dev/fpga1"})
    found = devices(Settings(home=root, devices=said), root=root)
    assert [(one.id, one.name, one.nodes) for one in found] == [
        ("fpga-0", "fpga", ("/dev/fpga0", "/dev/fpga0-ctl")),
        ("fpga-1", "fpga", ("/dev/fpga1",)),
    ]
    for name, words in (("cpu", "/dev/x"), ("../x", "/dev/x"), ("x", ""), ("x", "dev/x"), ("x", "/dev/x,")):
        with pytest.raises(BadInput, match="accelerator"):
            devices(Settings(home=root, devices=Devices(extra={name: words})), root=root)


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

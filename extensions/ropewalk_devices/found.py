"""Which accelerators this machine has, and what whoever gets one must see: nodes, paths to read, variables.

NVIDIA's driver lists its devices under /proc, the kernel's own class ``accel`` (NPUs and their kind) under /sys; both
are read without opening any device. Others are said in settings. What the kinds need is the table below. Not here:
lending them (``ropewalk_core.leases``). Rejected: importing a GPU library to count devices; it opens every device and
takes seconds. A profile file for each kind: a row of a table says the same.
"""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

from ropewalk_core.errors import BadInput
from ropewalk_core.leases import Device
from ropewalk_core.machine import text
from ropewalk_core.names import accelerator_name, is_name
from ropewalk_core.placement import WITHOUT
from ropewalk_core.processes import run
from ropewalk_core.settings import Settings

_NVIDIA_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps")
"""What every NVIDIA device needs besides its own node; libraries lie in /usr, and every /proc has the driver's part."""
_NPUS = {
    "amdxdna": "amd-npu",
    "habanalabs": "habana-gaudi",
    "intel_vpu": "intel-npu",
    "qaic": "qualcomm-aic100",
    "rocket": "rockchip-npu",
}
"""Drivers of class ``accel``, and what people call their devices; another driver's are called as it is."""


def devices(settings: Settings, *, root: Path = Path("/")) -> tuple[Device, ...]:
    """Return every accelerator of this machine.

    Parameters
    ----------
    settings
        Name those that are found by nobody (``devices.extra``).
    root
        Where /proc, /sys and /dev lie; tests give a folder of their own. Devices name their paths without it.

    Raises
    ------
    BadInput
        If a setting makes no sense.
    """
    return (*_nvidia(root), *_accel(root), *_extra(settings.devices.extra))


def _nvidia(root: Path) -> list[Device]:
    """Return NVIDIA's devices, named by the driver's own list, which may say which node is which."""
    nodes = sorted(int(one.name[6:]) for one in (root / "dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", one.name))
    told = [text(path) for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))] if nodes else []
    by_node = {int(minor): one for one in told if (minor := _fact(one, "Device Minor")).isdigit()}
    rest = [one for one in told if not _fact(one, "Device Minor").isdigit()]
    for node in nodes:
        if node not in by_node and rest:
            by_node[node] = rest.pop(0)
    models = {node: _fact(by_node.get(node, ""), "Model") for node in nodes}
    if not all(models.values()) and root == Path("/"):
        models = dict(zip(nodes, _asked(), strict=False)) | {node: model for node, model in models.items() if model}
    return [_gpu(node, models.get(node, ""), _fact(by_node.get(node, ""), "GPU UUID")) for node in nodes]


def _gpu(node: int, model: str, identity: str) -> Device:
    # A library counts only the devices that it can open, so the one that a sandbox shows is its first.
    which = identity if identity and "?" not in identity else "0"
    return Device(
        id=f"nvidia{node}",
        name=accelerator_name(model or "NVIDIA GPU"),
        nodes=(f"/dev/nvidia{node}", *_NVIDIA_SHARED),
        environment={"CUDA_VISIBLE_DEVICES": which, "NVIDIA_VISIBLE_DEVICES": which},
    )


def _fact(told: str, name: str) -> str:
    match = re.search(rf"^{name}:\s+(.+)$", told, re.MULTILINE)
    return match[1].strip() if match else ""


@functools.cache
def _asked() -> tuple[str, ...]:
    """Return the models that NVIDIA's own program tells, where the driver's list says nothing; it may take seconds."""
    program = shutil.which("nvidia-smi")
    done = run([program, "--query-gpu=name", "--format=csv,noheader"], timeout=10) if program else None
    return tuple(line for line in done.out.splitlines() if line.strip()) if done and done.code == 0 else ()


def _accel(root: Path) -> list[Device]:
    """Return the devices of the kernel's class for accelerators that are no GPU."""
    names = [one.name for one in (root / "dev/accel").glob("accel*") if re.fullmatch(r"accel\d+", one.name)]
    return [_npu(root, name) for name in sorted(names, key=lambda one: int(one[5:]))]


def _npu(root: Path, name: str) -> Device:
    about = f"/sys/class/accel/{name}/device"
    driver = re.search(r"^DRIVER=(.+)$", text(root / about.lstrip("/") / "uevent"), re.MULTILINE)
    kind = driver[1].strip() if driver else ""
    where = (root / about.lstrip("/")).resolve()
    reads = ("/sys/class/accel", f"/{where.relative_to(root.resolve())}") if driver else ()
    called = _NPUS.get(kind) or re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-") or "npu"
    control = f"/dev/accel/accel_controlD{name[5:]}"
    return Device(id=name, name=called, nodes=(f"/dev/accel/{name}", control), reads=reads)


def _extra(said: dict[str, str]) -> list[Device]:
    found = []
    for name, words in said.items():
        each = [tuple(one.split()) for one in str(words).split(",")]
        rooted = all(each) and all(one.startswith("/") for nodes in each for one in nodes)
        if not is_name(name) or name == WITHOUT or not rooted:
            raise BadInput(
                f"The accelerator {name!r} cannot be {words!r}.",
                field=f"devices.extra.{name}",
                hint='Write its nodes: fpga = "/dev/fpga0 /dev/fpga0-ctl, /dev/fpga1" are two devices.',
            )
        found += [Device(f"{name}-{number}", name, nodes) for number, nodes in enumerate(each)]
    return found

"""Placement: the one object that constrains a notebook, a service, a function and a step. Pure.

Not here: finding out what exists (``ropewalk_devices``) and enforcing limits (``local/sandbox.py``, the runtime).
Rejected: Kubernetes' affinity language as the user's form; five plain fields cover what people ask for.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from ropewalk_core.errors import Unsatisfiable
from ropewalk_core.wrong import wrong

ARCHITECTURES = ("amd64", "arm64", "riscv64")
WITHOUT = "cpu"
"""Among the names of accelerators: also without any."""
_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


def parse_size(value: int | float | str) -> int:
    """Return a size in bytes from ``512Mi``, ``1.5 GiB``, ``2G`` or a number of bytes.

    Raises
    ------
    ValueError
        If the text is not a positive size.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a size; write for example '512Mi'")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    if not match or match[2] not in _UNITS:
        raise ValueError(f"{value!r} is not a size; write for example '512Mi'")
    return int(float(match[1]) * _UNITS[match[2]])


def format_size(size: int) -> str:
    """Return bytes as Kubernetes writes them: the largest binary unit that divides the size."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size, return_type=str, when_used="json")]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]


class Placement(BaseModel):
    """What a piece of work needs from the machine it runs on. Every field may be left out.

    Parameters
    ----------
    arch
        ``amd64``, ``arm64`` or ``riscv64``, or several in order of preference.
    accelerator
        A name from the inventory (``nvidia-h100``, ``npu``), or several in order of preference; ``cpu`` as the last
        one means "else without".
    cpu
        Cores; fractions are allowed.
    memory
        Bytes, or text such as ``2Gi``.
    scratch
        Size of the temporary folder, as `memory`.
    labels
        Labels that the node must carry.
    isolation
        Name of a sandbox class; a missing class is refused, never downgraded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: Names = ()
    accelerator: Names = ()
    cpu: float | None = Field(default=None, gt=0, le=4096)
    memory: Size | None = None
    scratch: Size | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    isolation: str | None = None

    def describe(self) -> str:
        """Return the placement in words, for pages and errors."""
        parts = [
            f"{name} {' or '.join(value)}"
            for name, value in (("arch", self.arch), ("accelerator", self.accelerator))
            if value
        ]
        parts += [f"{self.cpu:g} cores"] if self.cpu else []
        parts += [
            f"{format_size(size)} of {name}"
            for name, size in (("memory", self.memory), ("scratch", self.scratch))
            if size
        ]
        parts += [f"label {key}={value}" for key, value in self.labels.items()]
        parts += [f"isolation {self.isolation}"] if self.isolation else []
        return ", ".join(parts) or "anything"


class Leased(BaseModel):
    """An accelerator that is in use, and by what, in words for whoever asks."""

    model_config = ConfigDict(frozen=True)

    accelerator: str
    holder: str


class Node(BaseModel):
    """One machine, or one pool of equal machines, and what it has in all.

    ``reserved`` names what it is kept for: ``arch:arm64``, ``accelerator:nvidia-h100`` (one of several after commas)
    or ``labels:pool=blue``. It takes only work that asks for each of them. ``leases`` are filled in for whoever looks;
    None says that nobody here knows.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    arch: str
    cpu: float
    memory: int
    scratch: int = 0
    accelerators: dict[str, int] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    isolations: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    leases: tuple[Leased, ...] | None = None

    def describe(self) -> str:
        """Return the node in words."""
        accelerators = ", ".join(f"{count} x {name}" for name, count in sorted(self.accelerators.items()))
        return (
            f"{self.name}: arch {self.arch}, {self.cpu:g} cores, {self.memory / 2**30:.1f} GiB of memory, "
            f"{accelerators or 'no accelerator'}"
            + (f", kept for {' and '.join(self.reserved)}" if self.reserved else "")
        )


class Inventory(BaseModel):
    """Every node that exists, or that a node pool named in settings could bring."""

    model_config = ConfigDict(frozen=True)

    nodes: tuple[Node, ...] = ()


class Fit(BaseModel):
    """Where a placement lands: the node, and the accelerator chosen from the order of preference."""

    model_config = ConfigDict(frozen=True)

    node: Node
    accelerator: str | None = None


def parse_placement(value: Placement | dict[str, Any] | None) -> Placement:
    """Return a `Placement`, or raise `BadInput` that names the wrong field."""
    if isinstance(value, Placement):
        return value
    try:
        return Placement.model_validate(value or {})
    except ValidationError as error:
        raise wrong(error.errors(), within="placement") from error


def fit(placement: Placement, inventory: Inventory) -> Fit:
    """Return the first node that can satisfy the placement when it is empty.

    Raises
    ------
    Unsatisfiable
        If no node ever can; the message says what was asked, what exists and what to change.
    """
    for accelerator in placement.accelerator or (WITHOUT,):
        for node in inventory.nodes:
            if not _lacks(placement, node, accelerator):
                return Fit(node=node, accelerator=None if accelerator == WITHOUT else accelerator)
    raise _refusal(placement, inventory)


def _lacks(placement: Placement, node: Node, accelerator: str) -> list[str]:
    """Return the names of the fields that this node cannot satisfy."""
    lacks = []
    if placement.arch and node.arch not in placement.arch:
        lacks.append("arch")
    if accelerator != WITHOUT and not node.accelerators.get(accelerator):
        lacks.append("accelerator")
    if placement.cpu and placement.cpu > node.cpu:
        lacks.append("cpu")
    if placement.memory and placement.memory > node.memory:
        lacks.append("memory")
    if placement.scratch and node.scratch and placement.scratch > node.scratch:
        lacks.append("scratch")
    if any(node.labels.get(key) != value for key, value in placement.labels.items()):
        lacks.append("labels")
    if placement.isolation and placement.isolation not in node.isolations:
        lacks.append("isolation")
    lacks += [one.partition(":")[0] for one in node.reserved if not _asks_for(one, placement, accelerator)]
    return lacks


def _asks_for(reserved: str, placement: Placement, accelerator: str) -> bool:
    """Say whether the placement asks for what a node is kept for."""
    name, _, value = reserved.partition(":")
    if name == "accelerator":
        return accelerator in value.split(",")
    if name == "arch":
        return value in placement.arch
    key, _, wanted = value.partition("=")
    return placement.labels.get(key) == wanted


def _refusal(placement: Placement, inventory: Inventory) -> Unsatisfiable:
    wanted = (placement.accelerator or (WITHOUT,))[0]
    bare = [node.model_copy(update={"reserved": ()}) for node in inventory.nodes]  # what is kept is not what lacks,
    nodes = (
        bare if any(_lacks(placement, node, wanted) for node in bare) else inventory.nodes
    )  # unless nothing else does
    lacks = sorted({name for node in nodes for name in _lacks(placement, node, wanted)})
    exists = "; ".join(node.describe() for node in inventory.nodes) or "no node"
    fields = ", ".join(lacks) or "placement"
    return Unsatisfiable(
        f"No machine here can give {placement.describe()}. There is {exists}.",
        field=f"placement.{lacks[0]}" if lacks else "placement",
        hint=f"Change or leave out {fields}, or ask your administrator for such a machine.",
        details={"asked": placement.model_dump(mode="json"), "exists": [node.model_dump() for node in inventory.nodes]},
    )

"""A machine that has accelerators, for rigs: plain files play the device nodes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ropewalk_core.placement import Inventory
from ropewalk_core.settings import Settings
from ropewalk_devices.found import devices


def install(home: Path, accelerators: Mapping[str, str]) -> None:
    """Write them into the settings of a home, as its owner would."""
    lines = [f"{name} = {json.dumps(nodes)}\n" for name, nodes in accelerators.items()]
    (home / "ropewalk.toml").write_text("".join(["[devices.extra]\n", *lines]))


def counted(inventory: Inventory, settings: Settings) -> Inventory:
    """Return the inventory with what the settings say is there."""
    there = dict(Counter(one.name for one in devices(settings)))
    return Inventory(nodes=tuple(one.model_copy(update={"accelerators": there}) for one in inventory.nodes))

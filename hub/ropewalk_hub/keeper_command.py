"""The command line of a keeper: the first process in an account's sandbox, on a socket that it inherits.

Not here: starting it and talking to it (``host``). Rejected: the runtime as an installed package (the keeper and its
zygotes run any Python, which may have none of ours).
"""

from __future__ import annotations

import sys
from pathlib import Path

import ropewalk_runtime
from ropewalk_core.local import sandbox
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Lease
from ropewalk_core.settings import Settings

_BOOT = """try:
 import ropewalk_runtime
except ImportError:
 import sys, importlib.util as kit
 spec = kit.spec_from_file_location("ropewalk_runtime", {file!r}, submodule_search_locations=[{folder!r}])
 sys.modules["ropewalk_runtime"] = kit.module_from_spec(spec)
 spec.loader.exec_module(sys.modules["ropewalk_runtime"])
 del sys, kit, spec"""
"""Brings the runtime into any Python, and nothing of what lies beside it there."""


def command(settings: Settings, paths: AccountPaths, descriptor: int, idle: float, lease: Lease | None) -> list[str]:
    """Return the command line of a keeper.

    Parameters
    ----------
    settings, paths
        The home and the account.
    descriptor
        Its packet socket to the host.
    idle
        Seconds without work after which it ends by itself.
    lease
        The accelerator that its sandbox shows.
    """
    file = Path(ropewalk_runtime.__file__).resolve()
    boot = _BOOT.format(file=str(file), folder=str(file.parent))
    source = f"{boot}\nfrom ropewalk_runtime.keeper import main\nmain({descriptor}, {idle}, {boot!r})"
    return sandbox.command(
        settings,
        paths,
        [sys.executable, "-I", "-S", "-c", source],
        nested=True,
        die_with_parent=True,
        group=f"functions.{paths.account}",
        cwd=paths.root,
        lease=lease,
    )

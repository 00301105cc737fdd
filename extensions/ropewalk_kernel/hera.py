"""Hera in a notebook speaks to the platform by itself: set up when it is first imported, at no cost before that.

Only what nobody has set is set; its token renews. Not here: what the platform answers it (``ropewalk_hub.argo_api``).
Rejected: importing Hera at the kernel's start, which takes half a second of everybody's.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_CONFIGURED = "hera.shared"


def install() -> None:
    """Have Hera set up as soon as it is imported; at once, if it is there already."""
    if (there := sys.modules.get(_CONFIGURED)) is not None:
        configure(there)
    elif not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def uninstall() -> None:
    """Leave Hera as it is from now on."""
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Finder)]


def configure(shared: ModuleType) -> None:
    """Say to Hera where the platform is and who asks, where the person has not."""
    from ropewalk_core import settings
    from ropewalk_core.client import argo_server

    config: Any = shared.global_config
    address, account = argo_server(), settings.read_environment("ROPEWALK_ACCOUNT")
    if not (address and account) or config.host:
        return
    config.host = f"{address}/argo/"
    config.namespace = config.namespace or account
    if config._token is None:  # reading the public name would ask for a token
        config.token = _token


def _token() -> str:
    from ropewalk_core import sync

    return sync.wait(sync.client().token("api")).text


class _Finder:
    """Finds Hera's settings module once, as it would be found anyway, and sets it up when it has been run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if name != _CONFIGURED:
            return None
        uninstall()
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = _then_configured(loader.exec_module)
        return spec


def _then_configured(run: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        run(module)
        configure(module)

    return exec_module

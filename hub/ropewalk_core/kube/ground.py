"""KubeGround: what the ports on a cluster are built on, given as one.

Not here: what one port alone needs (charts, buckets, tokens), and who puts it together (``ropewalk_hub.backends``).
Rejected: a class to inherit from; the ports of a cluster share what they stand on, and nothing of what they do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ropewalk_core.journal import Journal
from ropewalk_core.kube.api import Api
from ropewalk_core.kube.intents import Intents
from ropewalk_core.kube.nodes import Site
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings


@dataclass(frozen=True)
class KubeGround:
    """The installation, its journal, time, the API server with the platform's rights, and what follows from them."""

    settings: Settings
    journal: Journal
    clock: Clock
    api: Api
    space: Callable[[str], Awaitable[str]]
    """Returns an account's namespace, made if it lacks and checked to be that account's."""
    site: Callable[[], Awaitable[Site]]
    """Returns what the cluster has."""
    intents: Intents
    """Keeps and carries out what is accepted."""

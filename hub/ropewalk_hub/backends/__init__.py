"""Backends: how the ports of one platform are put together, chosen by ``settings.backend``.

A backend is a function that takes the common `Ground` and returns a `Backend`, found by the entry point group
``ropewalk.backends``: ``local`` for this machine, ``kube`` for a cluster, others from packages that are installed
beside. Policy is not theirs: ``platform.py`` wraps each port in its guard. Rejected: a class to inherit from; a backend
is a handful of parts, and only its builder knows how they belong together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeAlias

from ropewalk_core.called import CallBook
from ropewalk_core.catalog import Catalog
from ropewalk_core.errors import BadInput
from ropewalk_core.journal import Journal
from ropewalk_core.model import Actor, CallReport, FunctionRoute, ServiceRoute
from ropewalk_core.placement import Inventory, Leased
from ropewalk_core.ports import Clock, Functions, Services, Storage, Workflows
from ropewalk_core.secrets import Safe
from ropewalk_core.settings import Settings
from ropewalk_core.triggers.watching import Look
from ropewalk_hub.addresses import Addresses
from ropewalk_hub.issuer import Issuer
from ropewalk_hub.notebooks import Berth
from ropewalk_hub.secrets_store import SecretsStore
from ropewalk_workflows.desk import Desk

GROUP = "ropewalk.backends"
Task: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Ground:
    """What every backend is built on."""

    settings: Settings
    addresses: Addresses
    journal: Journal
    clock: Clock
    templates: Catalog
    issuer: Issuer
    store: SecretsStore
    token: Callable[[Actor], Awaitable[str]]
    """Makes a person's token of audience ``functions``."""


class Traffic(Protocol):
    """What the gateway is told of functions and services, and what it tells."""

    def functions(self) -> tuple[FunctionRoute, ...]:
        """Return where the gateway finds each function."""

    def function(self, owner: str, name: str) -> FunctionRoute | None:
        """Return where the gateway finds one function; None if there is none."""

    def services(self) -> tuple[ServiceRoute, ...]:
        """Return where the gateway finds each service."""

    def gateway_asked(self, cursor: int) -> None:
        """Note that a gateway has everything up to this cursor."""

    def record_calls(self, report: CallReport) -> None:
        """Remember what the gateway reports of calls."""

    @property
    def called(self) -> CallBook:
        """What is known of calls."""


@dataclass(frozen=True)
class Backend:
    """The parts of one backend; the ports are not guarded yet."""

    services: Services
    functions: Functions
    workflows: Workflows
    storage: Storage
    safe: Safe
    """Where values of secrets lie."""
    inventory: Callable[[], Inventory]
    """What there is now; raises `Unavailable` while that is not known."""
    traffic: Traffic
    berth: Berth
    """Where notebook servers lie."""
    end_work: Callable[[str], Awaitable[None]]
    """Ends everything that runs for an account besides its notebook server."""
    apart: Callable[[], bool]
    """Whether accounts are kept apart here."""
    tasks: tuple[Task, ...]
    """What runs as long as the platform serves."""
    close: Callable[[], Awaitable[None]]
    desk: Desk | None = None
    """Where an engine of ours gets its runs, if there is one."""
    lent: Callable[[str], tuple[Leased, ...]] | None = None
    """Which accelerators are in use, as this account may know it; None where nobody here knows. Blocks for a moment."""
    look: Look | None = None
    """Looks into folders for triggers; without it no file fires a function here."""


Builder: TypeAlias = Callable[[Ground], Backend]


def find(name: str) -> Builder:
    """Return the builder of a backend.

    Raises
    ------
    BadInput
        If no package brings a backend of this name.
    """
    found = {one.name: one for one in entry_points(group=GROUP)}
    if name not in found:
        raise BadInput(
            f"There is no backend '{name[:60]}'.",
            field="backend",
            hint=f"Set `backend` to one of: {', '.join(sorted(found)) or 'none is installed'}.",
        )
    builder: Builder = found[name].load()
    return builder

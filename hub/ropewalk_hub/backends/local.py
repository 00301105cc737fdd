"""The backend of one machine: processes in sandboxes, our own workflow engine, folders.

Not here: what any of them does (``ropewalk_core.local``, ``ropewalk_workflows``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ropewalk_core import environments
from ropewalk_core.called import CallBook
from ropewalk_core.journal import Journal
from ropewalk_core.local import accounts, logs, sandbox, sent
from ropewalk_core.local.functions import LocalFunctions
from ropewalk_core.local.host_client import HostClient
from ropewalk_core.local.leases import Leases
from ropewalk_core.local.safe import LocalSafe
from ropewalk_core.local.services import KIND as SERVICE
from ropewalk_core.local.services import LocalServices, socket_path
from ropewalk_core.local.storage import LocalStorage
from ropewalk_core.model import CallReport, FunctionRoute, LogLine, Service, ServiceRoute, Why
from ropewalk_core.placement import Leased
from ropewalk_core.processes import Processes
from ropewalk_core.settings import Settings, read_environment
from ropewalk_devices.found import devices
from ropewalk_devices.inventory import discover
from ropewalk_hub.backends import Backend, Ground
from ropewalk_hub.notebooks import Seen, log_path
from ropewalk_hub.preparing import Preparing
from ropewalk_hub.secrets_store import Secret
from ropewalk_workflows.engine.points import VARIABLE, killer
from ropewalk_workflows.local import LocalWorkflows


class LocalBerth:
    """Notebook servers are processes of this machine, with a log in the home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes = Processes(settings.run / "processes")

    async def prepare(self, owner: str) -> dict[str, Any]:
        """Do nothing; the spawner makes the account's folders."""
        return {}

    async def look(self, owner: str, *, gone: bool = False) -> Seen | None:
        """Return nothing; the hub knows all there is to know."""
        return None

    async def forget(self, owner: str) -> None:
        """Do nothing; the next start ends a server that an earlier hub forgot."""

    async def ended_with_us(self, owner: str) -> bool:
        """Whether its server ended when the platform was stopped."""
        return not await asyncio.to_thread(self._processes.alive, f"notebook.{owner}")

    async def logs(self, owner: str, *, after: int, follow: bool, ended: Callable[[], bool]) -> AsyncIterator[LogLine]:
        """Yield the log's lines."""
        async for line in logs.follow(log_path(self._settings, owner), after=after, follow=follow, ended=ended):
            yield line


class LocalTraffic:
    """Functions are reached through workers, services through their sockets."""

    def __init__(self, settings: Settings, journal: Journal, functions: LocalFunctions) -> None:
        self._settings, self._journal, self._functions = settings, journal, functions

    def functions(self) -> tuple[FunctionRoute, ...]:
        """Return where the gateway finds each function."""
        return self._functions.routes()

    def function(self, owner: str, name: str) -> FunctionRoute | None:
        """Return where the gateway finds one function; None if there is none."""
        return self._functions.route(owner, name)

    def services(self) -> tuple[ServiceRoute, ...]:
        """Return where the gateway finds each service."""
        found = [Service.model_validate(one.body) for one in self._journal.page(SERVICE, limit=100_000)]
        return tuple(
            ServiceRoute(
                owner=one.owner,
                name=one.spec.name,
                socket=str(socket_path(self._settings, one.owner, one.spec.name)),
                state=one.status.state,
            )
            for one in found
        )

    def gateway_asked(self, cursor: int) -> None:
        """Note that a gateway has everything up to this cursor."""
        self._functions.gateway_asked(cursor)

    def record_calls(self, report: CallReport) -> None:
        """Remember what the gateway reports of calls."""
        self._functions.record_calls(report)

    @property
    def called(self) -> CallBook:
        """What is known of calls."""
        return self._functions.called


def build(ground: Ground) -> Backend:
    """Put the parts of one machine together."""
    settings, journal, clock = ground.settings, ground.journal, ground.clock
    inventory, leases = discover(settings), Leases(settings, devices(settings))
    host = HostClient(settings.run / "host.sock")
    functions = LocalFunctions(settings, journal, inventory, clock, host=host, token=ground.token)

    async def built(owner: str, lines: Sequence[str]) -> str:
        return (await functions.built(owner, lines)).key

    workflows = LocalWorkflows(
        settings,
        journal,
        inventory,
        prepare=accounts.equip,  # at the first run too: its packages are what a result is remembered with
        fingerprint=environments.fingerprint,
        built=built,
        wall=clock.wall,
        crash=killer(read_environment(VARIABLE)),
    )
    functions.also_needed = workflows.environments
    services = LocalServices(
        settings,
        journal,
        Processes(settings.run / "processes"),
        clock,
        templates=ground.templates,
        inventory=inventory,
        environment=environments.ensure,
        leases=leases,
    )

    async def end_work(account: str) -> None:
        cause = "The account was deactivated."
        await functions.end_builds(account)
        await services.stop_all(account, Why(cause=cause, next="Launch it again when the account is active."))
        await workflows.cancel_all(account, cause)
        await host.end_account(account)  # last, so that nothing starts what it ends

    storage = LocalStorage(settings, key=ground.store.text(Secret.FILE_KEY).encode(), wall=clock.wall)
    return Backend(
        services=services,
        functions=functions,
        workflows=workflows,
        storage=storage,
        safe=LocalSafe(settings),
        inventory=lambda: inventory,
        lent=lambda reader: tuple(Leased(accelerator=one.name, holder=one.said(reader)) for one in leases.held()),
        traffic=LocalTraffic(settings, journal, functions),
        berth=LocalBerth(settings),
        end_work=end_work,
        apart=lambda: settings.accounts.shared_trust or sandbox.probe().works,
        tasks=(
            Preparing(journal, settings).run,
            services.run,
            functions.run,
            functions.keep_figures,
            lambda: sent.clean(settings, journal),
        ),
        close=host.close,
        desk=workflows.desk,
        look=storage.look,
    )

"""Starts a person's notebook server in the account's sandbox, for JupyterHub.

The server is a process with a record (``ropewalk_core.processes``), so it outlives the hub: whoever restarts finds it
by the record, not by its own children. JupyterLab itself runs from the platform's read-only environment, kernels and
terminals from the account's. Not here: who may start one (the hub asks the issuer) and what a sandbox shows.

Rejected: LocalProcessSpawner (needs a Unix user for everybody, knows no sandbox) and one container per person.
"""

from __future__ import annotations

import asyncio
import math
import sys
from functools import lru_cache
from typing import Any

from jupyterhub.spawner import Spawner
from jupyterhub.utils import random_port
from traitlets import default

from ropewalk_core import environments
from ropewalk_core import settings as settings_module
from ropewalk_core.errors import Denied, RopewalkError, Unavailable
from ropewalk_core.local import accounts, sandbox
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Leases
from ropewalk_core.placement import Fit, Inventory, Placement, fit
from ropewalk_core.processes import Processes, Running
from ropewalk_core.settings import Settings
from ropewalk_devices.found import devices
from ropewalk_devices.inventory import discover
from ropewalk_hub.account_spawner import AccountSpawner
from ropewalk_hub.not_started import NotStarted
from ropewalk_hub.notebook_server import ARGUMENTS, THREADS

_POLL = 0.02


class RopewalkSpawner(AccountSpawner, Spawner):  # type: ignore[misc]
    """One notebook server, in the sandbox of its person's account."""

    @default("cmd")
    def _default_command(self) -> list[str]:
        return [sys.executable, "-m", "ropewalk_hub.notebook_server"]

    @default("env_keep")
    def _default_env_keep(self) -> list[str]:
        return []  # nothing of the hub's environment; `sandbox.environ` says what there is

    @property
    def process(self) -> str:
        """The name under which the server's process is recorded."""
        return f"notebook.{self.account}"

    async def start(self) -> tuple[str, int]:
        """Start the server and return where it listens."""
        settings = _settings()
        try:
            chosen = fit(self.placement, _inventory())
            check_alone(settings, self.account)
            paths = await asyncio.to_thread(_prepare, settings, self.account)
            self.port = random_port()
            await asyncio.to_thread(_processes().end, self.process, 1.0)  # a server that an earlier hub forgot
            await asyncio.to_thread(self._spawn, settings, paths, chosen)
            await self._until_listening()
        except RopewalkError as error:
            self.log.warning("No notebook server for %s: %s", self.account, error.message)
            raise NotStarted(error) from error
        return "127.0.0.1", int(self.port)

    async def stop(self, now: bool = False) -> None:
        """End the server and everything it started."""
        await asyncio.to_thread(_processes().end, self.process, 0.0 if now else 5.0)

    async def poll(self) -> int | None:
        """Return None while the server runs, else its exit code, or 0 where another hub had started it."""
        running = _processes().find(self.process)
        if running is not None and running.mark == self._mark:
            return None
        code = _processes().exit_code(self._running) if self._running else None
        self.clear_state()
        return code or 0

    def get_state(self) -> dict[str, Any]:
        """Return what the next hub must know: which start of the process is ours."""
        state: dict[str, Any] = super().get_state()
        return state | ({"mark": self._mark} if self._mark else {})

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what an earlier hub knew."""
        super().load_state(state)
        self._mark = str(state.get("mark", ""))

    def clear_state(self) -> None:
        """Forget the process."""
        super().clear_state()
        self._mark, self._running = "", None

    _mark = ""
    _running: Running | None = None

    def _spawn(self, settings: Settings, paths: AccountPaths, chosen: Fit) -> None:
        """Start the process; in a thread, since it touches the disk."""
        placement = self.placement
        folder = accounts.folder_of(settings, self.account) or paths.files
        self.notebook_dir = str(folder)
        self.mem_limit = placement.memory
        leases = Leases(settings, devices(settings))
        with leases.lend(placement.accelerator, self.account, "notebook") as lease:
            argv = sandbox.command(
                settings,
                paths,
                [*self.cmd, *self.get_args(), *ARGUMENTS],
                inherit=True,
                cwd=folder,
                memory=placement.memory,
                group=self.process,
                lease=lease,
            )
            given = self.get_env() | variables(settings, self.account, placement)
            running = _processes().spawn(
                self.process,
                argv,
                env=sandbox.environ(
                    paths, settings.environments.base, given | (lease.device.variables if lease else {})
                ),
                log=settings.logs / "notebooks" / f"{self.account}.log",
                pass_fds=[lease.descriptor] if lease else (),
            )
            if lease is not None:
                lease.given(running)
        self._mark, self._running = running.mark, running
        self.log.info("The server of %s is process %d on %s", self.account, running.pid, chosen.node.name)

    async def _until_listening(self) -> None:
        """Wait until the server takes connections: the hub itself would ask ever more rarely, up to 5 s late."""
        while _processes().alive(self.process):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(_POLL)
            else:
                writer.close()
                return
        raise Unavailable(
            "The notebook server ended while it started.", hint="Its log says why; correct that and start it again."
        )


def variables(settings: Settings, account: str, placement: Placement) -> dict[str, str]:
    """Return what a person's notebook must know of the platform."""
    door = settings.door
    found = {
        "ROPEWALK_API": f"http://127.0.0.1:{door.port}",
        "ROPEWALK_HOST": f"{door.host}:{door.port}",
        "ROPEWALK_ACCOUNT": account,
        "ROPEWALK_PEOPLE": f"{door.scheme}://%s.{door.people}:{door.people_port}",
        # Sockets of kernels: a short path, in the sandbox's own /tmp where there is one.
        "JUPYTER_RUNTIME_DIR": "/tmp/jupyter" if sandbox.probe().works else f"/tmp/jupyter-{account}",  # noqa: S108
    }
    if placement.cpu:
        found |= dict.fromkeys(THREADS, str(math.ceil(placement.cpu)))
    return found


def check_alone(settings: Settings, account: str) -> None:
    """Refuse a second account where nothing keeps accounts apart.

    Raises
    ------
    Denied
        If no sandbox works, the settings do not vouch for the people, and somebody else was first.
    """
    report = sandbox.probe()
    if report.works or settings.accounts.shared_trust or accounts.first(settings) in (None, account):
        return
    raise Denied(
        f"This machine cannot keep accounts apart ({report.why}), so only the first account may run anything here.",
        hint="Ask the administrator to run `ropewalk doctor`, or to set accounts.shared_trust where people trust "
        "each other with their files.",
    )


def _prepare(settings: Settings, account: str) -> AccountPaths:
    paths = accounts.prepare(settings, account)
    environments.ensure(settings, paths)
    return paths


@lru_cache(maxsize=1)
def _settings() -> Settings:
    return settings_module.load()


@lru_cache(maxsize=1)
def _inventory() -> Inventory:
    return discover(_settings())


@lru_cache(maxsize=1)
def _processes() -> Processes:
    return Processes(_settings().run / "processes")

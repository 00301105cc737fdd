"""The process of a service: its socket, its command in the sandbox, its log, whether it answers, how it ended.

Blocking where said; no journal and no decisions (``services.py``, ``service_plan.py``). Rejected: the program's port on
the machine's loopback, which every account could reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ropewalk_core import beneath, catalog, machine, why
from ropewalk_core.catalog import Catalog, Entry
from ropewalk_core.errors import BadPath, BadValues, NotFound, RopewalkError, StorageFull
from ropewalk_core.local import accounts, logs, sandbox
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Leases
from ropewalk_core.model import Service, ServiceSpec
from ropewalk_core.processes import Processes, Running
from ropewalk_core.settings import Settings, child_environment

Key = tuple[str, str]
_PREFIX = "service"
_ANSWER = 3.0
_GRACE = 6.0


def socket_path(settings: Settings, owner: str, name: str) -> Path:
    """Return the socket that the gateway connects to: short enough for every kernel, out of every account's reach."""
    return settings.run / f"service-{hashlib.sha256(f'{owner}/{name}'.encode()).hexdigest()[:16]}.sock"


def log_path(settings: Settings, owner: str, name: str) -> Path:
    """Return the log of a service."""
    return settings.logs / "services" / owner / f"{name}.log"


def digest(spec: ServiceSpec) -> str:
    """Return what tells a process that runs this from one that runs an earlier wish."""
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:12]


class ServiceProcesses:
    """Starts, finds, asks and ends processes of services.

    Parameters
    ----------
    settings
        The home.
    processes
        Its process records.
    templates
        The catalogue.
    environment
        Makes an account's Python environment and returns its interpreter (``environments.ensure``).
    leases
        Lends accelerators.
    """

    def __init__(
        self,
        settings: Settings,
        processes: Processes,
        templates: Catalog,
        environment: Callable[[Settings, AccountPaths], Path],
        leases: Leases,
    ) -> None:
        self._settings, self._processes, self._leases = settings, processes, leases
        self._templates, self._environment = templates, environment

    def living(self, key: Key) -> list[Running]:
        """Return the processes that run for this service; more than one only after a kill at a bad moment."""
        return self._processes.living(f"{_PREFIX}.{key[0]}.{key[1]}.")

    def everything(self) -> set[Key]:
        """Return every service of which a process lives."""
        found = set()
        for running in self._processes.living(f"{_PREFIX}."):
            _, owner, name, _ = running.name.split(".")
            found.add((owner, name))
        return found

    def runs(self, running: Running, spec: ServiceSpec) -> bool:
        """Say whether the process was started from this wish."""
        return running.name.endswith(f".{digest(spec)}")

    def start(self, service: Service) -> Running:
        """Start it. Blocks. An earlier process has been ended before.

        Raises
        ------
        Limited
            If every accelerator that would do is taken.
        """
        settings, owner, spec = self._settings, service.owner, service.spec
        entry = self._templates.get(spec.template)
        if entry.local is None:
            raise NotFound(f"The template '{spec.template}' needs a cluster.", field="template")
        paths = accounts.prepare(settings, owner)
        python = self._environment(settings, paths)
        values = self._make_paths(paths, entry, spec.values)
        builtins = self._builtins(service, python, entry.local.port)
        program = catalog.argv(entry.local, values, builtins)
        name = f"{_PREFIX}.{owner}.{spec.name}.{digest(spec)}"
        if spec.placement.accelerator:  # of an earlier start whose first process was killed alone, the rest has it
            self._processes.end(name, 1.0)
        with (
            self._leases.lend(spec.placement.accelerator, owner, f"service '{spec.name}'") as lease,
            contextlib.closing(self._listen(owner, spec.name)) as listener,
        ):
            forward = ["-I", "-m", "ropewalk_runtime.forward", "--listen", str(listener.fileno())]
            command = sandbox.command(
                settings,
                paths,
                [str(python), *forward, "--port", builtins["port"], "--", *program],
                network=False,
                environment=catalog.environment(entry.local, values, builtins),
                cwd=base_folder(settings, paths),
                memory=spec.placement.memory or entry.local.memory,
                group=f"service.{owner}.{spec.name}",
                lease=lease,
            )
            running = self._processes.spawn(
                name,
                command,
                env=child_environment(),
                log=log_path(settings, owner, spec.name),
                pass_fds=(listener.fileno(), *([lease.descriptor] if lease else ())),
            )
            if lease is not None:
                lease.given(running)
            return running

    def end(self, key: Key) -> None:
        """End every process of it. Blocks for the grace it has."""
        for running in self.living(key):
            self._processes.end(running.name, _GRACE)

    def forget(self, key: Key) -> None:
        """Remove what it left outside of the account's folder."""
        socket_path(self._settings, *key).unlink(missing_ok=True)
        log_path(self._settings, *key).unlink(missing_ok=True)

    async def ended(self, running: Running) -> None:
        """Wait until a process has ended."""
        await self._processes.wait(running)

    async def answers(self, service: Service) -> bool:
        """Ask its readiness path over its socket; True for an answer that is not an error."""
        local = self._templates.get(service.spec.template).local
        path = local.readiness.path if local else "/"
        host = service.address.split("/")[2]
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: */*\r\n\r\n".encode()
        try:
            async with asyncio.timeout(_ANSWER):
                target = str(socket_path(self._settings, service.owner, service.spec.name))
                reader, writer = await asyncio.open_unix_connection(target)
                try:
                    writer.write(request)
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return False
        words = line.split()
        return len(words) > 1 and words[1].isdigit() and 200 <= int(words[1]) < 400

    def exit(self, key: Key, running: Running | None, memory: int) -> RopewalkError:
        """Return why a process ended, as far as its exit code is known; an adopted one's is not."""
        what = f"The service '{key[1]}'"
        code = self._processes.exit_code(running) if running else None
        if code is None:
            return why.exited(what, reason="ended")
        if code > 128 or code < 0:
            signal = code - 128 if code > 128 else -code
            return why.exited(what, signal=signal, memory=memory, most=machine.memory())
        return why.exited(what, code=code)

    def last_lines(self, key: Key) -> str:
        """Return the end of its log."""
        return "\n".join(logs.tail(log_path(self._settings, *key)))

    def trim(self, key: Key) -> None:
        """Keep its log under the limit."""
        logs.trim(log_path(self._settings, *key), self._settings.limits.log)

    def check_files(self, owner: str, entry: Entry, values: Mapping[str, Any]) -> None:
        """Refuse a value of format ``file`` that names no file of the person, while the form is still open."""
        paths = AccountPaths(self._settings.home, owner)
        for field, one in entry.template.values_schema["properties"].items():
            if one.get("format") == "file" and values.get(field):
                _check_file(*_anchor(self._settings, paths), field, str(values[field]))

    def _listen(self, owner: str, name: str) -> socket.socket:
        path = socket_path(self._settings, owner, name)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise StorageFull(f"The socket of the service '{name}' cannot be made: {error.strerror}.") from error
        return listener

    def _builtins(self, service: Service, python: Path, port: int) -> dict[str, str]:
        if not sandbox.probe().works:  # one network for all: take a port that nobody else has
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        return {
            "python": str(python),
            "base": str(self._settings.environments.base),
            "port": str(port),
            "host": service.address.split("/")[2],
            "origin": service.address.rstrip("/"),
        }

    def _make_paths(self, paths: AccountPaths, entry: Entry, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with absolute paths; make folders that the template wants made."""
        base, made = base_folder(self._settings, paths), dict(values)
        assert entry.local is not None
        for field, one in entry.template.values_schema["properties"].items():
            if one.get("format") not in ("file", "folder") or field not in made:
                continue
            relative = catalog.check_path(str(made[field]), field)
            made[field] = str(base / relative)
            if field in entry.local.folders:
                anchor, inside = _anchor(self._settings, paths)
                parts = [*inside, *(part for part in relative.parts if part != ".")]
                with beneath.folder(anchor, parts, make=True):
                    pass
        return made


def base_folder(settings: Settings, paths: AccountPaths) -> Path:
    """Return what a service's paths start from: the folder of ``ropewalk up FOLDER``, or the account's files."""
    return accounts.folder_of(settings, paths.account) or paths.files


def _anchor(settings: Settings, paths: AccountPaths) -> tuple[Path, tuple[str, ...]]:
    """Return the innermost folder that the account cannot replace by a link, and where its files lie in it."""
    chosen = accounts.folder_of(settings, paths.account)
    return (chosen, ()) if chosen else (paths.root, ("files",))


def _check_file(anchor: Path, inside: tuple[str, ...], field: str, relative: str) -> None:
    try:
        beneath.read(anchor, (*inside, *beneath.split(relative))).close()
    except NotFound as error:
        raise BadValues(
            f"There is no file '{relative}' in your files.",
            field=field,
            details={"fields": {field: f"There is no file '{relative}' in your files."}},
        ) from error
    except BadPath:  # a link of the person's own: the program decides, inside the sandbox
        return

"""The supervisor: holds the home's lock and the doors, starts the platform's processes and restarts each alone.

``python -m ropewalk_hub.supervisor`` runs in the foreground until a signal; then everything of the home ends in order.
It does nothing else, so it has nothing to crash on, and it stays small: no web framework, no models. Not here: what
the processes are (``siblings.py``), the command line (``commands.py``). Rejected: JupyterHub's managed services (they
outlive a killed hub and keep its port) and systemd units (absent in containers and for ordinary users).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ropewalk_core import settings as settings_module
from ropewalk_core.cli import INTERRUPTED
from ropewalk_core.errors import RopewalkError, StorageFull, Unavailable
from ropewalk_core.local import cgroups, sandbox
from ropewalk_core.processes import Processes
from ropewalk_core.settings import Settings
from ropewalk_hub import addresses, sockets
from ropewalk_hub.home import Hold, prepare
from ropewalk_hub.siblings import ROUTES, Sibling, all_of, ask_unix, environment

log = logging.getLogger("ropewalk.supervisor")
PREFIX = "platform."
_SHORTEST, _LONGEST, _STEADY = 0.2, 30.0, 60.0
_START, _HEAD_START, _POLL = 60.0, 6.0, 0.05
_HEALTH, _SICK = 10.0, 6
_LOG_CHECK, _LOG_CAP = 30.0, 16 * 2**20
Tell = Callable[[str], None]


class Supervisor:
    """Everything of one home, from `ropewalk up` to its end.

    Parameters
    ----------
    settings
        The home's settings as the command line completed them.
    tell
        Says a sentence to the person at the terminal.
    choose
        Returns the processes; tests give fewer.
    """

    def __init__(
        self,
        settings: Settings,
        tell: Tell,
        choose: Callable[[Settings, addresses.Addresses, sockets.Doors], list[Sibling]] = all_of,
    ) -> None:
        self.settings = settings
        self.processes = Processes(settings.run / "processes")
        self._tell = tell
        self._choose = choose
        self._stopping = asyncio.Event()
        self._hurry = False
        self._announced = False
        self._open = asyncio.Event()  # the sign-in page answers: the others no longer take its processor time
        self._failed: dict[str, str] = {}

    async def run(self, ready: Callable[[dict[str, Any]], None]) -> int:
        """Start everything, call ``ready`` with the address, and stay until a signal comes."""
        prepare(self.settings)
        sandbox.check_folder(self.settings)
        with Hold(self.settings) as hold:
            folder = str(self.settings.folder) if self.settings.folder else None
            hold.say(address=self.settings.door.origin, folder=folder)
            ports = self._take_over()  # first: what a killed run left may still hold the doors
            doors = sockets.listen(self.settings)
            try:
                self._catch_signals()
                await self._live(self._choose(self.settings, ports, doors), ready)
            finally:
                doors.close()
                for name in ("ready.json", ROUTES):
                    (self.settings.run / name).unlink(missing_ok=True)
        return 0

    async def _live(self, siblings: Sequence[Sibling], ready: Callable[[dict[str, Any]], None]) -> None:
        """Keep the processes until a signal comes, and end them whatever happens."""
        try:
            async with asyncio.TaskGroup() as tasks:
                keepers = [tasks.create_task(self._keep(one)) for one in siblings]
                watch = tasks.create_task(self._watch(siblings))
                try:
                    await self._until_ready(siblings, ready)
                    await self._stopping.wait()
                finally:
                    self._stopping.set()
                    for task in (*keepers, watch):
                        task.cancel()
                    await self._stop(siblings)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(one, self.stop)

    def stop(self) -> None:
        """Begin to end everything; asked twice, hurry."""
        self._hurry = self._stopping.is_set()
        self._stopping.set()

    def _take_over(self) -> addresses.Addresses:
        """End what a killed run left of the platform, keep its ports where they are free, adopt people's processes."""
        ended = self.processes.sweep(lambda name: name.startswith(PREFIX), grace=1.0)
        if ended:
            log.warning("ended what an earlier run left: %s", ", ".join(ended))
        try:
            ports = addresses.read(self.settings)
            if all(_is_free(port) for port in (ports.hub, ports.platform, ports.proxy_api)):
                return ports
        except Unavailable:
            pass
        # Notebook servers know the hub by its port: with another one they could never be reached again.
        self.processes.sweep(lambda name: name.startswith("notebook."), grace=3.0)
        (self.settings.run / ROUTES).unlink(missing_ok=True)
        ports = addresses.pick()
        addresses.write(self.settings, ports)
        return ports

    async def _keep(self, sibling: Sibling) -> None:
        """Start a process again and again, with longer pauses while it does not stay."""
        pause = _SHORTEST
        if not sibling.first:
            await self._open.wait()
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                why = await self._once(sibling)
            except RopewalkError as error:  # a full disk, say: fatal at the start, else tried again
                if not self._announced:
                    raise
                why = error.message
            if self._stopping.is_set():
                return
            pause = _SHORTEST if time.monotonic() - started > _STEADY else min(pause * 2, _LONGEST)
            self._failed[sibling.name] = why
            log.warning("%s ended (%s); starting it again in %.1f s", sibling.name, why, pause)
            await asyncio.sleep(pause)

    async def _once(self, sibling: Sibling) -> str:
        """Run a process to its end and say how it ended."""
        running = self.processes.spawn(
            PREFIX + sibling.name,
            sibling.argv,
            env={**environment(self.settings), **sibling.env},
            log=self.settings.logs / f"{sibling.name}.log",
            cwd=sibling.cwd or self.settings.home,
            pass_fds=[one.fileno() for one in sibling.sockets],
            adopt=False,
        )
        code = await self.processes.wait(running)
        await asyncio.to_thread(self.processes.end, PREFIX + sibling.name, 0.5)  # what it left behind
        return _said(code)

    async def _until_ready(self, siblings: Sequence[Sibling], ready: Callable[[dict[str, Any]], None]) -> None:
        deadline = time.monotonic() + _START
        waiting = list(siblings)
        while waiting and not self._stopping.is_set():
            answers = await asyncio.gather(*(self._is_ready(one) for one in waiting))
            done = [one.name for one, answer in zip(waiting, answers, strict=True) if answer]
            if done:
                log.info("ready after %.2f s: %s", time.monotonic() - (deadline - _START), ", ".join(done))
            waiting = [one for one in waiting if one.name not in done]
            if not any(one.first for one in waiting) or time.monotonic() > deadline - _START + _HEAD_START:
                self._open.set()
            if waiting and time.monotonic() > deadline:
                raise self._late(waiting[0])
            await asyncio.sleep(_POLL)
        if not self._stopping.is_set():
            await self._announce(ready)

    async def _is_ready(self, sibling: Sibling) -> bool:
        return self.processes.alive(PREFIX + sibling.name) and await sibling.ready()

    async def _announce(self, ready: Callable[[dict[str, Any]], None]) -> None:
        _, answer = await ask_unix(self.settings.run / "platform.sock", "/internal/first", "POST")
        facts = {
            "address": self.settings.door.origin,
            "first": (answer or {}).get("link"),
            "home": str(self.settings.home),
            "pid": os.getpid(),
        }
        path = self.settings.run / "ready.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(facts))
        self._announced = True
        ready(facts)

    def _late(self, sibling: Sibling) -> Unavailable:
        path = self.settings.logs / f"{sibling.name}.log"
        lines = path.read_text(errors="replace").splitlines()[-12:] if path.exists() else []
        why = f" It ended with {self._failed[sibling.name]}." if sibling.name in self._failed else ""
        return Unavailable(
            f"The {sibling.name} did not get ready in {_START:.0f} seconds.{why}",
            hint=f"Its log is {path}; the last lines are:\n  " + "\n  ".join(lines),
        )

    async def _watch(self, siblings: Sequence[Sibling]) -> None:
        """Ask each process now and then; end one that lives but does not answer, and keep logs small."""
        silent = dict.fromkeys((one.name for one in siblings), 0)
        well: dict[str, int] = {}
        ticks = 0
        while True:
            await asyncio.sleep(_HEALTH)
            ticks += 1
            for one in siblings:
                running = self.processes.find(PREFIX + one.name)
                if await one.ready():
                    silent[one.name], well[one.name] = 0, running.pid if running else 0
                    continue
                silent[one.name] += 1
                patience = _SICK if running and well.get(one.name) == running.pid else int(_START / _HEALTH)
                if running and silent[one.name] >= patience:
                    log.warning("%s does not answer; ending it", one.name)
                    await asyncio.to_thread(self.processes.end, PREFIX + one.name, one.grace)
                    silent[one.name] = 0
            if ticks % int(_LOG_CHECK / _HEALTH) == 0:
                await asyncio.to_thread(trim_logs, self.settings.logs)

    async def _stop(self, siblings: Sequence[Sibling]) -> None:
        """End everything of the home in order: traffic, work, people's processes, then the hub and the platform."""
        self._tell("Stopping.")
        graces = {one.name: one.grace for one in siblings}
        for names in (("gateway", "engine"), ("platform",), ("host",)):
            await self._end([PREFIX + one for one in names if one in graces], graces)
        people = [one.name for one in self.processes.living() if not one.name.startswith((PREFIX, "supervisor"))]
        await self._end(people, {})
        await self._end([PREFIX + one for one in graces], graces)
        await asyncio.to_thread(self.processes.sweep, lambda name: name != "supervisor", 0.5)
        cgroups.remove(self.settings)

    async def _end(self, names: Sequence[str], graces: dict[str, float]) -> None:
        def end(name: str) -> None:
            started = time.monotonic()
            if self.processes.end(name, 0.2 if self._hurry else graces.get(name.removeprefix(PREFIX), 5.0)):
                log.info("ended %s in %.2f s", name, time.monotonic() - started)

        await asyncio.gather(*(asyncio.to_thread(end, name) for name in names))


def trim_logs(folder: Path, cap: int = _LOG_CAP) -> None:
    """Keep each log, and the last part of what was cut, under the cap; its writer goes on at the new, empty end."""
    for path in (*folder.glob("*.log"), *folder.glob("notebooks/*.log")):  # those of services are cut by the platform
        if path.stat().st_size > cap:
            try:
                with path.open("rb") as whole, path.with_suffix(".log.1").open("wb") as part:
                    whole.seek(-cap, os.SEEK_END)
                    part.write(whole.read(cap))
            except OSError:  # a full disk: the newer lines matter more
                path.with_suffix(".log.1").unlink(missing_ok=True)
            os.truncate(path, 0)


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _said(code: int | None) -> str:
    if code is None:
        return "an unknown exit code"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the supervisor as a program; `ropewalk up` becomes it."""
    parser = argparse.ArgumentParser(prog="ropewalk up")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def ready(facts: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(facts) + "\n" if arguments.json else greeting(facts))
        sys.stdout.flush()
        report = sandbox.probe()
        if not report.works and not arguments.json:
            tell(f"Accounts cannot be kept apart on this machine ({report.why}); only one will be let in.")

    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back since `ropewalk up` became us
        settings = settings_module.load(arguments.home, door_port=arguments.port, folder=arguments.folder)
        _log_to(settings)
        return asyncio.run(_run(settings, tell, ready))
    except KeyboardInterrupt:  # before there was anything to stop
        return INTERRUPTED
    except RopewalkError as error:
        tell(
            json.dumps(error.problem())
            if arguments.json
            else f"ropewalk: {error.message} [{error.code}]\n  {error.hint}"
        )
        return 1
    except OSError as error:
        full = StorageFull(f"The platform cannot write to its home: {error.strerror}.")
        tell(json.dumps(full.problem()) if arguments.json else f"ropewalk: {full.message} [{full.code}]\n  {full.hint}")
        return 1


async def _run(settings: Settings, tell: Tell, ready: Callable[[dict[str, Any]], None]) -> int:
    return await Supervisor(settings, tell).run(ready)


def greeting(facts: dict[str, Any]) -> str:
    """Return what a person reads when the platform is ready."""
    lines = [f"Ropewalk is ready: {facts['address']}"]
    if facts.get("first"):
        lines += ["Make the first administrator with this link. It works once:", f"  {facts['first']}"]
    return "\n".join(lines) + "\n"


def _log_to(settings: Settings) -> None:
    prepare(settings)
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in (logging.FileHandler(settings.logs / "supervisor.log"), logging.StreamHandler()):
        handler.setFormatter(form)
        handler.setLevel(logging.INFO if isinstance(handler, logging.FileHandler) else logging.WARNING)
        logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())

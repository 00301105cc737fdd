"""Services on this machine: a process per service, in its account's sandbox, with a network of its own.

The journal is the truth of what is wanted; a queue looks at one service at a time and does the next act of
``service_plan``. Processes outlive the platform and are adopted by the next one. The platform opens a unix socket
outside of the sandbox and hands it to `ropewalk_runtime.forward`, which starts the program and relays; the gateway
connects to that socket and to nothing that an account could have put in its place. Not here: who may ask (``guard``),
traffic (the gateway). Rejected: a supervising process per service; the platform may die at any time anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ropewalk_core import names, why
from ropewalk_core.catalog import Catalog
from ropewalk_core.errors import BadInput, Conflict, NotFound, RopewalkError, TimedOut
from ropewalk_core.journal import Append, Journal, Put, Record, Remove
from ropewalk_core.local import logs
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Leases
from ropewalk_core.local.service_plan import STEADY, Do, Have, pause_after, plan
from ropewalk_core.local.service_process import Key, ServiceProcesses, log_path, socket_path
from ropewalk_core.model import Actor, LogLine, Page, Service, ServiceSpec, State, Status, Why
from ropewalk_core.placement import Inventory, fit
from ropewalk_core.ports import Clock
from ropewalk_core.processes import Processes, Running
from ropewalk_core.reconcile import KeyedQueue
from ropewalk_core.service_records import KIND, LAST, RESTING, changes, found, page, service_of, stands, wanted
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import Tasks

__all__ = ["KIND", "LAST", "LocalServices", "log_path", "socket_path"]

_PROBE = 0.25
_LOOK = 60.0


@dataclass(frozen=True)
class _Seen:
    """What the platform remembers of a service while it runs; all of it may be forgotten."""

    running: Running | None = None
    started: float = 0.0
    ready_at: float | None = None
    failures: int = 0
    not_before: float = 0.0
    error: RopewalkError | None = None


class LocalServices:
    """The `Services` port with processes of this machine; `run` carries out what the port accepts.

    Parameters
    ----------
    settings, journal, processes, clock
        The home, its journal, its process records, time.
    templates
        The catalogue.
    inventory
        What this machine has.
    environment
        Makes an account's Python environment and returns its interpreter (``environments.ensure``).
    leases
        Lends accelerators; without it there are none.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        processes: Processes,
        clock: Clock,
        *,
        templates: Catalog,
        inventory: Inventory,
        environment: Callable[[Settings, AccountPaths], Path],
        leases: Leases | None = None,
    ) -> None:
        self._settings, self._journal, self._clock = settings, journal, clock
        self._templates, self._inventory = templates, inventory
        self._machine = ServiceProcesses(settings, processes, templates, environment, leases or Leases(settings, ()))
        self._seen: dict[Key, _Seen] = {}
        self._watchers: dict[Key, asyncio.Task[None]] = {}
        self._tasks = Tasks()
        self._queue: KeyedQueue[Key] = KeyedQueue(self._look, clock)

    # The port

    async def apply(self, actor: Actor, owner: str, spec: ServiceSpec, *, key: str = "") -> Service:
        """See `Services.apply`."""
        spec = await asyncio.to_thread(self._checked, owner, spec)
        record = self._journal.get(KIND, owner, spec.name)
        have = service_of(record) if record else None
        if have and stands(have, spec):
            return have
        created = have.created if have else None
        service = wanted(self._settings, owner, spec, now=self._clock.wall(), created=created)
        body = service.model_dump(mode="json")
        await self._journal.write(
            # What is there is replaced whatever its state became meanwhile; whoever wrote that looks again.
            Put(KIND, owner, spec.name, body, expect=None if record else 0),
            Put(LAST, owner, spec.template, spec.values),
            Append(KIND, owner, spec.name, "asked", body),
        )
        self._remember((owner, spec.name), failures=0, not_before=0.0, error=None)
        self._queue.add((owner, spec.name))
        return service

    async def remove(self, actor: Actor, owner: str, name: str) -> Service:
        """See `Services.remove`."""
        while True:
            try:
                service = await self._show(found(self._journal, owner, name), State.STOPPING)
            except Conflict:  # its state went on meanwhile; it is to go all the same
                continue
            self._queue.add((owner, name))
            return service

    async def get(self, actor: Actor, owner: str, name: str) -> Service:
        """See `Services.get`."""
        return service_of(found(self._journal, owner, name))

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Service]:
        """See `Services.list`."""
        return page(self._journal, owner, after=after, limit=limit)

    async def logs(
        self, actor: Actor, owner: str, name: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Services.logs`."""
        found(self._journal, owner, name)
        path = log_path(self._settings, owner, name)
        async for line in logs.follow(path, after=after, follow=follow, ended=lambda: self._gone(owner, name)):
            yield line

    async def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Service, int]]:
        """See `Services.watch`."""
        async for seen in changes(self._journal, owner, after=after):
            yield seen

    # Carrying it out

    async def stop_all(self, owner: str, why: Why) -> None:
        """End every process of an account's services; what was asked for stays, and can be launched again."""
        for name in [one.name for one in self._journal.page(KIND, owner, limit=100_000)]:
            while (record := self._journal.get(KIND, owner, name)) is not None:
                if service_of(record).status.state in (*RESTING, State.STOPPING):
                    break
                with contextlib.suppress(Conflict):  # it changed meanwhile: look again
                    await self._show(record, State.STOPPED, why)
            self._queue.add((owner, name))

    async def run(self) -> None:
        """Bring what is to what is wanted, for ever. Cancelling it leaves the services running."""
        wanted = {(one.owner, one.name) for one in self._journal.page(KIND, limit=1_000_000)}
        for key in sorted(wanted | await asyncio.to_thread(self._machine.everything)):
            self._queue.add(key)
        try:
            await self._queue.run()
        finally:
            await self._tasks.end()

    async def _look(self, key: Key) -> float | None:
        """Do the next act about one service; return when to look again."""
        living = await asyncio.to_thread(self._machine.living, key)
        record = self._journal.get(KIND, *key)
        service = service_of(record) if record else None
        have = self._have(key, service, living)
        do = plan(service.status.state if service else None, have, self._patience(service))
        if do is Do.END:
            return await self._end(key, service, have)
        try:
            if do is Do.FORGET:
                await self._forget(key, record)
            if record is None or service is None or do in (Do.FORGET, Do.REST):
                return None
            return await self._go_on(do, key, record, service, living)
        except Conflict:  # the person changed it meanwhile: look again
            return 0.0

    async def _go_on(
        self, do: Do, key: Key, record: Record, service: Service, living: Sequence[Running]
    ) -> float | None:
        if do is Do.START:
            return await self._start(key, record, service)
        if do is Do.PROBE:
            self._watch_exit(key, living[0])
            if not await self._machine.answers(service):
                await self._show(record, State.STARTING)
                return _PROBE
            self._remember(key, ready_at=self._clock.steady(), error=None)
        if do in (Do.PROBE, Do.KEEP):
            self._watch_exit(key, living[0])
            await self._show(record, State.RUNNING)
            await asyncio.to_thread(self._machine.trim, key)
            return _LOOK
        seen = self._seen[key]
        if do is Do.PAUSE:
            pause = max(0.05, seen.not_before - self._clock.steady())
            cause = why.restarting(f"The service '{key[1]}'", attempt=seen.failures + 1, seconds=pause)
            await self._show(record, State.WAITING, cause.model_copy(update={"raw": self._machine.last_lines(key)}))
            return pause
        cause = why.from_error(seen.error) if seen.error else Why(cause=f"The service '{key[1]}' does not stay up.")
        await self._show(record, State.FAILED, cause.model_copy(update={"raw": self._machine.last_lines(key)}))
        return None

    async def _start(self, key: Key, record: Record, service: Service) -> float:
        await self._show(record, State.STARTING)
        try:
            running = await asyncio.to_thread(self._machine.start, service)
        except RopewalkError as error:
            self._failed(key, error)
            return 0.0
        self._remember(key, running=running, started=self._clock.steady(), ready_at=None)
        self._watch_exit(key, running)
        return _PROBE

    async def _end(self, key: Key, service: Service | None, have: Have) -> float:
        if have.current and service and service.status.state not in (State.STOPPING, *RESTING):
            self._failed(key, _slow(key[1], self._patience(service)))
        self._remember(key, running=None, ready_at=None)
        await asyncio.to_thread(self._machine.end, key)
        return 0.0

    async def _forget(self, key: Key, record: Record | None) -> None:
        """Forget a service that was asked to go and has no process any more; not one that was asked for again."""
        if record:
            status = Status(state=State.STOPPED, since=self._clock.wall())
            body = service_of(record).model_copy(update={"status": status}).model_dump(mode="json")
            removal = Remove(KIND, *key, expect=record.version)
            await self._journal.write(removal, Append(KIND, *key, "removed", body))
        await asyncio.to_thread(self._machine.forget, key)
        self._seen.pop(key, None)

    def _have(self, key: Key, service: Service | None, living: Sequence[Running]) -> Have:
        """Look at one service; notice that a process that was known has ended."""
        now = self._clock.steady()
        seen = self._seen.get(key, _Seen())
        if living and seen.running != living[0]:  # adopted: its patience starts now
            seen = self._remember(key, running=living[0], started=now, ready_at=None)
        if not living and seen.running is not None:
            if seen.ready_at is not None and now - seen.ready_at > STEADY:
                self._remember(key, failures=0)
            seen = self._failed(key, self._machine.exit(key, seen.running, self._memory(service)))
        return Have(
            alive=bool(living),
            current=service is not None and all(self._machine.runs(one, service.spec) for one in living),
            ready=bool(living) and seen.ready_at is not None,
            age=now - seen.started,
            failures=seen.failures,
            pause=seen.not_before - now,
        )

    def _failed(self, key: Key, error: RopewalkError) -> _Seen:
        failures = self._seen.get(key, _Seen()).failures + 1
        later = self._clock.steady() + pause_after(failures)
        return self._remember(key, failures=failures, not_before=later, running=None, ready_at=None, error=error)

    def _watch_exit(self, key: Key, running: Running) -> None:
        """Look again as soon as the process ends."""
        task = self._watchers.get(key)
        if task and not task.done():
            if task.get_name() == running.mark:
                return
            task.cancel()

        async def wait() -> None:
            await self._machine.ended(running)
            self._queue.add(key)

        task = self._watchers[key] = self._tasks.start(wait(), failed=lambda _: self._queue.add(key, after=1.0))
        task.set_name(running.mark)

    # Helpers

    def _checked(self, owner: str, spec: ServiceSpec) -> ServiceSpec:
        """Return the spec with defaults, or refuse it while nothing has happened. Blocks."""
        names.check_name(spec.name)
        names.check_pair(spec.name, owner)
        entry = self._templates.get(spec.template)
        if entry.local is None:
            raise BadInput(
                f"The template '{spec.template}' needs a cluster.", field="template", hint="Choose another template."
            )
        values = self._templates.check(spec.template, spec.values)
        self._machine.check_files(owner, entry, values)
        fit(spec.placement, self._inventory)
        return spec.model_copy(update={"values": values})

    async def _show(self, record: Record, state: State, cause: Why | None = None) -> Service:
        """Record a new state and tell those who watch; the same state again is not written."""
        service = service_of(record)
        if service.status.state is state and service.status.why == cause:
            return service
        status = Status(state=state, since=self._clock.wall(), why=cause)
        service = service.model_copy(update={"status": status})
        body = service.model_dump(mode="json")
        await self._journal.write(
            Put(KIND, record.owner, record.name, body, expect=record.version),
            Append(KIND, record.owner, record.name, state.value, body),
        )
        return service

    def _gone(self, owner: str, name: str) -> bool:
        record = self._journal.get(KIND, owner, name)
        return record is None or service_of(record).status.state in RESTING

    def _remember(self, key: Key, **changes: Any) -> _Seen:
        self._seen[key] = replace(self._seen.get(key, _Seen()), **changes)
        return self._seen[key]

    def _patience(self, service: Service | None) -> float:
        try:
            local = self._templates.get(service.spec.template).local if service else None
        except NotFound:  # the template went away; starting it again says so
            local = None
        return local.readiness.seconds if local else 60.0

    def _memory(self, service: Service | None) -> int:
        return (service.spec.placement.memory or 0) if service else 0


def _slow(name: str, patience: float) -> RopewalkError:
    return TimedOut(
        f"The service '{name}' did not answer within {patience:g} seconds of its start.",
        hint="Look at its log for the last lines, then launch it again.",
    )

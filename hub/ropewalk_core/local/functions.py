"""Functions on this machine: accepted revisions in the journal, their code in the account's folder, calls elsewhere.

A revision is accepted only after a worker in the account's sandbox has written its bundle and loaded it once, so that
what is deployed can run. The gateway gets the routes as part of its snapshot. Not here: traffic (the gateway), workers
(the zygote host). Rejected: writing the bundle from this process (the folder belongs to the account, who could put a
link in the way).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ropewalk_core import called, environments, history, leases, machine, names, sharing, workers
from ropewalk_core.errors import (
    BadCode,
    Limited,
    NotFound,
    RopewalkError,
    StorageFull,
    TimedOut,
    Unavailable,
    Unsatisfiable,
)
from ropewalk_core.functions import (
    KIND,
    LOAD_PATIENCE,
    FunctionBook,
    environment_of,
    function_of,
    revision_id,
    visible,
)
from ropewalk_core.journal import Append, Journal, Operation, Put, Remove
from ropewalk_core.local import safe
from ropewalk_core.local.host_client import HostClient, StepOrder, Worker, WorkerOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.requirement_store import Built, RequirementStore
from ropewalk_core.model import Actor, Function, FunctionSpec, LogLine, Requirements, State, Status
from ropewalk_core.placement import WITHOUT, Inventory, fit
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import Tasks
from ropewalk_core.triggers import records as triggers
from ropewalk_runtime.frames import FrameError, Unpacker

_log = logging.getLogger(__name__)
_CLEANING = 30.0
"""Seconds in which the code of a removed function must be gone."""
_AGAIN = 60.0
"""Seconds after which environments that could not be looked through are looked through again."""
_LAST_WORDS = 0.5
"""Seconds in which the first frame of a worker is read after its end, when somebody else holds its socket open."""


class LocalFunctions(FunctionBook):
    """The `Functions` port with a gateway, zygotes and workers of this machine.

    Parameters
    ----------
    settings, journal, inventory, clock
        The home, its journal, what the machine has, time.
    host
        Starts workers.
    token
        Makes a token of audience ``functions`` for a person.
    environment
        Makes an account's Python environment when it is missing, and returns its fingerprint.
    """

    also_needed: Callable[[], Awaitable[set[str]]] | None = None
    """Returns keys of environments that others than functions need; workflows are made after us."""

    TIDY = 6 * 3600.0
    """Seconds between two looks for environments of requirements that nothing needs."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        inventory: Inventory,
        clock: Clock,
        *,
        host: HostClient,
        token: Callable[[Actor], Awaitable[str]],
        environment: Callable[[Settings, AccountPaths], str] | None = None,
    ) -> None:
        super().__init__(settings, journal, clock, token)
        self._inventory, self._host, self._environment = inventory, host, environment or _environment
        self._store = RequirementStore(settings, self._needed)
        self._deploying: dict[tuple[str, str], asyncio.Lock] = {}
        self._tasks = Tasks()

    # The port

    async def deploy(
        self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "", existing: bool = False
    ) -> Function:
        """See `Functions.deploy`."""
        spec = self._checked(owner, spec)
        await asyncio.to_thread(safe.check, self._settings, owner, spec)  # there may be much to look through
        if existing:
            self._found(owner, spec.name)
        if spec.requirements:  # before the lock, or whoever removes the function waits until all of it is built
            existing = self._journal.get(KIND, owner, spec.name) is not None
            await self._environment_for(owner, spec)
        async with self._lock(owner, spec.name):
            if existing:
                self._found(owner, spec.name)
            return sharing.shown(self._journal, await self._deploy(owner, spec))

    async def prepare(self, actor: Actor, owner: str, needs: Requirements) -> AsyncIterator[LogLine]:
        """See `Functions.prepare`."""
        _there(AccountPaths(self._settings.home, owner))
        async with contextlib.aclosing(self._store.log(owner, needs.requirements, needs.requires_python)) as lines:
            async for line in lines:
                yield line

    async def remove(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.remove`."""
        async with self._lock(owner, name):
            record = self._found(owner, name)
            status = Status(state=State.STOPPED, since=self._clock.wall())
            function = function_of(record).model_copy(update={"status": status})
            cursor = await self._journal.write(
                Remove(KIND, owner, name, expect=record.version),
                *history.forgetting(self._journal, owner, name),
                sharing.forgetting(owner, name),
                *triggers.forgetting(self._journal, owner, "function", name),
                called.forgetting(owner, name),
                Append(KIND, owner, name, "removed", visible(function)),
            )
            self._forget_calls(owner, name)
        await self._gateway_has(cursor)
        self._tasks.start(self._clean(owner, name))
        return function

    async def traffic(self, actor: Actor, owner: str, name: str, weights: Mapping[int, int]) -> Function:
        """See `Functions.traffic`."""
        async with self._lock(owner, name):
            record = self._found(owner, name)
            have = function_of(record)
            function, named = self._wished(have, weights)
            ready = {have.revision.id, *(one.revision for one in have.traffic.shares)}
            for revision in {one.id: one for one in named if one.id not in ready}.values():
                await self._try(owner, revision.spec, revision.id, environment_of(revision))
            cursor = await self._journal.write(
                Put(KIND, owner, name, function.model_dump(mode="json"), expect=record.version),
                Append(KIND, owner, name, "running", visible(function)),
            )
        await self._gateway_has(cursor)
        return sharing.shown(self._journal, function)

    # Deploying

    def _lock(self, owner: str, name: str) -> asyncio.Lock:
        """Return the lock of whoever deploys a function, removes it or removes its code."""
        return self._deploying.setdefault((owner, name), asyncio.Lock())

    def _checked(self, owner: str, spec: FunctionSpec) -> FunctionSpec:
        spec = super()._checked(owner, spec)
        fit(spec.placement, self._inventory)
        workers.check_room(spec, workers.room_of(machine.memory()))
        workers.check_devices(spec, self._inventory)
        return spec

    async def _deploy(self, owner: str, spec: FunctionSpec) -> Function:
        environment, packages = await self._environment_for(owner, spec)
        record = self._journal.get(KIND, owner, spec.name)
        have = function_of(record) if record else None
        identifier = revision_id(spec, environment)
        await self._try(owner, spec, identifier, environment if spec.requirements else "")
        if have and have.revision.id == identifier:
            return have.model_copy(update={"unchanged": True})
        function = self._next_of(owner, spec, have, identifier, environment, State.RUNNING, packages)
        cursor = await self._journal.write(
            Put(KIND, owner, spec.name, function.model_dump(mode="json"), expect=record.version if record else 0),
            *history.keeping(self._journal, function, have),
            *([] if record else self._begins(owner, spec.name)),
            Append(KIND, owner, spec.name, "running", visible(function)),
        )
        await self._gateway_has(cursor)
        return function

    def _begins(self, owner: str, name: str) -> list[Operation]:
        """Return what lets a new function begin private and without triggers, whatever one of its name had."""
        return [sharing.forgetting(owner, name), *triggers.forgetting(self._journal, owner, "function", name)]

    async def _environment_for(self, owner: str, spec: FunctionSpec) -> tuple[str, tuple[str, ...]]:
        """Return the environment that a function runs in, made when missing, and what it holds."""
        paths = AccountPaths(self._settings.home, owner)
        if spec.requirements:
            built = await self.built(owner, spec.requirements, spec.requires_python)
            return built.key, built.packages
        if spec.requires_python:
            await self._store.check_python(spec.requires_python)
        fingerprint = await asyncio.to_thread(self._environment, self._settings, paths)
        return fingerprint, await asyncio.to_thread(environments.packages, paths)

    async def built(self, owner: str, lines: Sequence[str], requires_python: str = "") -> Built:
        """Return the environment of these requirements, made when missing. Raises as `RequirementStore.ensure`."""
        _there(AccountPaths(self._settings.home, owner))
        return await self._store.ensure(owner, lines, requires_python)

    async def _try(self, owner: str, spec: FunctionSpec, revision: str, environment: str) -> None:
        """Write and load the bundle once in a worker, or raise what is wrong with it.

        Most code loads without an accelerator, which takes no time; only what does not is tried with one.
        """
        order = WorkerOrder(
            id=names.new_id("try"),
            account=owner,
            cwd=spec.folder,
            memory=spec.placement.memory,
            cpu=spec.placement.cpu,
            scratch=spec.placement.scratch,
            what=f"function '{spec.name}' (being deployed)",
            patience=0.0,
            preload=spec.bundle.imports,
            network=spec.bundle.form != "server",
            requirements=environment,
            environment=spec.environment,
            secrets=spec.secrets,
            files=spec.files,
            bundle=str(AccountPaths(self._settings.home, owner).bundle(spec.name, revision)),
            content=spec.bundle.model_dump_json().encode(),
        )
        try:
            await self._load(order)
        except BadCode as error:
            wanted = tuple(one for one in spec.placement.accelerator if one != WITHOUT)
            if not wanted:
                raise
            try:
                await self._load(replace(order, id=names.new_id("try"), accelerator=wanted))
            except Unsatisfiable:  # there is none, and it would do without
                raise error from None
            except Limited as taken:
                busy = leases.reworded(taken, owner).message
                error.hint = f"It was tried without an accelerator. {busy} If it needs one to load, deploy it later."
                raise error from None

    async def _load(self, order: WorkerOrder) -> None:
        """Have a worker load the code and end. Raises what is wrong with it."""
        worker = await self._host.start_worker(order)
        try:
            hello = await asyncio.wait_for(_hello(worker), LOAD_PATIENCE)
        except TimeoutError as error:
            await self._host.end(order.id)
            raise TimedOut(
                f"The function's code did not load within {LOAD_PATIENCE:g} seconds.",
                hint="Do long work inside the function, not beside it.",
            ) from error
        finally:
            worker.socket.close()
        if hello.get("op") != "ready":
            raise _refused(hello.get("error"))

    # Environments of requirements

    async def run(self) -> None:
        """Remove environments of requirements that nothing needs, for ever."""
        while True:
            pause = self.TIDY
            try:
                await self.tidy(self._clock.wall())
            except (RopewalkError, OSError) as error:  # the host begins after us, say
                _log.warning("environments of requirements were not looked through: %s", error)
                pause = _AGAIN  # whoever turns the machine off every day would never have it done
            await self._clock.sleep(pause)

    async def end_builds(self, account: str) -> None:
        """End what is built for an account that is deactivated; a deploy that waits for it goes no further."""
        await self._store.end(account)

    async def tidy(self, now: float) -> list[str]:
        """Remove environments that no kept revision names and no worker uses, and return their keys."""
        return await self._store.tidy(now)

    async def _needed(self) -> set[str]:
        """Return the keys of environments that a kept revision or a run names, or something that runs uses."""
        named: set[str] = set()
        for owner in self._journal.weigh(history.REVISION):
            named |= await asyncio.to_thread(history.environments, self._journal, owner)  # there may be many
        also = await self.also_needed() if self.also_needed is not None else set()
        return named | also | await self._host.environments()

    async def _clean(self, owner: str, name: str) -> None:
        """Remove the code of a removed function, as its owner and inside their sandbox."""
        folder = AccountPaths(self._settings.home, owner).bundle(name, "any").parents[1]
        order = StepOrder(
            names.new_id("clean"), owner, kind="command", argv=("rm", "-rf", "--", str(folder)), timeout=_CLEANING
        )
        try:
            async with self._lock(owner, name), asyncio.timeout(_CLEANING):  # who deploys that name waits for it
                if self._journal.get(KIND, owner, name) is None:  # it may have been deployed again
                    await self._host.run_step(order)
        except (RopewalkError, TimeoutError) as error:  # a function of the same name replaces them
            _log.warning("the code of %s's removed function %s stays on disk: %s", owner, name, error)


async def _hello(worker: Worker) -> dict[str, Any]:
    """Return the first frame of a worker; if it ends before, say how.

    Its end is told by the host as well as by its socket, which others that are about to end may still hold open.
    """
    first = asyncio.create_task(_first(worker))
    either: list[asyncio.Future[Any]] = [first, worker.exit]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            await asyncio.wait([first], timeout=_LAST_WORDS)
    finally:
        first.cancel()
        await asyncio.wait([first])  # it leaves the socket alone before that is closed
    if not first.cancelled() and (hello := first.result()) is not None:
        return hello
    ended = await asyncio.shield(worker.exit)
    if ended.reason == "memory":
        raise BadCode("The function needs more memory to load than its placement allows.", field="placement.memory")
    if ended.reason == "lost" or (ended.signal == 9 and not ended.reason):
        raise Unavailable("The sandbox ended while the function was being loaded.")
    raise BadCode(f"The function's code ended Python while it was loaded (exit code {ended.code}).")


async def _first(worker: Worker) -> dict[str, Any] | None:
    """Return the first frame's header, None at the end without one."""
    loop, unpacker = asyncio.get_running_loop(), Unpacker(2**20)
    try:
        while data := await loop.sock_recv(worker.socket, 65536):
            for header, _ in unpacker.feed(data):
                return header
    except FrameError as error:  # it lives on, and whoever waits for its end waits for long
        raise BadCode("The function's code wrote into the connection to its worker.") from error
    except ConnectionError:
        return None  # the same as an end without a word
    return None


def _refused(said: object) -> RopewalkError:
    """Return why code was not accepted. The worker has run it already, so only plain text of its words counts."""
    facts = said if isinstance(said, dict) else {}
    details = facts.get("details")
    texts = {key: _text(value, 100_000) for key, value in (details if isinstance(details, dict) else {}).items()}
    kind = StorageFull if facts.get("code") == StorageFull.code else BadCode
    return kind(
        _text(facts.get("message"), 2000) or "The function does not load.",
        field=_text(facts.get("field"), 200) or None,
        hint=_text(facts.get("hint"), 500) or None,
        details={key: texts[key] for key in ("traceback", "error") if texts.get(key)},
    )


def _text(said: object, most: int) -> str:
    return said[:most].encode(errors="replace").decode() if isinstance(said, str) else ""


def _there(paths: AccountPaths) -> None:
    if not paths.root.is_dir():
        raise NotFound(f"There is no account '{paths.account}' on this machine.")


def _environment(settings: Settings, paths: AccountPaths) -> str:
    _there(paths)
    environments.ensure(settings, paths)
    return environments.fingerprint(paths)

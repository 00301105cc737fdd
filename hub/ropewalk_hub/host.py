"""The zygote host: one keeper per account, in the account's sandbox. Process ``python -m ropewalk_hub.host``.

It listens on ``run/host.sock`` for orders of the gateway, the engine and the platform, and passes each to the keeper
of its account, which it starts when needed. What a client ordered ends with that client's connection. Keepers die with
the host: by the end of their socket, by the kernel (die-with-parent), and if both failed by a sweep at the next start.
What gets an accelerator has a keeper of its own, in a sandbox that shows that device, and both end with it: so no
zygote and no spare ever sees one that was not lent to its only child.
Not here: calls (they go from gateway to worker directly), retries of steps (the engine). Rejected: forking from this
process (it has an event loop).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import uvloop

from ropewalk_core import settings as settings_module
from ropewalk_core.environments import start_over
from ropewalk_core.errors import Internal, NotFound, RopewalkError, Unavailable, UserCodeFailed
from ropewalk_core.local import accounts, cgroups, requirement_store, safe, sandbox
from ropewalk_core.local.channel import Channel
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.local.leases import Lease, Leases, Line
from ropewalk_core.processes import Processes, Running
from ropewalk_core.settings import Settings, child_environment
from ropewalk_core.tasks import Tasks
from ropewalk_devices.found import devices
from ropewalk_hub import groups, keeper_command
from ropewalk_hub.sockets import private
from ropewalk_runtime.frames import MAX_PACKET

log = logging.getLogger("ropewalk.host")
KEEPER_IDLE = 900.0
"""Seconds after which the keeper of an account that runs nothing ends."""
_START_PATIENCE = 20.0
_VARIABLES = MAX_PACKET * 3 // 4
"""Bytes of a worker's own variables and secrets together: they go with its order, in one packet."""
_PREPARE = 0.02
"""Seconds after which a zygote gets the group of its next spare: before it forks that, and after the call's answer."""
Place = tuple[str, str, dict[str, str]]
"""An interpreter, its environment's fingerprint, and variables that go with them."""


class Environments(Protocol):
    """What the host must know of Python environments (``ropewalk_core.environments``)."""

    def ensure(self, settings: Settings, paths: AccountPaths) -> Path:
        """Return the account's interpreter, made when missing."""

    def fingerprint(self, paths: AccountPaths) -> str:
        """Return a text that changes when a package is installed or removed; cheap."""

    def seen(self, settings: Settings, paths: AccountPaths) -> tuple[object, ...] | None:
        """Return what differs when either of the two would say or do something else; None if that is not known."""


@dataclass(eq=False)
class Client:
    """One connection of a sibling."""

    number: int
    channel: Channel | None = None
    jobs: dict[str, Job] = field(default_factory=dict)


@dataclass
class Job:
    """One order on its way or running."""

    client: Client
    id: str
    account: str
    order: dict[str, Any]
    descriptors: list[int]
    started: bool = False
    ended: bool = False
    unwanted: bool = False
    tries: int = 0
    asking: asyncio.Task[Lease | None] | None = None
    """While it waits for an accelerator."""
    keeper: Keeper | None = None
    group: cgroups.WorkerGroup | None = None
    kind: groups.Kind | None = None
    full: bool = False


@dataclass
class Keeper:
    """The keeper of one account, as the host sees it."""

    account: str
    paths: AccountPaths
    python: str
    running: Running
    groups: groups.Groups
    fingerprint: str = ""
    seen: tuple[object, ...] | None = None
    """What was seen of the environment before this fingerprint was taken."""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    channel: Channel | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: dict[str, Job] = field(default_factory=dict)
    lease: Lease | None = None
    """The accelerator that it was started for."""

    @property
    def key(self) -> str:
        """Tells it from other keepers."""
        return _key(self.account, self.lease)


class Host:
    """The process's state.

    Parameters
    ----------
    settings
        The home's settings.
    environments
        Gives the interpreter of an account and says whether its environment changed.
    """

    def __init__(self, settings: Settings, environments: Environments) -> None:
        self._settings = settings
        self._environments = environments
        self._processes = Processes(settings.run / "processes")
        self._keepers: dict[str, Keeper] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._tasks = Tasks()
        self._clients: set[Client] = set()
        self._count = 0
        self._isolation_told: set[str] = set()
        self._line = Line(Leases(settings, devices(settings)))

    async def serve(self) -> None:
        """Listen until cancelled, then end every keeper."""
        path = self._settings.run / "host.sock"
        await asyncio.to_thread(self._processes.sweep, lambda name: name.startswith("keeper."))
        await asyncio.to_thread(cgroups.sweep_workers, self._settings)
        listener = private(path, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(listener.fileno(), self._accept, listener)
        log.info("listening on %s", path)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(listener.fileno())
            listener.close()
            path.unlink(missing_ok=True)
            await self._tasks.end()
            await asyncio.gather(*(self._close(one) for one in list(self._keepers.values())))
            for client in self._clients:
                if client.channel is not None:
                    client.channel.close()

    # Clients

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # the client went away between
            return
        self._count += 1
        client = Client(self._count)
        self._clients.add(client)
        client.channel = Channel(sock, lambda m, d: self._asked(client, m, d), lambda: self._client_gone(client))

    def _asked(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        operation = message.pop("op", "")
        if operation == "start":
            job = Job(client, str(message["id"]), str(message["account"]), message, descriptors)
            client.jobs[job.id] = job
            self._begin(job)
            return
        for one in descriptors:
            os.close(one)
        if operation == "end":
            self._end(client, str(message["id"]))
        elif operation == "environments":
            _say(client.channel, {"op": "environments", "keys": sorted(self._in_use())})
        elif operation == "end_account":
            account = str(message["account"])
            self._tasks.start(self._end_account(client, account), failed=lambda _: self._not_ended(client, account))

    def _client_gone(self, client: Client) -> None:
        client.channel = None
        self._clients.discard(client)
        for identifier in list(client.jobs):
            self._end(client, identifier)

    def _end(self, client: Client, identifier: str) -> None:
        if (job := client.jobs.get(identifier)) is None:
            return
        job.unwanted = True  # where no keeper has it yet, none gets it
        if job.asking is not None:
            job.asking.cancel()
        keeper, key = job.keeper, f"{client.number}.{identifier}"
        if keeper is not None and key in keeper.jobs:
            _say(keeper.channel, {"op": "end", "id": key})

    async def _end_account(self, client: Client, account: str) -> None:
        for one in [job for each in self._clients for job in each.jobs.values() if job.account == account]:
            if one.asking is not None:
                one.unwanted = True
                one.asking.cancel()
        await asyncio.gather(*(self._close(one) for one in list(self._keepers.values()) if one.account == account))
        _say(client.channel, {"op": "ended_account", "account": account})

    def _not_ended(self, client: Client, account: str) -> None:
        problem = Internal(f"The processes of account '{account}' could not be ended.").problem(reveal=True)
        _say(client.channel, {"op": "ended_account", "account": account, "problem": problem})

    def _in_use(self) -> set[str]:
        """Return the environments of requirements that anything runs in."""
        jobs = [job for keeper in self._keepers.values() for job in keeper.jobs.values()]
        return {str(job.order["requirements"]) for job in jobs if job.order.get("requirements")}

    # Orders

    def _begin(self, job: Job) -> None:
        def failed(error: BaseException) -> None:
            self._fail(job, Internal(f"The order {job.id} cannot be carried out: {error}"))

        self._tasks.start(self._start(job), failed=failed)

    async def _start(self, job: Job) -> None:
        try:
            lease = await self._leased(job)
            try:
                job.keeper = keeper = await self._keeper(job.account, lease)
            finally:
                if lease is not None:  # its sandbox has it
                    lease.close()
            order = await self._order(keeper, job)
            if job.unwanted:
                raise Unavailable("It was ended before it started.")
            if keeper.channel is None:
                self._again(job)
                return
            self._hand(keeper, job, order)
        except RopewalkError as error:
            self._fail(job, error)

    async def _leased(self, job: Job) -> Lease | None:
        """Return the accelerator that a job gets; it waits for it where it must have one."""
        if not job.order.get("accelerator"):
            return None
        wanted, patience = tuple(job.order["accelerator"]), job.order.get("patience")
        what = str(job.order.get("what", ""))
        job.asking = asyncio.create_task(self._line.take(wanted, job.account, what, patience))
        try:
            return await job.asking
        except asyncio.CancelledError:
            if not job.unwanted:
                raise
            raise Unavailable("It was ended before it started.") from None
        finally:
            job.asking = None

    async def _order(self, keeper: Keeper, job: Job) -> dict[str, Any]:
        """Return the order with what only the platform knows; most calls wait for no thread."""
        if wanted := str(job.order.get("requirements") or ""):
            place = await asyncio.to_thread(_of_requirements, keeper.paths, wanted)
            return self._complete(keeper, job, place)
        seen = self._environments.seen(self._settings, keeper.paths)
        if seen is None or seen != keeper.seen:
            async with keeper.looking:  # an account whose folders take long keeps one thread from others, not all
                if seen is None or seen != keeper.seen:
                    keeper.fingerprint = await asyncio.to_thread(self._look, keeper.paths)
                    keeper.seen = seen
        return self._complete(keeper, job, (keeper.python, keeper.fingerprint, {}))

    def _look(self, paths: AccountPaths) -> str:
        """Return the fingerprint of an account's environment, made again if its owner removed it meanwhile."""
        self._environments.ensure(self._settings, paths)
        return self._environments.fingerprint(paths)

    def _hand(self, keeper: Keeper, job: Job, order: dict[str, Any]) -> None:
        """Give a job to a keeper, with copies of its descriptors: should that end before, the job goes to the next."""
        assert keeper.channel is not None
        key = f"{job.client.number}.{job.id}"
        keeper.jobs[key] = job
        try:
            doors = self._limited(keeper, job, key, order)
            order = {**order, "groups": len(doors), "group": job.group.name if job.group else "", "id": key}
            keeper.channel.send({"op": "start", **order}, [*(os.dup(one) for one in job.descriptors), *doors])
        except Unavailable:
            return  # the keeper ended just now; `_keeper_gone` has seen to the job
        except (RopewalkError, OSError):  # too many files are open, say
            del keeper.jobs[key]
            raise

    def _limited(self, keeper: Keeper, job: Job, key: str, order: dict[str, Any]) -> list[int]:
        """Give a worker a control group, where the machine allows that, and return what it joins it by."""
        self._unlimited(job)
        if order.get("kind") == "worker":
            job.kind = groups.kind_of(order)
            job.group = keeper.groups.take(job.kind, int(order["memory"]) + int(order["scratch"]))
        if job.group is None:
            return []

        def full() -> None:
            asyncio.get_running_loop().remove_reader(job.group.wake if job.group else -1)
            job.full = True
            _say(keeper.channel, {"op": "end", "id": key})

        if job.group.wake >= 0:
            asyncio.get_running_loop().add_reader(job.group.wake, full)
        return [job.group.door()]

    def _unlimited(self, job: Job) -> None:
        """Remove the control group of a worker that has ended; later if something is in it still."""
        group, job.group = job.group, None
        if group is None:
            return
        if group.wake >= 0:
            asyncio.get_running_loop().remove_reader(group.wake)
        groups.end(group)

    def _prepare(self, keeper: Keeper, kind: groups.Kind, zygote: int) -> None:
        """Give the zygote that has started a worker the control group of its next spare."""
        if keeper.channel is None or (group := keeper.groups.next(kind, zygote)) is None:
            return
        with contextlib.suppress(OSError, Unavailable):
            keeper.channel.send({"op": "ahead", "zygote": zygote, "group": group.name}, [group.door()])

    def _measured(self, job: Job, message: dict[str, Any]) -> dict[str, Any]:
        """Return how a worker ended, with what its control group knows of that."""
        if job.group is None:
            return message
        full = job.full or job.group.killed()
        peak = max(int(message["peak"]), job.group.peak())
        return {**message, "peak": peak} | ({"reason": "memory"} if full else {})

    def _again(self, job: Job) -> None:
        """Try a job that has not started with the next keeper, once."""
        if job.tries:
            self._fail(job, Unavailable(f"The sandbox of account '{job.account}' ended."))
            return
        job.tries += 1
        self._begin(job)

    def _complete(self, keeper: Keeper, job: Job, place: Place) -> dict[str, Any]:
        """Return the order with interpreter, limits and environment."""
        paths, order, limits = keeper.paths, job.order, self._settings.limits
        python, fingerprint, variables = place
        own = {**order.get("environment", {}), **self._secrets(job)}
        _check_variables(own)
        has = keeper.lease.device.variables if keeper.lease else {}
        variables = {**variables, "ROPEWALK_ACCOUNT": job.account, **has}
        environment = sandbox.environ(paths, self._settings.environments.base, variables)
        folder = order.get("folder", "")
        chosen = accounts.folder_of(self._settings, job.account)
        files = [str(paths.files), *([str(chosen)] if chosen else [])] if order.get("files") == "read" else []
        memory = int(order.get("memory") or limits.memory)
        return {
            **order,
            "python": python,
            "fingerprint": fingerprint,
            "environment": environment,
            "variables": own,
            "cwd": str(paths.files / order.get("cwd", "")),
            "memory": memory,
            "scratch": int(order.get("scratch") or memory),
            "processes": limits.processes,
            "payload": limits.payload,
            "alone": keeper.lease is not None,
            "read_only": files,
            "log": str(Path(folder) / "log") if folder else "",
            "log_limit": limits.log,
        }

    def _secrets(self, job: Job) -> dict[str, str]:
        """Return the values of the secrets that a worker names; one that was removed is its owner's to put back."""
        try:
            return safe.read(self._settings, job.account, job.order.get("secrets") or ())
        except NotFound as error:
            what = "function" if job.order.get("kind") == "worker" else "step"
            message = f"The {what} cannot start: {error.message[:1].lower()}{error.message[1:]}"
            raise UserCodeFailed(message, field=error.field, hint=error.hint) from error

    def _fail(self, job: Job, error: RopewalkError) -> None:
        if not job.ended:
            self._release(job)
            self._unlimited(job)
            self._over(job, {"op": "failed", "problem": error.problem()})

    def _over(self, job: Job, said: dict[str, Any]) -> None:
        """Tell whoever ordered a job how it ended, which is the last that is said of it."""
        job.ended = True
        if job.client.jobs.get(job.id) is job:
            del job.client.jobs[job.id]
        _say(job.client.channel, {**said, "id": job.id})
        if job.keeper is not None and job.keeper.lease is not None:
            self._tasks.start(self._close(job.keeper))

    def _release(self, job: Job) -> None:
        for one in job.descriptors:
            os.close(one)
        job.descriptors = []

    # Keepers

    async def _keeper(self, account: str, lease: Lease | None = None) -> Keeper:
        key = _key(account, lease)
        async with self._starting.setdefault(key, asyncio.Lock()):
            keeper = self._keepers.get(key)
            if keeper is None or lease is not None:  # one that had the device before is ending
                keeper = await self._start_keeper(account, lease)
        try:
            async with asyncio.timeout(_START_PATIENCE):
                await keeper.ready.wait()
        except TimeoutError as error:
            await self._close(keeper)
            raise Unavailable(f"The sandbox of account '{account}' did not start.") from error
        if self._keepers.get(key) is not keeper:
            raise Unavailable(
                f"The sandbox of account '{account}' cannot be started.", hint="`ropewalk doctor` says what is missing."
            )
        return keeper

    async def _start_keeper(self, account: str, lease: Lease | None) -> Keeper:
        paths = AccountPaths(self._settings.home, account)
        if not paths.root.is_dir():
            raise NotFound(f"There is no account '{account}' on this machine.")
        await asyncio.to_thread(accounts.prepare, self._settings, account)
        python = await asyncio.to_thread(self._environments.ensure, self._settings, paths)
        name = f"keeper.{_key(account, lease)}"
        await asyncio.to_thread(self._processes.end, name, 0.0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptor = theirs.fileno()
        try:
            argv = keeper_command.command(self._settings, paths, descriptor, KEEPER_IDLE, lease)
            running = self._processes.spawn(
                name,
                argv,
                env=child_environment(),
                log=self._settings.logs / f"{name}.log",
                pass_fds=[descriptor, *([lease.descriptor] if lease else [])],
                adopt=False,
            )
        except RopewalkError:
            ours.close()
            raise
        finally:
            theirs.close()
        if lease is not None:
            lease.given(running)
        keeper = Keeper(account, paths, str(python), running, groups.Groups(self._settings, account), lease=lease)
        keeper.channel = Channel(ours, lambda m, d: self._reported(keeper, m, d), lambda: self._keeper_gone(keeper))
        self._keepers[keeper.key] = keeper
        return keeper

    def _reported(self, keeper: Keeper, message: dict[str, Any], descriptors: list[int]) -> None:
        for one in descriptors:  # a keeper sends none
            os.close(one)
        operation = message.get("op")
        if operation == "ready":
            keeper.ready.set()
        elif operation == "zygote":
            self._note_isolation(keeper, message)
        elif operation == "retired":
            keeper.groups.retired(int(message["zygote"]))
        elif (job := keeper.jobs.get(str(message.get("id")))) is None:
            return
        elif operation == "started":
            job.started = True
            self._release(job)
            name = keeper.lease.device.name if keeper.lease else ""
            _say(job.client.channel, {"op": "started", "id": job.id, "pid": message["pid"], "accelerator": name})
            if job.group is not None and job.kind is not None and keeper.lease is None:  # that one has no next
                asyncio.get_running_loop().call_later(_PREPARE, self._prepare, keeper, job.kind, int(message["zygote"]))
        elif operation == "said":
            job.started = True  # it may come before the word that it was
            _say(job.client.channel, {"op": "said", "id": job.id, "said": message["said"]})
        elif operation == "failed":
            del keeper.jobs[str(message["id"])]
            broken = message.get("python")  # it is there, or it would have been made again: a package spoils it
            hint = f"Undo your last %pip install. {start_over(keeper.paths)}" if broken else None
            if broken and job.order.get("requirements"):
                hint = "Deploy or submit it again; what Python ends with is one of its requirements."
            self._fail(job, Unavailable(f"It could not be started: {message['why']}.", hint=hint))
        elif operation == "exit":
            del keeper.jobs[str(message["id"])]
            self._release(job)
            message = self._measured(job, message)
            self._unlimited(job)
            self._over(job, message)

    def _note_isolation(self, keeper: Keeper, message: dict[str, Any]) -> None:
        if not message["isolated"] and keeper.account not in self._isolation_told:
            self._isolation_told.add(keeper.account)
            log.warning(
                "workers of account %s cannot be kept apart from one another: %s",
                keeper.account,
                message.get("why", ""),
            )

    def _keeper_gone(self, keeper: Keeper) -> None:
        """A keeper died: what ran is lost, what had not started goes to the next keeper once."""
        if self._keepers.get(keeper.key) is keeper:
            del self._keepers[keeper.key]
        keeper.channel = None
        keeper.ready.set()
        keeper.groups.close()
        jobs, keeper.jobs = keeper.jobs, {}
        for job in [one for one in jobs.values() if not one.ended]:
            if job.started:
                self._unlimited(job)
                self._over(job, {"op": "exit", "code": -9, "signal": 9, "reason": "lost", "peak": 0})
            else:
                self._again(job)

    async def _close(self, keeper: Keeper) -> None:
        """End a keeper; everything in its sandbox ends with it."""
        if keeper.channel is not None:
            keeper.channel.close()
        for job in keeper.jobs.values():
            job.tries += 1
        self._keeper_gone(keeper)
        async with self._starting.setdefault(keeper.key, asyncio.Lock()):
            if keeper.key not in self._keepers:  # else whoever started the next has ended this one
                await asyncio.to_thread(self._processes.end, keeper.running.name, 0.5)


def _key(account: str, lease: Lease | None) -> str:
    return f"{account}.{lease.device.id}" if lease else account


def _say(channel: Channel | None, message: dict[str, Any]) -> None:
    """Send to somebody who may be gone; then nobody is there to care."""
    if channel is not None and channel.is_open:
        try:
            channel.send(message)
        except Unavailable:
            return


def _check_variables(variables: dict[str, str]) -> None:
    """Refuse more variables than an order has room for, which is said as JSON."""
    if (size := len(json.dumps(variables))) > _VARIABLES:
        raise UserCodeFailed(
            f"The function cannot start: its variables and secrets take {size} bytes together, over {_VARIABLES}.",
            field="secrets",
            hint="Name fewer secrets, or keep larger values in a file of yours.",
        )


def _of_requirements(paths: AccountPaths, key: str) -> Place:
    folder = requirement_store.find(paths, key)
    path = f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return str(folder / "bin" / "python"), key, {"PATH": path, "VIRTUAL_ENV": str(folder)}


async def _main() -> None:
    environments = cast(Environments, importlib.import_module("ropewalk_core.environments"))
    settings = settings_module.load()
    settings.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    serving = asyncio.create_task(Host(settings, environments).serve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        log.info("ended")


def main() -> None:
    """Run the host until it is told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    uvloop.run(_main())


if __name__ == "__main__":
    main()

"""The workers of each function: zero when idle, more under load, a short queue beyond, fresh ones after a failure.

One pool for each revision in the snapshot. A revision that leaves it answers the calls that wait, and no others. A
worker is chosen by latest use, so that surplus ones fall idle and end; those that are kept (`min_workers`) stay, and
are started when they are missing, more slowly if they do not live long.
Not here: HTTP (``functions``), frames (``link``), forking (the zygote host), who is next (``turns``). Rejected: one
queue for all functions (one flooded function would make all wait).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ropewalk_core import leases, machine, workers
from ropewalk_core.errors import Internal, Limited, RopewalkError, TimedOut, Unavailable, UserCodeFailed
from ropewalk_core.local.host_client import HostClient, StepExit, Worker, WorkerOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import FunctionRoute
from ropewalk_core.names import new_id
from ropewalk_core.placement import WITHOUT
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import Tasks
from ropewalk_core.traffic import everything
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.endings import ending
from ropewalk_hub.gateway.flow import GRACE, Flow, Left, Noted
from ropewalk_hub.gateway.link import Gone, Link, worker_error
from ropewalk_hub.gateway.room import Place
from ropewalk_hub.gateway.turns import Turns
from ropewalk_runtime.streams import Exchange

log = logging.getLogger("ropewalk.gateway")
_LOAD_PATIENCE = 60.0
_DEVICE_PATIENCE = 60.0
"""Seconds that a worker waits for the accelerator that it must have."""
_LAST_WORDS = 0.5
"""Seconds in which what a worker wrote is read after its end."""
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two starts of kept workers: at first, and when those before did not live long."""


@dataclass(eq=False)
class Member:
    """One worker of a pool."""

    id: str
    link: Link
    exit: asyncio.Future[StepExit]
    accelerator: str = ""
    """Its name where the function asks for one; ``cpu`` says that it runs without."""
    taken: int = 0
    used: float = field(default_factory=time.monotonic)


@dataclass
class Outcome:
    """An answer and how it came about; in parts when there is a flow."""

    header: dict[str, Any]
    body: bytes
    cold: bool
    flow: Flow | None = None


@dataclass
class Begun:
    """A call that a worker has; ``until`` is when it must be over, in the event loop's time."""

    member: Member
    exchange: Exchange
    until: float
    cold: bool


class Pool:
    """The workers of one revision.

    Parameters
    ----------
    route
        The function.
    settings
        Limits, and where the account's folders are.
    host
        Starts workers.
    """

    def __init__(self, route: FunctionRoute, settings: Settings, host: HostClient) -> None:
        self.route = route
        self._settings = settings
        self._host = host
        self._members: list[Member] = []
        self._starting = 0
        self._asking: dict[str, Worker] = {}
        """Workers that may wait for an accelerator."""
        self._unneeded: set[str] = set()
        self._queue: Turns[Member] = Turns()
        self._tasks = Tasks()
        self._retired = False
        self._kept, self._kept_from, self._pause = 0, float("-inf"), _PAUSE

    @property
    def size(self) -> int:
        """Workers that run or start."""
        return len(self._living) + self._starting

    @property
    def _living(self) -> list[Member]:
        """Workers that have not ended: one that has stays a member until somebody looks, and takes no other's place."""
        return [one for one in self._members if not one.link.closed.is_set()]

    @property
    def running(self) -> int:
        """Calls that workers have."""
        return sum(one.taken for one in self._members)

    @property
    def waiting(self) -> int:
        """Calls that wait for a worker."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether anything runs, starts or waits in it, or is kept."""
        return bool(self.size or self._queue or self._kept)

    async def call(self, header: dict[str, Any], body: bytes, place: Place, left: Left, note: Noted) -> Outcome:
        """Run one call; its worker takes the next once there is room for the answer, or all its parts have come.

        Whoever awaits this and is cancelled has left: the call is ended, and ``left`` is told what became of it.
        ``note`` is told which worker has it.

        Raises
        ------
        Limited
            If too many calls wait already.
        TimedOut, OutOfMemory, UserCodeFailed, Unavailable
            If there is no answer; the message says why.
        """
        try:
            member, cold = await self._acquire(self.route.spec.timeout, str(header.get("caller", "")))
        except asyncio.CancelledError:
            left("The caller left before the call began.", None)
            raise
        note.began(member.id, cold, member.accelerator)
        try:
            begun = self.send(member, header, body, cold=cold)
        except Gone:
            self.done(member, None)
            raise await self.why_gone(member) from None
        note.exchange = begun.exchange
        return await self.finish(begun, place, left)

    def take(self) -> Member | None:
        """Take a free place of a worker that runs, to be given back by `done`; None if there is none."""
        member = None if self._queue else self._free()
        if member is not None:
            member.taken += 1
        return member

    def send(self, member: Member, header: dict[str, Any], body: bytes, *, cold: bool = False) -> Begun:
        """Send a call to a worker in which a place was taken. Raises `Gone`."""
        until = asyncio.get_running_loop().time() + self.route.spec.timeout
        return Begun(member, member.link.send(header, body), until, cold)

    async def finish(self, begun: Begun, place: Place, left: Left) -> Outcome:
        """Wait for the answer of a call that has begun; as `call`."""
        member, exchange, mine = begun.member, begun.exchange, True
        try:
            async with asyncio.timeout_at(begun.until):
                answer = await exchange.first
            if exchange.streams:
                mine = False
                return Outcome(answer[0], b"", begun.cold, _Streaming(self, member, exchange, begun.until))
            await place.answer(len(answer[1]))
        except TimeoutError:
            await self._drop(member)
            timeout = self.route.spec.timeout
            raise TimedOut(f"The call took longer than {timeout:g} seconds.", field="timeout") from None
        except Gone:
            raise await self.why_gone(member) from None
        except asyncio.CancelledError:
            mine = False
            self.leave(member, exchange, begun.until, left)
            raise
        finally:
            if mine:
                self.done(member, exchange)
        return Outcome(answer[0], answer[1], begun.cold)

    def _free(self) -> Member | None:
        """Return the worker with a free place that was used last."""
        most = self.route.spec.concurrency
        free = [one for one in self._living if one.taken < most]
        return max(free, key=lambda one: one.used) if free else None

    def leave(self, member: Member, exchange: Exchange, until: float, left: Left) -> None:
        """Have a call ended whose caller left; its worker takes the next when that has happened."""
        self._tasks.start(self._leave(member, exchange, until, left))

    async def _leave(self, member: Member, exchange: Exchange, until: float, left: Left) -> None:
        said, alone = "The caller left, and the call was ended.", self.route.spec.concurrency == 1
        exchange.cancel()
        try:
            try:
                async with asyncio.timeout(GRACE):
                    await exchange.ended()
            except TimeoutError:
                said = "The caller left. The call did not end by itself, so its worker was ended."
                if not alone:  # others run in this worker
                    said = "The caller left. The call ran on, because it shared its worker with others."
                    async with asyncio.timeout_at(until):
                        await exchange.ended()
                else:
                    await self._drop(member)
        except TimeoutError:
            await self._drop(member)
        finally:
            self.done(member, exchange)
            left(said, exchange.last)

    def done(self, member: Member, exchange: Exchange | None) -> None:
        """Take note that a call is over, and give its worker the next."""
        if exchange is not None:
            member.link.forget(exchange)
        self._release(member)

    def retire(self, *, gone: bool = False) -> None:
        """Take no new calls; workers end when they are idle. Calls that wait are still answered, unless it is gone."""
        self._retired, self._kept = True, 0
        for waiting in self._queue if gone else ():
            if not waiting.done():
                waiting.set_exception(Unavailable("The function was removed meanwhile."))
        self.sweep()

    def sweep(self) -> None:
        """Close workers that were idle for too long."""
        now = time.monotonic()
        for member in sorted(self._members, key=lambda one: one.used):
            unused = self._retired and all(one.done() for one in self._queue)
            long = now - member.used > self.route.spec.idle and len(self._members) > self._kept
            idle = not member.taken and (unused or long)
            if idle or member.link.closed.is_set():
                self.end(member)
        self._leave_the_line()

    def _leave_the_line(self) -> None:
        """Wait for no accelerator for which no call waits any more: others may wait for it."""
        if self.size > self._kept and all(one.done() for one in self._queue):
            for worker in [one for one in self._asking.values() if not one.started.done()]:
                self._unneeded.add(worker.id)
                self._tasks.start(self._host.end(worker.id))

    @property
    def lacking(self) -> list[tuple[str, ...]]:
        """For each worker that waits for an accelerator, and for which a call waits: the names that would do."""
        waiting = sum(not one.started.done() for one in self._asking.values())
        return [self._wanted] * min(waiting, len(self._queue))

    def idle(self, accelerators: Iterable[str]) -> list[Member]:
        """Return the workers that have one of these and may be ended, for they have no call and are not kept."""
        found = [one for one in self._living if not one.taken and one.accelerator in accelerators]
        return found if len(self._living) > self._kept else []

    def end(self, member: Member) -> None:
        """End a worker that has no call."""
        self._members.remove(member)
        member.link.close()

    def keep(self, count: int | None = None) -> None:
        """Have so many workers whether anybody calls or not, or as many as was said before; start those missing."""
        self._kept = self._kept if count is None else count
        now = time.monotonic()
        lacking = min(self._kept, self.route.spec.max_workers) - self.size
        if lacking <= 0 or self._retired or now < self._kept_from + self._pause:
            return
        short = now < self._kept_from + _LONGEST_PAUSE
        self._kept_from, self._pause = now, min(_LONGEST_PAUSE, self._pause * 2) if short else _PAUSE
        for _ in range(lacking):
            self._begin()

    def close(self) -> None:
        """End every worker now."""
        self.retire(gone=True)
        for member in self._members:
            member.link.close()
        self._tasks.cancel()

    async def _acquire(self, timeout: float, caller: str) -> tuple[Member, bool]:
        if (member := self.take()) is not None:
            return member, False
        waiting: asyncio.Future[Member] = asyncio.get_running_loop().create_future()
        if not self._queue.add(caller, waiting):
            raise Limited(f"{len(self._queue)} calls of '{self.route.name}' wait already.", field="queue")
        cold = self._grow()
        handed: Member | None = None
        try:
            async with asyncio.timeout(timeout + (self._patience if cold or self._asking else 0)):
                handed = await waiting
            return handed, cold
        except Limited as error:
            raise leases.reworded(error, caller) from None
        except TimeoutError:
            raise Limited(f"No worker of '{self.route.name}' became free in {timeout:g} seconds.") from None
        finally:
            left = not self._queue.remove(caller, waiting) and handed is None
            if left and waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._release(waiting.result())  # it was handed a worker in the moment in which its caller left

    def _grow(self) -> bool:
        """Start a worker when calls wait for which none is starting."""
        if self.size >= self.route.spec.max_workers or self._starting * self.route.spec.concurrency >= len(self._queue):
            return False
        self._begin()
        return True

    def _begin(self) -> None:
        self._starting += 1
        self._tasks.start(self._start(), failed=lambda error: self._fail_waiting(Internal(f"No worker: {error}")))

    async def _start(self) -> None:
        try:
            if (member := await self._load()) is not None:
                self._members.append(member)
        except RopewalkError as error:
            self._fail_waiting(error)
            return
        except OSError as error:
            log.warning("a worker of %s cannot be reached: %s", self.route.name, error)
            self._fail_waiting(Unavailable("The worker for this call cannot be reached."))
            return
        finally:
            self._starting -= 1
        self._hand_out()

    async def _load(self) -> Member | None:
        """Start a worker and wait until it has loaded the bundle; None if it was ended while nobody needed it."""
        worker = await self._host.start_worker(worker_order(self._settings, self.route))
        if self._wanted:
            self._asking[worker.id] = worker
        try:
            return await self._loaded(worker)
        except Unavailable:
            if worker.id in self._unneeded:
                return None
            raise
        finally:
            self._asking.pop(worker.id, None)
            self._unneeded.discard(worker.id)

    async def _loaded(self, worker: Worker) -> Member:
        link = await Link.open(worker.socket, self._settings.limits.payload)
        member = Member(worker.id, link, worker.exit)
        # What it left behind may hold its socket open, and whoever waits for an answer waits for that to close.
        later = asyncio.get_running_loop().call_later
        worker.exit.add_done_callback(lambda _exit: later(_LAST_WORDS, link.close))
        try:
            async with asyncio.timeout(self._patience):
                hello = await asyncio.shield(link.hello)
        except TimeoutError:
            await self._drop(member)
            raise TimedOut(f"'{self.route.name}' took longer than {_LOAD_PATIENCE:g} seconds to load.") from None
        except Gone:
            raise await self.why_gone(member) from None
        if hello.get("op") != "ready":
            link.close()
            unsaid = UserCodeFailed("The function does not load.", hint="Deploy it again.")
            raise worker_error(hello, self.memory) or unsaid
        if self._wanted:
            member.accelerator = await asyncio.shield(worker.started) or WITHOUT
        return member

    @property
    def _wanted(self) -> tuple[str, ...]:
        return self.route.spec.placement.accelerator

    @property
    def _patience(self) -> float:
        """Seconds in which a worker must be there."""
        waits = self._wanted and WITHOUT not in self._wanted
        return _LOAD_PATIENCE + (_DEVICE_PATIENCE if waits else 0.0)

    def _fail_waiting(self, error: RopewalkError) -> None:
        """A worker could not start: tell those who wait for one, unless others run."""
        while not self._living and (waiting := self._queue.next()) is not None:
            waiting.set_exception(error)

    def _release(self, member: Member) -> None:
        member.used = time.monotonic()
        member.taken -= 1
        if member.link.closed.is_set() and member in self._members:
            self._members.remove(member)
        if self._retired:
            self.sweep()
        self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting calls the free places of running workers; start workers for the rest."""
        places = [one for one in self._living for _ in range(self.route.spec.concurrency - one.taken)]
        for member in places:
            waiting = self._queue.next()
            if waiting is None:
                return
            member.taken += 1
            waiting.set_result(member)
        if self._queue:
            self._grow()

    async def _drop(self, member: Member) -> None:
        """End a worker that does not answer."""
        if member in self._members:
            self._members.remove(member)
        member.link.close()
        await self._host.end(member.id)

    @property
    def memory(self) -> int:
        """Bytes of memory that a worker may use."""
        return memory_of(self._settings, self.route)

    async def why_gone(self, member: Member) -> RopewalkError:
        """Return why a worker ended before it answered."""
        if member in self._members:
            self._members.remove(member)
        try:
            ended = await asyncio.wait_for(asyncio.shield(member.exit), 2.0)
        except TimeoutError:
            ended = StepExit(-9, 9, "lost")
        except RopewalkError as error:
            return error
        if member.link.nonsense:
            log.warning("a worker of %s spoke nonsense: %s", self.route.name, member.link.nonsense)
        return ending(ended, self.route.spec, self.memory, machine.memory(), member.link.nonsense)


class _Streaming:
    """The parts of one answer from a worker of this machine; see `Flow`."""

    def __init__(self, pool: Pool, member: Member, exchange: Exchange, until: float) -> None:
        self._pool, self._member, self._exchange, self.until = pool, member, exchange, until

    @property
    def last(self) -> dict[str, Any] | None:
        return self._exchange.last

    async def next(self) -> bytes | None:
        try:
            async with asyncio.timeout_at(self.until):
                data = await self._exchange.next()
        except TimeoutError:
            self.leave(lambda _said, _last: None)
            timeout = self._pool.route.spec.timeout
            raise TimedOut(f"The call took longer than {timeout:g} seconds.", field="timeout") from None
        except Gone:
            self._pool.done(self._member, self._exchange)
            raise await self._pool.why_gone(self._member) from None
        if data is None:
            self._pool.done(self._member, self._exchange)
        return data

    def leave(self, left: Left) -> None:
        self._pool.leave(self._member, self._exchange, self.until, left)


class Pools:
    """All pools, following the directory.

    Parameters
    ----------
    settings
        The home's settings.
    directory
        The routes.
    host
        Starts workers.
    """

    def __init__(self, settings: Settings, directory: Directory, host: HostClient) -> None:
        self._settings = settings
        self._directory = directory
        self._host = host
        self._pools: dict[tuple[str, str, str], Pool] = {}
        self._retired: list[Pool] = []
        self._room = workers.room_of(machine.memory())
        directory.on_change(self._follow)

    def get(self, route: FunctionRoute) -> Pool:
        """Return the pool of a route, made when missing."""
        key = (route.owner, route.name, route.revision)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(route, self._settings, self._host)
        return pool

    def state(self) -> dict[str, int]:
        """Return how many workers there are, how many calls they have, and how many wait for one."""
        pools = [*self._pools.values(), *self._retired]
        return {
            "workers": sum(one.size for one in pools),
            "running": sum(one.running for one in pools),
            "waiting": sum(one.waiting for one in pools),
        }

    def memory(self, route: FunctionRoute) -> int:
        """Return the bytes of memory that a function may use."""
        return memory_of(self._settings, route)

    async def sweep(self) -> None:
        """Close idle workers, for ever."""
        while True:
            await asyncio.sleep(1.0)
            pools = [*self._pools.values(), *self._retired]
            for pool in pools:
                pool.sweep()
                pool.keep()
            _hand_over(pools)
            self._retired = [pool for pool in self._retired if pool.busy]
            self._pools = {key: pool for key, pool in self._pools.items() if pool.busy}

    def close(self) -> None:
        """End every worker."""
        for pool in [*self._pools.values(), *self._retired]:
            pool.close()

    def _follow(self) -> None:
        routes = self._directory.functions()
        for key, pool in list(self._pools.items()):
            route = routes.get(key[:2])
            if route is None or all(one.revision != key[2] for one in everything(route)):
                del self._pools[key]
                pool.retire(gone=route is None)
                self._retired.append(pool)
        self._keep(routes.values())

    def _keep(self, routes: Iterable[FunctionRoute]) -> None:
        """Keep the workers that functions ask for, as far as the machine has room."""
        wanting = {
            (one.owner, one.name, one.revision): one
            for route in routes
            for one in everything(route)
            if one.spec.min_workers and one.weight and not one.url and self._directory.active(one.owner)
        }
        wishes = [workers.Wish(key, one.spec.min_workers, workers.size_of(one.spec)) for key, one in wanting.items()]
        kept = workers.allot(wishes, self._room)
        for key, pool in self._pools.items():
            if key not in kept:
                pool.keep(0)
        for key, count in kept.items():
            self.get(wanting[key]).keep(count)


def _hand_over(pools: Sequence[Pool]) -> None:
    """For each worker that waits for an accelerator, end one that idles on such: the one that has done so longest."""
    for wanted in [each for pool in pools for each in pool.lacking]:
        idle = [(pool, one) for pool in pools for one in pool.idle(wanted)]
        if idle:
            pool, member = min(idle, key=lambda pair: pair[1].used)
            pool.end(member)


def memory_of(settings: Settings, route: FunctionRoute) -> int:
    """Return the bytes of memory that a worker of this route may use."""
    return route.spec.placement.memory or settings.limits.memory


def worker_order(settings: Settings, route: FunctionRoute) -> WorkerOrder:
    """Return the order for a worker of this route."""
    spec = route.spec
    return WorkerOrder(
        id=new_id("worker"),
        account=route.owner,
        cwd=spec.folder,
        memory=spec.placement.memory,
        cpu=spec.placement.cpu,
        cpu_time=spec.cpu_time,
        environment=spec.environment,
        secrets=spec.secrets,
        files=spec.files,
        scratch=spec.placement.scratch,
        accelerator=spec.placement.accelerator,
        patience=_DEVICE_PATIENCE,
        what=f"function '{route.name}'",
        preload=spec.bundle.imports,
        network=spec.bundle.form != "server",
        requirements=route.environment,
        bundle=str(AccountPaths(settings.home, route.owner).bundle(route.name, route.revision)),
        concurrency=spec.concurrency,
    )

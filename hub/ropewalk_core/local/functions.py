"""Functions on this machine: accepted revisions in the journal, their code in the account's folder, calls elsewhere.

A revision is accepted only after a worker in the account's sandbox has written its bundle and loaded it once, so that
what is deployed can run. The gateway gets the routes as part of its snapshot. Not here: traffic (the gateway), workers
(the zygote host). Rejected: writing the bundle from this process (the folder belongs to the account, who could put a
link in the way).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpx

from ropewalk_core import environments, names
from ropewalk_core.errors import (
    BadCode,
    BadInput,
    NotFound,
    RopewalkError,
    StorageFull,
    TimedOut,
    TooLarge,
    Unavailable,
    from_problem,
)
from ropewalk_core.journal import Append, Journal, Put, Record, Remove
from ropewalk_core.local.host_client import HostClient, StepOrder, Worker, WorkerOrder
from ropewalk_core.local.layout import AccountPaths
from ropewalk_core.model import (
    Actor,
    Call,
    Function,
    FunctionRoute,
    FunctionSpec,
    Page,
    Revision,
    State,
    Status,
)
from ropewalk_core.placement import Inventory, fit
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import Tasks
from ropewalk_runtime.frames import FrameError, Unpacker

KIND = "function"
_log = logging.getLogger(__name__)
_RING = 200
"""Calls that are remembered for each function."""
_KEPT = 16 * 2**20
"""Characters of logs and tracebacks that are remembered for each account."""
_LOAD_PATIENCE = 60.0
_GATEWAY_PATIENCE = 2.0
_GATEWAY_ALIVE = 8.0


class LocalFunctions:
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
        self._settings, self._journal, self._inventory, self._clock = settings, journal, inventory, clock
        self._host, self._token, self._environment = host, token, environment or _environment
        self._calls: dict[tuple[str, str], deque[Call]] = {}
        self._kept: Counter[str] = Counter()
        self._routes: dict[tuple[str, str], FunctionRoute] = {}
        self._routes_at = -1
        self._deploying: dict[tuple[str, str], asyncio.Lock] = {}
        self._gateway_cursor, self._gateway_seen = -1, float("-inf")
        self._gateway_moved, self._recorded_some = asyncio.Event(), asyncio.Event()
        self._tasks = Tasks()

    # The port

    async def deploy(self, actor: Actor, owner: str, spec: FunctionSpec, *, key: str = "") -> Function:
        """See `Functions.deploy`."""
        spec = self._checked(owner, spec)
        async with self._deploying.setdefault((owner, spec.name), asyncio.Lock()):
            return await self._deploy(owner, spec)

    async def remove(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.remove`."""
        async with self._deploying.setdefault((owner, name), asyncio.Lock()):
            record = self._found(owner, name)
            status = Status(state=State.STOPPED, since=self._clock.wall())
            function = _function(record).model_copy(update={"status": status})
            cursor = await self._journal.write(
                Remove(KIND, owner, name, expect=record.version),
                Append(KIND, owner, name, "removed", _visible(function)),
            )
            self._kept[owner] -= sum(map(_text, self._calls.pop((owner, name), ())))
        await self._gateway_has(cursor)
        self._tasks.start(self._clean(owner, name))
        return function

    async def call(
        self, actor: Actor, owner: str, name: str, payload: bytes, *, content_type: str = "application/json"
    ) -> bytes:
        """See `Functions.call`."""
        function = _function(self._found(owner, name))
        door = self._settings.door
        host = f"{names.function_host(name, owner, door.people)}:{door.people_port}"
        headers = {"Host": host, "Content-Type": content_type, "Authorization": f"Bearer {await self._token(actor)}"}
        bind = door.bind if door.bind not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - it is not bound here
        timeout = function.revision.spec.timeout + 2 * _LOAD_PATIENCE
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=timeout) as client:
                answer = await client.post(f"http://{bind}:{door.people_port}/", content=payload, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable("The gateway is being restarted.") from error
        refused = _problem(answer) if answer.is_error else None
        identifier = str(refused.details.get("call", "")) if refused else answer.headers.get("X-Ropewalk-Call", "")
        await self._recorded(owner, name, identifier)
        if refused:
            raise refused
        return answer.content

    async def get(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.get`."""
        return _function(self._found(owner, name))

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Function]:
        """See `Functions.list`."""
        limit = max(1, min(limit, 500))
        records = self._journal.page(KIND, owner, after=after, limit=limit + 1)
        items = tuple(_function(one).summary() for one in records[:limit])
        return Page(items=items, next=items[-1].name if len(records) > limit else "")

    async def calls(self, actor: Actor, owner: str, name: str, *, limit: int = 50) -> Page[Call]:
        """See `Functions.calls`."""
        self._found(owner, name)
        ring = self._calls.get((owner, name), deque())
        return Page(items=tuple(list(ring)[::-1][: max(1, min(limit, _RING))]))

    async def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Function, int]]:
        """See `Functions.watch`."""
        async for event in self._journal.follow(KIND, after=after, owner=owner):
            yield Function.model_validate(event.body), event.cursor

    # For the gateway

    def routes(self) -> tuple[FunctionRoute, ...]:
        """Return where the gateway finds each function. The code itself stays out of the snapshot."""
        return tuple(self._all_routes().values())

    def record_calls(self, calls: Iterable[Call]) -> None:
        """Remember calls that the gateway reports; of a function that is gone, nothing."""
        known = self._all_routes()
        for call in calls:
            key = (call.owner, call.function)
            if key in known:
                self._remember(key, call)
        self._recorded_some.set()
        self._recorded_some = asyncio.Event()

    def _remember(self, key: tuple[str, str], call: Call) -> None:
        ring = self._calls.setdefault(key, deque())
        ring.append(call)
        self._kept[call.owner] += _text(call)
        while len(ring) > _RING or (len(ring) > 1 and self._kept[call.owner] > _KEPT):
            self._kept[call.owner] -= _text(ring.popleft())

    def gateway_asked(self, cursor: int) -> None:
        """Note that a gateway has everything up to this cursor; who waits for that goes on."""
        self._gateway_cursor, self._gateway_seen = cursor, self._clock.steady()
        self._gateway_moved.set()
        self._gateway_moved = asyncio.Event()

    # Deploying

    def _checked(self, owner: str, spec: FunctionSpec) -> FunctionSpec:
        names.check_name(spec.name)
        names.check_pair(spec.name, owner)
        fit(spec.placement, self._inventory)
        limit = self._settings.limits.bundle
        size = sum(len(text.encode()) for text in spec.bundle.files.values())
        if size > limit:
            raise TooLarge(
                f"The function's code is {size} bytes, over the limit of {limit}.",
                field="limits.bundle",
                hint="Keep data in files and read them in the function.",
            )
        if not spec.bundle.files or ":" not in spec.bundle.entry:
            raise BadInput("The bundle holds no code.", field="bundle")
        bundle = spec.bundle.model_copy(update={"digest": _digest({**spec.bundle.files, "": spec.bundle.entry})})
        return spec.model_copy(update={"bundle": bundle})

    async def _deploy(self, owner: str, spec: FunctionSpec) -> Function:
        paths = AccountPaths(self._settings.home, owner)
        record = self._journal.get(KIND, owner, spec.name)
        have = _function(record) if record else None
        environment = await asyncio.to_thread(self._environment, self._settings, paths)
        identifier = _revision(spec, environment)
        await self._try(owner, spec, identifier)
        if have and have.revision.id == identifier:
            return have.model_copy(update={"unchanged": True})
        number = have.revision.number + 1 if have else 1
        now = self._clock.wall()
        revision = Revision(id=identifier, number=number, spec=spec, environment=environment, created=now)
        function = Function(
            owner=owner,
            name=spec.name,
            revision=revision,
            status=Status(state=State.RUNNING, since=now),
            address=self.address(owner, spec.name),
            created=have.created if have else now,
        )
        cursor = await self._journal.write(
            Put(KIND, owner, spec.name, function.model_dump(mode="json"), expect=record.version if record else 0),
            Append(KIND, owner, spec.name, "running", _visible(function)),
        )
        await self._gateway_has(cursor)
        return function

    def address(self, owner: str, name: str) -> str:
        """Return the stable address of a function."""
        door = self._settings.door
        return f"{door.scheme}://{names.function_host(name, owner, door.people)}:{door.people_port}/"

    async def _try(self, owner: str, spec: FunctionSpec, revision: str) -> None:
        """Write and load the bundle once in a worker, or raise what is wrong with it."""
        order = WorkerOrder(
            id=names.new_id("try"),
            account=owner,
            cwd=spec.folder,
            memory=spec.placement.memory,
            cpu=spec.placement.cpu,
            scratch=spec.placement.scratch,
            preload=spec.bundle.imports,
            bundle=str(AccountPaths(self._settings.home, owner).bundle(spec.name, revision)),
            content=spec.bundle.model_dump_json().encode(),
        )
        worker = await self._host.start_worker(order)
        try:
            hello = await asyncio.wait_for(_hello(worker), _LOAD_PATIENCE)
        except TimeoutError as error:
            await self._host.end(order.id)
            raise TimedOut(
                f"The function's code did not load within {_LOAD_PATIENCE:g} seconds.",
                hint="Do long work inside the function, not beside it.",
            ) from error
        finally:
            worker.socket.close()
        if hello.get("op") != "ready":
            problem = hello.get("error") or {}
            kind = StorageFull if problem.get("code") == StorageFull.code else BadCode
            raise kind(
                str(problem.get("message", "The function does not load.")),
                field=problem.get("field"),
                hint=problem.get("hint"),
                details=problem.get("details") or {},
            )

    async def _clean(self, owner: str, name: str) -> None:
        """Remove the code of a removed function, as its owner and inside their sandbox."""
        folder = AccountPaths(self._settings.home, owner).bundle(name, "any").parents[1]
        order = StepOrder(
            names.new_id("clean"), owner, kind="command", argv=("rm", "-rf", "--", str(folder)), timeout=60
        )
        try:
            await self._host.run_step(order)
        except RopewalkError as error:  # a function of the same name replaces them
            _log.warning("the code of %s's removed function %s stays on disk: %s", owner, name, error)

    async def _recorded(self, owner: str, name: str, identifier: str) -> None:
        """Wait a moment for the record of a call, so that whoever looks next sees it."""
        until = self._clock.steady() + 1.0
        while identifier and not any(one.id == identifier for one in self._calls.get((owner, name), ())):
            left = until - self._clock.steady()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._recorded_some.wait(), left)
            except TimeoutError:
                return

    async def _gateway_has(self, cursor: int) -> None:
        """Wait until the gateway knows, so that the very next call finds the new revision; not for a gateway away."""
        until = self._clock.steady() + _GATEWAY_PATIENCE
        while self._gateway_cursor < cursor and self._clock.steady() - self._gateway_seen < _GATEWAY_ALIVE:
            left = until - self._clock.steady()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._gateway_moved.wait(), left)
            except TimeoutError:
                return

    def _all_routes(self) -> dict[tuple[str, str], FunctionRoute]:
        """Return the routes as the journal has them now: never older than its cursor, which the gateway goes by."""
        cursor = self._journal.cursor
        if self._routes_at < 0:
            records = self._journal.page(KIND, limit=1_000_000)
            self._routes = {(one.owner, one.name): _route(_function(one)) for one in records}
        elif cursor > self._routes_at:
            for changed in self._journal.events(after=self._routes_at, kind=KIND, limit=1_000_000):
                self._routes.pop(key := (changed.owner, changed.name), None)
                if record := self._journal.get(KIND, *key):
                    self._routes[key] = _route(_function(record))
        self._routes_at = cursor
        return self._routes

    def _found(self, owner: str, name: str) -> Record:
        record = self._journal.get(KIND, owner, name)
        if record is None:
            raise NotFound.named("functions", f"There is no function '{name[:60]}'.", field="name")
        return record


async def _hello(worker: Worker) -> dict[str, Any]:
    """Return the first frame of a worker; if it ends before, say how."""
    loop, unpacker = asyncio.get_running_loop(), Unpacker(2**20)
    try:
        while data := await loop.sock_recv(worker.socket, 65536):
            for header, _ in unpacker.feed(data):
                return header
    except (FrameError, ConnectionError):
        pass  # the same as an end without a word
    ended = await worker.exit
    if ended.reason == "memory":
        raise BadCode("The function needs more memory to load than its placement allows.", field="placement.memory")
    if ended.reason == "lost" or (ended.signal == 9 and not ended.reason):
        raise Unavailable("The sandbox ended while the function was being loaded.")
    raise BadCode(f"The function's code ended Python while it was loaded (exit code {ended.code}).")


def _environment(settings: Settings, paths: AccountPaths) -> str:
    if not paths.root.is_dir():
        raise NotFound(f"There is no account '{paths.account}' on this machine.")
    environments.ensure(settings, paths)
    return environments.fingerprint(paths)


def _text(call: Call) -> int:
    return len(call.logs) + len(call.traceback) + len(call.error)


def _function(record: Record) -> Function:
    return Function.model_validate(record.body)


def _route(function: Function) -> FunctionRoute:
    bare = function.summary().revision
    return FunctionRoute(owner=function.owner, name=function.name, revision=bare.id, spec=bare.spec)


def _visible(function: Function) -> dict[str, Any]:
    return function.summary().model_dump(mode="json")


def _revision(spec: FunctionSpec, environment: str) -> str:
    """Return the content address of what runs: where cells stood in the notebook does not matter."""
    facts = spec.model_dump(mode="json", exclude={"bundle", "name"})
    return _digest({"spec": facts, "code": spec.bundle.digest, "environment": environment})[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _problem(answer: httpx.Response) -> RopewalkError:
    try:
        facts = answer.json()
    except ValueError:
        facts = {}
    return from_problem(facts if isinstance(facts, dict) else {})

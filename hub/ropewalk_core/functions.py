"""Functions as the journal and the gateway know them: what every backend of functions shares.

Accepted functions are records, and so are their revisions (``history``); the gateway gets their routes as part of its
snapshot and reports calls (``called``). Not here: how a revision comes to run, which is the backend's own
(``local.functions``, ``kube.functions``).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx

from ropewalk_core import history, names, requirements, secrets, sharing, variables, workers
from ropewalk_core import traffic as traffics
from ropewalk_core.called import EVERY, CallBook
from ropewalk_core.errors import (
    BadInput,
    BadName,
    NotFound,
    RopewalkError,
    TooLarge,
    Unavailable,
    UserCodeFailed,
    from_problem,
)
from ropewalk_core.journal import Append, Journal, Operation, Record
from ropewalk_core.model import (
    Access,
    Actor,
    Call,
    CallKey,
    CallReport,
    Costs,
    Figures,
    Function,
    FunctionRoute,
    FunctionSpec,
    LogLine,
    NewKey,
    Page,
    Revision,
    Share,
    State,
    Status,
    Traffic,
    Window,
)
from ropewalk_core.ports import Clock, Functions
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import heard
from ropewalk_runtime.handler import BadAnswer
from ropewalk_runtime.parts import NDJSON, PARTS_TYPE, encode, read
from ropewalk_runtime.trace import Trace

KIND = "function"
LOAD_PATIENCE = 60.0
"""Seconds that code may take to load."""
_SAID = 300
"""Bytes that are shown of an app's own words."""
_GATEWAY_PATIENCE = 2.0
_GATEWAY_ALIVE = 8.0


class FunctionBook:
    """The part of the `Functions` port that is the same wherever functions run.

    Parameters
    ----------
    settings, journal, clock
        The home, its journal, time.
    token
        Makes a token of audience ``functions`` for a person.
    """

    def __init__(
        self, settings: Settings, journal: Journal, clock: Clock, token: Callable[[Actor], Awaitable[str]]
    ) -> None:
        self._settings, self._journal, self._clock, self._token = settings, journal, clock, token
        self.called = CallBook(journal, clock)
        self._routes: dict[tuple[str, str], FunctionRoute] = {}
        self._routes_at = -1
        self._gateway_cursor, self._gateway_seen = -1, float("-inf")
        self._gateway_moved = asyncio.Event()

    # The port

    async def call(
        self,
        actor: Actor,
        owner: str,
        name: str,
        payload: bytes,
        *,
        content_type: str = "application/json",
        trace: Trace | None = None,
    ) -> bytes:
        """See `Functions.call`."""
        function = function_of(self._found(owner, name))
        door = self._settings.door
        host = f"{names.function_host(name, owner, door.people)}:{door.people_port}"
        headers = {"Host": host, "Content-Type": content_type, "Authorization": f"Bearer {await self._token(actor)}"}
        headers |= {"Accept": f"{PARTS_TYPE}, */*", "Accept-Encoding": "identity"} | (trace.headers() if trace else {})
        bind = door.bind if door.bind not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - it is not bound here
        timeout = function.revision.spec.timeout + 2 * LOAD_PATIENCE
        try:
            async with (
                httpx.AsyncClient(trust_env=False, timeout=timeout) as client,
                client.stream("POST", f"http://{bind}:{door.people_port}/", content=payload, headers=headers) as answer,
            ):
                body = await self._body(answer)
        except httpx.HTTPError as error:
            raise Unavailable("The gateway is being restarted.") from error
        identifier = answer.headers.get("X-Ropewalk-Call", "")
        refused = _problem(answer.status_code, body, identifier) if answer.is_error else None
        identifier = str(refused.details.get("call", "")) if refused else identifier
        await self._recorded(owner, name, identifier)
        if refused:
            raise refused
        return await asyncio.to_thread(whole, body) if answer.headers.get("Content-Type") == PARTS_TYPE else body

    async def _body(self, answer: httpx.Response) -> bytes:
        """Return an answer's body; one that does not end is left where it is over the limit, which ends its call."""
        limit, body = self._settings.limits.payload, bytearray()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > limit:
                raise TooLarge(
                    f"All parts of the answer are over the limit of {limit} bytes.",
                    field="limits.payload",
                    hint="Call it at its own address, which gives them as they come.",
                )
        return bytes(body)

    async def get(self, actor: Actor, owner: str, name: str) -> Function:
        """See `Functions.get`."""
        return sharing.shown(self._journal, function_of(self._found(owner, name)))

    async def list(self, actor: Actor, owner: str, *, after: str = "", limit: int = 50) -> Page[Function]:
        """See `Functions.list`."""
        limit = max(1, min(limit, 500))
        records = self._journal.page(KIND, owner, after=after, limit=limit + 1)
        items = tuple(sharing.shown(self._journal, function_of(one).summary()) for one in records[:limit])
        return Page(items=items, next=items[-1].name if len(records) > limit else "")

    async def revisions(
        self, actor: Actor, owner: str, name: str, *, after: str = "", limit: int = 50
    ) -> Page[Revision]:
        """See `Functions.revisions`."""
        return history.page(self._journal, function_of(self._found(owner, name)), after, limit)

    async def revision(self, actor: Actor, owner: str, name: str, number: int) -> Revision:
        """See `Functions.revision`."""
        return history.find(self._journal, function_of(self._found(owner, name)), number)

    async def calls(self, actor: Actor, owner: str, name: str, *, limit: int = 50) -> Page[Call]:
        """See `Functions.calls`."""
        self._found(owner, name)
        return Page(items=self.called.latest(owner, name, limit))

    async def logs(
        self, actor: Actor, owner: str, name: str, *, call: str = "", after: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """See `Functions.logs`."""
        self._found(owner, name)
        book = self.called
        lines = book.printed(owner, name, call, after, follow) if call else book.prints(owner, name, after, follow)
        async for line in lines:
            yield line

    async def figures(self, actor: Actor, owner: str, name: str, *, window: Window = "hour") -> Figures:
        """See `Functions.figures`."""
        self._found(owner, name)
        return self.called.figures(owner, name, window)

    async def costs(self, actor: Actor, owner: str, name: str = "") -> Costs:
        """See `Functions.costs`."""
        if name:
            self._found(owner, name)
        return self.called.costs(owner, name)

    async def watch(self, actor: Actor, owner: str, *, after: int = 0) -> AsyncIterator[tuple[Function, int]]:
        """See `Functions.watch`."""
        async for event in self._journal.follow(KIND, after=after, owner=owner):
            yield sharing.shown(self._journal, Function.model_validate(event.body)), event.cursor

    async def access(self, actor: Actor, owner: str, name: str, access: Access) -> Function:
        """See `Functions.access`."""
        _, kept = sharing.choosing(self._journal, owner, name, access)
        return await self._shared(owner, name, kept)

    async def keys(self, actor: Actor, owner: str, name: str) -> Page[CallKey]:
        """See `Functions.keys`."""
        self._found(owner, name)
        return Page(items=tuple(one.listed() for one in sharing.of(self._journal, owner, name).keys))

    async def add_key(
        self, actor: Actor, owner: str, name: str, *, label: str = "", calls: int, seconds: int, key: str = ""
    ) -> NewKey:
        """See `Functions.add_key`."""
        told, kept = sharing.adding(
            self._journal, owner, name, label=label, calls=calls, seconds=seconds, key=key, now=self._clock.wall()
        )
        await self._shared(owner, name, kept)
        return told

    async def revoke_key(self, actor: Actor, owner: str, name: str, identifier: str) -> CallKey:
        """See `Functions.revoke_key`."""
        self._found(owner, name)
        ended, kept = sharing.revoking(self._journal, owner, name, identifier)
        await self._shared(owner, name, kept)
        return ended

    async def _shared(self, owner: str, name: str, kept: Operation) -> Function:
        """Write down who may call a function, and wait until the gateway goes by it."""
        function = function_of(self._found(owner, name))
        cursor = await self._journal.write(kept, Append(KIND, owner, name, "shared", visible(function)))
        await self._gateway_has(cursor)
        return sharing.shown(self._journal, function)

    # For the gateway

    def routes(self) -> tuple[FunctionRoute, ...]:
        """Return where the gateway finds each function. The code itself stays out of the snapshot."""
        return tuple(self._all_routes().values())

    def route(self, owner: str, name: str) -> FunctionRoute | None:
        """Return where the gateway finds one function; None if there is none."""
        return self._all_routes().get((owner, name))

    def record_calls(self, report: CallReport) -> None:
        """Remember what the gateway reports of calls."""
        self.called.record(report, self._all_routes())

    async def keep_figures(self) -> None:
        """Write down what was counted, for ever, and once more at the end."""
        try:
            while True:
                await self._clock.sleep(EVERY)
                await self.called.keep()
        finally:
            self.called.keep_now()

    def gateway_asked(self, cursor: int) -> None:
        """Note that a gateway has everything up to this cursor; who waits for that goes on."""
        self._gateway_cursor, self._gateway_seen = cursor, self._clock.steady()
        self._gateway_moved.set()
        self._gateway_moved = asyncio.Event()

    # For backends

    def _checked(self, owner: str, spec: FunctionSpec) -> FunctionSpec:
        names.check_name(spec.name)
        names.check_pair(spec.name, owner)
        limit = self._settings.limits.bundle
        size = sum(len(text.encode()) for text in spec.bundle.files.values())
        if size > limit:
            raise TooLarge(
                f"The function's code is {size} bytes, over the limit of {limit}.",
                field="limits.bundle",
                hint="Keep data in files and read them in the function.",
            )
        workers.check(spec)
        variables.check(spec)
        secrets.check(self._journal, owner, spec)
        if not spec.bundle.files or ":" not in spec.bundle.entry:
            raise BadInput("The bundle holds no code.", field="bundle")
        form = "" if spec.bundle.form == "python" else f" {spec.bundle.form}"  # no path begins with a blank
        code = {**spec.bundle.files, "": spec.bundle.entry} | ({form: ""} if form else {})
        bundle = spec.bundle.model_copy(update={"digest": _digest(code)})
        needs = {
            "requirements": requirements.checked(spec.requirements),
            "requires_python": requirements.check_python(spec.requires_python, ""),
        }
        return spec.model_copy(update={"bundle": bundle, **needs})

    def _next_of(
        self,
        owner: str,
        spec: FunctionSpec,
        have: Function | None,
        identifier: str,
        environment: str,
        state: State,
        packages: tuple[str, ...] = (),
    ) -> Function:
        """Return a function with a new revision, which follows that of ``have``."""
        now, number = self._clock.wall(), have.revision.number + 1 if have else 1
        return Function(
            owner=owner,
            name=spec.name,
            revision=Revision(
                id=identifier, number=number, spec=spec, environment=environment, packages=packages, created=now
            ),
            status=Status(state=state, since=now),
            address=self.address(owner, spec.name),
            traffic=have.traffic if have else Traffic(),
            created=have.created if have else now,
        )

    def address(self, owner: str, name: str) -> str:
        """Return the stable address of a function."""
        door = self._settings.door
        return f"{door.scheme}://{names.function_host(name, owner, door.people)}:{door.people_port}/"

    def _wished(self, function: Function, weights: Mapping[int, int]) -> tuple[Function, tuple[Revision, ...]]:
        """Return the function with a split, and the revisions that it names with their code.

        Raises
        ------
        NotFound
            If one of them is not kept.
        """
        owner, name = function.owner, function.name
        known = traffics.weights({number or traffics.LATEST: one for number, one in weights.items()})
        named = tuple(history.find(self._journal, function, number) for number in sorted(known) if number)
        shares = tuple(
            Share(
                number=one.number,
                revision=one.id,
                weight=known[one.number],
                address=self._own_address(owner, name, one.number),
            )
            for one in named
        )
        return function.model_copy(update={"traffic": Traffic(latest=known[0], shares=shares)}), named

    def _own_address(self, owner: str, name: str, number: int) -> str:
        door = self._settings.door
        try:
            return f"{door.scheme}://{names.revision_host(number, name, owner, door.people)}:{door.people_port}/"
        except BadName:  # it takes its share all the same
            return ""

    async def _recorded(self, owner: str, name: str, identifier: str) -> None:
        """Wait a moment for the record of a call, so that whoever looks next sees it."""
        until = self._clock.steady() + 1.0
        while identifier and not self.called.has(owner, name, identifier):
            left = until - self._clock.steady()
            if left <= 0:
                return
            await heard(self.called.news(), left)

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
            self._routes = {(one.owner, one.name): self._route(function_of(one)) for one in records}
        elif cursor > self._routes_at:
            for changed in self._journal.events(after=self._routes_at, kind=KIND, limit=1_000_000):
                self._routes.pop(key := (changed.owner, changed.name), None)
                if record := self._journal.get(KIND, *key):
                    self._routes[key] = self._route(function_of(record))
        self._routes_at = cursor
        return self._routes

    def _found(self, owner: str, name: str) -> Record:
        return find(self._journal, owner, name)

    def _route(self, function: Function) -> FunctionRoute:
        """Return where the gateway finds a function."""
        shared = sharing.of(self._journal, function.owner, function.name)
        return _led(function, function.revision).model_copy(
            update={
                "access": shared.access,
                "keys": shared.keys,
                "weight": function.traffic.latest,
                "others": tuple(
                    _led(function, found).model_copy(update={"number": one.number, "weight": one.weight})
                    for one in function.traffic.shares
                    if (found := history.summary(self._journal, function.owner, function.name, one.number))
                ),
            }
        )

    def _forget_calls(self, owner: str, name: str) -> None:
        self.called.forget(owner, name)


def _led(function: Function, revision: Revision) -> FunctionRoute:
    """Return the route to one revision of a function."""
    bare = revision.summary()
    return FunctionRoute(
        owner=function.owner, name=function.name, revision=bare.id, spec=bare.spec, environment=environment_of(bare)
    )


async def roll_back(
    functions: Functions, actor: Actor, owner: str, name: str, number: int, *, key: str = ""
) -> Function:
    """Deploy a kept revision again; where calls were split, all of them go to it then."""
    revision = await functions.revision(actor, owner, name, number)
    deployed = await functions.deploy(actor, owner, revision.spec, key=key, existing=True)
    if not traffics.split(deployed.traffic):
        return deployed
    ended = traffics.weights(traffics.ended(deployed.traffic))
    function = await functions.traffic(actor, owner, name, ended)
    return function.model_copy(update={"unchanged": deployed.unchanged})


def whole(body: bytes) -> bytes:
    """Return what a generator yielded as one answer: text and bytes joined, anything else as lines of JSON.

    Raises
    ------
    RopewalkError
        What the generator failed with.
    """
    found: list[Any] = []
    for line in body.splitlines():
        try:
            what, value = read(line)
        except ValueError:  # the code in a worker may write anything
            raise UserCodeFailed("The function's answer cannot be read.") from None
        if what == "error":
            raise from_problem(value)
        found += [value] if what == "value" else []
    if found and all(isinstance(one, bytes | str) for one in found):
        return b"".join(one if isinstance(one, bytes) else one.encode(errors="replace") for one in found)
    try:
        return b"".join(encode(NDJSON, one, sys.maxsize) for one in found)
    except BadAnswer as error:  # NaN, which JSON does not have
        raise UserCodeFailed(str(error), field=error.field, hint=error.hint) from None


def find(journal: Journal, owner: str, name: str) -> Record:
    """Return the record of a function, or raise `NotFound`."""
    record = journal.get(KIND, owner, name)
    if record is None:
        raise NotFound.named("functions", f"There is no function '{name[:60]}'.", field="name")
    return record


def function_of(record: Record) -> Function:
    """Return the function of a record."""
    return Function.model_validate(record.body)


def visible(function: Function) -> dict[str, Any]:
    """Return the body of a function's event."""
    return function.summary().model_dump(mode="json")


def revision_id(spec: FunctionSpec, environment: str) -> str:
    """Return the content address of what runs: where cells stood in the notebook does not matter."""
    facts = spec.model_dump(mode="json", exclude={"bundle", "name"})
    return _digest({"spec": facts, "code": spec.bundle.digest, "environment": environment})[:16]


def environment_of(revision: Revision) -> str:
    """Return the key of the environment of a revision's requirements; empty if it runs in the account's own."""
    return revision.environment if revision.spec.requirements else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _problem(status: int, body: bytes, call: str) -> RopewalkError:
    """Return why a call failed: as the platform says it, or what an app of the person's own answered."""
    try:
        facts = json.loads(body)
    except ValueError:
        facts = None
    if isinstance(facts, dict) and str(facts.get("code", "")).startswith("RW-"):
        return from_problem(facts)
    said = body[:_SAID].decode("utf-8", "replace").strip()
    return UserCodeFailed(
        f"The function's own answer has status {status}" + (f": {said}" if said else "."),
        hint="Calls from here go to the path / by POST; ask its address for any other.",
        details={"status": status, "call": call},
    )

"""The desk of durable calls: accepts, hands out, takes reports, and answers who asks. All state is in the journal.

It is the whole of the `Durable` port, the same for every backend, and the gateway's other side: `take` gives it work,
`report` hears what came of it. An attempt is on disk before the gateway hears of it, a result before the gateway may
forget it. A call that the gateway does not hold any more, because it was killed, is tried again as its function says.
Not here: what an event does to a call (``machine``), whose turn it is (``lanes``), records (``shelves``), quotas
(``space``). Rejected: leases with times; the gateway says at each poll what it holds, and which life of it speaks.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ropewalk_core.durable import shelves
from ropewalk_core.durable.lanes import Key, Lanes
from ropewalk_core.durable.machine import (
    Answered,
    Begun,
    Canceled,
    Event,
    Failed,
    Policy,
    Replayed,
    Returned,
    lost,
    refuse_long,
    refuse_raw,
    step,
    too_long,
)
from ropewalk_core.durable.shelves import Shelf
from ropewalk_core.durable.space import Space, weight
from ropewalk_core.durable.wire import Report, Wish, Work, WorkPage
from ropewalk_core.errors import (
    BadInput,
    Conflict,
    Limited,
    NotFound,
    RopewalkError,
    UserCodeFailed,
    from_problem,
)
from ropewalk_core.journal import Journal, Operation
from ropewalk_core.model import Actor, DurableCall, DurableResult, FunctionRoute, Page, State, Status
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_core.tasks import heard
from ropewalk_core.traffic import reachable
from ropewalk_runtime.trace import Trace, read

PATIENCE = 4.0
"""Seconds that the gateway's question for work waits for some."""
ROOM = 256
"""Calls that the gateway carries at the same time."""
SHARE = 64
"""Those of them that may be one account's."""
AGAIN = 0.5
"""Seconds after which a call is looked at again whose function cannot be reached, or that the journal refused."""
PAGE = 4 * 2**20
"""Bytes of arguments that are handed out at a time, but for a call that has more alone: they cross as one message."""
_LARGE = 2**12
"""Bytes from which a call's arguments count for that."""
_LOOK = 2.0
_log = logging.getLogger(__name__)


class Followers(Protocol):
    """Who follows the ends of calls, and wants to know of each once it is on disk."""

    def note(self, call: DurableCall) -> Sequence[Operation]:
        """Return what belongs in the batch that ends a call."""

    def noted(self, call: DurableCall) -> None:
        """Hear that this batch is on disk."""


@dataclass(frozen=True)
class _Draft:
    """A call that is about to be written down."""

    call: DurableCall
    batch: Sequence[Operation]


class DurableDesk:
    """Keeps durable calls.

    Parameters
    ----------
    settings, journal, clock
        Limits, where calls are kept, time.
    route
        Returns where the gateway finds a function; None if there is none.
    active
        Whether an account may have anything run.
    followers
        Who follows the ends of calls, if anybody does.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        clock: Clock,
        *,
        route: Callable[[str, str], FunctionRoute | None],
        active: Callable[[str], bool],
        followers: Followers | None = None,
    ) -> None:
        self._limits, self._journal, self._clock = settings.limits, journal, clock
        self._route, self._active, self._followers = route, active, followers
        self._lanes = Lanes(SHARE)
        self._taking, self._asked = asyncio.Lock(), 0
        self._news = asyncio.Event()
        self._ends: dict[str, asyncio.Event] = {}
        self._large: dict[str, int] = {}
        self._coming: Counter[str] = Counter()
        self._space = Space(journal, clock, settings.limits.durable_bytes)
        self._load()

    # The port

    async def spawn(
        self,
        actor: Actor,
        owner: str,
        function: str,
        payload: bytes,
        *,
        content_type: str = "application/json",
        query: str = "",
        key: str = "",
        trace: Trace | None = None,
    ) -> DurableCall:
        """See `Durable.spawn`."""
        wish = Wish(
            owner=owner,
            function=function,
            caller=actor.account,
            payload=payload,
            content_type=content_type,
            query=query,
            key=key,
            traceparent=trace.parent if trace else "",
            tracestate=trace.state if trace else "",
        )
        [accepted] = await self.accept([wish])
        if isinstance(accepted, RopewalkError):
            raise accepted
        return accepted

    async def get(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.get`."""
        return self._read(owner, call)[1]

    async def list(
        self, actor: Actor, owner: str, function: str, *, shelf: Shelf = "", after: str = "", limit: int = 50
    ) -> Page[DurableCall]:
        """See `Durable.list`."""
        return shelves.page(self._journal, owner, function, shelf, after, limit)

    async def result(self, actor: Actor, owner: str, call: str, *, wait: float = 0.0) -> DurableResult:
        """See `Durable.result`."""
        until = self._clock.steady() + wait
        while not (found := self._read(owner, call)[1]).status.state.terminal:
            left = until - self._clock.steady()
            if left <= 0:
                return DurableResult(call=found)
            await heard(self._ends.setdefault(call, asyncio.Event()), min(left, _LOOK))
        if found.status.state is State.STOPPED:
            raise Conflict("This call was canceled, so it has no result.", hint="Spawn it again if you need one.")
        if found.status.state is State.FAILED:
            failed = from_problem(found.problem)
            failed.details["wait"] = False  # whoever asks need not ask again: this is the end of it
            raise failed
        record = self._journal.get(shelves.OUTPUT, owner, call)
        if record is None:
            raise self._gone(call)
        kind, body = str(record.body["type"]), shelves.unpacked(record.body)
        return DurableResult(call=found, content_type=kind, body=body)

    async def cancel(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.cancel`."""
        return await self._move(owner, call, Canceled())

    async def replay(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.replay`."""
        found = self._read(owner, call)[1]
        if found.status.state in (State.DONE, State.STOPPED):
            raise Conflict(
                f"This call is {found.status.state}, so it cannot be replayed.",
                hint="Only failed ones keep their arguments. Spawn a new call.",
            )
        self._check_waiting(owner)
        return await self._move(owner, call, Replayed())

    async def forget(self, actor: Actor, owner: str, call: str) -> DurableCall:
        """See `Durable.forget`."""
        record, found = self._read(owner, call)
        if not found.status.state.terminal:
            raise Conflict("This call has not ended.", hint="Cancel it first.")
        await self._journal.write(*shelves.forgetting(record, found))
        self._space.charge(owner, -weight(found))
        return found

    # For the gateway

    async def accept(self, wishes: Sequence[Wish]) -> Sequence[DurableCall | RopewalkError]:
        """Write calls down, all in one commit, and return them once they are on disk; or why one is refused."""
        # Whoever asked may go away: what reaches the disk must reach memory too.
        return await asyncio.shield(self._accepting(wishes))

    async def take(
        self, life: str, holding: Sequence[str], room: int, gone: Callable[[], Awaitable[bool]] | None = None
    ) -> WorkPage:
        """Return what the gateway shall carry and let go of, waiting a little for some.

        Parameters
        ----------
        life
            Names one life of the gateway: one that was started anew holds nothing of the one before.
        holding
            What this life carries, or has not been thanked for.
        room
            How many more it takes.
        gone
            Says whether who asked has gone away; nothing is begun for nobody.
        """
        self._asked += 1
        mine = self._asked
        self._news.set()  # an older question is nobody's any more
        async with self._taking:
            await self._reconcile(life, frozenset(holding))
            until = self._clock.steady() + PATIENCE
            while True:
                self._news.clear()
                if mine != self._asked or (gone is not None and await gone()):
                    return WorkPage()
                work = await self._begin(life, max(0, min(room, ROOM)))
                stop = tuple(one for one in holding if one not in self._lanes.running)
                left = until - self._clock.steady()
                if work or stop or left <= 0:
                    return WorkPage(work=work, stop=stop)
                due = self._lanes.next_due()
                away = AGAIN if self._lanes.pick(1, lambda _: ROOM, self._clock.wall()) else left
                await heard(self._news, min(left, away, max(0.01, due - self._clock.wall()) if due else left))

    async def report(self, reports: Sequence[Report]) -> None:
        """Write down what became of attempts; when this returns it is on disk, and what did not fit is ignored."""
        await asyncio.gather(*(self._reported(one) for one in reports))

    # Accepting

    async def _accepting(self, wishes: Sequence[Wish]) -> Sequence[DurableCall | RopewalkError]:
        drafts = [await self._drafted(wish) for wish in wishes]
        batches = [one.batch for one in drafts if isinstance(one, _Draft)]
        try:
            written = iter(await self._journal.write_all(batches))
        finally:
            for one in drafts:
                if isinstance(one, _Draft):
                    self._coming[one.call.owner] -= 1
        ends = [next(written) if isinstance(one, _Draft) else one for one in drafts]
        return [self._accepted(*one) for one in zip(wishes, drafts, ends, strict=True)]

    async def _drafted(self, wish: Wish) -> _Draft | RopewalkError:
        try:
            return await self._draft(wish)
        except RopewalkError as error:
            return error

    async def _draft(self, wish: Wish) -> _Draft:
        """Return a call that may be written down, and set its room aside."""
        size = len(wish.payload) + len(wish.query)
        refuse_long(size, self._limits.durable_payload)
        route = self._route(wish.owner, wish.function)
        if route is None:
            raise NotFound.named("functions", f"There is no function '{wish.function[:60]}'.", field="function")
        refuse_raw(route)
        await self._check_room(wish.owner, shelves.CHARGE + size)
        now = self._clock.wall()
        call = DurableCall(
            id=shelves.new_call_id(wish.function, now),
            owner=wish.owner,
            function=wish.function,
            caller=wish.caller,
            status=Status(state=State.WAITING, since=now),
            created=now,
            due=now,
            size=size,
            digest=_digest(wish),
            key=_key(wish),
            trigger=wish.trigger,
            chain=wish.chain,
        )
        trace = read([wish.traceparent], [wish.tracestate])
        facts = {"query": wish.query, "caller": wish.caller} | (trace.headers() if trace else {})
        batch = shelves.accepting(call, shelves.packed(wish.content_type, wish.payload, **facts))
        self._space.charge(wish.owner, weight(call))
        self._coming[wish.owner] += 1
        return _Draft(call, batch)

    def _accepted(
        self, wish: Wish, draft: _Draft | RopewalkError, end: int | RopewalkError
    ) -> DurableCall | RopewalkError:
        """Return what became of a wish: most keys are new, so the call that its key made before is looked for last."""
        if isinstance(draft, _Draft) and isinstance(end, int):
            self._place(draft.call)
            return draft.call
        if isinstance(draft, _Draft):
            self._space.charge(wish.owner, -weight(draft.call))
        try:
            key = _key(wish)
            known = self._known(wish.owner, key, _digest(wish)) if key else None
        except RopewalkError as error:
            return error
        return known or cast(RopewalkError, end)

    def _known(self, owner: str, key: str, digest: str) -> DurableCall | None:
        """Return the call of an idempotency key, if there is one."""
        record = self._journal.get(shelves.KEY, owner, key)
        found = shelves.read(self._journal, owner, str(record.body["call"])) if record else None
        if found is None:
            return None
        if found[1].digest != digest:
            raise Conflict(
                "This idempotency key belongs to a call with other arguments.",
                field="Idempotency-Key",
                hint="Use a new key for a new call.",
                details={"call": found[1].id},
            )
        if not found[1].status.state.terminal and found[1].id not in self._lanes:
            self._place(found[1])  # it is on disk, though the database did not say so when it was written
        return found[1]

    async def _check_room(self, owner: str, size: int) -> None:
        if not await self._space.fits(owner, size):
            raise self._space.full()
        self._check_waiting(owner)

    async def _keeps(self, report: Report, size: int) -> bool:
        """Say whether there is space for a result, which takes that of the arguments."""
        if self._space.surely(report.owner, size):
            return True
        return await self._space.fits(report.owner, size - self._read(report.owner, report.id)[1].size)

    def _check_waiting(self, owner: str) -> None:
        limit = self._limits.durable_waiting
        if self._lanes.open_of(owner) + self._coming[owner] >= limit:
            raise Limited(
                f"{limit} of your durable calls wait already.", field="limits.durable_waiting", retry_after=5.0
            )

    # Handing out

    async def _reconcile(self, life: str, holding: frozenset[str]) -> None:
        """Take back what runs nowhere: another life held it, or this one never heard of it."""
        running = self._lanes.running
        gone = [(one, holder != life) for one, holder in running.items() if holder != life or one not in holding]
        await asyncio.gather(*(self._take_back(one, died) for one, died in gone))

    async def _take_back(self, call: str, died: bool) -> None:
        key = self._lanes.key(call)
        if key is None:
            return
        try:
            attempt = self._read(key[0], call)[1].attempt
            await self._move(key[0], call, Failed(attempt, lost()) if died else Returned(attempt))
        except NotFound:
            self._lanes.drop(call)

    async def _begin(self, life: str, room: int) -> tuple[Work, ...]:
        picked = self._at_once(self._lanes.pick(room, self._places, self._clock.wall()))
        for call, key in picked:
            self._lanes.run(call, key, life)  # before anything is awaited, so that nobody picks it again
        begun = await asyncio.gather(*(self._attempt(call, key, life) for call, key in picked))
        return tuple(one for one in begun if one is not None)

    def _at_once(self, picked: Sequence[tuple[str, Key]]) -> Sequence[tuple[str, Key]]:
        """Return those of some calls whose arguments make one message; the others are next."""
        size = 0
        for number, (call, _) in enumerate(picked):
            size += self._large.get(call, 0)
            if number and size > PAGE:
                return picked[:number]
        return picked

    def _places(self, key: Key) -> int:
        """Return how many calls of a function may run: those that its workers can take, so that no other waits."""
        route = self._route(*key)
        if route is None:
            return 1  # to say that it is gone
        ready = reachable(route) and self._active(key[0])
        return route.spec.max_workers * route.spec.concurrency if ready else 0

    async def _attempt(self, call: str, key: Key, life: str) -> Work | None:
        """Count an attempt and return it as work; None if there is nothing to do."""
        try:
            begun = await self._move(key[0], call, Begun(life))
            if begun.status.state is not State.RUNNING or begun.holder != life:
                return None
            if self._route(*key) is None:
                removed = NotFound.named("functions", f"The function '{key[1]}' was removed.", field="function")
                await self._move(key[0], call, Failed(begun.attempt, removed.problem()))
                return None
            record = self._journal.get(shelves.INPUT, key[0], call)
            if record is None:  # to run it without them would be another call
                gone = NotFound("The arguments of this call are gone.", hint="Spawn it again.")
                await self._move(key[0], call, Failed(begun.attempt, gone.problem()))
                return None
        except NotFound:
            self._lanes.drop(call)
            return None
        except RopewalkError as error:
            _log.warning("the durable call %s waits: %s", call, error)
            self._lanes.wait(call, key, self._clock.wall() + AGAIN, self._clock.wall())
            return None
        return Work(
            id=call,
            attempt=begun.attempt,
            owner=key[0],
            function=key[1],
            caller=str(record.body.get("caller", "")),
            payload=shelves.unpacked(record.body),
            content_type=str(record.body.get("type", "")),
            query=str(record.body.get("query", "")),
            traceparent=str(record.body.get("traceparent", "")),
            tracestate=str(record.body.get("tracestate", "")),
        )

    # What happens to a call

    async def _reported(self, report: Report) -> None:
        try:
            await self._settled(report)
        except NotFound:  # it has expired or was forgotten
            self._lanes.drop(report.id)
        except BadInput as error:  # what no journal holds is no result, and must not hold up what others report
            _log.warning("what came of the durable call %s cannot be kept: %s", report.id, error)
            unkept = UserCodeFailed("What the function gave cannot be kept.", hint=error.hint).problem()
            await self._move(report.owner, report.id, Failed(report.attempt, unkept, report.call, report.revision))

    async def _settled(self, report: Report) -> None:
        """Write down a result, or why there is none."""
        size, most, problem = len(report.body), self._limits.durable_payload, report.problem
        if problem is None and size > most:
            problem = too_long(size, most).problem()
        if problem is None and not await self._keeps(report, size):
            problem = self._space.full().problem()
        if problem is not None:
            await self._move(report.owner, report.id, Failed(report.attempt, problem, report.call, report.revision))
            return
        answered = Answered(report.attempt, size, report.call, report.revision)
        await self._move(report.owner, report.id, answered, shelves.packed(report.content_type, report.body))

    async def _move(self, owner: str, call: str, event: Event, output: dict[str, Any] | None = None) -> DurableCall:
        """Apply an event to a call and return what became of it, once that is on disk."""
        return await asyncio.shield(self._moved(owner, call, event, output))

    async def _moved(self, owner: str, call: str, event: Event, output: dict[str, Any] | None) -> DurableCall:
        while True:
            record, before = self._read(owner, call)
            route = self._route(owner, before.function)
            after = step(
                before,
                event,
                Policy.of(route.spec) if route else Policy(),
                self._clock.wall(),
                kept=self._limits.durable_kept,
                chance=random.random(),  # noqa: S311 - it keeps retries apart
            )
            if after is before:
                self._place(before)
                return before
            operations = shelves.moving(self._journal, record, before, after, output)
            followers = self._followers if after.status.state.terminal else None
            if followers is not None:
                operations.extend(followers.note(after))
            try:
                await self._journal.write(*operations)
            except Conflict:  # something else happened to it meanwhile
                continue
            if followers is not None:
                followers.noted(after)
            self._space.charge(owner, weight(after) - weight(before))
            self._place(after)
            return after

    def _place(self, call: DurableCall) -> None:
        """Have memory agree with the journal."""
        key, state = (call.owner, call.function), call.status.state
        self._large.pop(call.id, None)
        if call.size > _LARGE and not state.terminal:
            self._large[call.id] = call.size
        if state is State.RUNNING:
            self._lanes.run(call.id, key, call.holder)
        elif state is State.WAITING:
            self._lanes.wait(call.id, key, call.due, self._clock.wall())
        else:
            self._lanes.drop(call.id)
            if (waited := self._ends.pop(call.id, None)) is not None:
                waited.set()
        self._tell()

    def _load(self) -> None:
        """Find the calls that are open; those that run are looked after when the gateway first asks."""
        after, kind = "", shelves.SHELVES["open"]
        for owner in self._journal.weigh(kind):
            after = ""
            while records := self._journal.page(kind, owner, after=after, limit=1000):
                for record in records:
                    self._place(DurableCall.model_validate(record.body))
                after = records[-1].name

    # Small things

    def _read(self, owner: str, call: str) -> tuple[Any, DurableCall]:
        found = shelves.read(self._journal, owner, call) if shelves.function_of(call) else None
        if found is None:
            raise self._gone(call)
        return found

    def _gone(self, call: str) -> NotFound:
        days = self._limits.durable_kept / 86400
        return NotFound(
            f"There is no durable call '{call[:60]}'.",
            field="call",
            hint=f"Those that ended are kept for {days:g} days; `ropewalk durable list FUNCTION` lists them.",
        )

    def _tell(self) -> None:
        self._news.set()


def _digest(wish: Wish) -> str:
    """Return what tells its arguments from others'."""
    return hashlib.sha256(b"\0".join((wish.content_type.encode(), wish.query.encode(), wish.payload))).hexdigest()


def _key(wish: Wish) -> str:
    """Return the name under which the call of its key is kept; empty where it has none."""
    caller = None if wish.caller == wish.owner else wish.caller
    return shelves.key_of(wish.function, wish.key, trigger=wish.trigger, caller=caller)

"""Durable calls at the gateway: accepts them in batches, carries what the platform hands out, reports what came of it.

A wish waits until the platform has it on disk; those that come meanwhile go together, so that one commit serves many.
What is carried goes through `Functions.call`, as every call does: limits, records and scaling hold for it. A report is
kept until the platform has it on disk; a platform that is away costs a wait and no attempt. Not here: what is tried
again, and when (``ropewalk_core.durable``). Rejected: a queue of our own; this process may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from ropewalk_core.durable import Accepted, Report, Wish, Work, WorkPage
from ropewalk_core.durable.desk import PATIENCE, ROOM
from ropewalk_core.durable.machine import bounded, refuse_long, refuse_raw, too_long
from ropewalk_core.errors import Internal, Limited, RopewalkError, Unavailable, from_problem
from ropewalk_core.model import DurableCall, FunctionRoute
from ropewalk_core.tasks import Tasks
from ropewalk_hub.gateway.callers import Asking
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.functions import Asked, Functions
from ropewalk_hub.gateway.gathered import gathered
from ropewalk_hub.gateway.room import Room
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime.parts import PARTS_TYPE
from ropewalk_runtime.trace import read

log = logging.getLogger("ropewalk.gateway")
SENDERS = 2
"""Batches of wishes that are under way at the same time: one is written while the other is read."""
ASKERS = 32
"""Requests of one account that may wait for its durable calls at the same time."""
_BATCH, _BYTES = 256, 4 * 2**20
_LONGEST_PAUSE = 1.0
_WISHES, _REPORTS = TypeAdapter(list[Wish]), TypeAdapter(list[Report])
_ACCEPTED = TypeAdapter(list[Accepted])


@dataclass
class _Asked:
    wish: Wish
    accepted: asyncio.Future[DurableCall]


@dataclass
class _Held:
    """An attempt that is carried; without a task it is over, and its report is on its way."""

    attempt: int
    task: asyncio.Task[None] | None


class Durables:
    """The durable calls that this life of the gateway has to do with.

    Parameters
    ----------
    directory, functions, room
        The other parts of the gateway.
    longest
        Bytes that arguments, and a result, may have.
    """

    def __init__(self, directory: Directory, functions: Functions, room: Room, longest: int) -> None:
        self._directory, self._functions, self._room, self._longest = directory, functions, room, longest
        self._life = secrets.token_hex(8)
        self._asked: deque[_Asked] = deque()
        self._filled, self._ended, self._freed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._held: dict[str, _Held] = {}
        self._reports: dict[str, Report] = {}
        self._askers: Counter[str] = Counter()
        self._tasks = Tasks()

    # Asking

    @contextmanager
    def asking(self, account: str) -> Iterator[None]:
        """Keep a place for somebody who asks for a call, and perhaps waits for its end.

        Raises
        ------
        Limited
            If too many of the account ask already.
        """
        if self._askers[account] >= ASKERS:
            raise Limited(f"{ASKERS} requests wait for durable calls of this account already.", field="wait")
        self._askers[account] += 1
        try:
            yield
        finally:
            self._askers[account] -= 1
            if not self._askers[account]:
                del self._askers[account]

    # Accepting

    async def accept(self, wish: Wish) -> DurableCall:
        """Return the call once it is on disk.

        Raises
        ------
        RopewalkError
            If it was not accepted; after `Unavailable` nobody knows, and the same key may be sent again.
        """
        refuse_long(len(wish.payload) + len(wish.query), self._longest)  # here already: the platform's time is dear
        accepted: asyncio.Future[DurableCall] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(wish, accepted))
        self._filled.set()
        return await accepted

    async def send(self) -> None:
        """Hand wishes in, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send())

    async def _send(self) -> None:
        while True:
            await self._filled.wait()
            if batch := self._next():
                await self._hand_in(batch)
            else:
                self._filled.clear()

    def _next(self) -> list[_Asked]:
        batch: list[_Asked] = []
        size = 0
        while self._asked and len(batch) < _BATCH and size < _BYTES:
            batch.append(self._asked.popleft())
            size += len(batch[-1].wish.payload)
        return batch

    async def _hand_in(self, batch: list[_Asked]) -> None:
        try:
            body = _WISHES.dump_json([one.wish for one in batch])
            answers = _ACCEPTED.validate_json(await self._directory.exchange("POST", "/internal/durable/accept", body))
            for one, answer in zip(batch, answers, strict=True):
                if one.accepted.done():  # who asked is gone; the call is there all the same
                    continue
                if answer.call is not None:
                    one.accepted.set_result(answer.call)
                else:
                    one.accepted.set_exception(from_problem(answer.problem or {}))
        except RopewalkError as error:
            _refuse(batch, error)
        finally:
            _refuse(batch, Unavailable("The platform did not say whether it has the call."))

    # Carrying

    async def carry(self) -> None:
        """Take work, for ever."""
        pause = 0.05
        while True:
            room = ROOM - len(self._held)
            try:
                page = await (self._take(room) if room > 0 else self._heard())
                pause = 0.05
            except RopewalkError as error:
                if pause >= _LONGEST_PAUSE:
                    log.warning("no durable calls are taken: %s", error)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
                continue
            for call in page.stop:
                self._let_go(call)
            for work in page.work:
                self._begin(work)

    async def _take(self, room: int) -> WorkPage:
        body = json.dumps({"life": self._life, "holding": list(self._held), "room": room}).encode()
        return WorkPage.model_validate_json(
            await self._directory.exchange("POST", "/internal/durable/take", body, wait=PATIENCE)
        )

    async def _heard(self) -> WorkPage:
        """Hear only what is to be let go of, until there is a place for more: a cancel waits for no other call."""
        self._freed.clear()
        asking, freed = asyncio.create_task(self._take(0)), asyncio.create_task(self._freed.wait())
        try:
            await asyncio.wait([asking, freed], return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else WorkPage()
        finally:
            for one in (asking, freed):
                one.cancel()
            await asyncio.gather(asking, freed, return_exceptions=True)

    def _begin(self, work: Work) -> None:
        self._let_go(work.id)  # the platform is past any attempt before, also one whose report it took unheard
        failed = functools.partial(self._broke, work)
        self._held[work.id] = _Held(work.attempt, self._tasks.start(self._carry(work), failed=failed))

    async def _carry(self, work: Work) -> None:
        self._tell(await self._attempt(work))

    async def _attempt(self, work: Work) -> Report:
        facts: dict[str, Any] = {"id": work.id, "attempt": work.attempt, "owner": work.owner}
        caller, call = Caller(work.caller or work.owner, "", "", 0, time.time() + 86400), ""
        try:
            known = self._directory.function(work.owner, work.function)
            if known is None:  # the platform knew better when it handed the call out
                raise Limited("The gateway has not heard of this function yet.")
            known = self._admitted(work, caller)
            with self._room.call(work.owner, len(work.payload)) as place:
                trace = read([work.traceparent], [work.tracestate])
                asked = Asked(work.content_type, work.query, PARTS_TYPE, durable=work.id, trace=trace)
                reply = await self._functions.call(known, caller, work.payload, asked, place)
                call, body, kind = reply.call, reply.body, reply.content_type
                if reply.parts is not None:
                    body, kind = await gathered(reply.parts, kind, work.content_type, self._longest)
                if len(body) > self._longest:  # not kept until the platform says the same: the room for it ends here
                    raise too_long(len(body), self._longest)
                return Report(**facts, call=call, revision=reply.revision, content_type=kind, body=body)
        except RopewalkError as error:
            call = str(error.details.get("call") or call)
            revision = known.revision if known else ""
            return Report(**facts, call=call, revision=revision, problem=bounded(error))

    def _admitted(self, work: Work, caller: Caller) -> FunctionRoute:
        """Return the revision that this attempt runs: as every call, it goes where calls go now."""
        try:
            route = self._functions.admit(work.owner, work.function, Asking(caller))[0]
        except Unavailable as error:  # nothing was begun, so no attempt is spent
            raise Limited(error.message, hint=error.hint) from error
        refuse_raw(route)
        return route

    def _broke(self, work: Work, error: BaseException) -> None:
        problem = bounded(Internal(f"It could not be carried: {error}"))
        self._tell(Report(id=work.id, attempt=work.attempt, owner=work.owner, problem=problem))

    def _let_go(self, call: str) -> None:
        """End what nobody wants any more."""
        held = self._held.pop(call, None)
        self._reports.pop(call, None)
        self._freed.set()
        if held is not None and held.task is not None:
            held.task.cancel()

    # Reporting

    def _tell(self, report: Report) -> None:
        held = self._held.get(report.id)
        if held is not None and held.attempt == report.attempt:
            held.task = None
            self._reports[report.id] = report
            self._ended.set()

    async def report(self) -> None:
        """Report what came of the calls, for ever; nothing is forgotten before the platform has it on disk."""
        pause = 0.05
        while True:
            self._ended.clear()
            if not (batch := self._batch()):
                await self._ended.wait()
                continue
            try:
                await self._directory.exchange("POST", "/internal/durable/report", _REPORTS.dump_json(batch))
                pause = 0.05
            except RopewalkError as error:
                if pause >= _LONGEST_PAUSE:
                    log.warning("the platform does not take reports of durable calls: %s", error)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
                continue
            for one in batch:
                if self._reports.get(one.id) is one:  # else the next attempt of the same call is carried already
                    del self._reports[one.id], self._held[one.id]
            self._freed.set()

    def _batch(self) -> list[Report]:
        batch: list[Report] = []
        size = 0
        for one in self._reports.values():
            if len(batch) == _BATCH or (batch and size + len(one.body) > _BYTES):
                break
            batch.append(one)
            size += len(one.body)
        return batch

    async def close(self) -> None:
        """End what is carried; the platform has it tried again."""
        await self._tasks.end()


def _refuse(batch: list[_Asked], error: RopewalkError) -> None:
    for one in batch:
        if not one.accepted.done():
            one.accepted.set_exception(error)

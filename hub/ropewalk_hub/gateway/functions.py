"""Calls over HTTP: check the caller, read the payload, hand it to the pool, answer, keep a record.

Not here: workers (``pool``), turning the payload into arguments (in the worker, beside the handler). The interface
towards HTTP is small on purpose: `Functions.call` knows no aiohttp, so that a raw protocol can take its place.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict

from ropewalk_core import callkeys, policy
from ropewalk_core.errors import (
    Denied,
    NotFound,
    RopewalkError,
    Unauthenticated,
    Unavailable,
    UserCodeFailed,
    WrongOrigin,
)
from ropewalk_core.model import Access, FunctionRoute, State
from ropewalk_core.names import new_id
from ropewalk_core.traffic import choose, pinned
from ropewalk_hub.gateway.callers import Asking, nobody
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.flow import LEFT_STATUS, Left, Streamed
from ropewalk_hub.gateway.headers import from_function, value_of
from ropewalk_hub.gateway.link import LONGEST_LOG, Gone, text_of, worker_error
from ropewalk_hub.gateway.pool import Begun, Outcome, Pool, Pools
from ropewalk_hub.gateway.quotas import Quotas
from ropewalk_hub.gateway.records import Note, Records
from ropewalk_hub.gateway.remote import Remote
from ropewalk_hub.gateway.room import Place
from ropewalk_hub.gateway.sent import Sent
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime import packed
from ropewalk_runtime.formats import ARROW, NPY
from ropewalk_runtime.handler import CALL_TYPE
from ropewalk_runtime.packed import PACKED
from ropewalk_runtime.parts import BYTES, EVENTS, NDJSON, PARTS_TYPE, TEXT
from ropewalk_runtime.trace import Trace

TYPES = frozenset(
    {"application/json", CALL_TYPE, "text/plain", ARROW, BYTES, EVENTS, NDJSON, NPY, PACKED, PARTS_TYPE, TEXT}
)
"""What an answer may be called; anything else is bytes."""


@dataclass(frozen=True)
class Asked:
    """What a request says beside its payload."""

    type: str = ""
    query: str = ""
    accept: str = ""
    http: dict[str, Any] | None = None
    """The request as it is, for functions that want that."""
    durable: str = ""
    """The durable call of which this is an attempt."""
    trace: Trace | None = None
    """The trace that its caller named."""
    agent: str = ""
    """What its caller calls itself."""

    def header(self) -> dict[str, Any]:
        """Return it as a worker is told."""
        header: dict[str, Any] = {"type": self.type[:200], "query": self.query[:8192]}
        if self.accept and self.accept != "*/*":
            header["accept"] = self.accept[:200]
        if self.http is not None:
            header["http"] = self.http
        if self.trace is not None:
            header |= self.trace.headers()
        return header


@dataclass(frozen=True)
class Reply:
    """A successful answer."""

    body: bytes
    content_type: str
    call: str
    revision: str
    cold: bool
    parts: Streamed | None = None
    status: int = 200
    headers: CIMultiDict[str] | None = None
    """What an app answers beside its body, which is then of any type."""


@dataclass(frozen=True)
class UnderWay:
    """A call that a worker has."""

    route: FunctionRoute
    asked: Asked
    note: Note
    pool: Pool
    begun: Begun


class Functions:
    """Calls functions.

    Parameters
    ----------
    directory, pools, remote, records, sent
        The other parts of the gateway.
    chance
        A number from 0 up to but not 1, another one each time, by which a call gets its revision.
    origin
        The platform's, which explains failures.
    """

    def __init__(
        self,
        directory: Directory,
        pools: Pools,
        remote: Remote,
        records: Records,
        sent: Sent,
        chance: Callable[[], float] = random.random,
        *,
        origin: str = "",
    ) -> None:
        self._directory = directory
        self._pools = pools
        self._remote = remote
        self._records, self._sent = records, sent
        self._chance, self._origin = chance, origin
        self._quotas = Quotas(directory)

    def admit(self, owner: str, name: str, asking: Asking, number: int = 0) -> tuple[FunctionRoute, Caller]:
        """Return the revision to which a call goes, or the one with this number, and on whose behalf it is made.

        Raises
        ------
        Unauthenticated
            If nobody says who calls, or the key opens nothing here.
        Limited
            If the quota of the key is used up.
        NotFound
            If there is none, or it is somebody else's: the two look the same from outside.
        Unavailable
            If it does not run, or nothing is known yet; the message says why.
        """
        if not self._directory.known:
            raise Unavailable("The gateway waits for the platform.")
        route = self._directory.function(owner, name)
        key = callkeys.find(route.keys if route else (), asking.key) if asking.key else None
        if asking.key and key is None:
            raise refuse_key()
        caller = asking.caller or (nobody(key.id) if key else nobody())
        allowed = policy.decide_call(route.access, owner, asking.account, key=key is not None) if route else None
        if route is None or not isinstance(allowed, policy.Allow):
            if not asking.account:
                raise refuse_anonymous()
            raise NotFound.named("functions", f"There is no function '{name}' here for you.")
        if key is not None:
            self._quotas.take(owner, name, key)
        if not self._directory.active(owner):  # whoever else may call it, nothing runs for its owner
            raise Unavailable(f"The function '{name}' does not run: its owner's account is not active.")
        return self._chosen(route, name, number), caller

    def access(self, owner: str, name: str) -> Access:
        """Return who may call a function; private if there is none."""
        route = self._directory.function(owner, name)
        return route.access if route else Access()

    def _chosen(self, route: FunctionRoute, name: str, number: int) -> FunctionRoute:
        chosen = pinned(route, number) if number else choose(route, self._chance())
        if chosen is None:
            raise _not_pinned(name, number)
        if chosen.away:
            raise Unavailable(chosen.away, hint="Look at its page; deploy it again if it does not come by itself.")
        return chosen

    async def call(self, route: FunctionRoute, caller: Caller, payload: bytes, asked: Asked, place: Place) -> Reply:
        """Run one call and keep its record. To cancel it is to leave; the call is ended, and its record says so.

        Raises
        ------
        RopewalkError
            What went wrong; a traceback is in its details only when the caller may see it.
        """
        files = self._sent.named(route, caller, asked.type, payload)
        note, header = self.opened(route, caller, asked, len(payload))
        if files:
            header["files"] = files
        try:
            outcome = await self._run(note, header, payload, place)
        except RopewalkError as error:
            raise self.failed(note, error) from None
        return self.replied(note, asked, outcome)

    def begin(self, route: FunctionRoute, caller: Caller, payload: bytes, asked: Asked) -> UnderWay | None:
        """Begin a call that a worker on this machine takes at once; None where one must be started or waited for."""
        if route.url or (asked.type == PACKED and packed.files(payload)):
            return None
        pool = self._pools.get(route)
        member = pool.take()
        if member is None:
            return None
        note, header = self.opened(route, caller, asked, len(payload))
        note.started, note.worker, note.accelerator = note.queued, member.id, member.accelerator
        try:
            begun = pool.send(member, header, payload)
        except Gone:
            self._records.drop(note)
            pool.done(member, None)
            return None
        note.exchange = begun.exchange
        return UnderWay(route, asked, note, pool, begun)

    def answered(self, one: UnderWay) -> Reply:
        """Return the answer of a call whose first frame has come, is whole, and needs no room of its own."""
        one.pool.done(one.begun.member, one.begun.exchange)
        header, body = one.begun.exchange.first.result()
        return self.replied(one.note, one.asked, Outcome(header, body, one.begun.cold))

    def leave(self, one: UnderWay) -> None:
        """Have a call ended whose caller left."""
        one.pool.leave(one.begun.member, one.begun.exchange, one.begun.until, self.left(one.note))

    async def finish(self, one: UnderWay, place: Place) -> Reply:
        """Wait for the answer of a call that has begun; as `call`."""
        try:
            outcome = await one.pool.finish(one.begun, place, self.left(one.note))
        except RopewalkError as error:
            raise self.failed(one.note, error) from None
        return self.replied(one.note, one.asked, outcome)

    def opened(self, route: FunctionRoute, caller: Caller, asked: Asked, size: int) -> tuple[Note, dict[str, Any]]:
        """Return the note of a call that begins, with a payload of so many bytes, and what its worker is told."""
        note = Note(new_id("call"), route, caller.account, time.time(), size, self._memory(route))
        note.durable, note.agent = asked.durable, asked.agent
        note.traceparent = asked.trace.parent if asked.trace else ""
        self._records.open(note)
        return note, asked.header() | {"caller": caller.account, "call": note.id}

    def replied(self, note: Note, asked: Asked, outcome: Outcome) -> Reply:
        """Return what a caller gets of an outcome, and keep the note unless more of it is to come.

        Raises
        ------
        RopewalkError
            What the worker reports, as the caller may see it.
        """
        note.cold = outcome.cold
        if (error := self._reported(note.route, outcome.header)) is not None:
            if outcome.flow is not None:  # no worker of ours begins an answer with its failure
                outcome.flow.leave(lambda _said, _last: None)
            raise self.failed(note, error, outcome.header)
        kind = text_of(outcome.header.get("type", ""), 1000)
        plain = asked.http is None
        status = 200 if plain else _status(outcome.header.get("status"))
        kind = (kind if kind in TYPES else BYTES) if plain else value_of(kind)
        parts = None
        if outcome.flow is None:
            note.sent = len(outcome.body)
            self._done(note, outcome.header, status)
        else:
            judge = functools.partial(self._judge, note, status)
            parts = Streamed(outcome.flow, kind, outcome.header.get("values") is True, judge, self.left(note), note)
        return Reply(
            body=outcome.body,
            content_type=kind,
            call=note.id,
            revision=note.route.revision,
            cold=outcome.cold,
            parts=parts,
            status=status,
            headers=None if plain else from_function(outcome.header.get("headers")),
        )

    def failed(self, note: Note, error: RopewalkError, header: dict[str, Any] | None = None) -> RopewalkError:
        """Keep the note of a call that failed, and return the error as its caller may see it."""
        error.details["call"] = note.id
        note.over(State.FAILED, error.status, header)
        note.code = error.code
        note.error = text_of(f"{error.message} {error.details.get('error', '')}".strip(), 2000)
        note.traceback = text_of(error.details.get("traceback", ""), LONGEST_LOG)
        self._records.add(note)
        return hide_traceback(error, note.caller, note.route.owner)

    def left(self, note: Note) -> Left:
        """Return who is told what became of a call whose caller left."""
        return functools.partial(self._left, note)

    async def _run(self, note: Note, header: dict[str, Any], payload: bytes, place: Place) -> Outcome:
        """Run a call where the function is."""
        route, left = note.route, self.left(note)
        if route.url:
            return await self._remote.call(route, header, payload, place, left, note)
        return await self._pools.get(route).call(header, payload, place, left, note)

    def _memory(self, route: FunctionRoute) -> int:
        """Return the bytes of memory that are set aside for a worker."""
        return self._remote.memory(route) if route.url else self._pools.memory(route)

    def _reported(self, route: FunctionRoute, header: dict[str, Any]) -> RopewalkError | None:
        if route.url:
            return self._remote.reported(route, header)
        return worker_error(header, self._memory(route))

    def _judge(
        self, note: Note, status: int, last: dict[str, Any], failure: RopewalkError | None
    ) -> dict[str, Any] | None:
        """Keep the note of an answer in parts, and return why it failed as the caller may see it."""
        error = failure or self._reported(note.route, last)
        if error is None:
            self._done(note, last, status)
            return None
        return self.failed(note, error, last).problem(origin=self._origin)

    def _done(self, note: Note, header: dict[str, Any], status: int) -> None:
        note.over(State.DONE, status, header)
        self._records.add(note)

    def _left(self, note: Note, said: str, last: dict[str, Any] | None) -> None:
        note.over(State.STOPPED, LEFT_STATUS, last)
        note.error = said
        self._records.add(note)


def _not_pinned(name: str, number: int) -> NotFound:
    return NotFound(
        f"Revision {number} of '{name}' has no address of its own.",
        hint=f"Name it in its traffic: `.at({number})` in a notebook, `ropewalk functions traffic {name}` at a prompt.",
    )


def _status(said: object) -> int:
    """Return an app's status; one that no answer can have is a failure of its own."""
    return said if isinstance(said, int) and 200 <= said <= 599 else 500


def may_see_traceback(caller: str, owner: str) -> bool:
    """Say whether a caller may read the person's own lines: only their owner."""
    return caller == owner


def hide_traceback(error: RopewalkError, caller: str, owner: str) -> RopewalkError:
    """Return the error without what user code said, and where and with what, for everybody but the owner."""
    if may_see_traceback(caller, owner):
        return error
    if error.field == "secrets":  # the name of one that was removed
        return UserCodeFailed("The function cannot start.", hint="Its owner can see why.")
    error.details.pop("traceback", None)
    raised = str(error.details.pop("error", "")).partition(":")[0]
    if raised and type(error) is UserCodeFailed:  # a missing package, say, and the line of its owner's cell
        return UserCodeFailed(f"The function raised {raised[:100]}.", details=error.details)
    return error


def refuse_anonymous() -> Unauthenticated:
    """Return the error for a call that says nothing about who calls, whether there is such a function or not."""
    return Unauthenticated(
        "Functions answer only to those whom their owner lets call them.",
        hint='Add a token: curl -H "Authorization: Bearer $(ropewalk token)" ..., or a key of the function.',
    )


def refuse_key() -> Unauthenticated:
    """Return the error for a key that is wrong, ended or of another function."""
    return Unauthenticated("The key is not good for this function.", hint="Ask the function's owner for another one.")


def refuse_origin() -> WrongOrigin:
    """Return the error for a call that a web page makes which is not on the function's list."""
    return WrongOrigin(
        "Pages of this origin may not call the function.",
        hint="Its owner can add the origin: `ropewalk functions access NAME --origin ORIGIN`.",
    )


def refuse_cookie_writes() -> Denied:
    """Return the error for an unsafe request that only a cookie speaks for."""
    return Denied("A browser's sign-in is good for looking only.", hint="Call with a token: `ropewalk token`.")

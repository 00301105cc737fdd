"""Calls over HTTP: check the caller, read the payload, hand it to the pool, answer, keep a record.

Not here: workers (``pool``), turning the payload into arguments (in the worker, beside the handler). The interface
towards HTTP is small on purpose: `Functions.call` knows no aiohttp, so that a raw protocol can take its place.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ropewalk_core.errors import Denied, NotFound, RopewalkError, Unauthenticated, Unavailable
from ropewalk_core.model import Call, FunctionRoute, State
from ropewalk_core.names import new_id
from ropewalk_hub.gateway.directory import Directory
from ropewalk_hub.gateway.link import LONGEST_LOG, worker_error
from ropewalk_hub.gateway.pool import Outcome, Pools
from ropewalk_hub.gateway.records import Records
from ropewalk_hub.gateway.remote import Remote
from ropewalk_hub.gateway.room import Place
from ropewalk_hub.gateway.tokens import Caller
from ropewalk_runtime.handler import CALL_TYPE

_TYPES = frozenset({"application/json", CALL_TYPE, "application/octet-stream", "text/plain"})


@dataclass(frozen=True)
class Reply:
    """A successful answer."""

    body: bytes
    content_type: str
    call: str
    revision: str
    cold: bool
    took: float


class Functions:
    """Calls functions.

    Parameters
    ----------
    directory, pools, remote, records
        The other parts of the gateway.
    """

    def __init__(self, directory: Directory, pools: Pools, remote: Remote, records: Records) -> None:
        self._directory = directory
        self._pools = pools
        self._remote = remote
        self._records = records

    def route(self, owner: str, name: str, caller: Caller) -> FunctionRoute:
        """Return the function that this person may call.

        Raises
        ------
        NotFound
            If there is none, or it is somebody else's: the two look the same from outside.
        Unavailable
            If it does not run; the message says why.
        """
        route = self._directory.function(owner, name)
        if route is None or caller.account != owner:
            raise NotFound.named("functions", f"There is no function '{name}' here for you.")
        if route.away:
            raise Unavailable(route.away, hint="Look at its page; deploy it again if it does not come by itself.")
        return route

    async def call(
        self, route: FunctionRoute, caller: Caller, payload: bytes, content_type: str, query: str, place: Place
    ) -> Reply:
        """Run one call and keep its record.

        Raises
        ------
        RopewalkError
            What went wrong; a traceback is in its details only when the caller may see it.
        """
        started = time.time()
        identifier = new_id("call")
        header = {"type": content_type[:200], "query": query[:8192], "caller": caller.account, "call": identifier}
        record = Call(
            id=identifier,
            function=route.name,
            owner=route.owner,
            revision=route.revision,
            started=started,
            state=State.RUNNING,
        )
        try:
            outcome, error = await self._run(route, header, payload, place)
            if error is not None:
                self._record_failure(record, error, outcome)
                raise hide_traceback(error, caller.account, route.owner)
        except RopewalkError as error:
            if error.details.get("call") is None:
                error.details["call"] = identifier
                self._record_failure(record, error, None)
            raise hide_traceback(error, caller.account, route.owner) from None
        self._records.add(
            record.model_copy(
                update={
                    "ended": time.time(),
                    "state": State.DONE,
                    "cold": outcome.cold,
                    "status": 200,
                    "logs": str(outcome.header.get("logs", ""))[:LONGEST_LOG],
                }
            )
        )
        kind = str(outcome.header.get("type", ""))
        return Reply(
            body=outcome.body,
            content_type=kind if kind in _TYPES else "application/octet-stream",
            call=identifier,
            revision=route.revision,
            cold=outcome.cold,
            took=time.time() - started,
        )

    async def _run(
        self, route: FunctionRoute, header: dict[str, Any], payload: bytes, place: Place
    ) -> tuple[Outcome, RopewalkError | None]:
        """Run a call where the function is, and return the answer and the failure that it reports."""
        if route.url:
            outcome = await self._remote.call(route, header, payload, place)
            return outcome, worker_error(outcome.header, self._remote.memory(route), 0)
        pool = self._pools.get(route)
        outcome = await pool.call(header, payload, place)
        return outcome, worker_error(outcome.header, pool.memory)

    def _record_failure(self, record: Call, error: RopewalkError, outcome: Outcome | None) -> None:
        error.details["call"] = record.id
        self._records.add(
            record.model_copy(
                update={
                    "ended": time.time(),
                    "state": State.FAILED,
                    "cold": outcome.cold if outcome else False,
                    "status": error.status,
                    "error": f"{error.message} {error.details.get('error', '')}".strip()[:2000],
                    "traceback": str(error.details.get("traceback", ""))[:LONGEST_LOG],
                    "logs": str(outcome.header.get("logs", ""))[:LONGEST_LOG] if outcome else "",
                }
            )
        )


def may_see_traceback(caller: str, owner: str) -> bool:
    """Say whether a caller may read the person's own lines: only their owner."""
    return caller == owner


def hide_traceback(error: RopewalkError, caller: str, owner: str) -> RopewalkError:
    """Return the error without traceback and message of user code for everybody but the owner."""
    if not may_see_traceback(caller, owner):
        for secret in ("traceback", "error"):
            error.details.pop(secret, None)
    return error


def refuse_anonymous() -> Unauthenticated:
    """Return the error for a call that says nothing about who calls."""
    return Unauthenticated(
        "Functions answer only to their owner.",
        hint='Add a token: curl -H "Authorization: Bearer $(ropewalk token)" ...',
    )


def refuse_cookie_writes() -> Denied:
    """Return the error for an unsafe request that only a cookie speaks for."""
    return Denied("A browser's sign-in is good for looking only.", hint="Call with a token: `ropewalk token`.")

"""Between triggers and what they call: a firing becomes a durable call or a run, which is told what it was made for.

After the end of a durable call it is also told its result, where that is JSON and not long, or how it failed. Not here:
when a trigger fires (``ropewalk_core.triggers``), and what becomes of its call (``ropewalk_core.durable``) or run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from ropewalk_core.durable import DurableDesk, Wish, shelves
from ropewalk_core.errors import BadInput, Conflict, NotFound, RopewalkError
from ropewalk_core.flows import Run
from ropewalk_core.journal import Journal
from ropewalk_core.model import Actor, DurableCall, DurableResult, FunctionRoute, State, TriggerSpec
from ropewalk_core.triggers.house import Target
from ropewalk_core.triggers.occasions import Firing
from ropewalk_core.triggers.wishes import FUNCTION, WORKFLOW
from ropewalk_runtime.bundle import RAW
from ropewalk_runtime.handler import TRIGGER_TYPE
from ropewalk_workflows.records import RUN
from ropewalk_workflows.saved import launching
from ropewalk_workflows.saved.desk import SavedDesk

LARGEST = 2**16
"""Bytes of a result that are handed on; a larger one is asked for by its identifier."""


def functions(
    route: Callable[[str, str], FunctionRoute | None], desk: Callable[[], DurableDesk], journal: Journal
) -> Target:
    """Return functions as what triggers call.

    Parameters
    ----------
    route
        Returns where the gateway finds a function; None if there is none.
    desk
        Returns the desk of durable calls, which is made after this.
    journal
        Where durable calls are kept.
    """

    def check(owner: str, name: str, spec: TriggerSpec) -> None:
        found = route(owner, name)
        if found is not None and found.spec.bundle.form in RAW:
            raise BadInput(
                f"'{name}' answers requests as they come, and a trigger makes durable calls, which it has none of.",
                field="function",
                hint="A function, a generator, a class or a program for each call can have triggers.",
            )

    return Target(
        FUNCTION,
        there=lambda owner, name: route(owner, name) is not None,
        check=check,
        fire=lambda firings: fire(desk(), firings),
        outcome=lambda owner, call: outcome(journal, owner, call),
    )


def workflows(desk: SavedDesk, journal: Journal) -> Target:
    """Return saved workflows as what triggers call; each firing is a run."""

    def check(owner: str, name: str, spec: TriggerSpec) -> None:
        facts = {"trigger", "kind", "at", {"after": "ended", "on_file": "file"}.get(spec.word, "at")}
        if wanting := launching.untold(desk.read(owner, name).spec, facts):
            raise BadInput(
                f"'{name}' needs a value for '{wanting}', which nothing gives when it is launched by itself.",
                field=wanting,
                hint=f"Give '{wanting}' a default, or save the workflow with a value: .save({wanting}=...).",
            )

    async def fired(firing: Firing) -> Run | RopewalkError:
        calls, chain = firing.trigger, firing.occasion.chain
        try:
            return await desk.fired(calls.owner, calls.name, firing.told(), key=firing.key, chain=chain)
        except RopewalkError as error:
            return error

    async def fire_all(firings: Sequence[Firing]) -> list[Run | RopewalkError]:
        return list(await asyncio.gather(*(fired(one) for one in firings)))

    def outcome_of(owner: str, run: str) -> State | None:
        record = journal.get(RUN, owner, run)
        return State(record.body["run"]["status"]["state"]) if record is not None else None

    return Target(WORKFLOW, there=desk.there, check=check, fire=fire_all, outcome=outcome_of)


async def fire(desk: DurableDesk, firings: Sequence[Firing]) -> list[DurableCall | RopewalkError]:
    """Ask for a durable call for each firing, all in one commit; the same firing gives the same call again."""
    answers = await desk.accept([await _wish(desk, one) for one in firings])
    return [await _known(desk, firing, one) for firing, one in zip(firings, answers, strict=True)]


def outcome(journal: Journal, owner: str, call: str) -> State | None:
    """Return where a durable call stands; None if it is not kept any more."""
    found = shelves.read(journal, owner, call)
    return found[1].status.state if found is not None else None


async def _wish(desk: DurableDesk, firing: Firing) -> Wish:
    told = firing.told()
    if ended := told.get("ended"):
        told["ended"] = {**ended, **await _gave(desk, firing.trigger.owner, str(ended["id"]))}
    return Wish(
        owner=firing.trigger.owner,
        function=firing.trigger.name,
        caller=firing.trigger.owner,
        payload=json.dumps(told, ensure_ascii=False).encode(errors="replace"),
        content_type=TRIGGER_TYPE,
        key=firing.key,
        trigger=firing.trigger.id,
        chain=firing.occasion.chain,
    )


async def _known(desk: DurableDesk, firing: Firing, answer: DurableCall | RopewalkError) -> DurableCall | RopewalkError:
    """Return the call that an occasion made already, where what is known of it now would be told in other words."""
    if not isinstance(answer, Conflict) or "call" not in answer.details:
        return answer
    try:
        owner = firing.trigger.owner
        return await desk.get(Actor(account=owner), owner, str(answer.details["call"]))
    except RopewalkError as error:
        return error


async def _gave(desk: DurableDesk, owner: str, call: str) -> dict[str, Any]:
    """Return what a durable call gave, or how it failed; nothing of any other call, or of one that is not kept."""
    if not shelves.function_of(call):
        return {}
    actor = Actor(account=owner)
    try:
        ended = await desk.get(actor, owner, call)
        if ended.status.state is State.FAILED:
            return {"error": str(ended.problem.get("message", "")), "code": str(ended.problem.get("code", ""))}
        if ended.status.state is not State.DONE or (ended.result or 0) > LARGEST:
            return {}
        found = await desk.result(actor, owner, call)
    except NotFound:
        return {}
    return _json(found)


def _json(found: DurableResult) -> dict[str, Any]:
    """Return a result where it is JSON, of which NaN is no part."""
    if found.body is None or "json" not in found.content_type:
        return {}
    try:
        result = json.loads(found.body)
        json.dumps(result, allow_nan=False)
    except (ValueError, RecursionError):
        return {}
    return {"result": result}

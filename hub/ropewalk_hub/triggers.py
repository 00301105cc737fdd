"""Between triggers and durable calls: a firing becomes a durable call, which is told what it was made for.

After the end of a durable call it is also told its result, where that is JSON and not long, or how it failed. Not here:
when a trigger fires (``ropewalk_core.triggers``), and what becomes of its call (``ropewalk_core.durable``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ropewalk_core.durable import DurableDesk, Wish, shelves
from ropewalk_core.errors import Conflict, NotFound, RopewalkError
from ropewalk_core.journal import Journal
from ropewalk_core.model import Actor, DurableCall, DurableResult, State
from ropewalk_core.triggers.occasions import Firing
from ropewalk_runtime.handler import TRIGGER_TYPE

LARGEST = 2**16
"""Bytes of a result that are handed on; a larger one is asked for by its identifier."""


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

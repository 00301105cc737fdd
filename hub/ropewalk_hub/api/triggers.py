"""REST of triggers: what calls a function by itself. Each firing is a durable call, which has routes of its own.

Not here: what a trigger may be and when it fires (``ropewalk_core.triggers``).
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ropewalk_core.model import DurableCall, Page, Trigger, TriggerSpec
from ropewalk_hub.api.common import ApiRoute, Its, Key, problems
from ropewalk_hub.security import Signed

router = APIRouter(route_class=ApiRoute, tags=["triggers"], prefix="/functions/{owner}/{name}/triggers")


class TriggersWish(BaseModel):
    """The triggers that a function is to have."""

    model_config = ConfigDict(extra="forbid")

    triggers: tuple[TriggerSpec, ...] = Field(description="All of them; none removes those there are", max_length=1000)


@router.get("", operation_id="list_triggers", responses=problems(404))
async def list_triggers(actor: Signed, its: Its, owner: str, name: str) -> Page[Trigger]:
    """Return the triggers of a function, oldest first, each with when it comes due next and what came of it last."""
    return await its.triggers.list(actor, owner, name)


@router.put("", operation_id="choose_triggers", responses=problems(404, 422, 507))
async def choose_triggers(actor: Signed, its: Its, owner: str, name: str, wish: TriggersWish) -> Page[Trigger]:
    """Have these triggers and no others; those that are there already stay as they are."""
    return await its.triggers.choose(actor, owner, name, wish.triggers)


@router.post("", status_code=201, operation_id="add_trigger", responses=problems(404, 422, 507))
async def add_trigger(actor: Signed, its: Its, owner: str, name: str, spec: TriggerSpec) -> Trigger:
    """Make a trigger; one that is there already is returned as it is."""
    return await its.triggers.add(actor, owner, name, spec)


@router.delete("/{identifier}", operation_id="remove_trigger", responses=problems(404))
async def remove_trigger(actor: Signed, its: Its, owner: str, name: str, identifier: str) -> Trigger:
    """Remove a trigger; calls that it made go on."""
    return await its.triggers.remove(actor, owner, name, identifier)


@router.post("/{identifier}/pause", operation_id="pause_trigger", responses=problems(404))
async def pause_trigger(actor: Signed, its: Its, owner: str, name: str, identifier: str) -> Trigger:
    """Pause a trigger; what happens meanwhile fires nothing."""
    return await its.triggers.pause(actor, owner, name, identifier, True)


@router.post("/{identifier}/resume", operation_id="resume_trigger", responses=problems(404))
async def resume_trigger(actor: Signed, its: Its, owner: str, name: str, identifier: str) -> Trigger:
    """Resume a trigger that was paused, from now on."""
    return await its.triggers.pause(actor, owner, name, identifier, False)


@router.post(
    "/{identifier}/fire", status_code=202, operation_id="fire_trigger", responses=problems(404, 409, 422, 429, 507)
)
async def fire_trigger(actor: Signed, its: Its, owner: str, name: str, identifier: str, key: Key = "") -> DurableCall:
    """Make the call that the trigger would make, now."""
    return await its.triggers.fire(actor, owner, name, identifier, key=key)

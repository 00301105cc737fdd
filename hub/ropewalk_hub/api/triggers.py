"""REST of triggers: what calls a function, or launches a saved workflow, by itself.

Each firing is a durable call or a run, which have routes of their own. Not here: what a trigger may be and when it
fires (``ropewalk_core.triggers``).
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ropewalk_core.flows import Run
from ropewalk_core.model import DurableCall, Page, Trigger, TriggerSpec
from ropewalk_core.ports import Triggers
from ropewalk_hub.api.common import ApiRoute, Its, Key, problems
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed


class TriggersWish(BaseModel):
    """The triggers that something is to have."""

    model_config = ConfigDict(extra="forbid")

    triggers: tuple[TriggerSpec, ...] = Field(description="All of them; none removes those there are", max_length=1000)


def _routes(noun: str, of: str, port: Callable[[Platform], Triggers], made: type[DurableCall] | type[Run]) -> APIRouter:
    """Return the routes below one kind of what triggers call."""
    router = APIRouter(route_class=ApiRoute, tags=["triggers"], prefix=f"/{noun}/{{owner}}/{{name}}/triggers")

    @router.get("", operation_id=f"list_{of}triggers", responses=problems(404))
    async def list_triggers(actor: Signed, its: Its, owner: str, name: str) -> Page[Trigger]:
        """Return the triggers, oldest first, each with when it comes due next and what came of it last."""
        return await port(its).list(actor, owner, name)

    @router.put("", operation_id=f"choose_{of}triggers", responses=problems(404, 422, 507))
    async def choose_triggers(actor: Signed, its: Its, owner: str, name: str, wish: TriggersWish) -> Page[Trigger]:
        """Have these triggers and no others; those that are there already stay as they are."""
        return await port(its).choose(actor, owner, name, wish.triggers)

    @router.post("", status_code=201, operation_id=f"add_{of}trigger", responses=problems(404, 422, 507))
    async def add_trigger(actor: Signed, its: Its, owner: str, name: str, spec: TriggerSpec) -> Trigger:
        """Make a trigger; one that is there already is returned as it is."""
        return await port(its).add(actor, owner, name, spec)

    @router.delete("/{identifier}", operation_id=f"remove_{of}trigger", responses=problems(404))
    async def remove_trigger(actor: Signed, its: Its, owner: str, name: str, identifier: str) -> Trigger:
        """Remove a trigger; what it made goes on."""
        return await port(its).remove(actor, owner, name, identifier)

    @router.post("/{identifier}/pause", operation_id=f"pause_{of}trigger", responses=problems(404))
    async def pause_trigger(actor: Signed, its: Its, owner: str, name: str, identifier: str) -> Trigger:
        """Pause a trigger; what happens meanwhile fires nothing."""
        return await port(its).pause(actor, owner, name, identifier, True)

    @router.post("/{identifier}/resume", operation_id=f"resume_{of}trigger", responses=problems(404))
    async def resume_trigger(actor: Signed, its: Its, owner: str, name: str, identifier: str) -> Trigger:
        """Resume a trigger that was paused, from now on."""
        return await port(its).pause(actor, owner, name, identifier, False)

    @router.post(
        "/{identifier}/fire",
        status_code=202,
        operation_id=f"fire_{of}trigger",
        response_model=made,
        responses=problems(404, 409, 422, 429, 507),
    )
    async def fire_trigger(
        actor: Signed, its: Its, owner: str, name: str, identifier: str, key: Key = ""
    ) -> DurableCall | Run:
        """Make the call, or the run, that the trigger would make, now."""
        return await port(its).fire(actor, owner, name, identifier, key=key)

    return router


router = APIRouter()
router.include_router(_routes("functions", "", lambda its: its.triggers, DurableCall))
router.include_router(_routes("saved-workflows", "saved_", lambda its: its.saved_triggers, Run))

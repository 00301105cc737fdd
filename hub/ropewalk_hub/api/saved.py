"""REST of saved workflows: kept, listed, launched and forgotten. Not here: their triggers (``triggers``)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ropewalk_core.errors import BadInput
from ropewalk_core.flows import Run, Saved, SavedSpec
from ropewalk_core.model import Page
from ropewalk_hub.api.common import After, ApiRoute, Its, Key, Limit, problems
from ropewalk_hub.security import Signed

router = APIRouter(route_class=ApiRoute, tags=["saved workflows"], prefix="/saved-workflows/{owner}")


class Launch(BaseModel):
    """What a run of a saved workflow is given."""

    model_config = ConfigDict(extra="forbid")

    arguments: dict[str, Any] = Field(default_factory=dict, description="By name; others are at their defaults")
    fresh: bool = Field(default=False, description="Run every step, without results of earlier runs")


@router.get("", operation_id="list_saved_workflows", responses=problems(404))
async def list_saved(actor: Signed, its: Its, owner: str, after: After = "", limit: Limit = 50) -> Page[Saved]:
    """Return a page of a person's saved workflows by name, without manifests, code and values."""
    return await its.saved.list(actor, owner, after=after, limit=limit)


@router.get("/{name}", operation_id="get_saved_workflow", responses=problems(404))
async def get_saved(actor: Signed, its: Its, owner: str, name: str) -> Saved:
    """Return one."""
    return await its.saved.get(actor, owner, name)


@router.put("/{name}", operation_id="save_workflow", responses=problems(404, 409, 413, 422, 507))
async def save(actor: Signed, its: Its, owner: str, name: str, spec: SavedSpec) -> Saved:
    """Keep a workflow, in place of another of its name; one that says the same stays as it is."""
    if spec.name != name:
        raise BadInput("The name in the address is another one.", field="name")
    return await its.saved.save(actor, owner, spec)


@router.delete("/{name}", operation_id="remove_saved_workflow", responses=problems(404))
async def remove_saved(actor: Signed, its: Its, owner: str, name: str) -> Saved:
    """Forget one with its triggers; runs of it stay."""
    return await its.saved.remove(actor, owner, name)


@router.post(
    "/{name}/launch", status_code=202, operation_id="launch_saved_workflow", responses=problems(404, 409, 422, 507)
)
async def launch(actor: Signed, its: Its, owner: str, name: str, wish: Launch, key: Key = "") -> Run:
    """Start a run of one with values for its arguments; the same key returns the same run."""
    return await its.saved.launch(actor, owner, name, wish.arguments, fresh=wish.fresh, key=key)

"""REST of secrets: stored once, then named by functions. Nothing here gives a value back.

Not here: where values lie (the backend's safe).
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ropewalk_core.model import Page, StoredSecret
from ropewalk_hub.api.common import ApiRoute, Its, problems
from ropewalk_hub.security import Signed

router = APIRouter(route_class=ApiRoute, tags=["secrets"], prefix="/secrets")


class SecretWish(BaseModel):
    """The value of a secret."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    value: SecretStr = Field(description="A text of 8 KiB at most; it is never given back")


@router.get("/{owner}", operation_id="list_secrets", responses=problems(404))
async def list_secrets(actor: Signed, its: Its, owner: str) -> Page[StoredSecret]:
    """Return the names of an account's secrets, and when each was stored."""
    return await its.secrets.list(actor, owner)


@router.put("/{owner}/{name}", operation_id="set_secret", responses=problems(413, 422))
async def set_secret(actor: Signed, its: Its, owner: str, name: str, wish: SecretWish) -> StoredSecret:
    """Store a secret, or another value in its place; workers that start from then on have it."""
    return await its.secrets.set(actor, owner, name, wish.value.get_secret_value())


@router.delete("/{owner}/{name}", operation_id="remove_secret", responses=problems(404))
async def remove_secret(actor: Signed, its: Its, owner: str, name: str) -> StoredSecret:
    """Remove a secret; functions that name it cannot start workers any more."""
    return await its.secrets.remove(actor, owner, name)

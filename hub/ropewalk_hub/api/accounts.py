"""REST of people and of what the platform has: me, token, accounts, inventory, templates.

Not here: sign-up and passwords; those are pages only, never an interface for programs.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict

from ropewalk_core.model import Account, Actor, Page, Template
from ropewalk_core.placement import Inventory
from ropewalk_hub.api.common import After, ApiRoute, Its, Limit, problems
from ropewalk_hub.security import Signed, signed

router = APIRouter(route_class=ApiRoute)


class TokenWish(BaseModel):
    """What a token is wanted for."""

    model_config = ConfigDict(extra="forbid")

    audience: Literal["api", "functions"] = "functions"


class TokenAnswer(BaseModel):
    """A signed token, good for ten minutes."""

    token: str
    expires: float
    audience: str
    account: str


@router.get("/me", tags=["people"], operation_id="get_me", responses=problems())
async def get_me(actor: Signed, its: Its) -> Account:
    """Return the account that asks."""
    return await its.identity.account(actor, actor.account)


async def exchanging(request: Request, its: Its) -> Actor:
    """Return who asks for a token: a notebook server by its hub token, or anybody who is signed in."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "token":
        return await its.hub_actor(secret.strip())
    return await signed(request)


@router.post("/token", tags=["people"], operation_id="create_token", responses=problems(422, 429))
async def create_token(actor: Annotated[Actor, Depends(exchanging)], its: Its, wish: TokenWish) -> TokenAnswer:
    """Return a token for an audience; a notebook's hub token (`Authorization: token`) is accepted here alone."""
    text, expires = await its.identity.token(actor, audience=wish.audience)
    return TokenAnswer(token=text, expires=expires, audience=wish.audience, account=actor.account)


@router.get("/inventory", tags=["platform"], operation_id="get_inventory", responses=problems())
async def get_inventory(actor: Signed, its: Its) -> Inventory:
    """Return the machines and accelerators that a placement can name, and on one machine who has which."""
    return await asyncio.to_thread(its.lent, actor.account)


@router.get("/templates", tags=["platform"], operation_id="list_templates", responses=problems())
async def list_templates(actor: Signed, its: Its) -> Page[Template]:
    """Return the catalogue of service templates."""
    return Page(items=tuple(its.catalog.list()))


@router.get("/accounts", tags=["people"], operation_id="list_accounts", responses=problems(403))
async def list_accounts(actor: Signed, its: Its, after: After = "", limit: Limit = 50) -> Page[Account]:
    """Return a page of accounts; for administrators."""
    return await its.identity.accounts(actor, after=after, limit=limit)


@router.post("/accounts/{name}/approve", tags=["people"], operation_id="approve_account", responses=problems(403, 404))
async def approve_account(actor: Signed, its: Its, name: str) -> Account:
    """Let a waiting or deactivated account in; for administrators."""
    return await its.identity.approve(actor, name)


@router.post(
    "/accounts/{name}/deactivate",
    tags=["people"],
    operation_id="deactivate_account",
    responses=problems(403, 404, 409),
)
async def deactivate_account(actor: Signed, its: Its, name: str) -> Account:
    """End every token and server of an account; for administrators."""
    return await its.identity.deactivate(actor, name)

"""The page of people: administrators approve and deactivate accounts.

Not here: passwords and sign-up (the issuer's pages). Rejected: deleting accounts; names are never used again.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ropewalk_hub.pages.common import Its, Viewed, search, see
from ropewalk_hub.pages.render import render
from ropewalk_hub.security import Administrator

router = APIRouter(include_in_schema=False)


@router.get("/people")
async def people(request: Request, actor: Administrator, its: Its, view: Viewed) -> Response:
    """Show accounts, those that wait first."""
    query = view.q.lower()
    listing = await search(
        lambda after, limit: its.identity.accounts(actor, after=after, limit=limit),
        lambda one: query in one.name.lower() or query in one.full_name.lower(),
        view,
    )
    order = {"waiting": 0, "active": 1, "deactivated": 2}
    rows = sorted(listing.items, key=lambda one: (order[one.state], one.name))
    return render(request, "people.html", actor=actor, listing=listing, rows=rows, view=view)


@router.post("/people/{name}/approve")
async def approve(actor: Administrator, its: Its, name: str) -> Response:
    """Let an account in."""
    await its.identity.approve(actor, name)
    return see("/people")


@router.post("/people/{name}/deactivate")
async def deactivate(actor: Administrator, its: Its, name: str) -> Response:
    """End every token and server of an account."""
    await its.identity.deactivate(actor, name)
    return see("/people")

"""The page of secrets: their names, when each was stored, what uses them, and the form that stores one.

A value goes from the form to the port and nowhere else: no answer holds it, also not the one to a form that was
refused. Not here: what may be a secret (``ropewalk_core.secrets``), and the form that is carried through a sign-in,
which leaves the field out by its name (``issuer/kept.py``). Rejected: showing the last characters of a value, which
for a short one is most of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ropewalk_core.errors import BadInput, RopewalkError
from ropewalk_core.model import Actor, Function
from ropewalk_hub.pages.common import Its, every, or_none, see
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed

router = APIRouter(include_in_schema=False)
_NAME = 100
"""Characters of a name that the form shows again."""


@dataclass(frozen=True)
class Row:
    """A secret that is stored, or one that functions name and nobody has stored.

    Parameters
    ----------
    name
        Its name.
    stored
        When, in seconds since 1970; None if it is not there.
    functions
        The names of functions that need it.
    """

    name: str
    stored: float | None
    functions: tuple[str, ...] = ()


@router.get("/secrets")
async def secrets(request: Request, actor: Signed, its: Its, name: str = "", stored: str = "") -> Response:
    """Show my secrets by name."""
    return await _show(request, actor, its, name=name, stored=stored)


@router.post("/secrets")
async def store(
    request: Request, actor: Signed, its: Its, name: Annotated[str, Form()] = "", secret: Annotated[str, Form()] = ""
) -> Response:
    """Store a secret, or another value in its place; a refusal keeps the name and never the value."""
    try:
        await its.secrets.set(actor, actor.account, name, secret)
    except BadInput as error:
        return await _show(request, actor, its, name=name, error=error)
    return see(f"/secrets?stored={name}")


@router.post("/secrets/{name}/remove")
async def remove(actor: Signed, its: Its, name: str) -> Response:
    """Remove a secret."""
    await its.secrets.remove(actor, actor.account, name)
    return see("/secrets")


async def _show(
    request: Request,
    actor: Actor,
    its: Platform,
    *,
    name: str = "",
    stored: str = "",
    error: RopewalkError | None = None,
) -> Response:
    listed, away = await or_none(its.secrets.list(actor, actor.account))
    users, unknown = await or_none(_users(actor, its))
    have = {one.name: one.stored for one in listed.items} if listed else {}
    return render(
        request,
        "secrets.html",
        status_code=error.status if error else 200,
        here="/secrets",
        rows=_rows(have, users or {}) if listed else (),
        away=away.problem() if away else None,
        unknown=unknown.problem() if unknown else None,
        name=name[:_NAME],
        replaces=name in have,
        stored=stored if stored in have else "",
        problem=_problem(error) if error else None,
    )


def _problem(error: RopewalkError) -> dict[str, object]:
    """Return what was wrong, by the names of the form's fields."""
    told = error.problem()
    return told | {"field": "secret"} if error.field == "value" else told


def _rows(stored: Mapping[str, float], users: Mapping[str, tuple[str, ...]]) -> list[Row]:
    """Return what is missing, then what is there."""
    missing = [Row(name, None, users[name]) for name in sorted(users.keys() - stored.keys())]
    return missing + [Row(name, stored[name], users.get(name, ())) for name in sorted(stored)]


async def _users(actor: Actor, its: Platform) -> dict[str, tuple[str, ...]]:
    """Return by the name of a secret which functions need it."""
    owner = actor.account
    functions = await every(lambda after, limit: its.functions.list(actor, owner, after=after, limit=limit))
    users: dict[str, list[str]] = defaultdict(list)
    for one, needed in zip(
        functions, await asyncio.gather(*(_needed(actor, its, one) for one in functions)), strict=True
    ):
        for name in sorted(needed):
            users[name].append(one.name)
    return {name: tuple(found) for name, found in users.items()}


async def _needed(actor: Actor, its: Platform, one: Function) -> set[str]:
    """Return the secrets that a function needs, also those of older revisions that answer at an address."""
    needed = set(one.revision.spec.secrets)
    numbers = {share.number for share in one.traffic.shares} - {one.revision.number}
    for number in sorted(numbers):
        needed |= set((await its.functions.revision(actor, actor.account, one.name, number)).spec.secrets)
    return needed

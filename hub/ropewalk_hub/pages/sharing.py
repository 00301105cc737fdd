"""The part of a function's page that says who may call it: the choice, and its keys.

A key's secret is shown in the answer to the form that made it and nowhere else. Not here: what may be chosen
(``ropewalk_core.access``), the rest of the page (``functions.py``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ropewalk_core.access import checked, chosen
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Actor, Function
from ropewalk_core.signatures import read
from ropewalk_hub.pages.common import Its, see
from ropewalk_hub.pages.functions import Door, Try, show
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed
from ropewalk_hub.sharing import share

router = APIRouter(include_in_schema=False)
_LONGEST = 10_000


@router.post("/functions/{name}/access")
async def choose(
    request: Request,
    actor: Signed,
    its: Its,
    name: str,
    who: Annotated[str, Form(max_length=20)] = "private",
    accounts: Annotated[str, Form(max_length=_LONGEST)] = "",
    origins: Annotated[str, Form(max_length=_LONGEST)] = "",
) -> Response:
    """Say who may call a function; what is wrong with the choice is said beside it."""
    one = await its.functions.get(actor, actor.account, name)
    named = accounts.replace(",", " ").split()
    pages = origins.replace(",", " ").split()
    try:
        access = chosen(named if who == "shared" else who, pages)
        if access.who != who:
            raise BadInput("Choose who may call it.", field="who")
        await share(its, actor, actor.account, name, checked(access, actor.account))
    except BadInput as error:
        door = Door(who, named, pages, error.problem())
        return await _again(request, actor, its, one, door, error.status)
    return see(f"/functions/{name}#access")


@router.post("/functions/{name}/keys")
async def add_key(
    request: Request,
    actor: Signed,
    its: Its,
    name: str,
    label: Annotated[str, Form(max_length=_LONGEST)] = "",
    calls: Annotated[str, Form(max_length=20)] = "1000",
    seconds: Annotated[str, Form(max_length=20)] = "3600",
) -> Response:
    """Make a key, and show its secret this once."""
    one = await its.functions.get(actor, actor.account, name)
    typed = {"label": label, "calls": calls, "seconds": seconds}
    have = Door(one.access.who, one.access.accounts, one.access.origins)
    try:
        quota = [_number(calls, "calls"), _number(seconds, "seconds")]
        made = await its.functions.add_key(actor, actor.account, name, label=label, calls=quota[0], seconds=quota[1])
    except BadInput as error:
        return await _again(request, actor, its, one, replace(have, problem=error.problem(), typed=typed), 422)
    return await _again(request, actor, its, one, replace(have, made=made))


@router.post("/functions/{name}/keys/{identifier}/revoke")
async def revoke_key(actor: Signed, its: Its, name: str, identifier: str) -> Response:
    """End a key."""
    await its.functions.revoke_key(actor, actor.account, name, identifier)
    return see(f"/functions/{name}#access")


def _number(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadInput(f"{text[:20]!r} is no whole number.", field=field)
    return int(text)


async def _again(
    request: Request, actor: Actor, its: Platform, one: Function, door: Door, status: int = 200
) -> Response:
    return await show(request, actor, its, one, read(one.revision.spec.bundle), Try(), status, door=door)

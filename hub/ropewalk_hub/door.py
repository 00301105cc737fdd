"""The way from the people's door through our sign-in: a one-time code that the gateway turns into its own cookie.

The browser asks a service's host, the gateway sends it here, we look who is signed in and whether it is theirs, and
send it back with a code that is good once, for half a minute, for that host and that gateway's state. Not here: the
gateway's side and its sessions. Rejected: a cookie for the parent domain; every service would receive it.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from ropewalk_core import names
from ropewalk_core.errors import BadInput, Conflict, NotFound, Unauthenticated
from ropewalk_core.journal import Put, Remove
from ropewalk_core.model import Actor
from ropewalk_hub.issuer.sessions import digest
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed, safe_next

CODE_LIFE = 30.0
router = APIRouter(include_in_schema=False)


@router.get("/door/open")
async def open_door(
    request: Request,
    actor: Signed,
    host: Annotated[str, Query(max_length=255)],
    next: Annotated[str, Query(max_length=4000)] = "/",
    state: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Send the browser back to a service of the person's own, with a code."""
    platform: Platform = request.app.state.platform
    door = platform.settings.door
    place = names.parse_host(host, door.people)
    if place is None or place.kind == "notebook":
        raise BadInput(f"There is no service at '{host[:100]}'.", field="host", hint="Open it from the Services page.")
    if place.account != actor.account:
        raise NotFound("There is no such service.", hint="Only its owner can open it.")
    if not state:
        raise BadInput("The address has lost its state.", field="state", hint="Open the service again.")
    code = secrets.token_urlsafe(32)
    bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    bare = bare.lower().rstrip(".")
    body = {"host": bare, "state": digest(state), "account": actor.account, "session": actor.session}
    await platform.journal.write(Put("door", "", digest(code), body, 0, platform.clock.wall() + CODE_LIFE))
    query = urlencode({"code": code, "state": state, "next": safe_next(next)})
    return RedirectResponse(f"{door.scheme}://{bare}:{door.people_port}/_ropewalk/door?{query}", 303)


async def redeem(platform: Platform, code: str, host: str, state: str) -> dict[str, Any]:
    """Return whom a code stands for; a code is good once, for its host and its state.

    Raises
    ------
    Unauthenticated
        If it is unknown, used, too old, or for another place.
    """
    wrong = Unauthenticated("This way in has ended.", hint="Open the address again.")
    record = platform.journal.get("door", "", digest(code))
    if record is None:
        raise wrong
    try:
        await platform.journal.write(Remove("door", "", record.name, expect=record.version))
    except Conflict as error:
        raise wrong from error
    bare = (host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host).lower().rstrip(".")
    session = platform.issuer.sessions.by_id(record.body["session"])
    actor: Actor | None = platform.issuer.actor_of(session) if session else None
    if record.body["host"] != bare or record.body["state"] != digest(state) or actor is None or session is None:
        raise wrong
    return {"account": actor.account, "sid": session.id, "subject": actor.subject, "epoch": session.epoch}

"""The part of a function's page that says what calls it by itself: triggers, made, paused, fired and removed.

Not here: what a trigger may be (``ropewalk_core.triggers``), the rest of the page (``functions.py``).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request, Response
from pydantic import ValidationError

from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.model import TriggerSpec
from ropewalk_core.signatures import read
from ropewalk_core.wrong import wrong
from ropewalk_hub.pages.common import Its, see
from ropewalk_hub.pages.functions import Calling, Try, show
from ropewalk_hub.security import Signed

router = APIRouter(include_in_schema=False, prefix="/functions/{name}/triggers")
Text = Annotated[str, Form(max_length=10_000)]
Act = Annotated[str, Path(pattern="^(pause|resume|fire|remove)$")]


async def typed_of(
    every: Text = "", zone: Text = "", after: Text = "", when: Text = "", on_file: Text = "", existing: Text = ""
) -> dict[str, str]:
    """Return what the form of a new trigger held, by field."""
    return {"every": every, "zone": zone, "after": after, "when": when, "on_file": on_file, "existing": existing}


Typed = Annotated[dict[str, str], Depends(typed_of)]


@router.post("")
async def add(request: Request, actor: Signed, its: Its, name: str, typed: Typed) -> Response:
    """Make a trigger; what is wrong with it is said beside the form, which keeps what was typed."""
    try:
        await its.triggers.add(actor, actor.account, name, spec_of(typed))
    except (BadInput, NotFound) as error:
        one = await its.functions.get(actor, actor.account, name)
        calling = Calling(typed, error.problem())
        signature = read(one.revision.spec.bundle)
        return await show(request, actor, its, one, signature, Try(), error.status, calling=calling)
    return see(f"/functions/{name}#triggers")


@router.post("/{trigger}/{act}")
async def act(actor: Signed, its: Its, name: str, trigger: str, act: Act) -> Response:
    """Pause, resume or remove a trigger, or fire it now."""
    owner = actor.account
    if act == "fire":
        await its.triggers.fire(actor, owner, name, trigger)
    elif act == "remove":
        await its.triggers.remove(actor, owner, name, trigger)
    else:
        await its.triggers.pause(actor, owner, name, trigger, act == "pause")
    return see(f"/functions/{name}#triggers")


def spec_of(typed: dict[str, str]) -> TriggerSpec:
    """Return what the form says; what belongs to a word that was left empty says nothing."""
    needs = {"zone": "every", "when": "after", "existing": "on_file"}
    given: dict[str, Any] = {
        key: text.strip() for key, text in typed.items() if text.strip() and typed[needs.get(key, key)].strip()
    }
    try:
        return TriggerSpec.model_validate(given | {"existing": bool(given.get("existing"))})
    except ValidationError as error:
        raise wrong(error.errors()) from error

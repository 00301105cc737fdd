"""Pages of saved workflows: the table, and one with its launch form, its runs and what launches it by itself.

Not here: what a launch makes of arguments (``ropewalk_workflows.saved``), and a run (``workflows``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from fastapi import APIRouter, Request, Response

from ropewalk_core import samples
from ropewalk_core.errors import BadInput, NotFound, RopewalkError
from ropewalk_core.flows import Run, Saved
from ropewalk_core.model import Actor, State
from ropewalk_core.signatures import Signature
from ropewalk_core.triggers import words
from ropewalk_hub.pages import trying
from ropewalk_hub.pages.common import Its, Viewed, hit, or_none, search, see
from ropewalk_hub.pages.forms import Complaint
from ropewalk_hub.pages.functions import Calling
from ropewalk_hub.pages.render import render
from ropewalk_hub.pages.triggers import Act, Typed, spec_of
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed
from ropewalk_workflows.saved import launching

router = APIRouter(include_in_schema=False, prefix="/saved-workflows")
_LATEST = 20
_LOOKED_AT = 500


@dataclass(frozen=True)
class Tried:
    """What the launch form held, and what was wrong with it."""

    typed: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, Complaint] = field(default_factory=dict)
    problem: dict[str, object] | None = None


@router.get("")
async def saved_workflows(request: Request, actor: Signed, its: Its, view: Viewed) -> Response:
    """Show my saved workflows as a table."""
    owner = actor.account
    listing = await search(
        lambda after, limit: its.saved.list(actor, owner, after=after, limit=limit),
        lambda one: hit(view, State.DONE, one.name, one.spec.doc),
        view,
    )
    return render(request, "saved_workflows.html", listing=listing, view=view)


@router.get("/{name}")
async def saved_workflow(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Show one."""
    return await _show(request, actor, its, await its.saved.get(actor, actor.account, name))


@router.post("/{name}/launch")
async def launch(request: Request, actor: Signed, its: Its, name: str) -> Response:
    """Start a run with the form's values; what is wrong with one is said beside it, and what was typed is kept."""
    sent = await request.form()
    typed = {key: value for key, value in sent.items() if isinstance(value, str)}
    saved = await its.saved.get(actor, actor.account, name)
    signature = launching.signature(saved.spec)
    try:
        values, errors = _values(signature, typed)
        if errors:
            return await _show(request, actor, its, saved, Tried(typed, errors), status=BadInput.status)
        run = await its.saved.launch(actor, actor.account, name, values, fresh=bool(typed.get("fresh")))
    except RopewalkError as error:
        beside = trying.complaints(signature, error)
        tried = Tried(typed, beside, None if beside else error.problem())
        return await _show(request, actor, its, saved, tried, status=error.status)
    return see(f"/workflows/{run.id}")


@router.post("/{name}/remove")
async def remove(actor: Signed, its: Its, name: str) -> Response:
    """Forget one with its triggers."""
    await its.saved.remove(actor, actor.account, name)
    return see("/saved-workflows")


@router.post("/{name}/triggers")
async def add_trigger(request: Request, actor: Signed, its: Its, name: str, typed: Typed) -> Response:
    """Make a trigger; what is wrong with it is said beside the form, which keeps what was typed."""
    try:
        await its.saved_triggers.add(actor, actor.account, name, spec_of(typed))
    except (BadInput, NotFound) as error:
        saved = await its.saved.get(actor, actor.account, name)
        return await _show(request, actor, its, saved, calling=Calling(typed, error.problem()), status=error.status)
    return see(f"/saved-workflows/{name}#triggers")


@router.post("/{name}/triggers/{trigger}/{act}")
async def act(actor: Signed, its: Its, name: str, trigger: str, act: Act) -> Response:
    """Pause, resume or remove a trigger, or fire it now."""
    owner = actor.account
    if act == "fire":
        made = await its.saved_triggers.fire(actor, owner, name, trigger)
        return see(f"/workflows/{made.id}")
    if act == "remove":
        await its.saved_triggers.remove(actor, owner, name, trigger)
    else:
        await its.saved_triggers.pause(actor, owner, name, trigger, act == "pause")
    return see(f"/saved-workflows/{name}#triggers")


def _values(signature: Signature, typed: Mapping[str, str]) -> tuple[dict[str, Any], Mapping[str, Complaint]]:
    """Return the arguments of a sent form, and complaints about text that cannot become one."""
    if trying.shown(signature) is not None:
        return trying.parse(signature, typed)
    try:
        found = json.loads(typed.get("arguments", "") or "{}")
    except (ValueError, RecursionError) as error:
        raise BadInput("What you typed is not JSON.", field="arguments", hint="Correct it there.") from error
    if not isinstance(found, dict):
        raise BadInput("The arguments must be a JSON object.", field="arguments", hint='Write {"name": value}.')
    return found, {}


async def _show(
    request: Request,
    actor: Actor,
    its: Platform,
    saved: Saved,
    tried: Tried | None = None,
    *,
    calling: Calling | None = None,
    status: int = 200,
) -> Response:
    signature, tried = launching.signature(saved.spec), tried or Tried()
    found, _ = await or_none(its.saved_triggers.list(actor, actor.account, saved.name))
    listed = found.items if found else ()
    given = samples.arguments(signature)
    return render(
        request,
        "saved_workflow.html",
        status_code=status,
        here=f"/saved-workflows/{saved.name}",
        saved=saved,
        typed=tried.typed,
        refused=tried.problem,
        fields=trying.fields(signature, tried.typed or None, tried.errors)
        if trying.shown(signature) is not None
        else None,
        runs=await _runs(its, actor, saved.name),
        triggers=[(one, words.said(one.spec), words.coming(one)) for one in listed],
        calling=calling or Calling(),
        python=_python(saved.name, given),
        command=" ".join([f"ropewalk workflows launch {saved.name}", *(_word(*one) for one in given.items())]),
        manifest=yaml.safe_dump(saved.spec.run.manifest, sort_keys=False, allow_unicode=True, width=120),
    )


async def _runs(its: Platform, actor: Actor, name: str) -> list[Run]:
    """Return the latest runs of this name, of the latest few hundred of all."""
    page = await its.workflows.list(actor, actor.account, limit=_LOOKED_AT)
    return [one for one in page.items if one.name == name][:_LATEST]


def _python(name: str, given: Mapping[str, Any]) -> str:
    plain = all(key.isidentifier() for key in given)
    words = ", ".join(f"{key}={value!r}" for key, value in given.items()) if plain else f"**{dict(given)!r}"
    return f'import ropewalk\n\nrun = ropewalk.workflows.get("{name}").launch({words})'


def _word(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"-p {name}={text}" if text.isalnum() else f"-p '{name}={text}'"

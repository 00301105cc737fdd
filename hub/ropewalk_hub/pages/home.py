"""Home: my notebook as the main act, what runs now, what failed since yesterday, how much I use. And the notebook page.

Not here: how a notebook starts (the hub). Rejected: numbers that nobody acts on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ropewalk_core.errors import RopewalkError
from ropewalk_core.flows import Run
from ropewalk_core.local.accounts import folder_of
from ropewalk_core.model import Actor, Function, Notebook, Service, State, Status
from ropewalk_hub.pages.common import Its, or_none, see, some
from ropewalk_hub.pages.render import render
from ropewalk_hub.platform import Platform
from ropewalk_hub.security import Signed

router = APIRouter(include_in_schema=False)
_DAY = 86400.0
_NOW = (State.ASKED, State.WAITING, State.STARTING, State.RUNNING, State.STOPPING)


@dataclass(frozen=True)
class Line:
    """One thing of any kind in a short list."""

    kind: str
    name: str
    link: str
    status: Status
    open: str = ""
    note: str = ""


@router.get("/")
async def home(request: Request, actor: Signed, its: Its) -> Response:
    """Show what matters now."""
    lines = await _lines(its, actor)
    notebook, away = await or_none(its.notebooks.get(actor, actor.account))
    usage, _ = await or_none(its.storage.usage(actor, actor.account))
    since = its.clock.wall() - _DAY
    return render(
        request,
        "home.html",
        notebook=notebook,
        away=away.problem() if away else None,
        usage=usage,
        disk=str(folder_of(its.settings, actor.account) or ""),
        now_lines=[one for one in lines if one.status.state in _NOW],
        failed=[one for one in lines if one.status.state is State.FAILED and one.status.since >= since],
        new=not lines,
        waiting=await _waiting_people(its, actor),
    )


async def _lines(its: Platform, actor: Actor) -> list[Line]:
    owner = actor.account
    services, _ = await or_none(its.services.list(actor, owner, limit=200))
    functions, _ = await or_none(its.functions.list(actor, owner, limit=200))
    runs, _ = await or_none(its.workflows.list(actor, owner, limit=100))
    lines = [_service(one) for one in services.items] if services else []
    lines += [_function(one) for one in functions.items] if functions else []
    lines += [_run(one) for one in runs.items] if runs else []
    return sorted(lines, key=lambda one: -one.status.since)


def _service(one: Service) -> Line:
    ready = one.address if one.status.state is State.RUNNING else ""
    return Line("service", one.spec.name, f"/services/{one.spec.name}", one.status, ready)


def _function(one: Function) -> Line:
    return Line("function", one.name, f"/functions/{one.name}", one.status)


def _run(one: Run) -> Line:
    return Line("run", one.name, f"/workflows/{one.id}", one.status, note=one.id)


async def _waiting_people(its: Platform, actor: Actor) -> int:
    if not actor.administrator:
        return 0
    page, _ = await or_none(its.identity.accounts(actor, limit=200))
    return sum(one.state == "waiting" for one in page.items) if page else 0


@router.get("/notebooks")
async def notebooks(request: Request, actor: Signed, its: Its) -> Response:
    """Show my notebook server."""
    notebook, away = await or_none(its.notebooks.get(actor, actor.account))
    lines, offset = await _log(its, actor)
    return render(
        request,
        "notebooks.html",
        notebook=notebook,
        away=away.problem() if away else None,
        lines=lines,
        offset=offset,
        folder=str(its.settings.folder or ""),
    )


async def _log(its: Platform, actor: Actor) -> tuple[list[str], int]:
    try:
        return await some(its.notebooks.logs(actor, actor.account))
    except RopewalkError:  # a server that never ran has no log
        return [], 0


@router.post("/notebooks/start")
async def start(actor: Signed, its: Its, then: Annotated[str, Form(max_length=20)] = "") -> Response:
    """Start my notebook, then open it or come back to its page."""
    notebook = await its.notebooks.start(actor, actor.account)
    return see(_opened(notebook) if then == "open" else "/notebooks")


@router.post("/notebooks/stop")
async def stop(actor: Signed, its: Its) -> Response:
    """Stop my notebook."""
    await its.notebooks.stop(actor, actor.account)
    return see("/notebooks")


def _opened(notebook: Notebook) -> str:
    return notebook.address or "/notebooks"

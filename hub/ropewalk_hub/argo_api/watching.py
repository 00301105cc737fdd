"""The stream of workflows' changes that `argo watch`, `argo wait` and `argo submit --watch` follow.

It first says what is there, then each change, and stays open: a client whose stream ends opens it again at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from ropewalk_core.errors import NotFound
from ropewalk_core.flows import Run
from ropewalk_hub.argo_api.common import ArgoRoute, Asked, Here, option
from ropewalk_hub.argo_api.streams import stream
from ropewalk_workflows.argo_server import objects, selectors

router = APIRouter(prefix="/api/v1", route_class=ArgoRoute)
_PACE = 0.5
"""Seconds between two looks at what goes on; a wide run changes with each of its steps."""
_FIRST = 100


@router.get("/workflow-events/{namespace}")
@router.get("/workflow-events/")
async def watch(request: Request, here: Here) -> StreamingResponse:
    """Return the changes of one workflow, or of all that have these labels."""
    name = selectors.only(selectors.fields(option(request, "listOptions.fieldSelector")), "metadata.name")
    labels = selectors.labels(option(request, "listOptions.labelSelector"))
    after = here.its.journal.cursor
    there = [await here.get(name)] if name else await _there(request, here)
    return stream(request, here, _changes(here, there, labels, there[0].id if name else "", after))


async def _there(request: Request, here: Asked) -> list[Run]:
    """Return the latest workflows, if the watch begins with what is there."""
    if option(request, "listOptions.resourceVersion") not in ("", "0"):
        return []
    page = await here.its.workflows.list(here.actor, here.owner, limit=_FIRST)
    return [await here.its.workflows.get(here.actor, here.owner, one.id) for one in reversed(page.items)]


async def _changes(
    here: Asked, there: list[Run], labels: selectors.Selector, run: str, after: int
) -> AsyncIterator[dict[str, Any]]:
    for one in there:
        if (said := await _said(here, one, labels, "ADDED")) is not None:
            yield said
    async for one, _ in here.its.workflows.watch(here.actor, here.owner, run=run, after=after):
        if (said := await _said(here, one, labels, "MODIFIED")) is not None:
            yield said
        if not one.status.state.terminal:
            await asyncio.sleep(_PACE)


async def _said(here: Asked, run: Run, labels: selectors.Selector, kind: str) -> dict[str, Any] | None:
    try:
        known = await here.told(run)
    except NotFound:
        return None
    if not selectors.met(labels, objects.labels(known)):
        return None
    return {"type": kind, "object": await asyncio.to_thread(objects.workflow, known)}

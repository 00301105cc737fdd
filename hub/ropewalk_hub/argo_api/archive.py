"""The archive, as `argo archive` and Hera ask for it: workflows that have ended, by identifier.

There is one store: an ended workflow is in the list and in the archive until it is deleted, from both. Rejected: a copy
of ended workflows, which would have to be kept alike and would take their logs and files a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, Request

from ropewalk_core.errors import BadInput, NotFound
from ropewalk_core.flows import Run
from ropewalk_hub.argo_api import choosing, workflows
from ropewalk_hub.argo_api.common import ArgoRoute, Asked, Here, body_of, option
from ropewalk_workflows.argo_server import objects, selectors
from ropewalk_workflows.argo_server.told import Told

router = APIRouter(prefix="/api/v1", route_class=ArgoRoute)
_LIST = "`argo archive list` shows the identifiers."


@router.get("/archived-workflows")
async def list_archived(request: Request, here: Here) -> dict[str, Any]:
    """Return workflows that have ended, newest first, without their nodes."""
    here.check_namespace(request.query_params.get("namespace"))
    wants = choosing.Wants(request, archived=True)
    version = here.its.journal.cursor
    kept, following = await choosing.page(here, wants, option(request, "listOptions.continue"))
    return objects.listing((objects.workflow(one, tree=False) for one in kept), version, following)


@router.get("/archived-workflows/{uid}")
async def get(request: Request, here: Here, uid: str) -> dict[str, Any]:
    """Return one workflow that has ended, with its nodes."""
    here.check_namespace(request.query_params.get("namespace"))
    known = await here.told(await _ended(here, uid))
    return await asyncio.to_thread(objects.workflow, known)


@router.delete("/archived-workflows/{uid}")
async def delete(request: Request, here: Here, uid: str) -> dict[str, Any]:
    """Forget a workflow that has ended."""
    here.check_namespace(request.query_params.get("namespace"))
    await here.its.workflows.remove(here.actor, here.owner, (await _ended(here, uid)).id)
    return {}


@router.put("/archived-workflows/{uid}/retry")
async def retry(request: Request, here: Here, uid: str) -> dict[str, Any]:
    """Run again what failed of a workflow that has ended, and what follows it."""
    here.check_namespace((await body_of(request)).get("namespace"))
    return await workflows.retry(request, here, (await _ended(here, uid)).id)


@router.put("/archived-workflows/{uid}/resubmit")
async def resubmit(request: Request, here: Here, uid: str) -> dict[str, Any]:
    """Start a workflow that has ended anew, as another one."""
    here.check_namespace((await body_of(request)).get("namespace"))
    return await workflows.resubmit(request, here, (await _ended(here, uid)).id)


@router.get("/archived-workflows-label-keys")
async def label_keys(request: Request, here: Here) -> dict[str, list[str]]:
    """Return the names of the labels that workflows of the archive have."""
    return {"items": await _gathered(request, here, objects.labels)}


@router.get("/archived-workflows-label-values")
async def label_values(request: Request, here: Here) -> dict[str, list[str]]:
    """Return the values that a label has among workflows of the archive."""
    asked = selectors.labels(option(request, "listOptions.labelSelector"))
    if len(asked) != 1 or asked[0].values is not None or asked[0].negated:
        hint = "For example: argo archive list-label-values -l workflows.argoproj.io/phase"
        raise BadInput("This takes the name of one label.", field="labelSelector", hint=hint)
    key = asked[0].key

    def values(told: Told) -> list[str]:
        found = objects.labels(told)
        return [found[key]] if key in found else []

    return {"items": await _gathered(request, here, values)}


async def _ended(here: Asked, uid: str) -> Run:
    """Return a run that has ended by its identifier; its name will not do, since names are used again."""
    run = await here.get(uid)
    if run.id != uid:
        raise NotFound(f"The archive has no workflow of the identifier '{uid[:100]}'.", field="uid", hint=_LIST)
    if not run.status.state.terminal:
        hint = "Look at it with `argo get`, or end it with `argo terminate`."
        raise NotFound("This workflow has not ended, so it is not in the archive.", field="uid", hint=hint)
    return run


async def _gathered(request: Request, here: Asked, words: Callable[[Told], Iterable[str]]) -> list[str]:
    """Return what all workflows of the archive say, each word once."""
    here.check_namespace(request.query_params.get("namespace"))
    found: set[str] = set()
    wants, after = choosing.Wants(request, archived=True), ""
    wants.labels = ()
    while True:
        kept, after = await choosing.page(here, wants, after)
        found.update(word for one in kept for word in words(one))
        if not after:
            return sorted(found)

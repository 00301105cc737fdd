"""Workflows as Argo's clients create, read, list and end them: each a verb of the port, in Argo's objects."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakValueDictionary

from fastapi import APIRouter, Request

from ropewalk_core.errors import BadInput, Conflict, NameTaken, NotFound
from ropewalk_core.flows import Run, RunSpec
from ropewalk_hub.argo_api import choosing
from ropewalk_hub.argo_api.common import ArgoRoute, Asked, Here, body_of, option, refuse_set
from ropewalk_workflows.again import spec_again
from ropewalk_workflows.argo_server import nodes, objects, selectors, wishes
from ropewalk_workflows.argo_server.told import Told

router = APIRouter(prefix="/api/v1", route_class=ArgoRoute)
_creating: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()
_RETRY = {
    "restartSuccessful": "Steps that are done stay done here. Resubmit the workflow to run them again.",
    "nodeFieldSelector": "All failed steps are tried again here, not chosen ones.",
    "parameters": "A retry has the same parameters. Resubmit the workflow with others.",
}
_SET = {"outputParameters": "A pause gives no values here; submit the workflow again with other parameters."}
_LONGEST = 1000
_RESUBMIT = {"memoized": "Results of an earlier run are not taken over here. `argo retry` keeps them."}


@router.post("/workflows/{namespace}")
async def create(request: Request, here: Here) -> dict[str, Any]:
    """Start a workflow under its name, or one that begins as its manifest says."""
    body = await body_of(request)
    spec = wishes.spec_of(body.get("workflow"), here.owner, here.namespace)
    options = body.get("createOptions")
    if body.get("serverDryRun") or (isinstance(options, dict) and options.get("dryRun")):
        await here.its.workflows.check(here.actor, here.owner, spec)
        return _unkept(spec, here)
    name = str(spec.manifest["metadata"].get("name") or "")
    lock = _creating.setdefault((id(here.its.journal), here.owner), asyncio.Lock())
    async with lock:  # two of one name at once
        if name and here.has(name):
            hint = "Delete that one first, or let the server choose: metadata.generateName."
            raise NameTaken(f"There is a workflow '{name}' already.", field="metadata.name", hint=hint)
        run = await here.its.workflows.submit(here.actor, here.owner, spec)
    return await _object(here, run)


@router.post("/workflows/{namespace}/lint")
async def lint(request: Request, here: Here) -> dict[str, Any]:
    """Refuse a workflow that could not run; nothing is kept."""
    spec = wishes.spec_of((await body_of(request)).get("workflow"), here.owner, here.namespace)
    await here.its.workflows.check(here.actor, here.owner, spec)
    return _unkept(spec, here)


@router.get("/workflows/{namespace}")
@router.get("/workflows/")
async def list_workflows(request: Request, here: Here) -> dict[str, Any]:
    """Return workflows, newest first, without their nodes."""
    wants = choosing.Wants(request)
    version = here.its.journal.cursor
    if wants.name and not wants.loosely:
        found = [one for one in await _named(here, wants.name) if wants.met(one)]
        return objects.listing((objects.workflow(one, tree=False) for one in found), version, "")
    kept, following = await choosing.page(here, wants, option(request, "listOptions.continue"))
    return objects.listing((objects.workflow(one, tree=False) for one in kept), version, following)


@router.get("/workflows/{namespace}/{name}")
async def get(here: Here, name: str) -> dict[str, Any]:
    """Return one workflow with its nodes."""
    return await _object(here, await here.get(name))


@router.delete("/workflows/{namespace}/{name}")
async def delete(here: Here, name: str) -> dict[str, Any]:
    """Forget a workflow that has ended."""
    run = await here.get(name)
    if not run.status.state.terminal:
        raise Conflict(f"The workflow '{name[:100]}' still runs.", hint=f"End it first: argo terminate {name[:100]}")
    await here.its.workflows.remove(here.actor, here.owner, run.id)
    return {}


@router.put("/workflows/{namespace}/{name}/terminate")
async def terminate(here: Here, name: str) -> dict[str, Any]:
    """End a workflow, without its exit handler."""
    run = await here.get(name)
    if run.status.state.terminal:
        raise Conflict("The workflow has ended already.", hint="Nothing was changed.")
    return await _object(here, await here.its.workflows.cancel(here.actor, here.owner, run.id))


@router.put("/workflows/{namespace}/{name}/stop")
async def stop(request: Request, here: Here, name: str) -> dict[str, Any]:
    """End a workflow, and run its exit handler; or have chosen pauses fail."""
    body, run = await body_of(request), await here.get(name)
    if body.get("nodeFieldSelector"):
        return await _answered(here, run, body, ok=False)
    if run.status.state.terminal:
        raise Conflict("The workflow has ended already.", hint="Nothing was changed.")
    return await _object(here, await here.its.workflows.cancel(here.actor, here.owner, run.id, on_exit=True))


@router.put("/workflows/{namespace}/{name}/suspend")
async def suspend(here: Here, name: str) -> dict[str, Any]:
    """Have no further step of a workflow start."""
    run = await here.get(name)
    return await _object(here, await here.its.workflows.suspend(here.actor, here.owner, run.id))


@router.put("/workflows/{namespace}/{name}/resume")
async def resume(request: Request, here: Here, name: str) -> dict[str, Any]:
    """Have a suspended workflow go on, and end its pauses; or end chosen ones alone."""
    body, run = await body_of(request), await here.get(name)
    if body.get("nodeFieldSelector"):
        return await _answered(here, run, body, ok=True)
    return await _object(here, await here.its.workflows.resume(here.actor, here.owner, run.id))


@router.put("/workflows/{namespace}/{name}/set")
async def set_nodes(request: Request, here: Here, name: str) -> dict[str, Any]:
    """End chosen pauses, as succeeded or failed, with a message."""
    body, run = await body_of(request), await here.get(name)
    refuse_set(body, _SET)
    if body.get("phase") not in ("Succeeded", "Failed"):
        hint = "--phase Succeeded or --phase Failed; a message goes with it."
        raise BadInput("Nodes can be set to Succeeded or Failed here.", field="phase", hint=hint)
    return await _answered(here, run, body, ok=body["phase"] == "Succeeded")


@router.put("/workflows/{namespace}/{name}/retry")
async def retry(request: Request, here: Here, name: str) -> dict[str, Any]:
    """Run what failed again, and what follows it."""
    refuse_set(await body_of(request), _RETRY)
    run = await here.get(name)
    if not run.status.state.terminal:
        raise Conflict("The workflow has not ended.", hint="It can be retried once it has failed.")
    return await _object(here, await here.its.workflows.retry(here.actor, here.owner, run.id))


@router.put("/workflows/{namespace}/{name}/resubmit")
async def resubmit(request: Request, here: Here, name: str) -> dict[str, Any]:
    """Start a workflow anew, as another one."""
    body = await body_of(request)
    refuse_set(body, _RESUBMIT)
    parameters = body.get("parameters") or []
    if not isinstance(parameters, list):
        raise BadInput("Parameters are a list of 'name=value'.", field="parameters")
    before = await here.told(await here.get(name), steps=False)
    spec = await spec_again(here.its.workflows, here.its.journal, here.actor, here.owner, before.run.id)
    spec = wishes.again(spec, before.name, parameters)
    return await _object(here, await here.its.workflows.submit(here.actor, here.owner, spec))


async def _answered(here: Asked, run: Run, body: dict[str, Any], *, ok: bool) -> dict[str, Any]:
    """End the pauses that a request chooses."""
    selector = selectors.of_nodes(str(body.get("nodeFieldSelector") or ""))
    known = await here.told(run)
    found = await asyncio.to_thread(nodes.pauses, known, objects.phase(run))
    steps = [our for one, our in found if selectors.met(selector, nodes.fields(one))]
    if not steps:
        raise BadInput("No pause at which the workflow stands is chosen so.", field="nodeFieldSelector")
    message = str(body.get("message") or "")[:_LONGEST]
    return await _object(
        here, await here.its.workflows.answer(here.actor, here.owner, run.id, steps, ok=ok, message=message)
    )


async def _object(here: Asked, run: Run) -> dict[str, Any]:
    known = await here.told(run)
    return await asyncio.to_thread(objects.workflow, known)


def _unkept(spec: RunSpec, here: Asked) -> dict[str, Any]:
    """Return a workflow that was looked at and not kept."""
    manifest = spec.manifest
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": here.namespace}, "status": {}}


async def _named(here: Asked, name: str) -> list[Told]:
    try:
        return [await here.told(await here.get(name), steps=False)]
    except NotFound:
        return []

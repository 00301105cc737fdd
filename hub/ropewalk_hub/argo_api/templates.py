"""Workflow templates and cron workflows of Argo's clients: saved workflows, and those of them that have schedules.

A name is one saved workflow, whichever of the two a client takes it for. Not here: what the objects look like
(``argo_server.templates``), and what fires (triggers).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from fastapi import APIRouter, Request

from ropewalk_core.errors import BadInput, NameTaken, NotFound, RopewalkError
from ropewalk_core.flows import Saved, SavedSpec
from ropewalk_core.model import Trigger, TriggerSpec
from ropewalk_core.triggers import wishes
from ropewalk_hub.argo_api.common import ArgoRoute, Asked, Here, body_of, refuse_set
from ropewalk_workflows.argo_server import objects, templates
from ropewalk_workflows.argo_server.wishes import check_name
from ropewalk_workflows.saved import launching

router = APIRouter(prefix="/api/v1", route_class=ArgoRoute)
_keeping: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()
_TEMPLATES = frozenset({"workflowtemplate", "workflowtemplates", "wftmpl"})
_CRONS = frozenset({"cronworkflow", "cronworkflows", "cwf", "cronwf"})
_OPTIONS = {
    "entryPoint": "A run begins where the template says.",
    "serviceAccount": "A run has the account of its owner.",
    "dryRun": "Lint the template instead.",
    "serverDryRun": "Lint the template instead.",
    "ownerReference": "Nothing owns a run here.",
}


@router.post("/workflow-templates/{namespace}")
async def create(request: Request, here: Here) -> dict[str, Any]:
    """Keep a template."""
    spec = templates.saved_of((await body_of(request)).get("template"), here.owner, here.namespace)
    async with _lock(here):
        await _free(here, spec.name)
        return templates.template(await here.its.saved.save(here.actor, here.owner, spec), here.namespace)


@router.post("/workflow-templates/{namespace}/lint")
async def lint(request: Request, here: Here) -> dict[str, Any]:
    """Refuse a template of which no run could be; nothing is kept."""
    given = (await body_of(request)).get("template")
    return await _linted(here, templates.saved_of(given, here.owner, here.namespace), given)


@router.get("/workflow-templates/{namespace}")
async def list_templates(here: Here) -> dict[str, Any]:
    """Return all templates, by name."""
    found = [templates.template(await _whole(here, one), here.namespace) for one in await _all(here)]
    return objects.listing(found, here.its.journal.cursor, "")


@router.get("/workflow-templates/{namespace}/{name}")
async def get(here: Here, name: str) -> dict[str, Any]:
    """Return one template."""
    return templates.template(await here.its.saved.get(here.actor, here.owner, name), here.namespace)


@router.put("/workflow-templates/{namespace}/{name}")
async def update(request: Request, here: Here, name: str) -> dict[str, Any]:
    """Keep a template in place of the one of its name."""
    spec = templates.saved_of((await body_of(request)).get("template"), here.owner, here.namespace)
    await here.its.saved.get(here.actor, here.owner, name)
    _same_name(spec, name)
    return templates.template(await here.its.saved.save(here.actor, here.owner, spec), here.namespace)


@router.delete("/workflow-templates/{namespace}/{name}")
async def delete(here: Here, name: str) -> dict[str, Any]:
    """Forget a template with its schedules; its runs stay."""
    await here.its.saved.remove(here.actor, here.owner, name)
    return {}


# Cron workflows


@router.post("/cron-workflows/{namespace}")
async def create_cron(request: Request, here: Here) -> dict[str, Any]:
    """Keep a workflow with its schedules."""
    given = (await body_of(request)).get("cronWorkflow")
    spec, schedules, suspended = templates.cron_of(given, here.owner, here.namespace)
    async with _lock(here):
        await _free(here, spec.name)
        saved = await _kept(here, spec, schedules, suspended, new=True)
    return await _cron(here, saved)


@router.post("/cron-workflows/{namespace}/lint")
async def lint_cron(request: Request, here: Here) -> dict[str, Any]:
    """Refuse a cron workflow that could not run or never would; nothing is kept."""
    given = (await body_of(request)).get("cronWorkflow")
    spec, schedules, _ = templates.cron_of(given, here.owner, here.namespace)
    _check(here, schedules)
    return await _linted(here, spec, given)


@router.get("/cron-workflows/{namespace}")
async def list_crons(here: Here) -> dict[str, Any]:
    """Return all that have a schedule, by name."""
    found = [(one, await _schedules(here, one.name)) for one in await _all(here)]
    crons = [
        templates.cron(await _whole(here, one), schedules, here.namespace) for one, schedules in found if schedules
    ]
    return objects.listing(crons, here.its.journal.cursor, "")


@router.get("/cron-workflows/{namespace}/{name}")
async def get_cron(here: Here, name: str) -> dict[str, Any]:
    """Return one that has a schedule."""
    return await _cron(here, await here.its.saved.get(here.actor, here.owner, name))


@router.put("/cron-workflows/{namespace}/{name}")
async def update_cron(request: Request, here: Here, name: str) -> dict[str, Any]:
    """Keep a workflow and its schedules in place of those of its name."""
    given = (await body_of(request)).get("cronWorkflow")
    spec, schedules, suspended = templates.cron_of(given, here.owner, here.namespace)
    await _cron(here, await here.its.saved.get(here.actor, here.owner, name))
    _same_name(spec, name)
    return await _cron(here, await _kept(here, spec, schedules, suspended))


@router.delete("/cron-workflows/{namespace}/{name}")
async def delete_cron(here: Here, name: str) -> dict[str, Any]:
    """Forget a workflow with its schedules; its runs stay."""
    await _cron(here, await here.its.saved.get(here.actor, here.owner, name))
    return await delete(here, name)


@router.put("/cron-workflows/{namespace}/{name}/suspend")
async def suspend(here: Here, name: str) -> dict[str, Any]:
    """Let its schedules rest."""
    return await _paused(here, name, True)


@router.put("/cron-workflows/{namespace}/{name}/resume")
async def resume(here: Here, name: str) -> dict[str, Any]:
    """Have its schedules fire again, from now on."""
    return await _paused(here, name, False)


# Runs of them


@router.post("/workflows/{namespace}/submit")
async def submit(request: Request, here: Here) -> dict[str, Any]:
    """Start a run of a template or of a cron workflow."""
    body = await body_of(request)
    kind = str(body.get("resourceKind") or "").lower()
    if kind not in _TEMPLATES | _CRONS:
        hint = "It is workflowtemplate/NAME or cronworkflow/NAME."
        raise BadInput(f"There is no {kind[:40] or 'kind'} to submit from.", field="resourceKind", hint=hint)
    options = body.get("submitOptions") or {}
    if not isinstance(options, dict):
        raise BadInput("The options are an object.", field="submitOptions")
    refuse_set(options, _OPTIONS)
    saved = await here.its.saved.get(here.actor, here.owner, str(body.get("resourceName") or ""))
    spec = launching.launched(saved.spec, templates.given(saved, options.get("parameters") or []), fresh=True)
    named = {key: str(options[key]) for key in ("name", "generateName") if options.get(key)}
    check_name(named)
    if "name" in named and here.has(named["name"]):
        raise NameTaken(f"There is a workflow '{named['name']}' already.", field="submitOptions.name")
    metadata = {**(spec.manifest.get("metadata") or {}), **named}
    run = await here.its.workflows.submit(
        here.actor, here.owner, spec.model_copy(update={"manifest": {**spec.manifest, "metadata": metadata}})
    )
    return await asyncio.to_thread(objects.workflow, await here.told(run))


# Small things


async def _all(here: Asked) -> list[Saved]:
    found: list[Saved] = []
    after = ""
    while True:
        page = await here.its.saved.list(here.actor, here.owner, after=after, limit=200)
        found += page.items
        if not (after := page.next):
            return found


async def _whole(here: Asked, saved: Saved) -> Saved:
    """Return one of a list with its manifest."""
    return await here.its.saved.get(here.actor, here.owner, saved.name)


async def _schedules(here: Asked, name: str) -> list[Trigger]:
    page = await here.its.saved_triggers.list(here.actor, here.owner, name)
    return [one for one in page.items if one.spec.every]


async def _cron(here: Asked, saved: Saved) -> dict[str, Any]:
    schedules = await _schedules(here, saved.name)
    if not schedules:
        raise NotFound(f"The workflow '{saved.name}' has no schedule.", field="name", hint="`argo template` knows it.")
    return templates.cron(saved, schedules, here.namespace)


async def _kept(
    here: Asked, spec: SavedSpec, schedules: Sequence[TriggerSpec], suspended: bool, *, new: bool = False
) -> Saved:
    """Keep a workflow with these schedules, and the triggers of other kinds that it has; all of it, or nothing new."""
    _check(here, schedules)
    saved = await here.its.saved.save(here.actor, here.owner, spec)
    try:
        have = await here.its.saved_triggers.list(here.actor, here.owner, spec.name)
        others = [one.spec for one in have.items if not one.spec.every]
        await here.its.saved_triggers.choose(here.actor, here.owner, spec.name, [*others, *schedules])
        await _paused(here, spec.name, suspended)
    except RopewalkError:
        if new:
            await here.its.saved.remove(here.actor, here.owner, spec.name)
        raise
    return saved


async def _paused(here: Asked, name: str, paused: bool) -> dict[str, Any]:
    saved = await here.its.saved.get(here.actor, here.owner, name)
    await _cron(here, saved)
    for one in await _schedules(here, name):
        await here.its.saved_triggers.pause(here.actor, here.owner, name, one.id, paused)
    return await _cron(here, saved)


def _check(here: Asked, schedules: Sequence[TriggerSpec]) -> None:
    for one in schedules:
        wishes.checked(one, here.its.clock.wall())


async def _linted(here: Asked, spec: SavedSpec, given: Any) -> dict[str, Any]:
    launching.check(spec)
    await here.its.workflows.check(here.actor, here.owner, launching.trial(spec))
    kept: dict[str, Any] = given
    return kept


async def _free(here: Asked, name: str) -> None:
    try:
        await here.its.saved.get(here.actor, here.owner, name)
    except NotFound:
        return
    hint = "Update that one, or delete it first."
    raise NameTaken(f"There is a saved workflow '{name}' already.", field="metadata.name", hint=hint)


def _same_name(spec: SavedSpec, name: str) -> None:
    if spec.name != name:
        raise BadInput("The name in the address is another one.", field="metadata.name")


def _lock(here: Asked) -> asyncio.Lock:
    """Return the lock of whoever keeps something of a name that must be free."""
    return _keeping.setdefault((id(here.its.journal), here.owner), asyncio.Lock())

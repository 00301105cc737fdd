"""Files that steps wrote, as `argo cp` and Hera fetch them: by workflow, node and name."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import StreamingResponse

from ropewalk_core.errors import NotFound
from ropewalk_hub.api.common import download
from ropewalk_hub.argo_api.common import ArgoRoute, Asked, Here
from ropewalk_workflows.argo_server import objects
from ropewalk_workflows.argo_server.nodes import nodes

router = APIRouter(route_class=ArgoRoute)


@router.get("/artifacts/{namespace}/{name}/{node}/{artifact}")
async def by_name(here: Here, name: str, node: str, artifact: str) -> StreamingResponse:
    """Return the content of an output of a node."""
    return await _content(here, name, node, artifact)


@router.get("/artifacts-by-uid/{uid}/{node}/{artifact}")
async def by_uid(here: Here, uid: str, node: str, artifact: str) -> StreamingResponse:
    """Return the same by the workflow's identifier."""
    return await _content(here, uid, node, artifact)


@router.get("/artifact-files/{namespace}/{kind}/{name}/{node}/outputs/{artifact}")
async def file(here: Here, kind: str, name: str, node: str, artifact: str) -> StreamingResponse:
    """Return the same at the address that Argo's own pages use."""
    return await _content(here, name, node, artifact)


async def _content(here: Asked, name: str, node: str, artifact: str) -> StreamingResponse:
    run = await here.get(name)
    known = await here.told(run)
    _, steps = await asyncio.to_thread(nodes, known, objects.phase(run))
    outputs = (one for step in run.steps if step.id == steps.get(node) for one in step.artifacts)
    found = next((one for one in outputs if one.name == artifact), None)
    if found is None:
        hint = f"`argo get {known.name} -o yaml` lists them."
        raise NotFound(f"The node '{node[:100]}' has no output '{artifact[:100]}'.", field="artifact", hint=hint)
    content = await here.its.workflows.artifact(here.actor, here.owner, run.id, found.digest)
    return download(content, found.name)

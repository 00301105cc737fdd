"""What Argo's clients ask of a server itself: which it is, what it manages, and whom it takes them for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ropewalk_hub.argo_api.common import ArgoRoute, Here
from ropewalk_workflows.argo_server import objects

router = APIRouter(prefix="/api/v1", route_class=ArgoRoute)


@router.get("/version")
async def version(here: Here) -> dict[str, str]:
    """Return which Argo Server's interface this is."""
    return objects.version()


@router.get("/info")
async def info(here: Here) -> dict[str, Any]:
    """Return the namespace that the person has."""
    return {"managedNamespace": here.namespace, "links": [], "columns": []}


@router.get("/userinfo")
async def userinfo(here: Here) -> dict[str, Any]:
    """Return whom the token speaks for."""
    origin = here.its.settings.door.origin
    return {"issuer": origin, "subject": here.actor.subject, "name": here.owner, "groups": []}

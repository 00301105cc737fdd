"""Argo Server's REST interface under ``/argo/``, for the real `argo` command and for Hera: thin routes over the ports.

What is translated lies in ``ropewalk_workflows.argo_server``; here is HTTP alone. The same on every backend. Not here:
gRPC, which no client needs that is set up as `ropewalk argo-env` says.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse

from ropewalk_core.errors import NotFound
from ropewalk_hub.argo_api import archive, artifacts, logs, server, templates, watching, workflows
from ropewalk_hub.argo_api.common import PREFIX, ArgoRoute, Asking, Here, refused

router = APIRouter(prefix=PREFIX, include_in_schema=False)
for _one in (server, templates, workflows, watching, logs, artifacts, archive):
    router.include_router(_one.router)

_rest = APIRouter(prefix=PREFIX, route_class=ArgoRoute, include_in_schema=False)
_ALL = ["GET", "POST", "PUT", "DELETE", "PATCH"]
_LATER = {
    "cluster-workflow-templates": "Cluster workflow templates",
    "stream": "The stream of events",
    "events": "Sending events",
    "event-sources": "Event sources",
    "sensors": "Sensors",
    "sync": "Limits of synchronization",
    "workflow-event-bindings": "Event bindings",
}


@_rest.api_route("/api/v1/workflows/{namespace}/{name}/{verb}", methods=["PUT"])
async def act(here: Here, name: str, verb: str) -> JSONResponse:
    """Refuse what our engine cannot do yet, if there is such a workflow."""
    await here.get(name)
    return refused(f"`{verb[:40]}`", "Nothing was changed.")


@_rest.api_route("", methods=_ALL)
@_rest.api_route("/{path:path}", methods=_ALL)
async def unknown(actor: Asking, path: str = "") -> JSONResponse:
    """Answer for what no other route took: what Argo has and we have not, and what neither has."""
    family = path.removeprefix("api/v1/").partition("/")[0]
    if family in _LATER:
        return refused(_LATER[family], "Submit workflows themselves.")
    raise NotFound(f"There is nothing at {PREFIX}/{path[:100]}.", hint="See docs/argo.md for what is answered.")


router.routes.extend(_rest.routes)  # last: whatever no other route took

"""The REST interface under ``/api/v1``: the ports over HTTP, and its published description.

Dashboard, magics and command line use the same client and the same models. It must not know how anything is done.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.openapi.utils import get_openapi

from ropewalk_core.errors import NotFound
from ropewalk_hub.api import accounts, durable, files, runs, saved, secrets, triggers, watch, work
from ropewalk_hub.api.common import ApiRoute
from ropewalk_hub.security import Public, Signed

PREFIX = "/api/v1"

router = APIRouter(prefix=PREFIX)
for _one in (accounts, work, triggers, secrets, durable, runs, saved, files, watch):
    router.include_router(_one.router)
router.include_router(files.uploads)

_rest = APIRouter(prefix=PREFIX, route_class=ApiRoute)


@router.get(
    "/openapi.json",
    include_in_schema=False,
    dependencies=[Depends(Public("the description of the interface holds nobody's data"))],
)
async def get_description() -> dict[str, Any]:
    """Return the description of this interface."""
    return describe()


@_rest.api_route("", methods=["GET"], include_in_schema=False)
@_rest.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
async def unknown(actor: Signed, path: str = "") -> None:
    """Answer for what is not there, in the form of all other errors."""
    raise NotFound(f"There is nothing at {PREFIX}/{path[:100]}.", hint=f"See {PREFIX}/openapi.json.")


router.routes.extend(_rest.routes)  # last: whatever no other route took


def describe() -> dict[str, Any]:
    """Return the OpenAPI description of the interface."""
    return get_openapi(
        title="Ropewalk",
        version="1",
        description="Notebooks, services, functions, workflows and files of one platform. Errors are `Problem` bodies.",
        routes=router.routes,
    )

"""The pages: server-rendered HTML with small live parts. `router` is what the application includes.

Reads and acts go through the guarded ports of ``request.app.state.platform``, as the REST interface does. Nothing that
people wrote is rendered as HTML. Rejected: a single-page application, which shows nothing before its bundle came.
"""

from __future__ import annotations

from fastapi import APIRouter

from ropewalk_hub.pages import static

router = APIRouter(include_in_schema=False)
router.include_router(static.router)

__all__ = ["router"]

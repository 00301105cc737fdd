"""The page that explains every error code, made from the tree of errors itself, for whoever met one.

It is open to everybody, because errors meet people who are not signed in. Rejected: serving ``docs/``, which an
installed platform does not have.
"""

from __future__ import annotations

import inspect

from fastapi import APIRouter, Depends, Request, Response

from ropewalk_core.errors import documented
from ropewalk_hub.pages.common import Its
from ropewalk_hub.pages.render import render
from ropewalk_hub.security import Public, cookie_name

router = APIRouter(include_in_schema=False)


@router.get("/help/errors", dependencies=[Depends(Public("explains error codes; holds nobody's data"))])
def errors(request: Request, its: Its) -> Response:
    """Show what each code means and what to do next."""
    actor = its.issuer.actor_of_cookie(request.cookies.get(cookie_name(its.settings.door), ""))
    rows = [(one, " ".join((inspect.getdoc(one) or "").split())) for one in documented()]
    return render(request, "errors.html", actor=actor, rows=rows)

"""Turns every failure into an answer: a problem as JSON for programs, a page for people.

Somebody who is not signed in is asked to, without losing what they typed. The message of a failure of ours stays in
the log. Not here: what went wrong (``errors.py``).
"""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ropewalk_core.errors import BadInput, Internal, Limited, NotFound, RopewalkError, Unauthenticated
from ropewalk_core.wrong import wrong
from ropewalk_hub import problem
from ropewalk_hub.issuer.pages import ask_to_sign_in
from ropewalk_hub.pages.render import render_error

log = logging.getLogger("ropewalk.platform")


def add_handlers(app: FastAPI) -> None:
    """Turn every failure into an answer: JSON for programs, a page for people."""
    app.add_exception_handler(RopewalkError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RopewalkError):
        error = Internal(str(error))
    if not error.public:
        log.error("%s %s: %s", request.method, request.url.path[:200], error.message)
    response = await _answer(request, error)
    if isinstance(error, Limited):
        response.headers["Retry-After"] = problem.retry_after(error)
    return response


async def _answer(request: Request, error: RopewalkError) -> Response:
    if not _wants_page(request):
        return problem.answer(error, request.app.state.platform.settings.door.origin)
    if isinstance(error, Unauthenticated):
        return await ask_to_sign_in(request, request.app.state.platform.issuer)
    return render_error(request, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    entries = error.errors() if isinstance(error, RequestValidationError) else ()
    return await _on_error(request, wrong(entries, whole="request"))


async def _on_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        hint = "Go home and look for it from there; its address may be misspelled."
        return await _on_error(request, NotFound("There is no such page.", hint=hint))
    refusal = BadInput("This cannot be asked here.", hint="The interface is described at /api/v1/openapi.json.")
    return problem.answer(refusal, request.app.state.platform.settings.door.origin, status=status)


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path[:200], exc_info=error)
    return await _answer(request, Internal("An unexpected failure; see the log."))


def _wants_page(request: Request) -> bool:
    programs = request.url.path.startswith(("/api/", "/internal/", "/oidc/token", "/oidc/userinfo", "/oidc/revoke"))
    return not programs and "text/html" in request.headers.get("accept", "text/html")

"""Turns every failure into an answer: a problem as JSON for programs, a page for people.

Somebody who is not signed in is asked to, without losing what they typed. The message of a failure of ours stays in
the log. Not here: what went wrong (``errors.py``).
"""

from __future__ import annotations

import logging

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ropewalk_core.errors import BadInput, Internal, Limited, NotFound, RopewalkError, TooLarge, Unauthenticated
from ropewalk_core.wrong import wrong
from ropewalk_hub import problem
from ropewalk_hub.issuer.pages import ask_to_sign_in
from ropewalk_hub.pages.render import render_error

LARGEST_FORM = 2**20
"""Bytes of a form; anybody may send one, so it must not fill the memory."""
log = logging.getLogger("ropewalk.platform")


def add_handlers(app: Starlette) -> None:
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
    if status == 413:  # a body without an announced length
        return await _on_error(request, _too_long())
    if status == 404:
        hint = "Go home and look for it from there; its address may be misspelled."
        return await _on_error(request, NotFound("There is no such page.", hint=hint))
    refusal = BadInput("This cannot be asked here.", hint="The interface is described at /api/v1/openapi.json.")
    return problem.answer(refusal, request.app.state.platform.settings.door.origin, status=status)


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path[:200], exc_info=error)
    return await _answer(request, Internal("An unexpected failure; see the log."))


class FormLimit:
    """The middleware that answers a form that is too long, where the framework would send two bare words."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse by the announced length; the framework counts what comes unannounced."""
        answer: ASGIApp = self._app
        if scope["type"] == "http" and not scope["path"].startswith("/api/"):  # that has limits of its own
            length = Headers(scope=scope).get("content-length", "")
            if length.isdecimal() and int(length[:20]) > LARGEST_FORM:
                answer = await _on_error(Request(scope, receive), _too_long())
        await answer(scope, receive, send)


def _too_long() -> TooLarge:
    return TooLarge(
        f"What you sent is longer than the {LARGEST_FORM >> 20} MiB that a page takes.",
        hint="Send a large payload to the function's own address; bring a large file in from the notebook.",
    )


def _wants_page(request: Request) -> bool:
    programs = request.url.path.startswith(("/api/", "/internal/", "/oidc/token", "/oidc/userinfo", "/oidc/revoke"))
    return not programs and "text/html" in request.headers.get("accept", "text/html")

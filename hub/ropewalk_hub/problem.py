"""A failure as programs read it: the same body, type and headers wherever it is answered.

Not here: pages (``answers``), and what went wrong (``errors``). The gateway has another framework.
"""

from __future__ import annotations

from starlette.responses import JSONResponse

from ropewalk_core.errors import Limited, RopewalkError, Unavailable


def answer(error: RopewalkError, origin: str, *, status: int = 0) -> JSONResponse:
    """Return the error as an answer.

    Parameters
    ----------
    error
        What went wrong.
    origin
        The platform's, for the address that explains the code.
    status
        Instead of the error's own.
    """
    headers = {}
    if isinstance(error, Limited | Unavailable):
        headers["Retry-After"] = retry_after(error)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = error.problem(origin=origin)
    return JSONResponse(body, status or error.status, headers, media_type="application/problem+json")


def retry_after(error: RopewalkError) -> str:
    """Return whole seconds to wait, at least one."""
    return str(max(1, round(getattr(error, "retry_after", 1.0))))

"""Our errors as Argo Server says them: gRPC's number, a sentence, and the HTTP status that its gateway gives. Pure.

Clients of Argo's read the number (`argo`) or the status (Hera), and show the sentence; so what to do next is part of
it. Our own statuses 413 and 422 are 400 here: Hera knows few of them.
"""

from __future__ import annotations

from typing import Any

from ropewalk_core.errors import (
    BadInput,
    Conflict,
    Denied,
    Limited,
    NameTaken,
    NotFound,
    RopewalkError,
    StorageFull,
    Unauthenticated,
    Unavailable,
)

UNIMPLEMENTED = 12
_TABLE: tuple[tuple[type[RopewalkError], int, int], ...] = (  # the first that fits
    (BadInput, 3, 400),
    (Unauthenticated, 16, 401),
    (Denied, 7, 403),
    (NotFound, 5, 404),
    (NameTaken, 6, 409),
    (Conflict, 9, 400),
    (Limited, 8, 429),
    (StorageFull, 8, 429),
    (Unavailable, 14, 503),
)
_INTERNAL = (13, 500)


def said(error: RopewalkError) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the body of an error; what is not public stays in the log."""
    code, status = next(((code, status) for kind, code, status in _TABLE if isinstance(error, kind)), _INTERNAL)
    problem = error.problem()
    return status, {"code": code, "message": f"{problem['message']} {problem['hint']}".strip()}


def unanswered(what: str, instead: str) -> tuple[int, dict[str, Any]]:
    """Return the answer for a part of Argo Server that is not answered here.

    Parameters
    ----------
    what
        What was asked for, as the beginning of a sentence.
    instead
        What to do instead, as a sentence.
    """
    return 501, {"code": UNIMPLEMENTED, "message": f"{what} is not answered by Ropewalk. {instead}".strip()}

"""What went wrong with the person's code, as it crosses to the gateway: their own lines, and limits by name. Pure.

Not here: running it (``worker``, ``serving``).
"""

from __future__ import annotations

import resource
import traceback
from typing import Any

from ropewalk_runtime import bundle, limits, missing
from ropewalk_runtime.handler import BadAnswer, BadPayload, TooLong, problem, user_line
from ropewalk_runtime.printed import MAX_CALL_LOG


class CallerLeft(BaseException):
    """Raised in a handler whose caller left, where it stands, so that its ``finally`` runs."""


def failed(error: BaseException) -> dict[str, Any]:
    """Return why a call failed."""
    if isinstance(error, BadPayload):
        return problem("RW-BAD-INPUT", str(error), hint=error.hint, field=error.field)
    if isinstance(error, MemoryError):
        return memory() | {"details": {"traceback": shown(error)}}
    if isinstance(error, BadAnswer):
        return problem("RW-USER-CODE", str(error), hint=error.hint, field=error.field)
    if isinstance(error, TooLong):
        hint = "Return less, a numpy array or a data frame, which Python gets at any size, or the path of a file."
        return problem("RW-TOO-LARGE", str(error), hint=hint, field="limits.payload")
    if isinstance(error, CallerLeft):
        return problem("RW-USER-CODE", "The caller left before the answer.")
    if said_limit := limits.met(error):
        message, field, hint = said_limit
        return problem("RW-USER-CODE", message, hint=hint, field=field, **_details(error))
    if lacking := missing.package(error):
        place = user_line(error)
        field = f"cell line {place[1]}" if place else "code"
        said = f"The function needs {lacking.said}, which is not installed ({field})."
        return problem("RW-USER-CODE", said, hint=missing.fix(lacking), field=field, **_details(error))
    return problem("RW-USER-CODE", f"The function raised {type(error).__name__}.", **_details(error))


def _details(error: BaseException) -> dict[str, Any]:
    said = f"{type(error).__name__}: {bundle.message(error)}"[:2000]
    return {"traceback": shown(error), "error": said}


def shown(error: BaseException) -> str:
    """Return the traceback of the person's own frames."""
    text = bundle.user_traceback(error)
    if len(text) > MAX_CALL_LOG:  # the message of an error may hold a whole table
        text = f"{text[: MAX_CALL_LOG // 2]}\n[...]\n{text[-MAX_CALL_LOG // 2 :]}"
    return text


def memory() -> dict[str, Any]:
    """Return the failure of code that needed more memory than it may have."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    most = "its placement allows" if limit == resource.RLIM_INFINITY else f"its limit of {limit // 2**20}Mi"
    message = f"The function needed more memory than {most} (it had used {peak} MiB)."
    return problem("RW-OUT-OF-MEMORY", message, field="placement.memory")


def bad_code(error: BaseException, *, doing: str = "does not load") -> dict[str, Any]:
    """Return what is wrong with code that does not load, with the cell's line."""
    place = user_line(error)
    field = f"cell line {place[1]}" if place else "code"
    said = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else bundle.message(error)}"[:500]
    message = f"The function {doing} ({field}): {said}"
    if isinstance(error, SyntaxError):  # its frames are the compiler's; what matters is the line it shows
        return problem("RW-BAD-CODE", message, field=field, traceback="".join(traceback.format_exception_only(error)))
    hint = missing.fix(lacking) if (lacking := missing.package(error)) else ""
    return problem("RW-BAD-CODE", message, field=field, hint=hint, traceback=shown(error))

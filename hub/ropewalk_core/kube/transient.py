"""Transient: what an answer of the API server means, what may pass by itself, and how long to wait. Pure.

One classifier for the whole backend: an answer becomes one of ``errors``; `Unavailable` and `Limited` pass by
themselves, everything else stays. Not here: sending anything. Rejected: lists of status codes at each call, which
drift apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ropewalk_core.errors import (
    BadInput,
    Conflict,
    Denied,
    Internal,
    Limited,
    NameTaken,
    NotFound,
    RopewalkError,
    TooLarge,
    Unavailable,
)
from ropewalk_core.why import cluster as why

LONGEST_RETRY_AFTER = 60.0
_PASSES = {"InternalError", "ServerTimeout", "ServiceUnavailable", "Timeout", "StorageReadError"}
_RENEW = "An administrator renews the certificate or the token that the platform uses."
_NOT_YET = re.compile(r"is waiting to start|is not available|is not running|previous terminated container")


def passes(error: BaseException) -> bool:
    """Whether the same request may succeed later without anybody doing anything."""
    return isinstance(error, Unavailable | Limited)


def gone(error: RopewalkError) -> bool:
    """Whether the history that a list or a watch asked for is not kept any more, so the list must be read again."""
    return error.details.get("status") == 410 or error.details.get("reason") in ("Expired", "Gone")


def refusal(status: int, content: bytes, headers: Mapping[str, str], *, about: str) -> RopewalkError:
    """Return the error for an answer that is no success.

    Parameters
    ----------
    status, content, headers
        The answer; its content is a ``Status`` object, or anything a proxy wrote.
    about
        What was asked, in words: ``Pod ada/nb``.
    """
    body = _status_object(content)
    reason, message = str(body.get("reason") or ""), str(body.get("message") or "")
    told = {"reason": reason, "raw": message[:4000], "status": status}
    if status == 429:
        seconds = retry_after(headers, body) or 1.0
        return Limited("The cluster is busy and asks to wait.", retry_after=seconds, details=told)
    error = _judged(status, reason, message, body, about)
    error.details |= told
    if isinstance(error, Unavailable) and (seconds := retry_after(headers, body)):
        error.details["retry_after"] = seconds
    return error


def _judged(status: int, reason: str, message: str, body: dict[str, Any], about: str) -> RopewalkError:
    match status:
        case 401:
            return Unavailable("The cluster does not accept the platform's credentials.", hint=_RENEW)
        case 403:
            return _forbidden(message, body, about)
        case 404:
            return _missing(message, body, about)
        case 409:
            return _conflict(reason, message, body, about)
        case 410:
            return Conflict(f"The history of {about} is not kept that long.")
        case 413:
            return TooLarge(f"{about} is larger than the cluster takes.")
    if reason in _PASSES or status >= 500:
        return Unavailable(f"The cluster did not carry out what was asked for {about}: {_short(message) or status}")
    if status == 400 and _NOT_YET.search(message):
        return Unavailable(f"{about} has not started yet.", hint="Wait until it runs.")
    if status in (405, 406, 415):
        return Internal(f"{about}: {status} {message}")
    return _refused(message, body, about)


def retry_after(headers: Mapping[str, str], body: Mapping[str, Any] | None = None) -> float:
    """Return the seconds that the server asks to wait, at most a minute; 0 if it asks for nothing."""
    header = headers.get("retry-after") or headers.get("Retry-After") or ""
    details = (body or {}).get("details")
    told = header if header.isdigit() else (details or {}).get("retryAfterSeconds", 0) if _is_map(details) else 0
    try:
        return min(LONGEST_RETRY_AFTER, max(0.0, float(told)))
    except (TypeError, ValueError):
        return 0.0


def wait_before(
    failures: int, jitter: Callable[[], float], *, first: float = 0.2, longest: float = 10.0, asked: float = 0.0
) -> float:
    """Return the seconds before the next try: full jitter under a doubling bound, on top of what the server asked.

    Parameters
    ----------
    failures
        How many tries failed in a row, from 1.
    jitter
        A number from 0 to 1.
    first, longest
        The first bound and the last one.
    asked
        Seconds from `retry_after`; never less than these.
    """
    bound = min(longest, first * 2.0 ** min(max(0, failures - 1), 32))
    return asked + jitter() * bound


def _forbidden(message: str, body: dict[str, Any], about: str) -> RopewalkError:
    if any(one.get("reason") == "NamespaceTerminating" for one in _causes(body)):
        return Conflict(f"{about} cannot be made: its namespace is being removed.", hint="Wait until it is gone.")
    if match := re.search(r'User "([^"]*)" cannot (\S+) resource "([^"]*)"', message):
        return Denied(
            f"The platform may not {match[2]} {match[3]} in the cluster ({match[1]}).",
            hint="An administrator looks at the platform's roles.",
        )
    told = why.explained(message)
    if told is None:
        return Denied(f"The cluster refused {about}: {_short(message)}")
    return Denied(told.cause, hint=told.next or None)


def _missing(message: str, body: dict[str, Any], about: str) -> RopewalkError:
    if "could not find the requested resource" in message or "page not found" in message:
        return NotFound(f"The cluster does not know the kind of {about}.", hint="Ask your administrator to install it.")
    return NotFound(f"There is no {about} in the cluster.")


def _conflict(reason: str, message: str, body: dict[str, Any], about: str) -> RopewalkError:
    if reason == "AlreadyExists":
        return NameTaken(f"{about} is there already.")
    held = [one for one in _causes(body) if one.get("reason") == "FieldManagerConflict"]
    if not held:
        return Conflict(f"{about} changed meanwhile.")
    owners = sorted({match[1] for one in held if (match := re.search(r'with "([^"]+)"', str(one.get("message"))))})
    fields = [str(one.get("field")) for one in held]
    return Conflict(
        f"{', '.join(fields[:3])} of {about} belongs to {' and '.join(owners) or 'somebody else'}.",
        field=fields[0],
        hint="Undo the change that was made there, or make it there.",
        details={"owners": owners, "fields": fields},
    )


def _refused(message: str, body: dict[str, Any], about: str) -> RopewalkError:
    if any(one.get("field") == "metadata.uid" for one in _causes(body)):
        return Conflict(f"{about} is another one of that name.")
    told = why.explained(message)
    field = next((str(one["field"]) for one in _causes(body) if one.get("field")), None)
    if told is not None:
        return BadInput(told.cause, hint=told.next or None, field=field)
    return BadInput(f"The cluster refused {about}: {_short(message)}", field=field)


def _status_object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return body
    return {"message": content[:500].decode("utf-8", "replace").strip()}


def _causes(body: dict[str, Any]) -> list[dict[str, Any]]:
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [one for one in causes if isinstance(one, dict)] if isinstance(causes, list) else []


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _short(message: str) -> str:
    return message if len(message) <= 400 else message[:399] + "…"

"""The headers of a function's answer and of a failure, whoever writes them: aiohttp, or the front for plain requests.

Not here: bodies, and what an app in a worker adds (``headers``).
"""

from __future__ import annotations

import math

from ropewalk_core.errors import Limited, RopewalkError, Unauthenticated
from ropewalk_hub.gateway.functions import Reply

PROBLEM = "application/problem+json"
_SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def of_reply(reply: Reply) -> dict[str, str]:
    """Return the headers of an answer."""
    headers = {
        **_SAFE,
        "X-Ropewalk-Call": reply.call,
        "X-Ropewalk-Revision": reply.revision,
        "X-Ropewalk-Start": "cold" if reply.cold else "warm",
    }
    if reply.content_type:
        headers["Content-Type"] = reply.content_type
    return headers


def of_error(error: RopewalkError) -> dict[str, str]:
    """Return the headers of a failure, its content type left out."""
    headers = dict(_SAFE)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="ropewalk"'
    if isinstance(error, Limited) or error.status == 503:
        headers["Retry-After"] = str(max(1, math.ceil(getattr(error, "retry_after", 1.0))))
    return headers

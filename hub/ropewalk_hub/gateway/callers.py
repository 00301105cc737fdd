"""Who asks for a function: a token, a key, a browser that is signed in, or nobody. Said once, or refused.

What a request may say about that is only in the headers named here. They never reach user code; neither does anything
else that begins with ``X-Ropewalk-``, which is ours to set. Not here: whether they may call (``policy``), and what a
token is worth (``tokens``). Rejected: taking the first of two tokens, on which two programs on the way may disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiohttp import web

from ropewalk_core.callkeys import HEADER
from ropewalk_core.errors import Unauthenticated
from ropewalk_hub.gateway.sessions import Sessions
from ropewalk_hub.gateway.tokens import Caller, Verifier

PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization", HEADER.lower()})
"""Headers that say who somebody is and are nobody else's business."""


@dataclass(frozen=True)
class Asking:
    """What a request says about who makes it; ``by_cookie`` if only a browser's sign-in does."""

    caller: Caller | None = None
    by_cookie: bool = False
    key: str = ""

    @property
    def account(self) -> str:
        """The account that asks, or nothing."""
        return self.caller.account if self.caller is not None else ""


def read(request: web.Request, verifier: Verifier, sessions: Sessions) -> Asking:
    """Return who asks.

    Raises
    ------
    Unauthenticated
        If it is said in two ways, or in one that does not count.
    """
    tokens, keys = request.headers.getall("Authorization", []), request.headers.getall(HEADER, [])
    if len(tokens) + len(keys) > 1:
        raise Unauthenticated("Say once who calls.", hint=f"Send one token, or one {HEADER}, and not both.")
    if keys:
        return Asking(key=keys[0] or "-")
    if tokens:
        kind, _, token = tokens[0].partition(" ")
        if kind.lower() == "bearer":
            return Asking(verifier.caller(token.strip()))
        raise Unauthenticated("Use a bearer token.", hint='-H "Authorization: Bearer $(ropewalk token)"')
    caller = sessions.caller(request)
    return Asking(caller, by_cookie=caller is not None)


def nobody(key: str = "") -> Caller:
    """Return the caller of a call that no account makes: the holder of a key, or anybody."""
    return Caller(account=f"key:{key}" if key else "", subject="", session="", epoch=0, ends=math.inf)

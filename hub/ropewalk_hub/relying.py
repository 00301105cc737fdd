"""What makes an ID token good, for whoever relies on the issuer: pure, and stricter than most.

Signature by a known key and a named algorithm, issuer, audience, times within a minute's skew, subject, and the nonce
of this very browser. Not here: HTTP. An unknown key identifier asks for the keys again, at most once a minute, so that
a flood of false tokens is no flood of requests.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

ALGORITHMS = ("ES256",)
SKEW = 60
_PATIENCE = 60.0


class BadIdToken(Exception):
    """The ID token proves nothing. The reason is for the log."""


def check_id_token(
    token: str, keys: KeySet, *, issuer: str, client: str, nonce: str | None, now: float
) -> dict[str, Any]:
    """Return the claims of a good ID token.

    Parameters
    ----------
    token
        As the token endpoint gave it.
    keys
        The issuer's public keys.
    issuer, client
        Who must have made it, and for whom, character by character.
    nonce
        What went out with the request; None after a refresh, which has none.
    now
        Unix time in seconds.

    Raises
    ------
    BadIdToken
        If anything is missing or wrong.
    """
    try:
        claims = dict(jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims)
        jwt.JWTClaimsRegistry(
            now=int(now),
            leeway=SKEW,
            iss={"essential": True, "value": issuer},
            sub={"essential": True},
            aud={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(claims)
    except (JoseError, ValueError, TypeError) as error:
        raise BadIdToken(f"ID token refused: {error}") from error
    audience = claims["aud"]
    if audience != client and audience != [client]:
        raise BadIdToken("ID token refused: it was made for somebody else")
    if claims.get("azp", client) != client:
        raise BadIdToken("ID token refused: it was given to somebody else")
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise BadIdToken("ID token refused: it names nobody")
    if nonce is not None and (not nonce or claims.get("nonce") != nonce):
        raise BadIdToken("ID token refused: it answers another request")
    return claims


def key_of(token: str) -> str | None:
    """Return the key identifier that a token's header names; None when it names none or is no token."""
    head = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, binascii.Error):
        return None
    kid = header.get("kid") if isinstance(header, dict) else None
    return kid if isinstance(kid, str) else None


class KeyCache:
    """The issuer's keys, fetched when first needed and when a token names a key that is not among them."""

    def __init__(self, fetch: Callable[[], Awaitable[KeySet]], steady: Callable[[], float]) -> None:
        self._fetch = fetch
        self._steady = steady
        self._keys: KeySet | None = None
        self._asked = float("-inf")

    async def for_token(self, token: str) -> KeySet:
        """Return the keys to verify a token with."""
        kid = key_of(token)
        known = self._keys is not None and (kid is None or kid in {one.kid for one in self._keys.keys})
        if self._keys is None or (not known and self._steady() - self._asked >= _PATIENCE):
            self._asked = self._steady()
            self._keys = await self._fetch()
        return self._keys

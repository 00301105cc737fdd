"""Who calls: a bearer token, verified offline.

A token's signature is verified once and the success remembered by the SHA-256 of the whole token; its end, the
account's epoch and ended sessions are checked at every call against the newest snapshot. Only successes are kept, the
audience is fixed here, the cache is bounded and emptied when the keys change. Not here: browsers (``sessions``).
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from ropewalk_core.errors import Unauthenticated, Unavailable
from ropewalk_core.settings import Settings
from ropewalk_hub.gateway.directory import Directory

AUDIENCE = "functions"
ALGORITHMS = ["ES256", "EdDSA", "Ed25519"]
_MOST = 4096
_LONGEST = 8192


@dataclass(frozen=True)
class Caller:
    """A person on whose behalf a request comes; ``ends`` is in Unix seconds."""

    account: str
    subject: str
    session: str
    epoch: int
    ends: float


class Verifier:
    """Judges tokens.

    Parameters
    ----------
    settings
        The issuer's name is the door's origin.
    directory
        Keys, epochs and ended sessions.
    now
        Unix time in seconds; injectable for tests.
    """

    def __init__(self, settings: Settings, directory: Directory, now: Callable[[], float] = time.time) -> None:
        self._issuer = settings.door.origin
        self._directory = directory
        self._now = now
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._keys: KeySet | None = None
        self._raw: object = None

    def caller(self, token: str) -> Caller:
        """Return who the token speaks for now.

        Raises
        ------
        Unauthenticated
            If it is not valid, not valid any more, or not for functions.
        Unavailable
            If there is no snapshot to judge it by yet.
        """
        if not self._directory.known:
            raise Unavailable("The gateway waits for the platform.")
        self._refresh_keys()
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        caller = self._known.get(digest)
        if caller is None:
            caller = self._verify(token)
            self._known[digest] = caller
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        if caller.ends <= self._now():
            self._known.pop(digest, None)
            raise Unauthenticated("The token has ended.")
        if not self._directory.alive(caller.account, caller.subject, caller.session, caller.epoch):
            raise Unauthenticated("The sign-in of this token has ended.")
        return caller

    def _refresh_keys(self) -> None:
        if self._raw is not self._directory.keys and self._raw != self._directory.keys:
            self._known.clear()
            self._keys = None
        self._raw = self._directory.keys

    def _verify(self, token: str) -> Caller:
        if not token.strip():
            raise Unauthenticated("The token is empty.", hint="Look at what `ropewalk token` says.")
        if len(token) > _LONGEST:
            raise Unauthenticated("The token is not valid.")
        try:
            if self._keys is None:
                self._keys = KeySet.import_key_set(self._directory.keys)  # type: ignore[arg-type]
            claims = jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims
            audience = claims["aud"]
            if claims["iss"] != self._issuer or AUDIENCE not in ([audience] if isinstance(audience, str) else audience):
                raise Unauthenticated("The token was not made for functions.", hint="Take one with `ropewalk token`.")
            return Caller(
                account=str(claims["account"]),
                subject=str(claims["sub"]),
                session=str(claims.get("sid", "")),
                epoch=int(claims.get("epoch", 0)),
                ends=float(claims["exp"]),
            )
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated("The token is not valid.") from error

"""Ten-minute tokens for our own API and for functions: signed, bound to an audience, an account's epoch and a sign-in.

The gateway verifies them offline with the same claims. ``sid`` is a session's id, ``server:<account>`` for a notebook
server or ``cli:<account>`` for the home's owner at a prompt; the latter two end with the account's epoch only. Not
here: OpenID tokens for clients (``grants.py``), which are random and looked up.
"""

from __future__ import annotations

import secrets
from typing import Literal

from joserfc import jwt
from joserfc.errors import JoseError

from ropewalk_core.errors import BadInput, NotApproved, Unauthenticated
from ropewalk_core.model import Account, Actor
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_hub.issuer.accounts import Accounts
from ropewalk_hub.issuer.keys import ALGORITHM, SigningKeys
from ropewalk_hub.issuer.sessions import Sessions

AUDIENCES = ("api", "functions")
_SKEW = 60


class Tokens:
    """Makes and verifies tokens."""

    def __init__(
        self, keys: SigningKeys, accounts: Accounts, sessions: Sessions, settings: Settings, clock: Clock
    ) -> None:
        self._keys = keys
        self._accounts = accounts
        self._sessions = sessions
        self._issuer = settings.door.origin
        self._life = settings.accounts.token
        self._clock = clock

    def make(self, account: Account, session: str, audience: str) -> tuple[str, float]:
        """Return a token and its end in Unix seconds."""
        if audience not in AUDIENCES:
            raise BadInput(
                f"There is no audience '{audience[:60]}'.", field="audience", hint=f"Use {' or '.join(AUDIENCES)}."
            )
        credential = self._accounts.credential(account.name)
        if account.state != "active" or credential is None:
            raise NotApproved("This account may not sign in now.")
        now = self._clock.wall()
        ends = int(now + self._life)
        claims: dict[str, object] = {
            "iss": self._issuer,
            "sub": account.subject,
            "aud": audience,
            "account": account.name,
            "sid": session,
            "epoch": credential.epoch,
            "iat": int(now),
            "exp": ends,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(self._keys.header, claims, self._keys.signing, [ALGORITHM]), float(ends)

    def actor(self, token: str, audience: Literal["api", "functions"] = "api") -> Actor:
        """Return who a token speaks for, or raise `Unauthenticated`."""
        try:
            claims = jwt.decode(token, self._keys.verifying, algorithms=[ALGORITHM]).claims
            jwt.JWTClaimsRegistry(
                now=int(self._clock.wall()),
                leeway=_SKEW,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": audience},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError) as error:
            raise Unauthenticated("The token is not valid, or it has ended.") from error
        account = self._accounts.get(str(claims.get("account", "")))
        credential = self._accounts.credential(account.name) if account else None
        session = str(claims.get("sid", ""))
        alive = ":" in session or self._sessions.by_id(session) is not None
        if account is None or credential is None or account.state != "active" or account.subject != claims["sub"]:
            raise Unauthenticated("The account of this token may not sign in now.")
        if claims.get("epoch") != credential.epoch or not alive:
            raise Unauthenticated("The sign-in of this token has ended.")
        return Actor(
            account=account.name,
            subject=account.subject,
            administrator=account.administrator,
            session=session,
            audience=audience,
        )

"""What the OpenID endpoints remember: codes, access tokens and families of refresh tokens; hashed, in the journal.

The rule of refresh: a token stays usable until one of its children is used; then it and its siblings die; a dead one
revokes the family. So four pages that refresh at once all succeed, a lost answer can be asked for again, and a thief
and the owner cannot both go on. A parent remembers which child was used first (``chosen``); nothing else is needed to
tell the living from the dead. Not here: HTTP and the grants (``grants.py``).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from ropewalk_core.errors import Conflict
from ropewalk_core.journal import Journal, Operation, Put, Record, Remove
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_hub.issuer.accounts import Accounts
from ropewalk_hub.issuer.sessions import Sessions, digest

CODE_LIFE = 60.0
CODE_MEMORY = 600.0
ACCESS_LIFE = 600.0


@dataclass(frozen=True)
class Grant:
    """What a person allowed a client: the common part of a code and of the tokens that come of it."""

    client: str
    account: str
    session: str
    epoch: int
    scope: str
    family: str
    redirect: str = ""
    nonce: str = ""
    challenge: str = ""
    signed_in: float = 0.0

    def body(self) -> dict[str, Any]:
        """Return it as a record's body."""
        return {key: value for key, value in self.__dict__.items() if value not in ("", None)}


@dataclass(frozen=True)
class Found:
    """A stored code or refresh token that is good, with its record."""

    grant: Grant
    record: Record
    parent: Record | None = None


class Vault:
    """Codes and tokens given to clients."""

    def __init__(
        self, journal: Journal, accounts: Accounts, sessions: Sessions, settings: Settings, clock: Clock
    ) -> None:
        self._journal = journal
        self._accounts = accounts
        self._sessions = sessions
        self._refresh_life = settings.accounts.session
        self._clock = clock

    # Codes

    def keep_code(self, code: str, grant: Grant) -> None:
        """Remember a code; after its minute it is kept a while to notice its reuse."""
        now = self._clock.wall()
        body = grant.body() | {"until": now + CODE_LIFE}
        self._journal.write_now(Put("code", "", digest(code), body, 0, now + CODE_MEMORY))

    def code(self, code: str, client: str) -> Found | None:
        """Return an unused code of this client. A used one revokes what it gave."""
        record = self._journal.get("code", "", digest(code))
        if record is None or record.body["client"] != client:
            return None
        grant = _grant(record)
        if record.body.get("used"):
            self.revoke_family(grant.family)
            return None
        if record.body["until"] <= self._clock.wall() or not self._alive(grant):
            return None
        return Found(grant, record)

    def use_code(self, found: Found, access: str, refresh: str) -> bool:
        """Exchange a code for tokens; False when another request was first, and then all is revoked."""
        record = found.record
        used = Put("code", "", record.name, record.body | {"used": True}, record.version, record.expires)
        try:
            self._journal.write_now(used, *self._tokens(found.grant, access, refresh, parent=""))
        except Conflict:
            self.revoke_family(found.grant.family)
            return False
        return True

    # Access tokens

    def access(self, token: str) -> Grant | None:
        """Return what a live access token allows."""
        record = self._journal.get("access", "", digest(token))
        grant = _grant(record) if record else None
        return grant if grant and self._alive(grant) else None

    # Refresh tokens

    def refresh(self, token: str, client: str) -> Found | None:
        """Return a usable refresh token of this client. A dead one revokes its family."""
        record = self._journal.get("refresh", "", digest(token))
        if record is None or record.body["client"] != client:
            return None
        grant = _grant(record)
        if not self._alive(grant):
            return None
        parent = self._journal.get("refresh", "", record.body["parent"]) if record.body.get("parent") else None
        sibling_used = parent is not None and parent.body.get("chosen") not in (None, record.name)
        if record.body.get("chosen") or sibling_used:
            self.revoke_family(grant.family)
            return None
        return Found(grant, record, parent)

    def use_refresh(self, found: Found, access: str, refresh: str, scope: str) -> bool:
        """Give a child of a refresh token; False when it died meanwhile."""
        grant = replace(found.grant, scope=scope)
        children = self._tokens(grant, access, refresh, parent=found.record.name)
        for _ in range(5):
            batch: list[Operation] = list(children)
            parent = found.parent
            if parent is not None and not parent.body.get("chosen"):
                body = parent.body | {"chosen": found.record.name}
                batch.append(Put("refresh", "", parent.name, body, parent.version, parent.expires))
            try:
                self._journal.write_now(*batch, *self._renewal(grant))
                return True
            except Conflict:
                again = self._again(found)
                if again is None:
                    return False
                found = again
        return False

    def revoke(self, token: str, client: str) -> None:
        """Revoke a token (and, of a refresh token, the family). An unknown token is revoked already."""
        for kind in ("refresh", "access"):
            record = self._journal.get(kind, "", digest(token))
            if record is None or record.body["client"] != client:
                continue
            if kind == "refresh":
                self.revoke_family(record.body["family"])
            else:
                self._journal.write_now(Remove("access", "", record.name))

    def revoke_family(self, family: str) -> None:
        """Kill every token that came of one code."""
        self._journal.write_now(Put("revoked", "", family, {}, expires=self._clock.wall() + self._refresh_life + 60))

    # Inside

    def _again(self, found: Found) -> Found | None:
        record = self._journal.get("refresh", "", found.record.name)
        if record is None or record.body.get("chosen"):
            return None
        parent = self._journal.get("refresh", "", found.parent.name) if found.parent else None
        if parent is not None and parent.body.get("chosen") not in (None, record.name):
            self.revoke_family(found.grant.family)
            return None
        return Found(found.grant, record, parent)

    def _alive(self, grant: Grant) -> bool:
        if self._journal.get("revoked", "", grant.family):
            return False
        session = self._sessions.by_id(grant.session)
        account = self._accounts.get(grant.account)
        credential = self._accounts.credential(grant.account)
        if session is None or account is None or credential is None:
            return False
        return account.state == "active" and credential.epoch == grant.epoch == session.epoch

    def _renewal(self, grant: Grant) -> list[Operation]:
        # A sign-in that is used through a client only must not end under the person's hands.
        session = self._sessions.by_id(grant.session)
        return self._sessions.renew(session) if session else []

    def _tokens(self, grant: Grant, access: str, refresh: str, *, parent: str) -> list[Put]:
        now = self._clock.wall()
        body = grant.body()
        puts = [Put("access", "", digest(access), body, 0, now + ACCESS_LIFE)]
        if refresh:
            # Expiry of the family's mark is later than any of its tokens, see revoke_family.
            puts.append(Put("refresh", "", digest(refresh), body | {"parent": parent}, 0, now + self._refresh_life))
        return puts


def new_family() -> str:
    """Return a fresh family's name."""
    return secrets.token_hex(12)


def _grant(record: Record) -> Grant:
    known = Grant.__dataclass_fields__
    defaults: dict[str, Any] = {"epoch": 0, "scope": ""}
    return Grant(**(defaults | {key: value for key, value in record.body.items() if key in known}))

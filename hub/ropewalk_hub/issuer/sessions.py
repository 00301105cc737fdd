"""Sign-ins: one record each, found by the cookie's random part, of which only the hash is stored.

A session is alive while its record exists and its epoch is the account's. Ending one leaves a short-lived "ended" mark
so that the gateway refuses the tokens it gave. Not here: passwords and accounts (``accounts.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from ropewalk_core.journal import Append, Journal, Operation, Put, Record, Remove
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings


def digest(secret: str) -> str:
    """Return what is stored of a random secret. Plain SHA-256: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Session:
    """One sign-in of one account in one browser."""

    id: str
    account: str
    epoch: int
    started: float
    address: str = ""
    browser: str = ""


class Sessions:
    """The sign-ins of a home."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self.life = settings.accounts.session
        self._mark = settings.accounts.token + 120.0

    def start(self, account: str, epoch: int, *, address: str = "", browser: str = "") -> tuple[Session, str, Put]:
        """Return a new session, its cookie's value, and the operation that makes it durable."""
        secret = secrets.token_urlsafe(32)
        now = self._clock.wall()
        session = Session(f"ses-{secrets.token_hex(8)}", account, epoch, now, address[:64], browser[:200])
        body = {
            "secret": digest(secret),
            "epoch": epoch,
            "started": now,
            "address": session.address,
            "browser": session.browser,
        }
        return session, f"{session.id}.{secret}", Put("session", account, session.id, body, 0, now + self.life)

    def by_cookie(self, value: str) -> Session | None:
        """Return the live session of a cookie."""
        identifier, _, secret = value.partition(".")
        record = self._record(identifier)
        if record is None or not secret or not hmac.compare_digest(str(record.body["secret"]), digest(secret)):
            return None
        return _session(record)

    def by_id(self, identifier: str) -> Session | None:
        """Return a live session."""
        record = self._record(identifier)
        return _session(record) if record else None

    def of(self, account: str) -> list[Session]:
        """Return the account's live sessions."""
        return [_session(record) for record in self._journal.page("session", account, limit=100_000)]

    def renew(self, session: Session) -> list[Operation]:
        """Return what moves the end of a session that is in use; nothing when it moved within the last hour."""
        record = self._record(session.id)
        if record is None or record.expires is None:
            return []
        wanted = self._clock.wall() + self.life
        if wanted - record.expires < min(3600.0, self.life / 20):
            return []
        return [Put("session", record.owner, record.name, record.body, record.version, wanted)]

    def end(self, session: Session) -> list[Operation]:
        """Return what ends a session and every token it gave."""
        return [
            Remove("session", session.account, session.id),
            Put("ended", "", session.id, {}, expires=self._clock.wall() + self._mark),
            Append("session", session.account, session.id, "ended"),
        ]

    def ended(self) -> tuple[str, ...]:
        """Return the sessions that ended while tokens of theirs may still be about."""
        return tuple(record.name for record in self._journal.page("ended", "", limit=100_000))

    def _record(self, identifier: str) -> Record | None:
        if not identifier.startswith("ses-"):
            return None
        found = self._journal.find("session", identifier[:40])
        return found[0] if found else None


def _session(record: Record) -> Session:
    body = record.body
    return Session(record.name, record.owner, body["epoch"], body["started"], body["address"], body["browser"])

"""The issuer as the rest of the platform sees it: signing in and out, and the parts behind it.

Methods that hash or write block; callers with an event loop run them in a thread. Not here: HTTP (``endpoints.py``,
``pages.py``) and the Identity port (``identity.py``).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable

from ropewalk_core.errors import BadInput, Conflict, Denied, NotFound, Unauthenticated
from ropewalk_core.journal import Append, Journal, Operation, Put, Remove
from ropewalk_core.model import Account, Actor
from ropewalk_core.names import is_name
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_hub.first import link_command
from ropewalk_hub.issuer.accounts import Accounts
from ropewalk_hub.issuer.grants import Client, IssuerServer
from ropewalk_hub.issuer.kept import Kept
from ropewalk_hub.issuer.keys import SigningKeys
from ropewalk_hub.issuer.limits import Guesses
from ropewalk_hub.issuer.passwords import Passwords
from ropewalk_hub.issuer.sessions import Session, Sessions, digest
from ropewalk_hub.issuer.tokens import Tokens
from ropewalk_hub.issuer.vault import Vault

WRONG = "The account or the password is wrong."
_LOOK_AGAIN = "Look whether Caps Lock is on, and type the short name of your account, not your full name."
_FIRST = ("first", "", "link")


class Issuer:
    """The issuer of one home."""

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        clock: Clock,
        keys: SigningKeys,
        *,
        page_key: str,
        clients: Iterable[Client] = (),
        passwords: Passwords | None = None,
        on_first: Callable[[str], None] = lambda account: None,
    ) -> None:
        self.journal = journal
        self.settings = settings
        self.clock = clock
        self.keys = keys
        self._on_first = on_first
        self.passwords = passwords or Passwords()
        self.guesses = Guesses(clock)
        self.kept = Kept(page_key, clock)
        self.accounts = Accounts(journal, self.passwords, clock)
        self.sessions = Sessions(journal, settings, clock)
        self.tokens = Tokens(keys, self.accounts, self.sessions, settings, clock)
        self.vault = Vault(journal, self.accounts, self.sessions, settings, clock)
        self.clients = {client.id: client for client in clients}
        self.server = IssuerServer(self.vault, self.accounts, keys, self.clients, settings, clock)

    # Who is asking

    def actor_of_cookie(self, value: str) -> Actor | None:
        """Return whom a session cookie stands for."""
        session = self.sessions.by_cookie(value) if value else None
        return self.actor_of(session) if session else None

    def actor_of(self, session: Session) -> Actor | None:
        """Return whom a session stands for, if the account may still sign in."""
        account = self._account_of(session)
        return _actor(account, session) if account else None

    def lasting(self, actor: Actor) -> Callable[[], bool]:
        """Return what says, later on, whether the sign-in of an act still holds; a token's own end does not count."""
        credential = self.accounts.credential(actor.account)

        def holds() -> bool:
            account, now = self.accounts.get(actor.account), self.accounts.credential(actor.account)
            if account is None or account.state != "active" or not now or not credential:
                return False
            return now.epoch == credential.epoch and (":" in actor.session or bool(self.sessions.by_id(actor.session)))

        return holds

    def renewal(self, actor: Actor) -> list[Operation]:
        """Return what keeps a sign-in that is in use from ending."""
        session = self.sessions.by_id(actor.session)
        return self.sessions.renew(session) if session else []

    def _account_of(self, session: Session) -> Account | None:
        account = self.accounts.get(session.account)
        credential = self.accounts.credential(session.account)
        if account is None or credential is None or credential.epoch != session.epoch:
            return None
        return account if account.state == "active" else None

    # Signing in and out

    def sign_in(self, name: str, password: str, *, address: str = "", browser: str = "") -> tuple[Session, str]:
        """Return a new session and its cookie's value.

        Raises
        ------
        Unauthenticated
            With the same words for an unknown account and for a wrong password.
        NotApproved
            If the password is right and the account may not sign in.
        Limited
            After too many tries.
        """
        name = name.strip().lower()[:64]
        self.guesses.begin(name, address)
        proven = self.accounts.verify(name if is_name(name) else "", password)
        if proven is None:
            raise Unauthenticated(WRONG, hint=_LOOK_AGAIN, field="password")
        account, credential = proven
        self.guesses.forgive(name, address)
        self.accounts.check_active(account)
        return self._start(account, credential.epoch, address, browser)

    def sign_out(self, session_id: str, *, hub_away: bool = False) -> None:
        """End a session and every token it gave; ending one that has ended is done already.

        The hub ends the notebook cookies of this browser itself; if it is away, all of the account's are ended later.
        """
        if session := self.sessions.by_id(session_id):
            later = self._closing(session.account) if hub_away else []
            self.journal.write_now(*self.sessions.end(session), *later)

    def sign_out_everywhere(self, account: str) -> None:
        """End every session of the account."""
        self.journal.write_now(*self.ends_of(account))

    def ends_of(self, account: str) -> list[Operation]:
        """Return what ends every session of an account, here and (carried out by ``closing.py``) at the hub."""
        ends = [operation for one in self.sessions.of(account) for operation in self.sessions.end(one)]
        return [*ends, *self._closing(account)]

    def _closing(self, account: str) -> list[Operation]:
        return [Put("closing", "", account, {}), Append("closing", account, account, "asked")]

    def sign_up(self, name: str, password: str, *, full_name: str = "", address: str = "") -> Account:
        """Ask for an account; an administrator approves it."""
        if not self.settings.accounts.sign_up:
            raise Denied("New accounts cannot be asked for here.", hint="Ask your administrator for one.")
        self.guesses.begin("", address)
        return self.accounts.create(name.strip().lower(), password, full_name=full_name, also=[])

    def change_password(
        self, actor: Actor, old: str, new: str, *, address: str = "", browser: str = ""
    ) -> tuple[Session, str]:
        """Replace the password, end every sign-in and token, and return a new sign-in for this browser."""
        self.guesses.begin(actor.account, address)
        proven = self.accounts.verify(actor.account, old)
        if proven is None:
            hint = "Type the password that you signed in with; Caps Lock may be on."
            raise BadInput("The present password is wrong.", field="old", hint=hint)
        account, credential = proven
        self.guesses.forgive(actor.account, address)
        ends = self.ends_of(actor.account)
        epoch = self.accounts.set_password(actor.account, new, instead_of=credential, also=ends)
        return self._start(account, epoch, address, browser)

    def _start(self, account: Account, epoch: int, address: str, browser: str) -> tuple[Session, str]:
        session, cookie, put = self.sessions.start(account.name, epoch, address=address, browser=browser)
        self.journal.write_now(put)
        return session, cookie

    # The first administrator

    def first_link(self) -> str | None:
        """Return a fresh one-time address that makes the first administrator; None when there is one already."""
        if self.accounts.first_administrator():
            return None
        code = secrets.token_urlsafe(24)
        self.journal.write_now(Put(*_FIRST, {"code": digest(code)}))
        return f"{self.settings.door.origin}/first/{code}"

    def check_first(self, code: str) -> int:
        """Return the version of the link's record if this is its code, or raise `NotFound`."""
        record = self.journal.get(*_FIRST)
        if record is None or not hmac.compare_digest(str(record.body["code"]), digest(code)):
            raise NotFound(
                "This link was used already, or a newer one was printed.",
                hint=f"`{link_command(self.settings)}` prints a fresh link as long as there is no administrator.",
            )
        return record.version

    def use_first(
        self, code: str, name: str, password: str, *, full_name: str = "", address: str = "", browser: str = ""
    ) -> tuple[Session, str]:
        """Make the first administrator and sign them in."""
        version = self.check_first(code)
        try:
            account = self.accounts.create(
                name.strip().lower(),
                password,
                full_name=full_name,
                administrator=True,
                also=[Remove(*_FIRST, expect=version)],
            )
        except Conflict as error:
            if self.journal.get(*_FIRST) is None:
                raise NotFound("This link was used a moment ago.", hint="Sign in with that account.") from error
            raise
        self._on_first(account.name)
        return self._start(account, 0, address, browser)


def _actor(account: Account, session: Session) -> Actor:
    return Actor(account=account.name, subject=account.subject, administrator=account.administrator, session=session.id)

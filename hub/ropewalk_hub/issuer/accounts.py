"""Accounts: who they are, their password, and the epoch that outdates every older token.

The account's record is the public noun; its password and epoch are a second record, so that nobody who lists accounts
reads a hash. Names and subjects are never given twice: records of accounts are never removed. Methods block (they
hash, and wait for the disk); callers with an event loop run them in a thread. Not here: sign-ins (``sessions.py``).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from ropewalk_core.errors import BadInput, Conflict, NameTaken, NotApproved, NotFound
from ropewalk_core.journal import Append, Journal, Operation, Put
from ropewalk_core.model import Account, AccountRule
from ropewalk_core.names import check_name
from ropewalk_core.ports import Clock
from ropewalk_hub.issuer.passwords import Passwords

_LONGEST = 100
"""Characters of a full name."""


@dataclass(frozen=True)
class Credential:
    """What proves an account, and which of its tokens are still good."""

    password: str
    epoch: int
    version: int


class Accounts:
    """The accounts of a home."""

    def __init__(self, journal: Journal, passwords: Passwords, clock: Clock) -> None:
        self._journal = journal
        self._passwords = passwords
        self._clock = clock

    def get(self, name: str) -> Account | None:
        """Return an account by name."""
        record = self._journal.get("account", "", name)
        return Account(**record.body) if record else None

    def by_subject(self, subject: str) -> Account | None:
        """Return an account by its opaque identifier."""
        record = self._journal.get("subject", "", subject)
        return self.get(record.body["account"]) if record else None

    def credential(self, name: str) -> Credential | None:
        """Return an account's credential."""
        record = self._journal.get("credential", "", name)
        return Credential(record.body["password"], record.body["epoch"], record.version) if record else None

    def page(self, *, after: str = "", limit: int = 50) -> list[Account]:
        """Return accounts by name."""
        return [Account(**record.body) for record in self._journal.page("account", "", after=after, limit=limit)]

    def first_administrator(self) -> Account | None:
        """Return the administrator who was there first."""
        found = [one for one in self.page(limit=100_000) if one.administrator and one.state == "active"]
        return min(found, key=lambda one: one.created, default=None)

    def rules(self) -> dict[str, AccountRule]:
        """Return what the gateway must know of every account."""
        epochs = {one.name: int(one.body["epoch"]) for one in self._journal.page("credential", "", limit=100_000)}
        return {
            one.name: AccountRule(subject=one.subject, active=one.state == "active", epoch=epochs.get(one.name, 0))
            for one in self.page(limit=100_000)
        }

    def create(
        self, name: str, password: str, *, full_name: str = "", administrator: bool = False, also: list[Operation]
    ) -> Account:
        """Write a new account: active at once for an administrator, else waiting to be approved.

        Parameters
        ----------
        also
            Operations of the same batch, such as using up the first administrator's link.

        Raises
        ------
        BadName, NameTaken, BadInput
            If the name, or the password, cannot be used.
        """
        check_name(name, what="account")
        self._passwords.check_new(password, account=name)
        if len(full_name) > _LONGEST or any(not one.isprintable() for one in full_name):
            raise BadInput(
                f"The full name has {len(full_name)} characters, or unprintable ones; at most {_LONGEST} fit.",
                field="full_name",
                hint="Shorten it; an administrator reads it to know who you are.",
            )
        if self.get(name):
            raise _taken(name)
        account = Account(
            name=name,
            subject=secrets.token_hex(16),
            full_name=full_name.strip(),
            state="active" if administrator else "waiting",
            administrator=administrator,
            created=self._clock.wall(),
        )
        body = account.model_dump(mode="json")
        stored = {"password": self._passwords.hash(password), "epoch": 0}
        batch: list[Operation] = [
            Put("account", "", name, body, 0),
            Put("credential", "", name, stored, 0),
            Put("subject", "", account.subject, {"account": name}, 0),
            Append("account", name, name, "asked" if account.state == "waiting" else "approved", body),
        ]
        try:
            self._journal.write_now(*batch, *also)
        except Conflict as error:
            if self.get(name):
                raise _taken(name) from error
            raise
        return account

    def set_state(self, name: str, state: str, *, also: list[Operation] | None = None) -> Account:
        """Approve (``active``) or deactivate (``deactivated``) an account; deactivation outdates its tokens."""
        record = self._journal.get("account", "", name)
        if record is None:
            raise NotFound(f"There is no account '{name[:60]}'.", field="account")
        if record.body["state"] == state:
            return Account(**record.body)
        changed = Account(**(record.body | {"state": state}))
        body = changed.model_dump(mode="json")
        batch: list[Operation] = [Put("account", "", name, body, record.version), *(also or [])]
        batch.append(Append("account", name, name, "approved" if state == "active" else state, body))
        if state == "deactivated":
            batch.append(self._next_epoch(name))
        self._journal.write_now(*batch)
        return changed

    def set_password(
        self, name: str, password: str, *, instead_of: Credential | None = None, also: list[Operation] | None = None
    ) -> int:
        """Replace the password and return the new epoch; every older token of the account is dead.

        Raises
        ------
        Conflict
            If ``instead_of``, the credential that was proven, is not the account's any more.
        """
        self._passwords.check_new(password, account=name)
        change = self._next_epoch(name, password=self._passwords.hash(password))
        if instead_of is not None and change.expect != instead_of.version:
            raise Conflict("The password was changed meanwhile.", field="old")
        self._journal.write_now(change, Append("account", name, name, "password"), *(also or []))
        return int(change.body["epoch"])

    def verify(self, name: str, password: str) -> tuple[Account, Credential] | None:
        """Return the account whose password this is, and the very credential that was proven.

        As slow, and as silent, for a name that does not exist. What is given for the proof must carry that
        credential's epoch: hashing takes a while, in which the password may have been changed.
        """
        credential = self.credential(name)
        right = self._passwords.verify(credential.password if credential else None, password)
        account = self.get(name) if right else None
        return (account, credential) if account and credential else None

    def check_active(self, account: Account) -> Account:
        """Return the account if it may sign in; say why not otherwise. Only ever after the password was right."""
        if account.state == "waiting":
            raise NotApproved("Your account waits for an administrator to approve it.")
        if account.state != "active":
            raise NotApproved("Your account was deactivated.", hint="Ask your administrator.")
        return account

    def _next_epoch(self, name: str, *, password: str = "") -> Put:
        credential = self.credential(name)
        if credential is None:
            raise NotFound(f"There is no account '{name[:60]}'.", field="account")
        body = {"password": password or credential.password, "epoch": credential.epoch + 1}
        return Put("credential", "", name, body, credential.version)


def _taken(name: str) -> NameTaken:
    return NameTaken(f"The name '{name}' is taken.", field="account")

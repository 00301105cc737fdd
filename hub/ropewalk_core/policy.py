"""Policy: may this person do this to that? Pure, and the only place that knows.

``guard.py`` asks it once around each port. Not here: who somebody is (``ropewalk_hub.security``) and whether a thing
exists. The rules of this version: a person may do everything with their own things; an administrator manages accounts
and notebooks, and sees that other people's things exist, but not what is in them; nobody else learns even that, so a
refusal there is "not found". The owner of a function may let others call it, which lets them do nothing else with it.
Rejected: roles as data; two kinds of people need no rule language yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ropewalk_core.errors import Denied, NotFound, RopewalkError
from ropewalk_core.model import Access, Actor

Kind: TypeAlias = Literal["account", "notebook", "service", "function", "run", "file"]
Verb: TypeAlias = Literal["list", "get", "watch", "logs", "write", "remove", "call", "stop", "approve", "deactivate"]

_SEE: frozenset[str] = frozenset({"list", "get", "watch"})
_MANAGE_ACCOUNTS: frozenset[str] = frozenset({"list", "approve", "deactivate"})


@dataclass(frozen=True)
class Allow:
    """Yes. With ``outline`` the person sees the thing, but nothing that its owner put in."""

    outline: bool = False


@dataclass(frozen=True)
class Deny:
    """No. With ``hidden`` the answer must be the one for a thing that does not exist."""

    reason: str
    hidden: bool = True

    def error(self) -> RopewalkError:
        """Return the refusal as an error to raise."""
        return NotFound(self.reason) if self.hidden else Denied(self.reason)


def decide(actor: Actor, verb: Verb, kind: Kind, owner: str = "") -> Allow | Deny:
    """Return whether the actor may do this.

    Parameters
    ----------
    actor
        The acting person.
    verb
        What they want to do.
    kind
        The kind of thing.
    owner
        The account that owns it; for accounts, the account itself, and empty for all of them.
    """
    if kind == "account":
        return _decide_account(actor, verb, owner)
    if not actor.account:
        return Deny("Nobody is signed in.")
    if owner == actor.account:
        return Allow()
    if actor.administrator and kind == "notebook" and (verb in _SEE or verb == "stop"):
        return Allow()
    if actor.administrator and kind != "file" and verb in _SEE:
        return Allow(outline=True)
    if actor.administrator:
        return Deny("This belongs to somebody else; only its owner can open or change it.", hidden=False)
    return Deny(f"There is no such {kind}.")


def decide_call(access: Access, owner: str, caller: str, *, key: bool = False) -> Allow | Deny:
    """Return whether this caller may call a function: the same rule at the gateway and at the platform.

    Parameters
    ----------
    access
        What its owner chose.
    owner
        The account that owns it.
    caller
        The account that asks; empty for somebody who did not say who they are.
    key
        Whether they hold a valid key of this very function.
    """
    if key or access.who == "public" or (caller and caller == owner):
        return Allow()
    if access.who == "shared" and caller and caller in access.accounts:
        return Allow()
    return Deny("There is no such function.")


def _decide_account(actor: Actor, verb: Verb, owner: str) -> Allow | Deny:
    if verb in _MANAGE_ACCOUNTS:
        if actor.administrator:
            return Allow()
        return Deny("Only an administrator can see and change accounts.", hidden=False)
    if verb == "get" and actor.account and (actor.administrator or owner == actor.account):
        return Allow()
    return Deny("There is no such account.")

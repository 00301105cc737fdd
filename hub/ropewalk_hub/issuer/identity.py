"""The Identity port over the issuer. One implementation on every backend.

Policy is asked by the guard around it; this does what was allowed. What deactivation must also stop (notebook servers)
is written into the journal as a wish and carried out by ``closing.py``, so that it survives a hub that is away.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from ropewalk_core.errors import Conflict, Denied, NotFound
from ropewalk_core.model import Account, Actor, Page
from ropewalk_hub.issuer.service import Issuer


class IssuerIdentity:
    """`ropewalk_core.ports.Identity`.

    Parameters
    ----------
    issuer
        The issuer.
    apart
        Says whether accounts are kept apart on this machine, or are meant to trust each other.
    """

    def __init__(self, issuer: Issuer, *, apart: Callable[[], bool] = lambda: True) -> None:
        self._issuer = issuer
        self._apart = apart

    async def accounts(self, actor: Actor, *, after: str = "", limit: int = 50) -> Page[Account]:
        """See `Identity.accounts`."""
        found = self._issuer.accounts.page(after=after, limit=limit + 1)
        return Page[Account](items=tuple(found[:limit]), next=found[limit - 1].name if len(found) > limit else "")

    async def account(self, actor: Actor, name: str) -> Account:
        """See `Identity.account`."""
        account = self._issuer.accounts.get(name)
        if account is None:
            raise NotFound(f"There is no account '{name[:60]}'.", field="account")
        return account

    async def approve(self, actor: Actor, name: str) -> Account:
        """See `Identity.approve`."""
        if not await run_in_threadpool(self._apart):
            raise Conflict(
                "This machine has no working sandbox, so a second account could read the first one's files.",
                field="account",
                hint="Run `ropewalk doctor`; or start with ROPEWALK_ACCOUNTS_SHARED_TRUST=true if these people trust"
                " each other.",
            )
        return await run_in_threadpool(self._issuer.accounts.set_state, name, "active")

    async def deactivate(self, actor: Actor, name: str) -> Account:
        """See `Identity.deactivate`."""
        if name == actor.account:
            raise Conflict(
                "You cannot deactivate your own account.", field="account", hint="Ask another administrator to do it."
            )
        return await run_in_threadpool(
            self._issuer.accounts.set_state, name, "deactivated", also=self._issuer.ends_of(name)
        )

    async def token(self, actor: Actor, *, audience: str) -> tuple[str, float]:
        """See `Identity.token`."""
        if actor.audience == audience == "api":
            raise Denied(
                "A token cannot make another of its kind.", hint="Take a fresh one with `ropewalk token`, or sign in."
            )
        account = await self.account(actor, actor.account)
        return await run_in_threadpool(self._issuer.tokens.make, account, actor.session, audience)

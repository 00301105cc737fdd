"""What the issuer must do as a port. Not here: OpenID Connect and passwords (the issuer's own tests)."""

from __future__ import annotations

import pytest

from ropewalk_core.errors import BadInput, Denied, NotFound, RopewalkError
from ropewalk_core.guard import GuardedIdentity
from ropewalk_core.model import Actor
from ropewalk_core.ports import Identity
from ropewalk_core.testing.people import ADA, BOB, EVE


class IdentityContract:
    """Subclass it and override the fixture ``port``.

    It knows three accounts: ``ada``, active; ``bob``, waiting; ``eve``, an active administrator.
    """

    @pytest.fixture
    def port(self) -> Identity:
        """Return the implementation, without its guard."""
        raise NotImplementedError

    @pytest.fixture
    def identity(self, port: Identity) -> GuardedIdentity:
        """Return it behind policy."""
        return GuardedIdentity(port)

    async def known(self, port: Identity, actor: Actor) -> Actor:
        """Return the actor with the subject that the issuer gave."""
        account = await port.account(actor, actor.account)
        return actor.model_copy(update={"subject": account.subject, "session": f"server:{account.name}"})

    async def test_administrators_alone_see_all(self, identity: GuardedIdentity) -> None:
        """The list is for administrators, in pages by name."""
        first = await identity.accounts(EVE, limit=2)
        rest = await identity.accounts(EVE, after=first.next, limit=2)
        assert [one.name for one in (*first.items, *rest.items)] == ["ada", "bob", "eve"]
        with pytest.raises(Denied):
            await identity.accounts(ADA)

    async def test_everybody_sees_themselves(self, identity: GuardedIdentity) -> None:
        """One's own account is open to oneself and to administrators."""
        assert (await identity.account(ADA, "ada")).name == "ada"
        assert (await identity.account(EVE, "ada")).name == "ada"
        with pytest.raises(NotFound):
            await identity.account(ADA, "eve")

    async def test_subjects_are_opaque_and_stay(self, identity: GuardedIdentity) -> None:
        """A subject says nothing of the name and does not change."""
        subject = (await identity.account(ADA, "ada")).subject
        assert subject and "ada" not in subject
        assert (await identity.account(EVE, "ada")).subject == subject

    async def test_approving_lets_in_and_deactivating_ends(self, identity: GuardedIdentity) -> None:
        """Both are for administrators, and both may be repeated."""
        for act in (identity.approve, identity.deactivate):
            with pytest.raises(Denied):
                await act(ADA, "bob")
        for _ in range(2):
            assert (await identity.approve(EVE, "bob")).state == "active"
        for _ in range(2):
            assert (await identity.deactivate(EVE, "bob")).state == "deactivated"
        assert (await identity.approve(EVE, "bob")).state == "active"

    async def test_the_unknown_is_not_found(self, identity: GuardedIdentity) -> None:
        """Nothing is made up."""
        for act in (identity.account, identity.approve, identity.deactivate):
            with pytest.raises(NotFound):
                await act(EVE, "nobody")

    async def test_a_token_is_for_an_audience_and_a_while(self, port: Identity, identity: GuardedIdentity) -> None:
        """Tokens are signed, differ by audience, and end; an unknown audience is refused."""
        ada = await self.known(port, ADA)
        api, ends = await identity.token(ada, audience="api")
        functions, _ = await identity.token(ada, audience="functions")
        assert api != functions and api.count(".") == 2 and ends > 0
        with pytest.raises(BadInput):
            await identity.token(ada, audience="everything")

    async def test_who_may_not_sign_in_gets_no_token(self, port: Identity, identity: GuardedIdentity) -> None:
        """A waiting and a deactivated account get none."""
        bob = await self.known(port, BOB)
        with pytest.raises(RopewalkError):
            await identity.token(bob, audience="api")
        ada = await self.known(port, ADA)
        await identity.deactivate(EVE, "ada")
        with pytest.raises(RopewalkError):
            await identity.token(ada, audience="api")

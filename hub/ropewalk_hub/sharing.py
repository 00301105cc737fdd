"""Who may call a function, as REST and pages ask for it: the port's act, once the accounts that are named are known.

An account that does not exist yet is refused, so that nobody can take a name that was misspelled here. Not here: what
may be chosen (``ropewalk_core.access``) and who may choose (the guard). Rejected: asking in the port; functions know no
accounts.
"""

from __future__ import annotations

from ropewalk_core.access import checked
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Access, Actor, Function
from ropewalk_hub.platform import Platform


async def share(its: Platform, actor: Actor, owner: str, name: str, access: Access) -> Function:
    """Say who may call a function.

    Raises
    ------
    BadInput
        If an account that is named does not exist, or the choice says something that cannot be meant.
    """
    access = checked(access, owner)  # first, so that as many names are looked for as there can be
    missing = sorted(one for one in access.accounts if its.issuer.accounts.get(one) is None)
    if missing and owner == actor.account:
        raise BadInput(f"There is no account {missing[0][:60]!r}.", field="accounts", hint="Look at the name again.")
    return await its.functions.access(actor, owner, name, access)

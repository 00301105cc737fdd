"""Access: what an owner can choose about who calls a function, in words and as the headers of CORS. Pure.

Web pages of other origins are a list of their own, because they say where a call comes from, not who calls: a page on
the list still needs a token, a key or a public function. Credentials (cookies) are never allowed to such a page. Not
here: whether a caller may call (``policy.decide_call``), keys (``callkeys.py``), and keeping the choice
(``sharing.py``). Rejected: patterns of origins, which are where such lists go wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from ropewalk_core import names
from ropewalk_core.errors import BadInput
from ropewalk_core.model import Access
from ropewalk_core.wrong import wrong

EVERY = "*"
MOST_ACCOUNTS, MOST_ORIGINS = 100, 20
_HOST = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]"
_ORIGIN = re.compile(rf"(https?)://({_HOST})(?::([1-9][0-9]{{0,4}}))?")
_USUAL = {"http": "80", "https": "443"}
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, Idempotency-Key, Prefer, X-Ropewalk-Key"
_SHOWN = "Location, Retry-After, X-Ropewalk-Call, X-Ropewalk-Revision, X-Ropewalk-Start"
_MAX_AGE = "600"


def chosen(
    who: str | Iterable[str] = "private", origins: Iterable[str] | None = None, *, before: Access | None = None
) -> Access:
    """Return what a person wrote as an access: ``private``, ``public``, or the names of accounts.

    Without ``origins`` those of ``before`` stay.
    """
    kept = (before or Access()).origins if origins is None else _listed(origins)
    words = _listed(who)
    try:
        if words in (("private",), ("public",)):
            return Access.model_validate({"who": words[0], "origins": kept})
        return Access(who="shared", accounts=words, origins=kept)
    except ValidationError as error:
        raise wrong(error.errors()) from error


def _listed(words: Any) -> tuple[str, ...]:
    found = re.split(r"[,\s]+", words.strip()) if isinstance(words, str) else tuple(words)
    return tuple(one for one in found if one != "")


def checked(access: Access, owner: str) -> Access:
    """Return an access as it is kept: names and origins in order, each once.

    Raises
    ------
    BadInput
        If it says something that cannot be meant: shared with nobody, or accounts where it is not shared.
    """
    if len(set(access.accounts)) > MOST_ACCOUNTS or len(set(access.origins)) > MOST_ORIGINS:
        raise BadInput(f"At most {MOST_ACCOUNTS} accounts and {MOST_ORIGINS} origins can be named.", field="access")
    accounts = tuple(sorted(set(access.accounts) - {owner}))
    if access.who == "shared" and not accounts:
        raise BadInput("It is shared with nobody.", field="accounts", hint="Name accounts, or choose private.")
    if access.who != "shared" and access.accounts:
        hint = "Choose shared, or leave the accounts out."
        raise BadInput(f"A function that is {access.who} is not shared with accounts.", field="accounts", hint=hint)
    for name in accounts:
        if not names.is_name(name):
            raise BadInput(f"{name[:60]!r} is no account's name.", field="accounts")
    origins = tuple(sorted({origin(one) for one in access.origins}))
    if EVERY in origins and len(origins) > 1:
        raise BadInput("'*' stands for every page, so other origins say nothing beside it.", field="origins")
    return Access(who=access.who, accounts=accounts, origins=origins)


def origin(text: str) -> str:
    """Return an origin as browsers write it, or `EVERY`; anything else is `BadInput`."""
    if text == EVERY:
        return EVERY
    found = _ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    if found is None or int(found[3] or 0) > 65535:
        raise BadInput(
            f"{text[:100]!r} is no origin of web pages.",
            field="origins",
            hint="Write scheme and host, as in https://example.org or http://localhost:3000, and no path.",
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL[scheme] else "")


def said(access: Access) -> str:
    """Return in a sentence who may call."""
    if access.who == "public":
        return "Anybody can call it, without signing in."
    if access.who == "shared":
        quoted = [f"'{one}'" for one in access.accounts]
        several = ", ".join(quoted[:-1]) + (" and " if len(quoted) > 1 else "") + quoted[-1] if quoted else "others"
        return f"You can call it, and so can {several}, each with a token of their own."
    return "Only you can call it, with a token."


# What goes to browsers


def allows(access: Access, origin: str | None) -> bool:
    """Say whether pages of an origin may call; without one the call comes from no other page."""
    return origin is not None and (EVERY in access.origins or origin in access.origins)


def refuses(access: Access, origin: str | None) -> bool:
    """Say whether a call of a page of another origin is to be refused: there is a list, and it is not on it."""
    return bool(access.origins) and not allows(access, origin)


def headers(access: Access, origin: str | None) -> dict[str, str]:
    """Return what every answer of a function carries; nothing at all where no origin was named."""
    if not access.origins:
        return {}
    if not allows(access, origin):
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": _told(access, origin),
        "Access-Control-Expose-Headers": _SHOWN,
    }


def preflight(access: Access, origin: str | None) -> dict[str, str] | None:
    """Return the answer to a browser that asks before it calls; None if the origin is not on the list."""
    if not allows(access, origin):
        return None
    return {
        "Access-Control-Allow-Origin": _told(access, origin),
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _HEADERS,
        "Access-Control-Max-Age": _MAX_AGE,
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def _told(access: Access, origin: str | None) -> str:
    return EVERY if EVERY in access.origins else origin or ""

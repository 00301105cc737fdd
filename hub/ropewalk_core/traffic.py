"""Traffic: how a function's calls are split between its revisions, and which of them a call goes to. Pure.

A split says of 100 calls how many the latest revision takes, whichever that is, and how many chosen ones take by their
number. Only this changes a split: a deploy leaves it, so that a revision chosen by number goes on as it was; a rollback
ends it, because who goes back wants calls to go there. Not here: keeping it (the backends), carrying calls (the
gateway). Rejected: shares that need not add up to 100, which hide what somebody forgot; moving a deploy's share up over
time by itself, which is a decision about somebody's errors that nobody here knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk_core.errors import BadInput
from ropewalk_core.model import Function, FunctionRoute, Traffic

LATEST = "latest"
WHOLE = 100
MOST = 8
"""Revisions beside the latest that may be chosen at the same time: each may have workers or a pod of its own."""
_HINT = 'Write the shares so that they add up to 100: {3: 90, 4: 10}, or {"latest": 100, 3: 0}.'


def weights(wish: Mapping[Any, Any]) -> dict[int, int]:
    """Return a wish as shares by number, with 0 for the latest.

    Parameters
    ----------
    wish
        By the number of a revision, or ``"latest"``: how many of 100 calls it takes. A revision with 0 is pinned: it
        answers at its own address alone.

    Raises
    ------
    BadInput
        If a key is no number, a share is no whole number from 0 to 100, or they do not add up to 100.
    """
    found: dict[int, int] = {0: 0}
    for key, share in wish.items():
        if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= WHOLE:
            raise BadInput(f"The share of {str(key)[:20]} is no whole number from 0 to 100.", field="traffic")
        number = _number(key)
        if number and number in found:
            raise BadInput(f"Revision {number} is there twice.", field="traffic", hint=_HINT)
        found[number] = share
    if sum(found.values()) != WHOLE:
        raise BadInput(f"The shares add up to {sum(found.values())}, not to 100.", field="traffic", hint=_HINT)
    if len(found) - 1 > MOST:
        raise BadInput(f"At most {MOST} revisions can be chosen at the same time.", field="traffic")
    return found


def _number(key: Any) -> int:
    text = str(key)
    if text == LATEST:
        return 0
    if isinstance(key, bool) or not (text.isascii() and text.isdigit()) or not 1 <= len(text) <= 8 or int(text) < 1:
        raise BadInput(f"{text[:20]!r} is no number of a revision.", field="traffic", hint=_HINT)
    return int(text)


def written(traffic: Traffic) -> dict[str, int]:
    """Return a split as it can be wished."""
    return {LATEST: traffic.latest} | {str(one.number): one.weight for one in traffic.shares}


def pinning(traffic: Traffic, number: int) -> dict[str, int] | None:
    """Return the wish that gives a revision its own address and changes nothing else; None if it has one already."""
    if any(one.number == number for one in traffic.shares):
        return None
    return written(traffic) | {str(number): 0}


def ended(traffic: Traffic) -> dict[str, int]:
    """Return the wish by which all calls go to the latest; what is pinned stays so."""
    return {LATEST: WHOLE} | {str(one.number): 0 for one in traffic.shares}


def split(traffic: Traffic) -> bool:
    """Say whether any calls go elsewhere than to the latest revision."""
    return traffic.latest < WHOLE


def said(function: Function) -> str:
    """Return in a sentence who takes the calls; empty while the latest takes all."""
    traffic, latest = function.traffic, function.revision.number
    if not split(traffic):
        return ""
    takes = [f"revision {one.number} takes {one.weight}" for one in traffic.shares if one.weight]
    own = any(one.number == latest and one.weight for one in traffic.shares)
    if traffic.latest or not own:
        takes.append(f"revision {latest}, the latest, takes {traffic.latest or 'none'}")
    return f"Of 100 calls {', '.join(takes)}."


def choose(route: FunctionRoute, point: float) -> FunctionRoute:
    """Return the revision that a call goes to; ``point``, from 0 up to but not 1, says which, so chance stays outside.

    Of points spread evenly each revision gets exactly its share.
    """
    if not route.others:
        return route
    left = point * WHOLE - route.weight
    if left < 0:
        return route
    for one in route.others:
        left -= one.weight
        if left < 0:
            return one
    return next((one for one in (route, *route.others) if one.weight), route)


def pinned(route: FunctionRoute, number: int) -> FunctionRoute | None:
    """Return the revision that answers at its own address, if this one does."""
    return next((one for one in route.others if one.number == number), None)


def everything(route: FunctionRoute) -> tuple[FunctionRoute, ...]:
    """Return all revisions of a function that calls can reach."""
    return (route, *route.others)


def reachable(route: FunctionRoute) -> bool:
    """Say whether any revision that takes calls answers."""
    return any(one.weight and not one.away for one in everything(route))

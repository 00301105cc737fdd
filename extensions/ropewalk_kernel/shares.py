"""Who takes a function's calls, in a notebook: the part of a handle that splits them and leads to one revision.

Not here: what a split may be, and the choice by weight (``traffic`` of the core).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from ropewalk_core import sync, traffic
from ropewalk_core.model import Function
from ropewalk_kernel import cards, live

_ALL_TO_LATEST = "the latest revision takes all calls"


class Split:
    """The part of a handle that is about revisions side by side."""

    name: str

    def __init__(self, name: str, function: Callable[..., Any] | None = None, number: int = 0) -> None:
        raise NotImplementedError

    def info(self) -> Function:
        """Return the function as it is now."""
        raise NotImplementedError

    def traffic(self, shares: Mapping[Any, int] | None = None) -> None:
        """Split calls between revisions, or show who takes them, as a card.

        A split stays as it is when a new revision is deployed: that takes ``"latest"``'s share. A rollback ends it.

        Parameters
        ----------
        shares
            By the number of a revision, or ``"latest"``: how many of 100 calls it takes. They add up to 100. With 0 a
            revision only keeps an address of its own, which every revision that is named here has.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.traffic({"latest": 100})
        """
        if shares is None:
            seen = self.info()
        else:
            traffic.weights(shares)  # refused here already, before anything is sent
            seen = sync.wait(sync.client().functions.traffic(self.name, shares))
        live.show(cards.function_card(seen, line=f"function {self.name}: {traffic.said(seen) or _ALL_TO_LATEST}"))

    def at(self, number: int) -> Self:
        """Return one revision, whose address its calls go to: ``f.at(3)(x)``. From then on it has that address.

        It stays reachable until `traffic` leaves it out.

        Examples
        --------
        >>> import ropewalk
        >>> double = ropewalk.functions.get("double")
        >>> double.at(1)(21)
        """
        wish = traffic.pinning(self.info().traffic, number)
        if wish is not None:
            traffic.weights(wish)
            sync.wait(sync.client().functions.traffic(self.name, wish))
        one = type(self)(self.name, number=number)
        one.info()
        return one

"""What a function of the language is: what it takes, and what it does with it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ropewalk_workflows.expr.errors import BadExpression
from ropewalk_workflows.expr.values import Value, is_number, kind
from ropewalk_workflows.expr.work import Work

_KINDS: dict[str, Callable[[Value], bool]] = {
    "any": lambda _value: True,
    "text": lambda value: isinstance(value, str),
    "whole": lambda value: type(value) is int,
    "number": is_number,
    "truth": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "map": lambda value: isinstance(value, Mapping),
}


@dataclass(frozen=True)
class Function:
    """One function.

    Parameters
    ----------
    run
        Called with the `Work` and the arguments.
    takes
        What each argument must be, by words: any, text, whole, number, truth, list, map; with ``?`` when it may be
        left out, with ``*`` when there may be any number of it.
    """

    run: Callable[..., Value]
    takes: str = ""
    kinds: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.takes.split()))

    @property
    def least(self) -> int:
        """How many arguments it needs."""
        return sum(not one.endswith(("?", "*")) for one in self.kinds)

    @property
    def most(self) -> float:
        """How many it takes."""
        return float("inf") if self.kinds and self.kinds[-1].endswith("*") else len(self.kinds)

    def takes_so_many(self, count: int) -> bool:
        """Say whether it can be called with so many arguments."""
        return self.least <= count <= self.most

    def __call__(self, work: Work, arguments: list[Value]) -> Value:
        """Return what it gives.

        Raises
        ------
        BadExpression
            If an argument is none that it takes, or it finds something wrong itself.
        """
        if not self.takes_so_many(len(arguments)):
            raise BadExpression(f"it cannot take {len(arguments)} arguments")
        for number, one in enumerate(arguments):
            wanted = self.kinds[min(number, len(self.kinds) - 1)].rstrip("?*")
            if not _KINDS[wanted](one):
                raise BadExpression(f"its argument {number + 1} must be {_WORDS[wanted]}, not {kind(one)}")
        work.read(*arguments)
        found = self.run(work, *arguments)
        if isinstance(found, (str, list, Mapping)):
            work.make(len(found), members=not isinstance(found, str))
        return found


_WORDS = {
    "text": "text",
    "whole": "a whole number",
    "number": "a number",
    "truth": "true or false",
    "list": "a list",
    "map": "a map",
}
Functions: TypeAlias = dict[str, Function]


def room(work: Work, length: int) -> None:
    """Refuse what would be too long, before it is made."""
    work.make(length)


def text_of(value: Any) -> str:
    """Return a value that is known to be text."""
    if not isinstance(value, str):
        raise BadExpression(f"{kind(value)} is no text")
    return value

"""How much one expression may do: steps, and what it makes. It runs in the platform's and the engine's own processes.

Pure. Rejected: a limit of time; the same expression would hold on one machine and fail on a busy one, and a run that
is grown again after a kill must come out the same.
"""

from __future__ import annotations

from collections.abc import Sized

from ropewalk_workflows.expr.errors import BadExpression

LONGEST = 4096
"""Characters of an expression's text."""
MOST_PARTS, DEEPEST = 2_000, 60
_STEPS, _MADE, _LARGEST = 100_000, 32 * 2**20, 4 * 2**20
_MEMBER = 16
"""What a member of a list weighs, in characters."""
_READ = 64
"""So many characters are read in one step."""


class Work:
    """What is left of what one expression may do."""

    def __init__(self) -> None:
        self._steps, self._made = _STEPS, _MADE

    def step(self, count: int = 1) -> None:
        """Take so many steps.

        Raises
        ------
        BadExpression
            If there were too many.
        """
        self._steps -= count
        if self._steps < 0:
            raise BadExpression(f"it takes more than {_STEPS:,} steps")

    def read(self, *values: object) -> None:
        """Take the steps for looking at values."""
        self.step(1 + sum(len(one) // _READ for one in values if isinstance(one, Sized)))

    def make(self, length: int, *, members: bool = False) -> None:
        """Allow for something of this length, before it is made.

        Raises
        ------
        BadExpression
            If it, or all together, is too large.
        """
        weight = length * (_MEMBER if members else 1)
        self._made -= weight
        if weight > _LARGEST or self._made < 0:
            raise BadExpression(f"its values are longer than {_LARGEST:,} characters")

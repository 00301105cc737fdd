"""Back-off for guesses: by account, by address and by both. In memory, bounded, forgotten at a restart.

A person who mistypes is not locked out: five wrong passwords for one account from one address are free, then each
doubles the wait up to a minute. Counting by account alone would let a stranger lock a person out; so its allowance is
larger and its wait shorter. Rejected: counters in the journal, since every guess would then be a write to disk.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from ropewalk_core.errors import Limited
from ropewalk_core.ports import Clock

_BOUND = 10_000
_FORGET = 900.0


@dataclass(frozen=True)
class Allowance:
    """How many failures are free, and how long the wait grows, in seconds."""

    free: int
    longest: float


@dataclass
class _Count:
    failures: int = 0
    last: float = 0.0


class Guesses:
    """Failures of sign-in, and the wait that they earned.

    A try counts as a failure when it begins, so that parallel guesses cannot slip through; `forgive` takes it back.
    """

    BOTH = Allowance(free=5, longest=60.0)
    ACCOUNT = Allowance(free=20, longest=15.0)
    ADDRESS = Allowance(free=50, longest=60.0)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()
        self._guard = threading.Lock()

    def begin(self, account: str, address: str) -> None:
        """Count a try, or raise `Limited` when the wait is not over."""
        now = self._clock.steady()
        keys = self._keys(account, address)
        with self._guard:
            waits = [self._wait(self._counts.get(key), allowance, now) for key, allowance in keys]
            if (wait := max(waits)) > 0:
                raise Limited(
                    f"Too many tries. Wait {math.ceil(wait)} seconds, then try again.",
                    retry_after=math.ceil(wait),
                    hint="Nothing is wrong with your account; a right password works after the wait.",
                )
            for key, _ in keys:
                count = self._counts.pop(key, None) or _Count()
                if now - count.last > _FORGET:
                    count.failures = 0
                count.failures, count.last = count.failures + 1, now
                self._counts[key] = count
            while len(self._counts) > _BOUND:
                self._counts.popitem(last=False)

    def forgive(self, account: str, address: str) -> None:
        """Take a try back: the password was right."""
        with self._guard:
            for key, allowance in self._keys(account, address):
                if allowance is self.BOTH:
                    self._counts.pop(key, None)
                elif count := self._counts.get(key):
                    count.failures = max(0, count.failures - 1)

    def _keys(self, account: str, address: str) -> list[tuple[tuple[str, str], Allowance]]:
        # Without an account (asking for a new one) only the address counts.
        name, where = account[:64], address[:64]
        of_account = [((name, where), self.BOTH), ((name, "*"), self.ACCOUNT)] if name else []
        return [*of_account, (("*", where), self.ADDRESS)]

    def _wait(self, count: _Count | None, allowance: Allowance, now: float) -> float:
        if count is None or count.failures < allowance.free or now - count.last > _FORGET:
            return 0.0
        earned = min(allowance.longest, 2.0 ** min(count.failures - allowance.free, 10))
        return max(0.0, count.last + earned - now)

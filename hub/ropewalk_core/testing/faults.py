"""Faults to inject: a port that fails at a chosen moment. Not here: killing real processes (``tests/faults``)."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

from ropewalk_core.errors import RopewalkError, Unavailable

P = TypeVar("P")


class Flaky(Generic[P]):
    """A port whose methods fail at chosen calls and are real otherwise.

    Parameters
    ----------
    inner
        The real port.
    fail_at
        ``"apply:2"`` fails the second call of ``apply``; ``"apply:2-"`` the second and all later ones; several are
        separated by commas. Streams fail when their first item is asked for.
    after
        Fail after the real call was made: its effect is there and its answer is lost, as at a kill -9 in between.
    error
        What is raised.
    """

    def __init__(self, inner: P, *, fail_at: str, after: bool = False, error: RopewalkError | None = None) -> None:
        self._inner, self._after = inner, after
        self._error = error or Unavailable("A part of the platform is away, for a test.")
        self._plan = [_parse(one.strip()) for one in fail_at.split(",")]
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        if not callable(real):
            return real
        stream = inspect.isasyncgenfunction(real)

        def act(*arguments: Any, **keywords: Any) -> Any:
            self.calls[name] += 1
            fails = any(_hits(one, name, self.calls[name]) for one in self._plan)
            if stream:
                return self._broken() if fails else real(*arguments, **keywords)
            return self._call(real, fails, arguments, keywords)

        return act

    async def _call(self, real: Any, fails: bool, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if fails and not self._after:
            raise self._error
        result = await real(*arguments, **keywords)
        if fails:
            raise self._error
        return result

    async def _broken(self) -> AsyncIterator[Any]:
        raise self._error
        yield


def _parse(text: str) -> tuple[str, int, bool]:
    name, _, number = text.partition(":")
    return name, int(number.rstrip("-") or 1), number.endswith("-")


def _hits(plan: tuple[str, int, bool], name: str, number: int) -> bool:
    return plan[0] == name and (number >= plan[1] if plan[2] else number == plan[1])

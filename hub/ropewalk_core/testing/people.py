"""The people and the small helpers that all contract suites use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from ropewalk_core.errors import NotFound
from ropewalk_core.model import Actor

T = TypeVar("T")

ADA = Actor(account="ada", subject="subject-ada")
"""Owns things."""
BOB = Actor(account="bob", subject="subject-bob")
"""Owns nothing, and must not learn of Ada's."""
EVE = Actor(account="eve", subject="subject-eve", administrator=True)
"""Administers."""


async def take(items: AsyncIterator[T], count: int, *, seconds: float = 10.0) -> list[T]:
    """Return the first items of a stream, or fewer if it ends; fail if they do not come in time."""
    found: list[T] = []
    async with asyncio.timeout(seconds):
        try:
            while len(found) < count:
                found.append(await anext(items))
        except StopAsyncIteration:
            pass
        finally:
            if close := getattr(items, "aclose", None):
                await close()
    return found


async def until(look: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
    """Return when ``look`` says yes; fail if it does not in time."""
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110  # what is looked at is behind a port and wakes nobody
            await asyncio.sleep(0.05)


async def gone(get: Callable[[], Awaitable[object]], *, seconds: float = 20.0) -> None:
    """Return when getting the thing raises `NotFound`; what is being stopped may take a moment."""

    async def missing() -> bool:
        try:
            await get()
        except NotFound:
            return True
        return False

    await until(missing, seconds=seconds)

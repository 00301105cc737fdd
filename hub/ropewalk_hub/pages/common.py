"""What the pages share: the platform, lists with search and filter whose state is in the address, answers to forms.

Pages show and change only the signed-in person's own things, always through the guarded ports. Rejected: searching in
the browser, which finds only what the first page of a list holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse

from ropewalk_core.errors import RopewalkError
from ropewalk_core.model import LogLine, Noun, Page, State
from ropewalk_hub.platform import Platform

N = TypeVar("N", bound=Noun)
T = TypeVar("T")
PAGE = 50
_MOST = 2000


def platform_of(request: Request) -> Platform:
    """Return the platform that answers; the page will follow what changes from here on."""
    platform: Platform = request.app.state.platform
    request.state.cursor = platform.journal.cursor
    return platform


Its = Annotated[Platform, Depends(platform_of)]


@dataclass(frozen=True)
class View:
    """What a list shows now, as its address says: a search, one state, and where the page starts."""

    path: str
    q: str = ""
    state: str = ""
    after: str = ""

    def link(self, **changes: str) -> str:
        """Return the address of this list with changes; another search or filter starts at the first page."""
        start = {} if "after" in changes else {"after": ""}
        chosen = {"q": self.q, "state": self.state, "after": self.after} | start | changes
        query = urlencode({name: value for name, value in chosen.items() if value})
        return f"{self.path}?{query}" if query else self.path


def view_of(request: Request) -> View:
    """Return the view that an address asks for; nonsense in it shows everything."""
    ask = request.query_params
    state = ask.get("state", "")
    return View(
        request.url.path,
        q=ask.get("q", "").strip()[:100],
        state=state if state in {one.value for one in State} else "",
        after=ask.get("after", "")[:200],
    )


Viewed = Annotated[View, Depends(view_of)]


@dataclass(frozen=True)
class Listing(Generic[T]):
    """One page of a list: what matches, the cursor of the next page, and whether there is anything at all."""

    items: tuple[T, ...]
    next: str
    total_empty: bool


async def search(
    fetch: Callable[[str, int], Awaitable[Page[N]]], matches: Callable[[N], bool], view: View
) -> Listing[N]:
    """Return a page of what matches; looks at up to 2000 entries, further ones are behind "More"."""
    found: list[N] = []
    after, empty = view.after, not view.after
    async for page in _pages(fetch, view.after):
        found += [one for one in page.items if matches(one)]
        after, empty = page.next, empty and not page.items
        if len(found) >= PAGE:
            break
    return Listing(tuple(found), after, empty)


async def every(fetch: Callable[[str, int], Awaitable[Page[N]]]) -> list[N]:
    """Return all that a list holds, up to 2000 entries."""
    return [one async for page in _pages(fetch, "") for one in page.items]


async def _pages(fetch: Callable[[str, int], Awaitable[Page[N]]], after: str) -> AsyncIterator[Page[N]]:
    """Yield the pages of a list, until 2000 entries were there."""
    seen = 0
    while True:
        page = await fetch(after, PAGE)
        yield page
        after, seen = page.next, seen + len(page.items)
        if not after or seen >= _MOST:
            return


def hit(view: View, state: State, *texts: str) -> bool:
    """Say whether a thing matches a view."""
    if view.state and state.value != view.state:
        return False
    return not view.q or any(view.q.lower() in text.lower() for text in texts)


async def some(lines: AsyncIterator[LogLine], most: int = 400) -> tuple[list[str], int]:
    """Return the last lines of a log and the offset to follow it from."""
    kept: list[str] = []
    offset = 0
    async for line in lines:
        kept.append(line.text)
        offset = line.offset
        if len(kept) > 2 * most:
            del kept[:-most]
    return kept[-most:], offset


async def or_none(wanted: Awaitable[T]) -> tuple[T | None, RopewalkError | None]:
    """Return a result, or the error in its place: one part that is away must not take the page with it."""
    try:
        async with asyncio.timeout(5.0):
            return await wanted, None
    except RopewalkError as error:
        return None, error
    except TimeoutError:
        return None, RopewalkError("This part did not answer in time.", hint="Load the page again in a few seconds.")


def see(address: str) -> RedirectResponse:
    """Return the answer to a form that was done: go and look there."""
    return RedirectResponse(address, status_code=303)

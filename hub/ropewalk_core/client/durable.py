"""Durable calls over REST: asked for by identifier from anywhere. A result is bytes, as a function's answer is."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any, Literal, TypeAlias

from ropewalk_core.client.nouns import Resource, read
from ropewalk_core.model import DurableCall, DurableResult, Page

Shelf: TypeAlias = Literal["", "open", "failed", "ended"]
WAIT = 15.0
"""Seconds that one question for a result waits for its end; it is asked again and again."""


class DurableClient(Resource):
    """The durable calls of the person's functions."""

    noun = "durable"

    async def list(
        self, function: str, *, shelf: Shelf = "", after: str = "", limit: int | None = None, owner: str = ""
    ) -> Page[DurableCall]:
        """Return one page of a function's calls, newest first."""
        params = {"function": function, "shelf": shelf, "after": after, "limit": limit}
        return read(
            Page[DurableCall], (await self._wire.request("GET", await self._path(owner), params=params)).content
        )

    async def all(self, function: str, *, shelf: Shelf = "", owner: str = "") -> AsyncIterator[DurableCall]:
        """Yield every call of a function, newest first."""
        after = ""
        while True:
            page = await self.list(function, shelf=shelf, after=after, limit=200, owner=owner)
            for one in page.items:
                yield one
            if not (after := page.next):
                return

    async def spawn(
        self, function: str, payload: bytes, *, content_type: str = "application/json", key: str = "", owner: str = ""
    ) -> DurableCall:
        """Accept a call; the same key again returns the call that it made."""
        answer = await self._wire.request(
            "POST",
            await self._path(owner),
            params={"function": function},
            content=payload,
            content_type=content_type,
            key=key or secrets.token_hex(16),
        )
        return read(DurableCall, answer.content)

    async def get(self, call: str, *, owner: str = "") -> DurableCall:
        """Return where a call stands."""
        return await self._get(DurableCall, await self._path(owner, call))

    async def result(self, call: str, *, wait: float = WAIT, owner: str = "") -> DurableResult:
        """Return what a call gave, or where it stands after a while; raise what it failed with."""
        path = await self._path(owner, call, "result")
        answer = await self._wire.request("GET", path, params={"wait": wait}, timeout=wait + 30.0)
        if answer.status_code == 202:
            return DurableResult(call=read(DurableCall, answer.content))
        kind = str(answer.headers.get("X-Ropewalk-Type", ""))
        return DurableResult(call=await self.get(call, owner=owner), content_type=kind, body=answer.content)

    async def cancel(self, call: str, *, owner: str = "") -> DurableCall:
        """Stop a call."""
        return await self._act("POST", call, "cancel", owner)

    async def replay(self, call: str, *, owner: str = "") -> DurableCall:
        """Try a failed call again."""
        return await self._act("POST", call, "replay", owner)

    async def forget(self, call: str, *, owner: str = "") -> DurableCall:
        """Remove a call that has ended, and its result."""
        return await self._act("DELETE", call, "", owner)

    async def _act(self, method: str, call: str, verb: str, owner: str) -> DurableCall:
        parts: Any = (call, verb) if verb else (call,)
        return await self._send(DurableCall, method, await self._path(owner, *parts))

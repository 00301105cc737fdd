"""Secrets over REST: stored and removed, listed by name, never read back."""

from __future__ import annotations

from ropewalk_core.client.nouns import Resource
from ropewalk_core.model import Page, StoredSecret


class SecretsClient(Resource):
    """The secrets of the person's account."""

    noun = "secrets"

    async def list(self, *, owner: str = "") -> Page[StoredSecret]:
        """Return the names of the secrets, and when each was stored."""
        return await self._page(StoredSecret, await self._path(owner))

    async def set(self, name: str, value: str, *, owner: str = "") -> StoredSecret:
        """Store a secret, or another value in its place."""
        return await self._send(StoredSecret, "PUT", await self._path(owner, name), {"value": value})

    async def remove(self, name: str, *, owner: str = "") -> StoredSecret:
        """Remove a secret."""
        return await self._send(StoredSecret, "DELETE", await self._path(owner, name))

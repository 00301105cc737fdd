"""Ends the open connections of a notebook server whose sign-in has ended: kernels, terminals, events.

JupyterHub's server asks who comes when a connection opens, and never again. Here the token that opened it is shown to
the hub now and then for as long as it is open. While the hub is away, or refuses everybody, nothing is closed: whoever
signed in has done nothing wrong. Not here: who may open one (the base class). Rejected: ending kernels; a sign-out
leaves work alone.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from jupyterhub.singleuser import extension
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler

EVERY = 20.0
"""Seconds between two looks; a sign-out reaches open connections by then."""
_POLICY = 1008


class LastingIdentity(extension.JupyterHubIdentityProvider):  # type: ignore[misc]
    """JupyterHub's identity provider, which also looks at connections that stay open."""

    _looking: asyncio.Task[None] | None = None

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._open: weakref.WeakSet[WebSocketHandler] = weakref.WeakSet()

    async def get_user(self, handler: Any) -> Any:
        """Return who comes, as the base class does, and remember a connection that will stay open."""
        user = await super().get_user(handler)
        if user is not None and isinstance(handler, WebSocketHandler):
            self._open.add(handler)
            self._looking = self._looking or asyncio.create_task(self._look_again())
        return user

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look()
            except Exception:  # a hub that ends in the middle of an answer must not be the last one we ask
                self.log.exception("The sign-ins of open connections could not be looked at")

    async def look(self) -> None:
        """Close the connections whose token the hub does not know any more."""
        by_token: dict[str, list[WebSocketHandler]] = {}
        for handler in list(self._open):
            if handler.ws_connection is not None:
                by_token.setdefault(self.hub_auth.get_token(handler) or "", []).append(handler)
        own = self.hub_auth.api_token
        for token, handlers in by_token.items():
            if token == own or await self._known(token) or not await self._known(own):
                continue
            for handler in handlers:
                handler.close(_POLICY, "The sign-in has ended.")

    async def _known(self, token: str) -> bool:
        try:
            user: object = await self.hub_auth.user_for_token(token, use_cache=False, sync=False)
        except HTTPError:  # the hub does not answer, or is unwell
            return token != str(self.hub_auth.api_token)
        return user is not None


def install() -> None:
    """Let JupyterHub's server take this class where it takes its own; it has no setting for that."""
    extension.JupyterHubIdentityProvider = LastingIdentity

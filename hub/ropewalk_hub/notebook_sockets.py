"""Who comes to a notebook server: believed while the hub is away, and shown out when a sign-in has ended.

JupyterHub's server asks who comes when a connection opens, and never again. Here the token that opened it is shown to
the hub now and then for as long as it is open. While the hub is away, or refuses everybody, nothing is closed: whoever
signed in has done nothing wrong; and what the hub said of a token before is believed for a while, so that a notebook
can be saved while the hub is started again. Not here: who may open one (the base class). Rejected: ending kernels; a
sign-out leaves work alone.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import traitlets
from jupyterhub.services.auth import HubOAuth, _ExpiringDict
from jupyterhub.singleuser import extension
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler

EVERY = 20.0
"""Seconds between two looks; a sign-out reaches open connections by then."""
BELIEVED = 100
"""Seconds for which an answer of the hub is used again while it cannot be reached: a cluster needs 30 for a new hub, a
busy one more. The last use lasts for one time of the cache more, so it is two minutes in all."""
_POLICY = 1008


class PatientAuth(HubOAuth):  # type: ignore[misc]
    """JupyterHub's way to ask the hub who comes, which remembers its answers for when it is away."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._said = _ExpiringDict(BELIEVED)

    async def _check_hub_authorization(
        self, url: str, api_token: str, cache_key: str | None = None, use_cache: bool = True
    ) -> Any:
        if not use_cache or cache_key in self.cache:
            return await super()._check_hub_authorization(url, api_token, cache_key, use_cache)
        try:
            said = await super()._check_hub_authorization(url, api_token, cache_key)
        except HTTPError as error:
            if not _away(error):
                self._said.pop(cache_key, None)
            if (said := self._said.get(cache_key)) is None:
                raise
            self.cache[cache_key] = said  # not every part of a page waits for a hub that does not answer
            return said
        if said is None:
            self._said.pop(cache_key, None)
        else:
            self._said[cache_key] = said
        return said


def _away(error: HTTPError) -> bool:
    """Whether this is what JupyterHub raises for a hub that is not there (500 and these words) or unwell (502)."""
    return error.status_code == 502 or (error.log_message or "").startswith("Failed to connect to Hub API")


class LastingIdentity(extension.JupyterHubIdentityProvider):  # type: ignore[misc]
    """JupyterHub's identity provider, which also looks at connections that stay open."""

    _looking: asyncio.Task[None] | None = None

    @traitlets.default("hub_auth")
    def _default_hub_auth(self) -> PatientAuth:
        return PatientAuth(parent=self)

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

"""How JupyterHub signs people in: OAuthenticator's generic class, strict where it is lax, against our own issuer.

It verifies the ID token (the generic class never does), binds a nonce to the browser, checks the issuer of the answer,
keeps the sign-in through a short absence of the issuer, and signs out at the issuer too. Not here: what makes an ID
token good (``relying.py``). It runs in the hub's process and knows nothing of the journal.
"""

from __future__ import annotations

import secrets
import time
from typing import Any
from urllib.parse import urlencode

from joserfc.jwk import KeySet
from jupyterhub.handlers.base import BaseHandler
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import (
    OAuthCallbackHandler,
    OAuthLoginHandler,
    OAuthLogoutHandler,
    _deserialize_state,
    _serialize_state,
)
from tornado import web
from tornado.httpclient import HTTPClientError
from traitlets import Float, Unicode

from ropewalk_hub.relying import BadIdToken, KeyCache, check_id_token

_ID_COOKIE = "ropewalk-id"
_AGAIN = "Open the notebook again from the dashboard."


class LoginHandler(OAuthLoginHandler):  # type: ignore[misc]
    """Adds a nonce to the request, kept in the same signed cookie as the state."""

    def set_state_cookie(self, state_cookie_value: str) -> None:
        """Keep the state, and the nonce with it."""
        state = _deserialize_state(state_cookie_value) | {"nonce": self._nonce}
        super().set_state_cookie(_serialize_state(state))

    def authorize_redirect(self, *args: Any, **keywords: Any) -> Any:
        """Go to the issuer, with the nonce."""
        keywords["extra_params"] = (keywords.get("extra_params") or {}) | {"nonce": self._nonce}
        return super().authorize_redirect(*args, **keywords)

    @property
    def _nonce(self) -> str:
        if not hasattr(self, "_made_nonce"):
            self._made_nonce = secrets.token_urlsafe(24)
        return self._made_nonce


class CallbackHandler(OAuthCallbackHandler):  # type: ignore[misc]
    """Checks who answered, and remembers this browser's ID token for the sign-out."""

    def check_arguments(self) -> None:
        """Refuse an answer of another issuer (RFC 9207), then check as usual."""
        if self.get_argument("iss", "") != self.authenticator.issuer:
            raise web.HTTPError(400, f"The sign-in was answered by somebody else. {_AGAIN}")
        super().check_arguments()

    def check_error(self) -> None:
        """Refuse in our own words; whoever made the link chose those of the query."""
        if error := self.get_argument("error", ""):
            self.log.warning("The issuer refused a sign-in: %r", error[:200])
            raise web.HTTPError(400, f"The sign-in was refused. {_AGAIN}")

    @property
    def nonce(self) -> str:
        """The nonce that went out with this browser's request."""
        return str(_deserialize_state(self.get_state_cookie()).get("nonce") or "")

    async def get(self) -> None:
        """Finish the sign-in."""
        self._id_token = ""
        await super().get()

    def redirect(self, *args: Any, **keywords: Any) -> None:
        """Go on, remembering the ID token."""
        if self._id_token:
            self._set_cookie(_ID_COOKIE, self._id_token, expires_days=14, httponly=True, path=self.hub.base_url)
        super().redirect(*args, **keywords)


class LogoutHandler(OAuthLogoutHandler):  # type: ignore[misc]
    """Signs out at the issuer too; otherwise `auto_login` would sign in again at once."""

    _hint = ""

    async def get(self) -> None:
        """Sign out; but when another page asks for it, let the issuer ask the person first.

        Browsers say who asks on https and on localhost, not on plain http elsewhere.
        """
        if self.request.headers.get("Sec-Fetch-Site") in ("same-site", "cross-site"):
            self.redirect(self.authenticator.end_session_url)
        else:
            await super().get()

    async def handle_logout(self) -> None:
        """Forget this browser's ID token, but take it along."""
        await super().handle_logout()
        self._hint = (self.get_secure_cookie(_ID_COOKIE) or b"").decode("ascii", "replace")
        self.clear_cookie(_ID_COOKIE, path=self.hub.base_url)

    async def render_logout_page(self) -> None:
        """Go to the issuer's end of the session."""
        query = {"post_logout_redirect_uri": self.authenticator.after_sign_out}
        if self._hint:
            query |= {"id_token_hint": self._hint, "client_id": self.authenticator.client_id}
        self.redirect(f"{self.authenticator.end_session_url}?{urlencode(query)}")


class ToDashboard(BaseHandler):  # type: ignore[misc]
    """Sends to a page of the dashboard, which does what this page of the hub would.

    The hub's spawn page starts a notebook for whoever has it shown, and its token page makes what nobody here may
    have. Its home page is where JupyterLab's "Hub Control Panel" leads. Nobody is an administrator of the hub itself.
    """

    def initialize(self, page: str) -> None:
        """Take the path of the dashboard's page."""
        self._page = page

    @web.authenticated
    def get(self, *_: str) -> None:
        """Go there."""
        self.redirect(self.authenticator.issuer + self._page)


class RopewalkAuthenticator(GenericOAuthenticator):  # type: ignore[misc]
    """JupyterHub's authenticator for our issuer."""

    login_handler = LoginHandler
    callback_handler = CallbackHandler
    logout_handler = LogoutHandler

    issuer = Unicode(config=True, help="Our issuer's name: the platform's origin.")
    jwks_url = Unicode(config=True, help="Where the issuer's public keys are.")
    end_session_url = Unicode(config=True, help="The issuer's end-session endpoint, as a browser reaches it.")
    after_sign_out = Unicode(config=True, help="Where the browser goes after signing out.")
    grace = Float(300.0, config=True, help="Seconds for which a sign-in outlives an issuer that does not answer.")

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._keys = KeyCache(self._fetch_keys, time.monotonic)
        self._answered: dict[str, float] = {}

    def get_handlers(self, app: Any) -> list[Any]:
        """Answer some of the hub's pages too: an authenticator's handlers come before the hub's own."""
        ours = [
            (r"/(?:home|token|spawn(?:/.*)?)", ToDashboard, {"page": "/notebooks"}),
            (r"/admin", ToDashboard, {"page": "/people"}),
        ]
        return [*super().get_handlers(app), *ours]

    async def _fetch_keys(self) -> KeySet:
        return KeySet.import_key_set(await self.httpfetch(self.jwks_url, "Fetching the issuer's keys"))

    async def authenticate(self, handler: Any, data: Any = None, **keywords: Any) -> Any:
        """Exchange the code, and believe only an ID token that was made for this browser."""
        params = self.build_access_tokens_request_params(handler, data)
        token_info = await self.get_token_info(handler, params)
        try:
            claims = await self._checked(token_info, nonce=handler.nonce)
        except BadIdToken as error:
            self.log.warning("Sign-in refused: %s", error)
            raise web.HTTPError(403, f"The sign-in could not be verified. {_AGAIN}") from error
        model = await self._token_to_auth_model(token_info)
        self._same_person(claims, model)
        handler._id_token = token_info["id_token"]
        return model

    async def _checked(self, token_info: dict[str, Any], *, nonce: str | None) -> dict[str, Any]:
        token = token_info.get("id_token") or ""
        keys = await self._keys.for_token(token)
        return check_id_token(token, keys, issuer=self.issuer, client=self.client_id, nonce=nonce, now=time.time())

    def _same_person(self, claims: dict[str, Any], model: dict[str, Any]) -> None:
        info = model["auth_state"][self.user_auth_state_key]
        if not claims.get("sub") or info.get("sub") != claims["sub"]:
            raise web.HTTPError(403, "The sign-in names two different people. Sign out, then sign in as one of them.")

    async def update_auth_model(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        """Make nobody an administrator of the hub: it would let them make tokens for other people."""
        auth_model["admin"] = False
        return auth_model

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Let in whom the issuer calls active; approval happens there."""
        if auth_model is None:
            return True
        return auth_model["auth_state"][self.user_auth_state_key].get("ropewalk_active") is True

    async def refresh_user(self, user: Any, handler: Any = None, **keywords: Any) -> Any:
        """Ask the issuer whether the sign-in still holds; while it is away, go on for a bounded time.

        A refusal ends the sign-in at once. Only silence has grace.
        """
        if isinstance(handler, LogoutHandler):
            return True  # a sign-out must still know whose notebook cookies it ends, also after the sign-in has ended
        if handler is not None and not hasattr(handler, "_token_authenticated"):
            handler._token_authenticated = False  # JupyterHub 6.1 reads it after a refusal without ever setting it
        state = await user.get_auth_state()
        if not state:
            return False
        try:
            model = await self._refreshed(state)
        except (HTTPClientError, OSError, TimeoutError) as error:
            if isinstance(error, HTTPClientError) and error.code < 500:
                self.log.info("The sign-in of %s has ended.", user.name)
                return False
            since = time.monotonic() - self._answered.setdefault(user.name, time.monotonic())
            self.log.warning("The issuer does not answer (for %d s): %s", since, error)
            return since <= self.grace
        self._answered[user.name] = time.monotonic()
        return model if model is None or model["name"] == user.name else False

    async def _refreshed(self, state: dict[str, Any]) -> dict[str, Any]:
        old_sub = state[self.user_auth_state_key].get("sub")
        try:
            model: dict[str, Any] = await self._token_to_auth_model(state["token_response"])
        except HTTPClientError as error:
            if error.code not in (401, 403) or not state.get("refresh_token"):
                raise
            model = await self._renewed(state["refresh_token"])
        if model["auth_state"][self.user_auth_state_key].get("sub") != old_sub:
            raise HTTPClientError(403, "another person")
        if not await self.check_allowed(model["name"], model):
            raise HTTPClientError(403, "not active")
        return model

    async def _renewed(self, refresh_token: str) -> dict[str, Any]:
        token_info = await self.httpfetch(
            self.token_url,
            "Refreshing a sign-in",
            method="POST",
            headers=self.build_token_info_request_headers(),
            body=urlencode(self.build_refresh_token_request_params(refresh_token)),
        )
        token_info.setdefault("refresh_token", refresh_token)
        try:
            claims = await self._checked(token_info, nonce=None)
        except BadIdToken as error:
            raise HTTPClientError(403, str(error)) from error
        model: dict[str, Any] = await self._token_to_auth_model(token_info)
        self._same_person(claims, model)
        return model

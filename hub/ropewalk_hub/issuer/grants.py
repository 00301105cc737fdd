"""Authlib's grants over our vault: the OpenID Connect side of the issuer, without HTTP.

Authlib validates and words the protocol; this module answers its questions. Stricter than Authlib's defaults: PKCE
with S256 is required of every client, also at the token endpoint, and a redirect address matches character by
character. Authlib is synchronous and asks the journal: call it in a thread. Not here: Starlette (``endpoints.py``).
"""

from __future__ import annotations

import hmac
import secrets
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientMixin,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Payload,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.util import extract_basic_authorization
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDCode

from ropewalk_core.model import Account
from ropewalk_core.ports import Clock
from ropewalk_core.settings import Settings
from ropewalk_hub.issuer.accounts import Accounts
from ropewalk_hub.issuer.keys import ALGORITHM, SigningKeys
from ropewalk_hub.issuer.sessions import Session, digest
from ropewalk_hub.issuer.vault import ACCESS_LIFE, Found, Grant, Vault, new_family

SCOPES = ("openid", "profile", "offline_access")


@dataclass(frozen=True)
class Answer:
    """What an endpoint says: a status, a body (text, or an object for JSON) and headers."""

    status: int
    body: Any
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def location(self) -> str:
        """Where it redirects to, if it does."""
        return dict(self.headers).get("Location", "")


class Client(ClientMixin):  # type: ignore[misc]
    """A registered client. All of ours are confidential; only the hash of the secret is kept."""

    def __init__(
        self, identifier: str, secret: str, *, redirects: tuple[str, ...], after_sign_out: tuple[str, ...]
    ) -> None:
        self.id = identifier
        self.redirects = redirects
        self.after_sign_out = after_sign_out
        self._secret = digest(secret)

    def get_client_id(self) -> str:
        """Return its identifier."""
        return self.id

    def get_default_redirect_uri(self) -> str | None:
        """Return None: the redirect address must be given."""
        return None

    def get_allowed_scope(self, scope: str | None) -> str:
        """Return what it may have of what it asks."""
        return " ".join(one for one in (scope or "").split() if one in SCOPES)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Say whether the address is registered, character by character."""
        return redirect_uri in self.redirects

    def check_client_secret(self, client_secret: str) -> bool:
        """Say whether the secret is right."""
        return hmac.compare_digest(self._secret, digest(client_secret))

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Say whether it may prove itself in this way."""
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        """Say whether it may ask for this; only codes, no implicit grant."""
        return bool(response_type == "code")

    def check_grant_type(self, grant_type: str) -> bool:
        """Say whether it may use this grant."""
        return grant_type in ("authorization_code", "refresh_token")


class _Payload(OAuth2Payload):  # type: ignore[misc]
    def __init__(self, values: list[tuple[str, str]]) -> None:
        self._lists: defaultdict[str, list[str]] = defaultdict(list)
        for key, value in values:
            self._lists[key].append(value)

    @property
    def data(self) -> dict[str, str]:
        return {key: values[0] for key, values in self._lists.items()}

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return self._lists


class ProtocolRequest(OAuth2Request):  # type: ignore[misc]
    """A request as Authlib reads it.

    Its address is always the same and https: whether plain http is acceptable is decided by the door's settings, and
    Authlib would refuse http on any name but localhost.
    """

    def __init__(self, method: str, values: list[tuple[str, str]], headers: Mapping[str, str]) -> None:
        super().__init__(method, "https://issuer.invalid/", headers=dict(headers))
        self.payload = _Payload(values)
        self.session: Session | None = None

    @property
    def args(self) -> dict[str, str]:
        """Its parameters."""
        return dict(self.payload.data)

    @property
    def form(self) -> dict[str, str]:
        """Its parameters; the endpoint has chosen query or body."""
        return dict(self.payload.data)


@dataclass(frozen=True)
class _Code:
    """A stored code or refresh token under the names that Authlib asks for."""

    found: Found

    @property
    def code_challenge(self) -> str:
        return self.found.grant.challenge

    code_challenge_method = "S256"

    def get_redirect_uri(self) -> str:
        return self.found.grant.redirect

    def get_scope(self) -> str:
        return self.found.grant.scope

    def get_nonce(self) -> str:
        return self.found.grant.nonce

    def get_auth_time(self) -> int:
        return int(self.found.grant.signed_in)

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None

    def check_client(self, client: Client) -> bool:
        return bool(self.found.grant.client == client.id)


class _RequireS256(CodeChallenge):  # type: ignore[misc]
    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge"):
            raise InvalidRequestError("Missing 'code_challenge'", redirect_uri=redirect_uri)
        if data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("The 'code_challenge_method' must be S256", redirect_uri=redirect_uri)
        super().validate_code_challenge(grant, redirect_uri)

    def validate_code_verifier(self, grant: Any, result: Any) -> None:
        if not grant.request.form.get("code_verifier"):
            raise InvalidRequestError("Missing 'code_verifier'")
        super().validate_code_verifier(grant, result)


class _CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    server: IssuerServer

    def generate_authorization_code(self) -> str:
        return secrets.token_urlsafe(32)

    def save_authorization_code(self, code: str, request: Any) -> None:
        session: Session = request.session
        data = request.payload.data
        self.server.vault.keep_code(
            code,
            Grant(
                client=request.client.id,
                account=request.user.name,
                session=session.id,
                epoch=session.epoch,
                scope=request.scope,
                family=new_family(),
                redirect=request.payload.redirect_uri,
                nonce=data.get("nonce", "")[:200],
                challenge=data["code_challenge"],
                signed_in=session.started,
            ),
        )

    def query_authorization_code(self, code: str, client: Client) -> _Code | None:
        found = self.server.vault.code(code, client.id)
        return _Code(found) if found else None

    def delete_authorization_code(self, authorization_code: _Code) -> None:
        """Do nothing: `IssuerServer.save_token` used it up in the same batch."""

    def authenticate_user(self, authorization_code: _Code) -> Account | None:
        return self.server.accounts.get(authorization_code.found.grant.account)


class _RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    server: IssuerServer
    INCLUDE_NEW_REFRESH_TOKEN = True
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

    def authenticate_refresh_token(self, refresh_token: str) -> _Code | None:
        found = self.server.vault.refresh(refresh_token, str(self.request.client.id))
        return _Code(found) if found else None

    def authenticate_user(self, refresh_token: _Code) -> Account | None:
        return self.server.accounts.get(refresh_token.found.grant.account)

    def revoke_old_credential(self, refresh_token: _Code) -> None:
        """Do nothing: it dies when one of its children is used."""


class _IdToken(OpenIDCode):  # type: ignore[misc]
    def __init__(self, server: IssuerServer) -> None:
        super().__init__(require_nonce=False)
        self._server = server

    def exists_nonce(self, nonce: str, request: Any) -> bool:
        return False  # a code is used once; the client binds its nonce to its browser

    def resolve_client_private_key(self, client: Client) -> Any:
        return self._server.keys.signing

    def get_client_algorithm(self, client: Client) -> str:
        return ALGORITHM

    def get_encode_header(self, client: Client) -> dict[str, str]:
        return self._server.keys.header

    def get_compatible_claims(self, request: Any) -> dict[str, Any]:
        now = int(self._server.clock.wall())
        grant = (request.authorization_code or request.refresh_token).found.grant
        return {
            "iss": self._server.issuer,
            "aud": request.client.id,
            "iat": now,
            "exp": now + 3600,
            "auth_time": int(grant.signed_in),
            "sid": grant.session,
        }

    def generate_user_info(self, user: Account, scope: str) -> dict[str, Any]:
        return user_claims(user)


class IssuerServer(AuthorizationServer):  # type: ignore[misc]
    """Authlib's authorization server over the vault."""

    def __init__(
        self,
        vault: Vault,
        accounts: Accounts,
        keys: SigningKeys,
        clients: Mapping[str, Client],
        settings: Settings,
        clock: Clock,
    ) -> None:
        super().__init__(scopes_supported=list(SCOPES))
        self.vault, self.accounts, self.keys, self.clock = vault, accounts, keys, clock
        self.issuer = settings.door.origin
        self.clients = clients
        self.register_token_generator("default", self._new_tokens)
        self.register_grant(_CodeGrant, [_IdToken(self), _RequireS256(required=True)])
        self.register_grant(_RefreshGrant, [_RefreshedIdToken(self)])

    # What Authlib asks

    def query_client(self, client_id: str) -> Client | None:
        """Return a registered client."""
        return self.clients.get(client_id)

    def create_oauth2_request(self, request: Any) -> Any:
        """Return the request: ours is one already."""
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Do nothing: nobody listens."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Answer:
        """Return the answer of an endpoint."""
        if isinstance(body, list):
            body = dict(body)
        return Answer(status, body, tuple(headers))

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        """Use up the code, or the refresh token, and remember what it gives: one batch."""
        access, refresh = token["access_token"], token.get("refresh_token", "")
        if request.authorization_code is not None:
            saved = self.vault.use_code(request.authorization_code.found, access, refresh)
        else:
            saved = self.vault.use_refresh(request.refresh_token.found, access, refresh, token["scope"])
        if not saved:
            raise InvalidGrantError()

    def _new_tokens(self, *, scope: str = "", include_refresh_token: bool = True, **_: Any) -> dict[str, Any]:
        token = {
            "token_type": "Bearer",
            "access_token": secrets.token_urlsafe(32),
            "expires_in": int(ACCESS_LIFE),
            "scope": scope,
        }
        return token | ({"refresh_token": secrets.token_urlsafe(32)} if include_refresh_token else {})

    # What the endpoints ask

    def client_of(self, request: ProtocolRequest) -> Client | None:
        """Return the client that proved itself with Basic or with its secret in the body."""
        identifier, secret = extract_basic_authorization(request.headers)
        identifier = identifier or request.form.get("client_id")
        client = self.clients.get(identifier or "")
        given = secret or request.form.get("client_secret") or ""
        return client if client and client.check_client_secret(given) else None


class _RefreshedIdToken(_IdToken):
    """The ID token of a refresh: the same person and sign-in, no nonce."""

    def __call__(self, grant: Any) -> None:
        grant.register_hook("after_create_token_response", self.process_token)


def user_claims(account: Account) -> dict[str, Any]:
    """Return what clients learn about a person. ``sub`` is the identity; the name is for people."""
    return {
        "sub": account.subject,
        "preferred_username": account.name,
        "name": account.full_name or account.name,
        "ropewalk_active": account.state == "active",
    }

"""The OpenID Connect endpoints: a thin Starlette adapter around the grants.

Authlib and the journal block, so each answer is made in a thread from a request that was read before. Browsers come
here by navigation only (authorize, end-session); the other endpoints are for clients. Not here: pages (``pages.py``).
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl, quote

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import OAuth2Error
from fastapi import APIRouter, Depends, Request
from joserfc import jwt
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from ropewalk_core.errors import BadInput, TooLarge
from ropewalk_hub.issuer.grants import SCOPES, Answer, ProtocolRequest, user_claims
from ropewalk_hub.issuer.keys import ALGORITHM
from ropewalk_hub.issuer.service import Issuer
from ropewalk_hub.security import Public, clear_cookies, cookie_name

_LARGEST = 64 * 1024
router = APIRouter(include_in_schema=False)


def issuer_of(request: Request) -> Issuer:
    """Return the issuer of the application."""
    issuer: Issuer = request.app.state.platform.issuer
    return issuer


Its = Annotated[Issuer, Depends(issuer_of)]


def metadata(issuer: Issuer) -> dict[str, Any]:
    """Return the discovery document."""
    origin = issuer.settings.door.origin
    return {
        "issuer": origin,
        "authorization_endpoint": f"{origin}/oidc/authorize",
        "token_endpoint": f"{origin}/oidc/token",
        "userinfo_endpoint": f"{origin}/oidc/userinfo",
        "jwks_uri": f"{origin}/oidc/jwks",
        "end_session_endpoint": f"{origin}/oidc/end-session",
        "revocation_endpoint": f"{origin}/oidc/revoke",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "scopes_supported": list(SCOPES),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": [
            "sub",
            "iss",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "sid",
            "nonce",
            "name",
            "preferred_username",
        ],
        "prompt_values_supported": ["none", "login"],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


@router.get("/.well-known/openid-configuration", dependencies=[Depends(Public("clients discover us here"))])
def discovery(issuer: Its) -> JSONResponse:
    """Answer the discovery document."""
    return JSONResponse(metadata(issuer), headers={"Cache-Control": "public, max-age=300"})


@router.get("/oidc/jwks", dependencies=[Depends(Public("public keys are public"))])
def jwks(issuer: Its) -> JSONResponse:
    """Answer the public keys."""
    return JSONResponse(issuer.keys.public(), headers={"Cache-Control": "public, max-age=300"})


@router.get("/oidc/authorize", dependencies=[Depends(Public("asks for the sign-in itself"))])
async def authorize(request: Request, issuer: Its) -> Response:
    """Give a client a code for the person who is signed in, or ask them to sign in first."""
    asked = ProtocolRequest("GET", _query(request), {})
    cookie = request.cookies.get(cookie_name(issuer.settings.door), "")
    answer = await run_in_threadpool(_authorize, issuer, asked, cookie)
    if answer is None:
        here = request.url.path + "?" + _without_prompt(asked)
        again = "&again=1" if issuer.actor_of_cookie(cookie) else ""  # a fresher sign-in than this one is wanted
        return RedirectResponse(f"/sign-in?next={quote(here, safe='')}{again}", 303)
    if not answer.location:
        return _refused(answer)
    # RFC 9207: a client of two issuers must know which one answered.
    return RedirectResponse(add_params_to_uri(answer.location, [("iss", issuer.server.issuer)]), 303)


def _authorize(issuer: Issuer, asked: ProtocolRequest, cookie: str) -> Answer | None:
    session = issuer.sessions.by_cookie(cookie) if cookie else None
    actor = issuer.actor_of_cookie(cookie)
    account = issuer.accounts.get(actor.account) if actor else None
    asked.session = session
    try:
        grant = issuer.server.get_consent_grant(asked, end_user=account)
    except OAuth2Error as error:
        return issuer.server.handle_response(*error())
    data = asked.payload.data
    if account is None or session is None or _too_old(issuer, session.started, data):
        return None
    answer: Answer = issuer.server.create_authorization_response(asked, grant_user=account, grant=grant)
    return answer


def _too_old(issuer: Issuer, started: float, data: dict[str, str]) -> bool:
    """Say whether the client wants a fresher sign-in than this one (OpenID Connect `prompt`, `max_age`)."""
    if "login" in data.get("prompt", "").split():
        return True
    age = data.get("max_age", "")
    return age.isdecimal() and issuer.clock.wall() - started > int(age[:10])


def _without_prompt(asked: ProtocolRequest) -> str:
    # After the sign-in the request comes back; `prompt=login` would ask for ever.
    kept = [(key, value) for key, values in asked.payload.datalist.items() for value in values if key != "prompt"]
    return "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in kept)


def _refused(answer: Answer) -> Response:
    # Never redirect to an address that is not registered; say it to the person instead.
    body = answer.body if isinstance(answer.body, dict) else {}
    reason = str(body.get("error_description") or body.get("error") or "invalid_request")
    raise BadInput(
        f"The program that sent you here asked wrongly: {reason[:200]}",
        hint="Start again from that program's own page. If it comes again, show this sentence to whoever runs it.",
        details={"error": str(body.get("error", ""))},
    )


@router.post("/oidc/token", dependencies=[Depends(Public("clients prove themselves with their secret"))])
async def token(request: Request, issuer: Its) -> Response:
    """Exchange a code or a refresh token."""
    asked = await _form(request)
    return _machine(await run_in_threadpool(issuer.server.create_token_response, asked))


@router.post("/oidc/revoke", dependencies=[Depends(Public("clients prove themselves with their secret"))])
async def revoke(request: Request, issuer: Its) -> Response:
    """Revoke a token of the client (RFC 7009); an unknown one is revoked already."""
    asked = await _form(request)
    client = issuer.server.client_of(asked)
    if client is None:
        return _machine(Answer(401, {"error": "invalid_client"}, (("WWW-Authenticate", "Basic"),)))
    value = asked.form.get("token", "")
    if not value:
        return _machine(Answer(400, {"error": "invalid_request"}))
    await run_in_threadpool(issuer.vault.revoke, value, client.id)
    return _machine(Answer(200, {}))


@router.api_route(
    "/oidc/userinfo", methods=["GET", "POST"], dependencies=[Depends(Public("the access token says whose"))]
)
async def userinfo(request: Request, issuer: Its) -> Response:
    """Answer who an access token is about. In the header or the body (RFC 6750), never in the address."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        value = (await _form(request)).form.get("access_token", "") if request.method == "POST" else ""
    grant = await run_in_threadpool(issuer.vault.access, value.strip()) if value else None
    account = issuer.accounts.get(grant.account) if grant else None
    if grant is None or account is None:
        return _machine(
            Answer(401, {"error": "invalid_token"}, (("WWW-Authenticate", 'Bearer error="invalid_token"'),))
        )
    claims = user_claims(account)
    if "profile" not in grant.scope.split():
        claims = {"sub": claims["sub"]}
    return _machine(Answer(200, claims))


@router.api_route(
    "/oidc/end-session", methods=["GET", "POST"], dependencies=[Depends(Public("the ID token proves the request"))]
)
async def end_session(request: Request, issuer: Its) -> Response:
    """Sign out at a client's wish (OpenID Connect RP-Initiated Logout). Without a valid hint, ask the person first."""
    asked = await _form(request) if request.method == "POST" else ProtocolRequest("GET", _query(request), {})
    data = asked.form
    claims = _hint(issuer, data.get("id_token_hint", ""))
    client = issuer.clients.get(str(claims.get("aud"))) if claims else None
    if client is None or data.get("client_id", client.id) != client.id:
        return RedirectResponse("/sign-out", 303)
    await run_in_threadpool(issuer.sign_out, str(claims.get("sid", "")))
    target = data.get("post_logout_redirect_uri", "")
    if target in client.after_sign_out:
        target = add_params_to_uri(target, [("state", data["state"])]) if data.get("state") else target
    else:
        target = "/sign-in?signed-out=1"
    response = RedirectResponse(target, 303)
    session = issuer.sessions.by_cookie(request.cookies.get(cookie_name(issuer.settings.door), ""))
    if session is None:
        clear_cookies(response, issuer.settings.door)
    return response


def _hint(issuer: Issuer, value: str) -> dict[str, Any]:
    """Return the claims of an ID token of ours, expired or not; nothing for any other text."""
    if not value:
        return {}
    try:
        claims = jwt.decode(value, issuer.keys.verifying, algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError):
        return {}
    return dict(claims) if claims.get("iss") == issuer.server.issuer else {}


def _query(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=50)


async def _form(request: Request) -> ProtocolRequest:
    """Read the body of a client's request."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise TooLarge("The request is larger than 64 KiB.")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    values = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50)
    headers = {"Authorization": value} if (value := request.headers.get("authorization")) else {}
    return ProtocolRequest(request.method, values if media == "application/x-www-form-urlencoded" else [], headers)


def _machine(answer: Answer) -> Response:
    if isinstance(answer.body, str):
        return HTMLResponse(answer.body, answer.status, headers=dict(answer.headers))
    headers = {key: value for key, value in answer.headers if key.lower() != "content-type"}
    return JSONResponse(answer.body, answer.status, headers=headers | {"Cache-Control": "no-store"})

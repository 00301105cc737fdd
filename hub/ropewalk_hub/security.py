"""Who is asking, and from where: the markers of every route, and the guard in front of all of them.

Each route carries `Signed`, `Administrator` or ``Public("why")``; a test walks the route table. The guard refuses
unsafe requests that did not start on our own pages, and requests for another host. SameSite is not relied on: on
ordinary names a page of a notebook is same-site with us. Not here: what an actor may do (``policy.py``).
Rejected: CSRF tokens in forms (a page of the same site that can set cookies defeats them; `Origin` it cannot write).
"""

from __future__ import annotations

import contextlib
import html
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Depends
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ropewalk_core.errors import Conflict, Denied, NotFound, Unauthenticated, WrongOrigin
from ropewalk_core.model import Actor
from ropewalk_core.names import parse_host
from ropewalk_core.settings import Door
from ropewalk_hub import bare, problem
from ropewalk_hub.issuer import Issuer

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MACHINE_PATHS = frozenset({"/oidc/token", "/oidc/revoke", "/oidc/userinfo", "/oidc/jwks", "/metrics"})
"""Programs ask for these by an internal address, with a client's secret or a token and never with a cookie."""
BEARER_PATHS = "/argo/"
"""Below it programs inside a cluster ask by an internal address too: Argo's clients cannot name another host."""
_LEADING = {"/": "/notebooks", "/dashboard": "/"}
"""Paths of a person's host that lead to ours, so that JupyterLab's link need not know our address."""
_DEEPEST = 8
"""Folders of a path in which planted cookies are looked for; our own addresses have fewer."""


# Who


@dataclass(frozen=True)
class Public:
    """Marks a route that anybody may use: ``dependencies=[Depends(Public("the sign-in page itself"))]``."""

    reason: str

    async def __call__(self) -> None:
        """Let everybody in."""


async def signed(connection: HTTPConnection) -> Actor:
    """Return who asks, by bearer token or by the cookie of a sign-in, or raise `Unauthenticated`."""
    issuer: Issuer = connection.app.state.platform.issuer
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        actor = issuer.tokens.actor(token.strip(), "api")
    else:
        actor = await _by_cookie(connection, issuer)
    connection.state.actor = actor
    return actor


async def administrator(actor: Annotated[Actor, Depends(signed)]) -> Actor:
    """Return who asks if it is an administrator."""
    if not actor.administrator:
        raise Denied("Only an administrator may do this.")
    return actor


Signed = Annotated[Actor, Depends(signed)]
Administrator = Annotated[Actor, Depends(administrator)]


async def _by_cookie(connection: HTTPConnection, issuer: Issuer) -> Actor:
    actor = issuer.actor_of_cookie(connection.cookies.get(cookie_name(issuer.settings.door), ""))
    if actor is None:
        raise Unauthenticated("You are not signed in.")
    if operations := issuer.renewal(actor):
        with contextlib.suppress(Conflict):  # another request of the same sign-in was first
            await issuer.journal.write(*operations)
    return actor


def cookie_name(door: Door) -> str:
    """Return the session cookie's name; on https the browser itself keeps it to this host."""
    return "__Host-ropewalk" if door.scheme == "https" else "ropewalk-session"


def set_cookie(response: Response, door: Door, value: str) -> None:
    """Give the browser its session cookie. How long it is good is decided here, not by the browser."""
    response.set_cookie(
        cookie_name(door), value, max_age=400 * 86400, httponly=True, secure=door.scheme == "https", samesite="lax"
    )


def clear_cookies(response: Response, door: Door, *, session: bool = True, hub: bool = True) -> None:
    """Take the session's cookie away, and the hub's, which lives on the same host."""
    if session:
        response.delete_cookie(cookie_name(door), httponly=True, secure=door.scheme == "https", samesite="lax")
    if hub:
        response.delete_cookie("jupyterhub-hub-login", path="/hub/")


def client_address(connection: HTTPConnection) -> str:
    """Return where a request came from. The proxy in front is ours and writes the last entry."""
    forwarded = connection.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return (forwarded or (connection.client.host if connection.client else ""))[:64]


def safe_next(text: str | None) -> str:
    """Return a path on our own origin for any text: the text itself when it is one, else the home page."""
    if not text or len(text) > 2000 or not text.startswith("/") or text.startswith(("//", "/sign-")):
        return "/"
    if "\\" in text or any(ord(one) <= 0x20 or ord(one) == 0x7F for one in text):
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc:
        return "/"
    return quote(text, safe="/?&=#%:@!$'()*+,;~-._[]", errors="replace")


# From where


def allowed_origin(method: str, headers: Headers, path: str, origin: str) -> bool:
    """Say whether a request may change something: it came from our own page, or carries no cookie to abuse.

    Parameters
    ----------
    method
        The HTTP method, or ``WEBSOCKET``.
    headers
        Its headers.
    path
        Its path; endpoints for machines are asked without Origin.
    origin
        The platform's own origin.
    """
    if method in SAFE_METHODS:
        return True
    if "cookie" not in headers:
        if headers.get("authorization", "").lower().startswith(("bearer ", "token ")):
            return True
        if path in MACHINE_PATHS:
            return True
    if (given := headers.get("origin")) is not None:
        return given == origin
    return headers.get("sec-fetch-site") in ("same-origin", "none")


def _bearer_alone(headers: Headers) -> bool:
    return "cookie" not in headers and headers.get("authorization", "").lower().startswith("bearer ")


class Guard:
    """The middleware in front of everything: host, origin, and the headers of every answer."""

    def __init__(self, app: ASGIApp, door: Door, siblings: frozenset[str] = frozenset({"127.0.0.1", "[::1]"})) -> None:
        self._app = app
        self._siblings = siblings
        self._door = door
        self._host = urlsplit(door.origin).netloc
        self._hosts = {self._host, door.host} if door.port in (80, 443) else {self._host}
        self._policy = _content_policy(door)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or hand on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), str(scope["path"])
        method = "WEBSOCKET" if scope["type"] == "websocket" else str(scope["method"])
        refusal = self._refusal(method, headers, path, str(scope.get("query_string", b""), "latin-1"))
        if refusal is None:
            await self._app(scope, receive, self._with_headers(send))
        elif method == "WEBSOCKET":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            await refusal(scope, receive, self._with_headers(send))

    def _refusal(self, method: str, headers: Headers, path: str, query: str) -> Response | None:
        host = headers.get("host", "").lower()
        inside = path in MACHINE_PATHS or (path.startswith(BEARER_PATHS) and _bearer_alone(headers))
        sibling = host.rpartition(":")[0] in self._siblings and inside
        if host not in self._hosts and not sibling:
            return self._elsewhere(method, headers, path, query)
        pairs = ";".join(headers.getlist("cookie")).split(";")
        if [one.partition("=")[0].strip() for one in pairs].count(cookie_name(self._door)) > 1:
            return self._planted(method, path, query)
        if not allowed_origin(method, headers, path, self._door.origin):
            error = WrongOrigin("This request did not come from a page of the platform, so it was refused.")
            return problem.answer(error, self._door.origin)
        return None

    def _planted(self, method: str, path: str, query: str) -> Response:
        """Take away the session cookies that a page of the same site has planted beside ours, and ask again.

        Ours belongs to this host alone, so cookies for domains are never ours. Which of the two is good cannot be
        seen; a planted one would let the person work, unaware, in somebody else's account.
        """
        response: Response
        if method in ("GET", "HEAD"):
            target = "/" + quote(path.lstrip("/"), safe="/:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
            response = RedirectResponse(target, 307)
        else:
            hint = "Load the page again, and send your form once more."
            error = WrongOrigin("Another page has planted a second sign-in here. It is removed.", hint=hint)
            response = problem.answer(error, self._door.origin)
        labels, parts = self._door.host.split("."), path.split("/")[1:_DEEPEST]
        folders = ["/".join(["", *parts[:count]]) for count in range(1, len(parts) + 1) if parts[count - 1]]
        for domain in (".".join(labels[start:]) for start in range(len(labels))):
            for folder in ("/", *folders, *(f"{one}/" for one in folders)):
                response.delete_cookie(cookie_name(self._door), path=folder, domain=domain)
        return response

    def _elsewhere(self, method: str, headers: Headers, path: str, query: str) -> Response:
        """Answer for a host that is not ours: a person's host where no server answers, or another address."""
        host = headers.get("host", "").lower()
        people = parse_host(host, self._door.people)
        if people is None:
            return _misdirected(host, self._door)
        if people.kind != "notebook":
            right = f"{self._door.scheme}://{host.partition(':')[0]}:{self._door.people_port}/"
            return PlainTextResponse(f"Services and functions are at {right}", 404)
        path = path.removeprefix("/_door") or "/"  # the proxy puts its default target's path in front
        if method in ("GET", "HEAD") and path in _LEADING:
            return RedirectResponse(f"{self._door.origin}{_LEADING[path]}", 302)
        if method in ("GET", "HEAD") and path.startswith("/user/"):
            tail = quote(path, safe="/:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
            return RedirectResponse(f"{self._door.origin}/hub{tail}", 302)
        if path.startswith("/user/"):
            error = NotFound("No notebook runs here.", hint=f"Start it at {self._door.origin}/notebooks.")
        else:
            error = NotFound("This page does not exist.", hint="Its address may be misspelled; go on from here.")
        if "text/html" not in headers.get("accept", ""):
            return problem.answer(error, self._door.origin)
        page = bare.failure(error, self._door.origin, (f"/user/{people.account}/lab", "Open your notebook"))
        return HTMLResponse(page, error.status, headers=bare.HEADERS)

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("X-Frame-Options", "DENY")
                # Not no-referrer: with it, browsers send `Origin: null` from our own forms.
                headers.setdefault("Referrer-Policy", "same-origin")
                headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
                headers.setdefault("Cache-Control", "no-store")
                if self._door.scheme == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        return sending


def _content_policy(door: Door) -> str:
    # A form of ours may end, after redirects, at a person's notebook or service; browsers check every hop.
    people = f"{door.scheme}://*.{door.people}"
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "frame-src 'self'",
            f"form-action 'self' {people}:{door.port} {people}:{door.people_port}",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ]
    )


_MISDIRECTED = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Open {origin}</title></head><body>
<h1>Open <a href="{origin}/">{origin}</a></h1>
<p>This page was asked for as <code>{host}</code>, but signing in works only at the platform's own address.</p>
<p>If you forward ports from another machine, forward the same ones:</p>
<pre>ssh -L {port}:{name}:{port} -L {next}:{name}:{next} ...</pre>
</body></html>
"""


def _misdirected(host: str, door: Door) -> Response:
    page = _MISDIRECTED.format(
        origin=html.escape(door.origin),
        host=html.escape(host[:200] or "(no name)"),
        port=door.port,
        next=door.people_port,
        name=html.escape(door.host),
    )
    return HTMLResponse(page, 421, headers={"Content-Security-Policy": "default-src 'none'"})

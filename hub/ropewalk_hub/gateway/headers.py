"""Headers between strangers and people's programs: who asks in words that only we can say, and no credential of ours.

For services and for functions that take requests as they are. Not here: who may ask (``app``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from ropewalk_hub.gateway.callers import PRIVATE
from ropewalk_hub.gateway.sessions import COOKIE, STATE
from ropewalk_hub.gateway.tokens import Caller

_HOP = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_IDENTITY = ("x-forwarded-", "x-ropewalk-", "x-remote-", "x-auth-", "x-real-ip", "forwarded", "remote-user")
_DECODED = frozenset({"gzip", "deflate", "br", "zstd"})
"""Codings of a request's body that aiohttp has undone when we pass it on: its length is another one then."""
_NAME, _VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_OURS = ("x-ropewalk-", "access-control-")
_RULES = frozenset({"content-length", "server", "alt-svc", "clear-site-data"})
"""What a function's answer may not say: what we say ourselves, rules for the host, and which pages may call."""


def to_others(request: web.Request, caller: Caller, scheme: str) -> CIMultiDict[str]:
    """Return the headers of a request as a program of the person's sees them."""
    named = _connection_headers(request.headers.getall("Connection", []))
    if request.headers.get("Content-Encoding", "").lower() in _DECODED:
        named |= {"content-encoding", "content-length"}
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        low = name.lower().replace("_", "-")  # which programs behind WSGI and CGI cannot tell apart
        if low in _HOP or name.lower() in named or low in PRIVATE or low.startswith(_IDENTITY):
            continue
        headers.add(name, value)
    if cookies := _other_cookies(request.headers.getall("Cookie", [])):
        headers["Cookie"] = cookies
    if caller.account:  # a public function's caller may be nobody, and the holder of a key is no account
        headers["X-Ropewalk-Account"] = caller.account
    if caller.subject:
        headers["X-Forwarded-User"] = caller.account
    headers["X-Forwarded-Host"] = request.host
    headers["X-Forwarded-Proto"] = scheme
    headers["X-Forwarded-For"] = request.remote or "127.0.0.1"
    return headers


def from_others(headers: Mapping[str, str] | CIMultiDictProxy[str], to: web.StreamResponse) -> None:
    """Copy what may pass: a service must not set our cookie, a cookie for the parent domain, or rules for the host."""
    named = _connection_headers([value for name, value in headers.items() if name.lower() == "connection"])
    for name, value in headers.items():
        low = name.lower()
        if low in _HOP or low in named or low in ("strict-transport-security", "date"):
            continue
        if low == "set-cookie":
            if (kept := _host_only(value)) is not None:
                to.headers.add(name, kept)
            continue
        to.headers.add(name, value)


def from_function(pairs: object) -> CIMultiDict[str]:
    """Return the headers that an app in a worker answers with, as far as they are any: it is the person's code."""
    found: CIMultiDict[str] = CIMultiDict()
    for pair in pairs if isinstance(pairs, list) else []:
        name, value = (str(pair[0]), str(pair[1])) if isinstance(pair, list) and len(pair) == 2 else ("", "")
        low = name.lower()
        if _NAME.fullmatch(name) and _VALUE.fullmatch(value) and low not in _RULES and not low.startswith(_OURS):
            found.add(name, value)
    return found


def value_of(text: str) -> str:
    """Return what a worker says stands in a header, or nothing if it cannot."""
    return text if _VALUE.fullmatch(text) else ""


def _connection_headers(values: Iterable[str]) -> set[str]:
    """Return the headers that a Connection header declares to be for one hop only."""
    return {one.strip().lower() for value in values for one in value.split(",")}


def _other_cookies(values: Iterable[str]) -> str:
    """Return the Cookie header without our own cookies."""
    pairs = [pair.strip() for value in values for pair in value.split(";")]
    return "; ".join(pair for pair in pairs if pair and pair.split("=")[0].strip() not in (COOKIE, STATE))


def _host_only(cookie: str) -> str | None:
    """Return a Set-Cookie value without its Domain; None when it would replace a cookie of ours."""
    first, *attributes = cookie.split(";")
    if first.split("=")[0].strip() in (COOKIE, STATE):
        return None
    return ";".join([first, *(one for one in attributes if one.strip().lower().split("=")[0].strip() != "domain")])

"""The few pages that the gateway itself shows on people's hosts. Everything variable is escaped; there is no script.

Not here: the dashboard. Rejected: templates from the platform (this process must answer while the platform is away).
"""

from __future__ import annotations

from html import escape

from aiohttp import web

from ropewalk_core.errors import RopewalkError, help_address

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1.5rem}"
    "h1{font-size:1.4rem;margin:0 0 .5rem}p{margin:.5rem 0}code{font-size:.85rem;opacity:.7}"
    "a.button{display:inline-block;padding:.5rem 1rem;border:1px solid;border-radius:.4rem;text-decoration:none}"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def failed(error: RopewalkError, home: str) -> web.Response:
    """Return the page of an error."""
    facts = error.problem()
    body = (
        f"<h1>{escape(str(facts['message']))}</h1><p>{escape(str(facts['hint']))}</p>"
        f'<p><a href="{escape(home)}">Go to your dashboard</a></p>'
        f'<p><a href="{escape(help_address(home, error.code))}"><code>{escape(error.code)}</code></a></p>'
    )
    return _page("Ropewalk", body, error.status)


def waiting(name: str, home: str) -> web.Response:
    """Return the page shown while a service starts; it looks again every second."""
    body = (
        f"<h1>{escape(name)} is starting</h1><p>This page opens it as soon as it is ready. The first start can take a "
        f'minute.</p><p><a href="{escape(home)}">See its log on your dashboard</a></p>'
    )
    response = _page(f"{name} is starting", body, 503, refresh=True)
    response.headers["Retry-After"] = "1"
    return response


def confirm_call(name: str, path: str) -> web.Response:
    """Return the page that asks before a link from elsewhere calls a function with the person's sign-in."""
    body = (
        f"<h1>Call {escape(name)}?</h1><p>You came here from another page. Opening this address runs your function.</p>"
        f'<p><a class="button" href="{escape(path)}">Call it</a></p>'
    )
    return _page(f"Call {name}?", body, 200)


def _page(title: str, body: str, status: int, *, refresh: bool = False) -> web.Response:
    again = '<meta http-equiv="refresh" content="1">' if refresh else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"{again}<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)
